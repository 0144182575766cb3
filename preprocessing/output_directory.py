"""Makes a data directory appear as a whole or not at all."""
import contextlib
import ctypes
import os
import shutil
from typing import Iterator

from feature_specs.data_files import VERIFIED_FILE
from feature_specs.errors import DataError
from feature_specs.files import is_left, remove_leftovers, temporary_name
from feature_specs.manifest import FILE_NAME, MODEL_DATA_FOLDER, read_manifest
from preprocessing.samples.sample import SAMPLE_FILES

#: Folder for made-up text files in a data directory.
RAW_FOLDER = "raw"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def atomic_directory(path: str) -> Iterator[str]:
    """Gives a temporary directory beside ``path`` that takes its place when the block ends without an error.

    An existing directory stays as it is until then. It is replaced only if it is empty or holds a manifest. Temporary
    directories of runs of this host that are no longer alive are removed.

    Raises:
        DataError: ``path`` is a file, or a directory that the data preparation did not write, or cannot be made.
    """
    # Through links: what is replaced is the directory that one leads to, not the link.
    path = os.path.realpath(path)
    parent, name = os.path.split(path)
    partial, replaced = ".%s.partial-" % name, ".%s.replaced-" % name
    _check_replaceable(path)
    try:
        os.makedirs(parent, exist_ok=True)
        for entry in sorted(os.listdir(parent)):
            # The old directory of a run that was killed between its two renames.
            if is_left(entry, replaced) and not os.path.lexists(path):
                os.rename(os.path.join(parent, entry), path)
        remove_leftovers(parent, partial)
        remove_leftovers(parent, replaced)
        temporary = os.path.join(parent, temporary_name(partial))
        os.mkdir(temporary)
    except OSError as error:
        raise DataError("%s cannot be made: %s; give another --output_path" % (path, error.strerror)) from error
    try:
        yield temporary
        _check_replaceable(path)
        for folder, _, files in os.walk(temporary):
            for item in [folder] + [os.path.join(folder, file) for file in files]:
                _sync(item)
        _put_in_place(temporary, path, os.path.join(parent, temporary_name(replaced)))
        _sync(parent)
    except OSError as error:
        raise DataError("%s cannot be written: %s" % (path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(path: str) -> None:
    """Refuses to replace anything but an empty directory, or one that holds what a preparation writes and no more."""
    if not os.path.lexists(path):
        return
    if not os.path.isdir(path):
        raise DataError("%s exists and is not a directory; give another --output_path" % path)
    if not os.listdir(path):
        return
    advice = "is not replaced; remove it or give another --output_path"
    if not os.path.exists(os.path.join(path, FILE_NAME)):
        raise DataError("%s is not empty and has no %s, so it was not written by the data preparation and %s"
                        % (path, FILE_NAME, advice))
    if os.path.basename(path) == MODEL_DATA_FOLDER and os.path.exists(os.path.join(os.path.dirname(path), "args.json")):
        raise DataError("%s is a model's own copy of its vocabularies and %s" % (path, advice))
    try:
        manifest = read_manifest(path)
    except DataError as error:
        raise DataError("%s holds a %s that no preparation wrote (%s) and %s"
                        % (path, FILE_NAME, error, advice)) from error
    written = {FILE_NAME, VERIFIED_FILE} | {os.path.join(RAW_FOLDER, name) for name in SAMPLE_FILES}
    written |= {shard.path for split in manifest.splits.values() for shard in split.shards}
    written |= {info.path for info in manifest.vocabularies.values()}
    for folder, _, files in os.walk(path):
        for name in files:
            inside = os.path.relpath(os.path.join(folder, name), path)
            if inside not in written:
                raise DataError("%s holds %s, which no preparation wrote, and %s" % (path, inside, advice))


def _put_in_place(temporary: str, path: str, old: str) -> None:
    if not os.path.isdir(path) or not os.listdir(path):
        os.rename(temporary, path)
    elif not _exchange(temporary, path):
        # Without an atomic exchange there is a moment without the directory; the next run puts the old one back then.
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


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
