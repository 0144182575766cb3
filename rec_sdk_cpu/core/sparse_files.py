"""The SDK's sparse checkpoint folder as files (rec_sdk_api 5.3), with NumPy alone.

``sparse-<base>-<step>/<table>/{key,embedding,<Opt>_<state>}/slice.{data,attribute}``: keys int64, rows float32, row i
belongs to key i; an attribute file holds int64 [n, 8] for keys and [n, dim, 4] for rows. Tables with admission have
``history/slice.data`` besides: int64 [m, 3] (id, count, time seen last), attribute [m, 3, 8]; its id -1 carries the
latest time of the table. The sheet does not name the SDK's own file for it, so a folder of the SDK has none.
"""
import os
import shutil
import zlib
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np

_PREFIX = "sparse-"
KEY_FOLDER = "key"
EMBEDDING_FOLDER = "embedding"
HISTORY_FOLDER = "history"
DATA_FILE = "slice.data"
ATTRIBUTE_FILE = "slice.attribute"
DIRECTORY_MODE = 0o750
FILE_MODE = 0o640
_FORBIDDEN = ("/usr/bin", "/usr/sbin", "/etc", "/usr/lib", "/usr/lib64", "/usr/local")
_FORBIDDEN_MODE = 0o022
_FLOAT_SIZE = 4
_KEY_SIZE = 8
_HISTORY_COLUMNS = 3


class SparseFilesError(OSError):
    """A sparse checkpoint folder is missing, incomplete or damaged."""


def sparse_directory(checkpoint_path: str) -> str:
    """Returns the sparse folder that goes with a TensorFlow checkpoint prefix: ``<dir>/sparse-<base>``."""
    directory, base = os.path.split(checkpoint_path)
    return os.path.join(directory, _PREFIX + base)


def checkpoint_path(directory: str) -> str:
    """Returns the TensorFlow checkpoint prefix that a sparse folder goes with."""
    parent, base = os.path.split(directory)
    return os.path.join(parent, base[len(_PREFIX):])


def tables(directory: str) -> List[str]:
    """Returns the names of the tables in a sparse folder, sorted.

    Raises:
        SparseFilesError: the folder does not exist.
    """
    if not os.path.isdir(directory):
        raise SparseFilesError("the sparse checkpoint folder %s does not exist" % directory)
    return sorted(name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name, KEY_FOLDER)))


def states(directory: str, table: str) -> List[str]:
    """Returns the states that a folder holds of a table: ``embedding`` and the optimizer states, sorted."""
    folder = os.path.join(directory, table)
    return sorted(name for name in os.listdir(folder)
                  if name not in (KEY_FOLDER, HISTORY_FOLDER) and os.path.isfile(os.path.join(folder, name, DATA_FILE)))


def read_keys(directory: str, table: str) -> np.ndarray:
    """Reads the keys of a table.

    Returns:
        int64 [n].

    Raises:
        SparseFilesError: files are missing or do not fit each other.
    """
    folder = os.path.join(directory, table, KEY_FOLDER)
    attribute = _attribute(folder, 2)
    if attribute[1] != _KEY_SIZE:
        raise SparseFilesError("%s: keys of %d bytes, expected %d" % (folder, attribute[1], _KEY_SIZE))
    _check_size(folder, attribute)
    keys = np.fromfile(os.path.join(folder, DATA_FILE), dtype=np.int64)
    if keys.size and keys.min() < 0:
        raise SparseFilesError("%s: a negative key %d" % (folder, keys.min()))
    if np.unique(keys).size != keys.size:
        raise SparseFilesError("%s: a key stands there twice" % folder)
    return keys


def open_rows(directory: str, table: str, state: str) -> np.ndarray:
    """Opens the rows of a state without reading them all.

    Returns:
        float32 [n, dim], memory-mapped read-only.

    Raises:
        SparseFilesError: files are missing or do not fit each other.
    """
    folder = os.path.join(directory, table, state)
    attribute = _attribute(folder, 3)
    if attribute[2] != _FLOAT_SIZE or attribute[1] < 1:
        raise SparseFilesError("%s: rows of %d values of %d bytes, expected float32" % (
            folder, attribute[1], attribute[2]))
    _check_size(folder, attribute)
    shape = (int(attribute[0]), int(attribute[1]))
    if shape[0] == 0:
        return np.zeros(shape, np.float32)
    return np.memmap(os.path.join(folder, DATA_FILE), dtype=np.float32, mode="r", shape=shape)


def read_history(directory: str, table: str) -> Optional[np.ndarray]:
    """Reads the admission history of a table.

    Returns:
        int64 [m, 3]: id, count, time seen last; None where the checkpoint has none.

    Raises:
        SparseFilesError: the files do not fit each other.
    """
    folder = os.path.join(directory, table, HISTORY_FOLDER)
    if not os.path.isdir(folder):
        return None
    attribute = _attribute(folder, 3)
    if tuple(attribute[1:]) != (_HISTORY_COLUMNS, _KEY_SIZE):
        raise SparseFilesError("%s: rows of %d values of %d bytes, expected %d of %d" % (
            folder, attribute[1], attribute[2], _HISTORY_COLUMNS, _KEY_SIZE))
    _check_size(folder, attribute)
    return np.fromfile(os.path.join(folder, DATA_FILE), dtype=np.int64).reshape(-1, _HISTORY_COLUMNS)


def read_table(directory: str, table: str) -> Tuple[np.ndarray, np.ndarray]:
    """Reads keys and embedding of a table: int64 [n] and float32 [n, dim].

    Raises:
        SparseFilesError: files are missing or do not fit each other.
    """
    keys = read_keys(directory, table)
    rows = open_rows(directory, table, EMBEDDING_FOLDER)
    if rows.shape[0] != keys.shape[0]:
        raise SparseFilesError("%s/%s: %d keys, but %d rows" % (directory, table, keys.shape[0], rows.shape[0]))
    return keys, rows


def check(directory: str) -> None:
    """Checks that a folder is whole: every file there, with the size that its attribute file gives.

    Raises:
        SparseFilesError: it is not.
    """
    for table in tables(directory):
        key_folder = os.path.join(directory, table, KEY_FOLDER)
        attribute = _attribute(key_folder, 2)
        _check_size(key_folder, attribute)
        count = attribute[0]
        found = states(directory, table)
        if EMBEDDING_FOLDER not in found:
            raise SparseFilesError("%s/%s has no %s" % (directory, table, EMBEDDING_FOLDER))
        for state in found:
            if open_rows(directory, table, state).shape[0] != count:
                raise SparseFilesError("%s/%s/%s does not have %d rows" % (directory, table, state, count))
        read_history(directory, table)


def check_save_path(path: str) -> None:
    """Checks a checkpoint path as the SDK does before it saves tables (rec_sdk_api 5.3).

    Raises:
        ValueError: not 1 to 1024 characters without control characters; a symbolic link on the way; or a directory of
            the operating system.
    """
    if not isinstance(path, str) or not 1 <= len(path) <= 1024 or any(ord(character) < 32 for character in path):
        raise ValueError("save_path must be a str of 1 to 1024 characters without control characters, given %r"
                         % (path,))
    absolute = os.path.abspath(path)
    if any(absolute.startswith(folder + "/") for folder in _FORBIDDEN):
        raise ValueError("save_path %r: tables are not saved below %s" % (path, ", ".join(_FORBIDDEN)))
    parent = os.path.dirname(absolute)
    if os.path.realpath(parent) != parent:
        raise ValueError("save_path %r leads through a symbolic link; the SDK refuses it, use %s"
                         % (path, os.path.realpath(parent)))


def check_permissions(directory: str) -> None:
    """Checks owner and mode of every file of a sparse folder as the SDK does before it loads them (rec_sdk_api 5.3).

    Raises:
        PermissionError: a file of another owner and group, or one that group or others may write.
    """
    groups = set(os.getgroups()) | {os.getegid()}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            status = os.stat(path)
            if status.st_mode & _FORBIDDEN_MODE:
                raise PermissionError("%s may be written by group or others (mode %o); the SDK refuses to load it: "
                                      "chmod go-w" % (path, status.st_mode & 0o777))
            if status.st_uid != os.geteuid() and status.st_gid not in groups:
                raise PermissionError("%s belongs to another user and group; the SDK refuses to load it: chown" % path)


class FolderWriter:
    """Writes a sparse folder under a temporary name and puts it in place at the end.

    Used as a context manager; an exception inside removes what was written.

    Attributes:
        checksums: {path inside the folder: [size, CRC-32]} of the files written so far.
    """

    def __init__(self, directory: str):
        self._target = directory
        parent, base = os.path.split(os.path.abspath(directory))
        self._temporary = os.path.join(parent, ".%s.partial-%d" % (base, os.getpid()))
        self.checksums: Dict[str, List[int]] = {}

    def __enter__(self) -> "FolderWriter":
        shutil.rmtree(self._temporary, ignore_errors=True)
        _make(self._temporary)
        return self

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        _sync_directory(self._temporary)
        try:
            if os.path.isdir(self._target):
                shutil.rmtree(self._target)
            os.rename(self._temporary, self._target)
        except OSError:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        _sync_directory(os.path.dirname(self._target))

    def write_keys(self, table: str, keys: np.ndarray) -> None:
        """Writes the keys (int64 [n]) of a table."""
        self._write(table, KEY_FOLDER, [np.ascontiguousarray(keys, np.int64)], [keys.shape[0], _KEY_SIZE])

    def write_rows(self, table: str, state: str, dim: int, chunks: Iterable[np.ndarray]) -> None:
        """Writes the rows of a state from chunks of float32 [m, dim], in key order."""
        counter = [0]

        def counted() -> Iterator[np.ndarray]:
            for chunk in chunks:
                counter[0] += chunk.shape[0]
                yield np.ascontiguousarray(chunk, np.float32)

        self._write(table, state, counted(), None)
        self._write_file(table, state, ATTRIBUTE_FILE, [np.array([counter[0], dim, _FLOAT_SIZE], np.int64)])

    def write_history(self, table: str, history: np.ndarray) -> None:
        """Writes the admission history of a table, int64 [m, 3]: id, count, time seen last."""
        self._write(table, HISTORY_FOLDER, [np.ascontiguousarray(history, np.int64)],
                    [history.shape[0], _HISTORY_COLUMNS, _KEY_SIZE])

    def _write(self, table: str, state: str, chunks: Iterable[np.ndarray], attribute: object) -> None:
        _make(os.path.join(self._temporary, table))
        _make(os.path.join(self._temporary, table, state))
        self._write_file(table, state, DATA_FILE, chunks)
        if attribute is not None:
            self._write_file(table, state, ATTRIBUTE_FILE, [np.array(attribute, np.int64)])

    def _write_file(self, table: str, state: str, name: str, chunks: Iterable[np.ndarray]) -> None:
        inside = os.path.join(table, state, name)
        self.checksums[inside] = _write_file(os.path.join(self._temporary, inside), chunks)


def _attribute(folder: str, length: int) -> np.ndarray:
    path = os.path.join(folder, ATTRIBUTE_FILE)
    try:
        values = np.fromfile(path, dtype=np.int64)
    except OSError as error:
        raise SparseFilesError("%s cannot be read: %s" % (path, error)) from error
    if values.size != length or (values < 0).any() or os.path.getsize(path) != 8 * length:
        raise SparseFilesError("%s does not hold %d sizes" % (path, length))
    return values


def _check_size(folder: str, attribute: np.ndarray) -> None:
    path = os.path.join(folder, DATA_FILE)
    expected = 1
    for value in attribute:
        expected *= int(value)
    if not os.path.isfile(path):
        raise SparseFilesError("%s is missing" % path)
    if os.path.getsize(path) != expected:
        raise SparseFilesError("%s has %d bytes, its attribute file says %d" % (path, os.path.getsize(path), expected))


def _make(folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, DIRECTORY_MODE)


def _write_file(path: str, chunks: Iterable[np.ndarray]) -> List[int]:
    """Writes a file and returns its size and CRC-32."""
    size, checksum = 0, 0
    try:
        with open(path, "wb") as stream:
            for chunk in chunks:
                data = memoryview(chunk).cast("B") if chunk.size else memoryview(b"")
                stream.write(data)
                size, checksum = size + len(data), zlib.crc32(data, checksum)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(path, FILE_MODE)
    except OSError as error:
        # A full disk is reported by the write, which knows no name.
        raise OSError(error.errno, error.strerror, path) from error
    return [size, checksum]


def _sync_directory(path: str) -> None:
    descriptor = os.open(path or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
