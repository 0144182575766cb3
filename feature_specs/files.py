"""Files that are whole or absent: temporary name, which tells whose it is, then rename; errors name the file."""
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from typing import Iterator

_MOST_BYTES = 16 << 20
#: The folder of the packages, which child processes import them from.
PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@contextlib.contextmanager
def named_errors(path: str) -> Iterator[None]:
    """Names the file in operating-system errors that do not: a write to a full disk knows no name."""
    try:
        yield
    except OSError as error:
        if error.filename or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error


def refuse_directory(path: str) -> None:
    """Raises IsADirectoryError, with a remedy, where a directory stands in the place of a file."""
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "a directory stands in the place of a file; move it away", path)


def replace_text(path: str, text: str) -> None:
    """Writes a text file, UTF-8; whatever happens, the old one or the new one is there, whole."""
    temporary = path + ".tmp"
    refuse_directory(path)
    with named_errors(path):
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError:
            if os.path.isfile(temporary):
                os.remove(temporary)
            raise


def read_small_text(path: str) -> str:
    """Reads a file of settings, UTF-8, with or without a byte order mark; ValueError where it is not UTF-8, or larger
    than 16 MiB, as a device or another endless one is."""
    with open(path, "rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError("it has more than %d bytes" % _MOST_BYTES)
    return data.decode("utf-8-sig")


def sha256_of_file(path: str) -> str:
    """Returns the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for data in iter(lambda: stream.read(1 << 20), b""):
            digest.update(data)
    return digest.hexdigest()


def free_path(path: str) -> str:
    """Returns a path at which there is nothing yet: this one, or with a number at its end."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = "%s.%d" % (path, number)
    return free


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
    return match is not None and not _is_alive(int(match.group(1)))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
