"""Makes a data directory appear as a whole or not at all."""
import contextlib
import ctypes
import os
import re
import shutil
from typing import Iterator

from feature_specs.errors import DataError
from feature_specs.manifest import FILE_NAME
from preprocessing.temporary_names import is_alive

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def atomic_directory(path: str) -> Iterator[str]:
    """Gives a temporary directory beside ``path`` that takes its place when the block ends without an error.

    An existing directory stays as it is until then. It is replaced only if it is empty or holds a manifest. Temporary
    directories of runs that are no longer alive are removed.

    Args:
        path: the directory to make.

    Yields:
        The temporary directory, ``.<name>.partial-<process id>``.

    Raises:
        DataError: ``path`` is a file, or a directory that the data preparation did not write, or cannot be made.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    _check_replaceable(path)
    try:
        os.makedirs(parent, exist_ok=True)
        clean_stale(parent, name)
        temporary = os.path.join(parent, ".%s.partial-%d" % (name, os.getpid()))
        shutil.rmtree(temporary, ignore_errors=True)
        os.mkdir(temporary)
    except OSError as error:
        raise DataError("%s cannot be made: %s; give another --output_path" % (path, error.strerror)) from error
    try:
        yield temporary
        _check_replaceable(path)
        for folder, _, _ in os.walk(temporary):
            _sync(folder)
        _put_in_place(temporary, path)
        _sync(parent)
    except OSError as error:
        raise DataError("%s cannot be written: %s" % (path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clean_stale(parent: str, name: str) -> None:
    """Removes what dead runs left for this directory; a replaced directory whose successor is missing is put back."""
    pattern = re.compile(r"\.%s\.(partial|replaced)-([0-9]+)\Z" % re.escape(name))
    target = os.path.join(parent, name)
    for entry in sorted(os.listdir(parent)):
        match = pattern.match(entry)
        if not match or is_alive(int(match.group(2))):
            continue
        found = os.path.join(parent, entry)
        if match.group(1) == "replaced" and not os.path.lexists(target):
            os.rename(found, target)
        else:
            shutil.rmtree(found)


def _check_replaceable(path: str) -> None:
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path):
        raise DataError("%s exists and is not a directory; give another --output_path" % path)
    if os.listdir(path) and not os.path.exists(os.path.join(path, FILE_NAME)):
        raise DataError("%s is not empty and has no %s, so it was not written by the data preparation and is not "
                        "replaced; remove it or give another --output_path" % (path, FILE_NAME))


def _put_in_place(temporary: str, path: str) -> None:
    if not os.path.isdir(path) or not os.listdir(path):
        os.rename(temporary, path)
    elif not _exchange(temporary, path):
        # Without an atomic exchange there is a moment without the directory; clean_stale puts the old one back then.
        old = temporary.replace(".partial-", ".replaced-")
        os.rename(path, old)
        os.rename(temporary, path)
        shutil.rmtree(old)


def _exchange(first: str, second: str) -> bool:
    """Swaps two directories in one step where the system can; returns whether it did."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
