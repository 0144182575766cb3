"""Names of unfinished files and folders that tell whose they are, so that what a killed process left can be removed."""
import os
import re
import shutil
import socket


def temporary_name(prefix: str) -> str:
    """Returns ``<prefix><host>-<process id>``.

    Args:
        prefix: says what it is and for what.
    """
    return "%s%s-%d" % (prefix, socket.gethostname(), os.getpid())


def remove_leftovers(parent: str, prefix: str) -> None:
    """Removes what processes of this host left that are no longer alive; another host's may be alive.

    Args:
        parent: a folder.
        prefix: as for :func:`temporary_name`; something may follow the process id behind a dash.
    """
    pattern = re.compile(r"%s%s-([0-9]+)(-.*)?\Z" % (re.escape(prefix), re.escape(socket.gethostname())), re.DOTALL)
    for entry in sorted(os.listdir(parent)):
        match = pattern.match(entry)
        if match and not is_alive(int(match.group(1))):
            path = os.path.join(parent, entry)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.remove(path)


def is_alive(pid: int) -> bool:
    """Returns whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
