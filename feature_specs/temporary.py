"""Names of unfinished files and folders: they tell whose they are, so that what a killed process left can go."""
import contextlib
import os
import re
import secrets
import shutil
import socket


def temporary_name(prefix: str) -> str:
    """Returns ``<prefix><host>-<process id>-<random>``; ``prefix`` says what it is and for what."""
    return "%s%s-%d-%s" % (prefix, socket.gethostname(), os.getpid(), secrets.token_hex(4))


def remove_leftovers(parent: str, prefix: str) -> None:
    """Removes what processes of this host left under a prefix that are no longer alive; another host's may be alive."""
    for entry in sorted(os.listdir(parent)):
        if is_left(entry, prefix):
            path = os.path.join(parent, entry)
            # Another process may be removing the same.
            with contextlib.suppress(FileNotFoundError):
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.remove(path)


def is_left(entry: str, prefix: str) -> bool:
    """Returns whether an entry has the prefix and belongs to a process of this host that no longer runs."""
    match = re.match(r"%s%s-([0-9]+)(-.*)?\Z" % (re.escape(prefix), re.escape(socket.gethostname())), entry, re.DOTALL)
    return match is not None and not is_alive(int(match.group(1)))


def is_alive(pid: int) -> bool:
    """Returns whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
