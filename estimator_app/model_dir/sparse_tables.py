"""The embedding tables of a checkpoint as files (rec_sdk_api 5.3): the SDK's slices, and checksums of ours beside them.

``sparse-<base>-<step>/<table>/{key,embedding,<Opt>_<state>}/slice.{data,attribute}``: keys int64, rows float32, row i
belongs to key i; an attribute file holds int64 [n, 8] for keys and [n, dim, 4] for rows. The slices have no checksum of
their own and nothing may be added to their folder, so ``<base>-<step>.checksums`` stands beside it: JSON with size and
CRC-32 of every file of the checkpoint. One without it, such as one of the SDK itself, is accepted.
"""
import glob
import json
import os
import zlib
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from feature_specs.errors import UserError
from feature_specs.files import replace_text

KEYS, ROWS, HISTORY = "key", "embedding", "history"
CHECKSUMS_ENDING = ".checksums"
CHECKSUMS_FORMAT = 1
_DATA, _ATTRIBUTE = "slice.data", "slice.attribute"
_CHUNK_BYTES = 1 << 24


class SparseTableError(UserError):
    """A folder of tables is missing, incomplete or damaged; the message names the file."""


def sparse_directory(checkpoint_path: str) -> str:
    """Returns the folder of tables that goes with a TensorFlow checkpoint prefix: ``<dir>/sparse-<base>``."""
    directory, base = os.path.split(checkpoint_path)
    return os.path.join(directory, "sparse-%s" % base)


def tables(directory: str) -> List[str]:
    """Returns the names of the tables in a folder, sorted.

    Raises:
        SparseTableError: the folder does not exist.
    """
    if not os.path.isdir(directory):
        raise SparseTableError("the folder of embedding tables %s does not exist" % directory)
    return sorted(name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name, KEYS)))


def states(directory: str, table: str) -> List[str]:
    """Returns the states that a folder holds of a table: ``embedding`` and the optimizer's slots, sorted."""
    folder = os.path.join(directory, table)
    return sorted(name for name in os.listdir(folder)
                  if name not in (KEYS, HISTORY) and os.path.isfile(os.path.join(folder, name, _DATA)))


def read_keys(directory: str, table: str) -> np.ndarray:
    """Reads the keys of a table, int64 [n].

    Raises:
        SparseTableError: files are missing, do not fit each other, or hold a key twice or a negative one.
    """
    keys = _open(os.path.join(directory, table, KEYS), 2, np.int64)
    if keys.size and keys.min() < 0 or np.unique(keys).size != keys.size:
        raise SparseTableError("%s: a key is negative or stands there twice" % os.path.join(directory, table, KEYS))
    return np.array(keys)


def open_rows(directory: str, table: str, state: str = ROWS) -> np.ndarray:
    """Opens the rows of a state, float32 [n, dim], memory-mapped.

    Raises:
        SparseTableError: files are missing or do not fit each other.
    """
    return _open(os.path.join(directory, table, state), 3, np.float32)


def read_table(directory: str, table: str) -> Tuple[np.ndarray, np.ndarray]:
    """Reads keys int64 [n] and rows float32 [n, dim] (memory-mapped) of a table.

    Raises:
        SparseTableError: files are missing or do not fit each other.
    """
    keys, rows = read_keys(directory, table), open_rows(directory, table)
    if rows.shape[0] != keys.shape[0]:
        raise SparseTableError("%s/%s: %d keys, but %d rows" % (directory, table, keys.shape[0], rows.shape[0]))
    return keys, rows


def check(directory: str, expected: Mapping[str, int]) -> None:
    """Checks that a folder is whole: every file there, with the size that its attribute file gives.

    Args:
        directory: the folder.
        expected: {table that must be there: values of its rows}.

    Raises:
        SparseTableError: it is not.
    """
    found_tables = tables(directory)
    for table, dim in expected.items():
        if table not in found_tables:
            raise SparseTableError("%s has no table %s; it has %s" % (
                directory, table, ", ".join(found_tables) or "none"))
        values = open_rows(directory, table).shape[1]
        if values != dim:
            raise SparseTableError("%s/%s has rows of %d values, expected %d" % (directory, table, values, dim))
    for table in found_tables:
        count = _open(os.path.join(directory, table, KEYS), 2, np.int64).shape[0]
        found = states(directory, table)
        if ROWS not in found:
            raise SparseTableError("%s/%s has no %s" % (directory, table, ROWS))
        for state in found:
            if open_rows(directory, table, state).shape[0] != count:
                raise SparseTableError("%s/%s/%s does not have %d rows" % (directory, table, state, count))


def write_checksums(checkpoint_path: str) -> None:
    """Writes the checksum file of a checkpoint, atomically."""
    directory = os.path.dirname(checkpoint_path)
    sums = {os.path.relpath(path, directory or "."): _sum_of(path) for path in _files_of(checkpoint_path)}
    replace_text(checkpoint_path + CHECKSUMS_ENDING, json.dumps(
        {"format_version": CHECKSUMS_FORMAT, "crc32": sums}, indent=1, sort_keys=True) + "\n")


def checksum_problem(checkpoint_path: str) -> Optional[str]:
    """Compares a checkpoint's files with its checksum file.

    Returns:
        What is wrong, naming the file; None where all is well or there is no checksum file.

    Raises:
        UserError: the checksum file is of a newer format.
    """
    path = checkpoint_path + CHECKSUMS_ENDING
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        version = int(data["format_version"])
        expected = {str(name): [int(size), int(value)] for name, (size, value) in data["crc32"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return "%s cannot be read (%s)" % (path, error)
    if version > CHECKSUMS_FORMAT:
        raise UserError("%s has format version %d, newer than this program reads (%d); update the program"
                        % (path, version, CHECKSUMS_FORMAT))
    for name, sums in sorted(expected.items()):
        file = os.path.join(os.path.dirname(checkpoint_path), name)
        try:
            found = _sum_of(file)
        except (OSError, ValueError) as error:
            # ValueError: a name that no file can have, with a zero byte or half a character.
            return "%r cannot be read (%s)" % (file, getattr(error, "strerror", None) or error)
        if found[0] != sums[0]:
            return "%s has %d bytes, it was written with %d" % (file, found[0], sums[0])
        if found != sums:
            return "%s is damaged: its checksum is not the one it was written with" % file
    return None


def _open(folder: str, dimensions: int, dtype: type) -> np.ndarray:
    """Opens a slice: int64 [n] of [n, 8], or float32 [n, dim] of [n, dim, 4]."""
    path = os.path.join(folder, _ATTRIBUTE)
    try:
        sizes: Dict[str, int] = {name: os.path.getsize(os.path.join(folder, name)) for name in (_ATTRIBUTE, _DATA)}
        attribute = np.fromfile(path, dtype=np.int64)
    except OSError as error:
        raise SparseTableError("%s cannot be read: %s" % (error.filename or path, error.strerror)) from error
    item = np.dtype(dtype).itemsize
    if sizes[_ATTRIBUTE] != 8 * dimensions or (attribute < 0).any() or attribute[-1] != item or (
            attribute[1:] < 1).any():
        raise SparseTableError("%s does not hold %d sizes of %s values" % (path, dimensions, np.dtype(dtype).name))
    shape = tuple(int(value) for value in attribute[:-1])
    expected = item
    for value in shape:
        expected *= value
    if sizes[_DATA] != expected:
        raise SparseTableError("%s has %d bytes, its attribute file says %d" % (
            os.path.join(folder, _DATA), sizes[_DATA], expected))
    if not shape[0]:
        return np.zeros(shape, dtype)
    return np.memmap(os.path.join(folder, _DATA), dtype=dtype, mode="r", shape=shape)


def _files_of(checkpoint_path: str) -> List[str]:
    """Returns the files that a restore reads."""
    found = glob.glob(glob.escape(checkpoint_path) + ".index") + glob.glob(glob.escape(checkpoint_path) + ".data-*")
    for folder, _, names in os.walk(sparse_directory(checkpoint_path)):
        found += [os.path.join(folder, name) for name in names]
    return sorted(found)


def _sum_of(path: str) -> List[int]:
    size, value = 0, 0
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
            size += len(chunk)
            value = zlib.crc32(chunk, value)
    return [size, value]
