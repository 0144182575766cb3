"""The files of a prepared data directory: whether they are there, whole, and what was prepared."""
import json
import logging
import os
import shutil
from typing import Any, Dict, List, Sequence

from feature_specs.errors import DataError
from feature_specs.files import replace_text, sha256_of_file
from feature_specs.manifest import FILE_NAME, TEST_SPLIT, TRAIN_SPLIT, Manifest, VocabularyInfo, write_manifest

#: What is known of the files' contents: {path: [SHA-256, size, modification time, inode]} of those that were right.
VERIFIED_FILE = "verified.json"
_FOLDERS = (TRAIN_SPLIT, TEST_SPLIT, "vocabulary")


def check_shards(manifest: Manifest, directory: str, split_name: str) -> List[str]:
    """Returns the paths of a split's files, in order; DataError where one is missing or has not the recorded size."""
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
    paths = [os.path.join(directory, shard.path) for split in manifest.splits.values() for shard in split.shards]
    return [[path] + _stamp(path) for path in paths]


def verify_shards(manifest: Manifest, directory: str, again: bool = False, splits: Sequence[str] = ()) -> None:
    """Compares the shards of splits (all by default) and the vocabularies with their SHA-256; DataError where one is
    missing or its contents are not those that were prepared.

    What was right is noted in the directory, if it can be written, and only ``again`` reads it while it is unchanged.
    """
    note = os.path.join(directory, VERIFIED_FILE)
    known = {} if again else _read_note(note)
    found = dict(known)
    for name in splits or manifest.splits:
        for shard, path in zip(manifest.split(name).shards, check_shards(manifest, directory, name)):
            found[shard.path] = _verified(path, shard.sha256, "prepare the data again", known.get(shard.path))
    for info in manifest.vocabularies.values():
        if info.path:
            found[info.path] = _verified_vocabulary(info, directory, known.get(info.path))
    if found != known:
        try:
            replace_text(note, json.dumps(found, indent=1, sort_keys=True) + "\n")
        except OSError as error:
            logging.getLogger(__name__).info("%s cannot be written (%s): the files are verified again next time", note,
                                             error.strerror)


def vocabulary_file(manifest: Manifest, directory: str, name: str) -> str:
    """Returns the path of a vocabulary's file, in the data directory or its copy in a model directory, once its
    contents were found to be those that were prepared; DataError where they are not or cannot be read."""
    info = manifest.vocabularies[name]
    _verified_vocabulary(info, directory)
    return os.path.join(directory, info.path)


def copy_data(manifest: Manifest, source: str, target: str) -> None:
    """Copies what a model needs of its data beside the records: vocabularies that are not there yet, and the manifest
    last; DataError where a vocabulary is missing, or was changed after it was prepared."""
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


def _stamp(path: str) -> List[Any]:
    """Returns what changes when a file is written or replaced: size, modification time, inode; [] without one."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _verified(path: str, sha256: str, remedy: str, known: Any = None) -> List[Any]:
    """Returns hash and stamp of a file; it is read where they are not those that are known."""
    stamp = _stamp(path)
    found = [sha256] + stamp
    if (not stamp or found != known) and sha256_of_file(path) != sha256:
        raise DataError("%s was changed after it was prepared: its SHA-256 is not the manifest's; %s" % (path, remedy))
    return found


def _verified_vocabulary(info: VocabularyInfo, directory: str, known: Any = None) -> List[Any]:
    path = os.path.join(directory, info.path)
    remedy = "prepare the data again, or for a model directory copy it from the data that the model was trained on"
    try:
        return _verified(path, info.sha256, remedy, known)
    except OSError as error:
        raise DataError("vocabulary %s cannot be read (%s); %s" % (path, error.strerror, remedy)) from error


def _read_note(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            note = json.load(stream)
    except (OSError, ValueError, RecursionError):
        return {}  # No note, or a damaged one: the files are read.
    return note if isinstance(note, dict) else {}
