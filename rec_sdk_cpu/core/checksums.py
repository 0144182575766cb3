"""A checksum file beside a checkpoint: ``<base>-<step>.checksums``, so that flipped bits are seen before a restore.

The SDK's slices have no checksum of their own (rec_sdk_api 5.3), and nothing may be added to its folder; TensorFlow
checks its files tensor by tensor while it restores, too late to choose another checkpoint. The file is JSON: format
version, and size and CRC-32 of every file by its path relative to the checkpoint's directory. The CPU stand-in writes
one with every save; a checkpoint without it, such as one of the SDK itself, is accepted.
"""
import glob
import json
import os
import zlib
from typing import Dict, List, Mapping, Optional

from rec_sdk_cpu.core import sparse_files

ENDING = ".checksums"
FORMAT_VERSION = 1
_CHUNK_BYTES = 1 << 24


class NewerFormatError(Exception):
    """A checksum file was written by a newer program."""


def path_of(checkpoint_path: str) -> str:
    """Returns the path of a checkpoint's checksum file."""
    return checkpoint_path + ENDING


def write(checkpoint_path: str, known: Optional[Mapping[str, List[int]]] = None) -> None:
    """Writes the checksum file of a checkpoint, atomically.

    Args:
        checkpoint_path: TensorFlow's prefix.
        known: {path relative to the sparse folder: [size, CRC-32]} of files whose checksum was taken while they were
            written; the others are read.
    """
    directory = os.path.dirname(checkpoint_path)
    sparse = sparse_files.sparse_directory(checkpoint_path)
    sums: Dict[str, List[int]] = {}
    for path in dense_files(checkpoint_path) + _files_below(sparse):
        inside = os.path.relpath(path, sparse)
        sums[os.path.relpath(path, directory or ".")] = list((known or {}).get(inside) or _sum_of(path))
    target = path_of(checkpoint_path)
    with open(target + ".tmp", "w", encoding="utf-8") as stream:
        json.dump({"format_version": FORMAT_VERSION, "crc32": sums}, stream, indent=1, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(target + ".tmp", sparse_files.FILE_MODE)
    os.replace(target + ".tmp", target)


def delete(checkpoint_path: str) -> None:
    """Removes the checksum file of a checkpoint, where there is one."""
    if os.path.exists(path_of(checkpoint_path)):
        os.remove(path_of(checkpoint_path))


def problem(checkpoint_path: str) -> Optional[str]:
    """Compares a checkpoint's files with its checksum file.

    Returns:
        What is wrong, naming the file; None where all is well or there is no checksum file.

    Raises:
        NewerFormatError: the checksum file is of a newer format.
    """
    path = path_of(checkpoint_path)
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        version, sums = data["format_version"], data["crc32"]
        expected = {str(name): (int(size), int(value)) for name, (size, value) in sums.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return "%s cannot be read (%s)" % (path, error)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise NewerFormatError("%s has format version %r, newer than this program reads (%d); update the program"
                               % (path, version, FORMAT_VERSION))
    for name in sorted(expected):
        wrong = _difference(os.path.join(os.path.dirname(checkpoint_path), name), *expected[name])
        if wrong:
            return wrong
    return None


def dense_files(checkpoint_path: str) -> List[str]:
    """Returns TensorFlow's files that a restore reads."""
    return sorted(glob.glob(glob.escape(checkpoint_path) + ".index")
                  + glob.glob(glob.escape(checkpoint_path) + ".data-*"))


def _difference(path: str, size: int, value: int) -> Optional[str]:
    try:
        found_size, found_value = _sum_of(path)
    except (OSError, ValueError) as error:
        # ValueError: a name that no file can have, with a zero byte or half a character.
        return "%r cannot be read (%s)" % (path, getattr(error, "strerror", None) or error)
    if found_size != size:
        return "%s has %d bytes, it was written with %d" % (path, found_size, size)
    if found_value != value:
        return "%s is damaged: its checksum is not the one it was written with" % path
    return None


def _sum_of(path: str) -> List[int]:
    size, value = 0, 0
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            size += len(chunk)
            value = zlib.crc32(chunk, value)
    return [size, value]


def _files_below(directory: str) -> List[str]:
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names)
