"""The files of a prepared data directory: whether they are there, whole, and what was prepared."""
import contextlib
import json
import logging
import os
import shutil
from typing import Any, Dict, Iterator, List, Sequence

from feature_specs.errors import DataError
from feature_specs.files import replace_text, sha256_of_file
from feature_specs.manifest import FILE_NAME, TEST_SPLIT, TRAIN_SPLIT, Manifest, write_manifest

#: What is known of the shards' contents: {path: [size, modification time, inode]} of those whose hash was right.
VERIFIED_FILE = "verified.json"
_FOLDERS = (TRAIN_SPLIT, TEST_SPLIT, "vocabulary")
_CHANGED = "was changed after it was prepared: its SHA-256 is not the manifest's"
_GET_VOCABULARY = "prepare the data again, or for a model directory copy it from the data that the model was trained on"


def check_shards(manifest: Manifest, directory: str, split_name: str) -> List[str]:
    """Checks that the files of a split are there with the recorded size, and returns their paths, in order.

    Raises:
        DataError: a file is missing or has another size.
    """
    paths = []
    for shard in manifest.split(split_name).shards:
        path = os.path.join(directory, shard.path)
        if not os.path.isfile(path):
            raise DataError("%s is missing; prepare the data again" % path)
        size = os.path.getsize(path)
        if size != shard.size:
            raise DataError("%s has %d bytes, the manifest says %d: it was changed or cut off; prepare the data again"
                            % (path, size, shard.size))
        paths.append(path)
    return paths


def is_data_file(path: str) -> bool:
    """Whether a path is that of a file of prepared data, or lies in one of its folders."""
    folder, name = os.path.split(os.path.realpath(path))
    above, inside = os.path.split(folder)
    return (os.path.isfile(os.path.join(folder, FILE_NAME)) and name in (FILE_NAME, VERIFIED_FILE)
            or os.path.isfile(os.path.join(above, FILE_NAME)) and inside in _FOLDERS)


def state_of(manifest: Manifest, directory: str) -> List[List[Any]]:
    """Returns path, size, modification time and inode of every shard: others, once a file was written or replaced."""
    found: List[List[Any]] = []
    for split in manifest.splits.values():
        for shard in split.shards:
            path = os.path.join(directory, shard.path)
            try:
                found.append([path] + _stamp(os.stat(path)))
            except OSError:
                found.append([path])
    return found


def verify_shards(manifest: Manifest, directory: str, again: bool = False, splits: Sequence[str] = ()) -> None:
    """Compares shards and vocabularies with their SHA-256; what was right once is not read again while unchanged.

    Args:
        manifest: of the data directory.
        directory: where a note of what was verified is left, if it can be written.
        again: reads every file, whatever was noted.
        splits: all by default.

    Raises:
        DataError: a file is missing or its contents are not those that were prepared.
    """
    note = os.path.join(directory, VERIFIED_FILE)
    known = {} if again else _read_note(note)
    found: Dict[str, List[Any]] = {}
    for name, split in manifest.splits.items():
        if splits and name not in splits:
            found.update((shard.path, known[shard.path]) for shard in split.shards if shard.path in known)
            continue
        for shard, path in zip(split.shards, check_shards(manifest, directory, name)):
            found[shard.path] = [shard.sha256] + _stamp(os.stat(path))
            if known.get(shard.path) != found[shard.path] and sha256_of_file(path) != shard.sha256:
                raise DataError("%s %s; prepare the data again" % (path, _CHANGED))
    for name, info in manifest.vocabularies.items():
        if info.path:
            with _named_vocabulary(os.path.join(directory, info.path)) as path:
                found[info.path] = [info.sha256] + _stamp(os.stat(path))
            if known.get(info.path) != found[info.path]:
                vocabulary_file(manifest, directory, name)
    if found != known:
        try:
            replace_text(note, json.dumps(found, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            logging.getLogger(__name__).info("%s cannot be written (%s): the files are verified again next time", note,
                                             error.strerror)


def vocabulary_file(manifest: Manifest, directory: str, name: str) -> str:
    """Compares the file of a vocabulary, of the data directory or the copy in a model directory, with its SHA-256 and
    returns its path.

    Raises:
        DataError: it is missing, unreadable, or its contents are not those that were prepared.
    """
    info = manifest.vocabularies[name]
    with _named_vocabulary(os.path.join(directory, info.path)) as path:
        if sha256_of_file(path) != info.sha256:
            raise DataError("%s %s; %s" % (path, _CHANGED, _GET_VOCABULARY))
    return path


def _stamp(status: os.stat_result) -> List[Any]:
    """Returns what changes when a file is written or replaced: size, modification time, inode."""
    return [status.st_size, status.st_mtime_ns, status.st_ino]


@contextlib.contextmanager
def _named_vocabulary(path: str) -> Iterator[str]:
    try:
        yield path
    except OSError as error:
        raise DataError("vocabulary %s cannot be read (%s); %s" % (path, error.strerror, _GET_VOCABULARY)) from error


def _read_note(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            note = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return {}  # No note, or a damaged one: the files are read.
    return note if isinstance(note, dict) else {}


def copy_data(manifest: Manifest, source: str, target: str) -> None:
    """Copies what a model needs of its data beside the records: vocabularies that are not there yet, and the manifest
    last.

    Raises:
        DataError: a vocabulary is missing, or was changed after it was prepared.
    """
    for name, info in manifest.vocabularies.items():
        path = os.path.join(target, info.path)
        if not info.path or (os.path.isfile(path) and sha256_of_file(path) == info.sha256):
            continue
        original = vocabulary_file(manifest, source, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile(original, path + ".tmp")
        os.replace(path + ".tmp", path)
    os.makedirs(target, exist_ok=True)
    write_manifest(manifest, target)
