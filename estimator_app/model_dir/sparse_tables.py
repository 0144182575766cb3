"""Reads the embedding tables of a checkpoint: the SDK's slices (rec_sdk_api 5.3).

``sparse-<base>-<step>/<table>/{key,embedding,<Opt>_<state>}/slice.{data,attribute}``: keys int64, rows float32, row i
belongs to key i; an attribute file holds int64 [n, 8] for keys and [n, dim, 4] for rows. Every function raises
SparseTableError where a file is missing or does not fit the others.
"""
import os
from typing import List, Mapping

import numpy as np

from feature_specs.errors import UserError

KEYS, ROWS, HISTORY = "key", "embedding", "history"
_DATA, _ATTRIBUTE = "slice.data", "slice.attribute"


class SparseTableError(UserError):
    """A folder of tables is missing, incomplete or damaged; the message names the file."""


def tables(directory: str) -> List[str]:
    """Returns the names of the tables in a folder, sorted."""
    if not os.path.isdir(directory):
        raise SparseTableError("the directory of embedding tables %s does not exist" % directory)
    return sorted(name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name, KEYS)))


def states(directory: str, table: str) -> List[str]:
    """Returns the states that a folder holds of a table: ``embedding`` and the optimizer's slots, sorted."""
    folder = os.path.join(directory, table)
    return sorted(name for name in os.listdir(folder)
                  if name not in (KEYS, HISTORY) and os.path.isfile(os.path.join(folder, name, _DATA)))


def read_keys(directory: str, table: str) -> np.ndarray:
    """Reads the keys of a table, int64 [n], each once and none negative."""
    folder = os.path.join(directory, table, KEYS)
    keys = _open(folder, 2, np.int64)
    if keys.size and keys.min() < 0 or np.unique(keys).size != keys.size:
        raise SparseTableError("%s: a key is negative or stands there twice" % folder)
    return np.array(keys)


def open_rows(directory: str, table: str, state: str = ROWS) -> np.ndarray:
    """Opens the rows of a state, float32 [n, dim], memory-mapped."""
    return _open(os.path.join(directory, table, state), 3, np.float32)


def row_values(directory: str, table: str) -> int:
    """Returns the number of values of a table's rows."""
    found = tables(directory)
    if table not in found:
        raise SparseTableError("%s has no table %s; it has %s" % (directory, table, ", ".join(found) or "none"))
    return open_rows(directory, table).shape[1]


def check(directory: str, expected: Mapping[str, int]) -> None:
    """Checks that every file is there with the size that its attribute file gives, and the tables of ``expected``,
    {table: values of its rows}."""
    for table, dim in expected.items():
        values = row_values(directory, table)
        if values != dim:
            raise SparseTableError("%s/%s has rows of %d values, expected %d" % (directory, table, values, dim))
    for table in tables(directory):
        count = _open(os.path.join(directory, table, KEYS), 2, np.int64).shape[0]
        found = states(directory, table)
        if ROWS not in found:
            raise SparseTableError("%s/%s has no %s" % (directory, table, ROWS))
        for state in found:
            if open_rows(directory, table, state).shape[0] != count:
                raise SparseTableError("%s/%s/%s does not have %d rows" % (directory, table, state, count))


def _open(folder: str, dimensions: int, dtype: type) -> np.ndarray:
    """Opens a slice: int64 [n] of [n, 8], or float32 [n, dim] of [n, dim, 4]."""
    path, data = os.path.join(folder, _ATTRIBUTE), os.path.join(folder, _DATA)
    try:
        attribute_size, size = os.path.getsize(path), os.path.getsize(data)
        attribute = np.fromfile(path, np.int64, dimensions)
    except OSError as error:
        raise SparseTableError("%s cannot be read: %s" % (error.filename or path, error.strerror)) from error
    if (attribute_size != 8 * dimensions or attribute[0] < 0 or attribute[1:].min() < 1
            or attribute[-1] != np.dtype(dtype).itemsize):
        raise SparseTableError("%s does not hold %d sizes of %s values" % (path, dimensions, np.dtype(dtype).name))
    expected = np.prod(attribute.astype(object))  # of damaged sizes, which int64 need not hold
    if size != expected:
        raise SparseTableError("%s has %d bytes, its attribute file says %d" % (data, size, expected))
    shape = tuple(attribute[:-1])
    return np.memmap(data, dtype=dtype, mode="r", shape=shape) if size else np.zeros(shape, dtype)
