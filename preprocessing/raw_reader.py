"""Reads raw comma-separated text, plain or gzip, in bounded chunks of encoded rows.

The text has no header. Blanks around values do not matter, quotes have no meaning, ``NA`` and the empty text are values
like any other. Memory is bounded by the chunk size (about 30 bytes per byte of text while a chunk is split) and by the
distinct values kept in the value table.
"""
import dataclasses
import hashlib
import os
import zlib
from typing import Callable, Dict, Iterator, List, Optional, Sequence

import numpy as np

from feature_specs.dataset import DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from preprocessing.bad_rows import BadRows
from preprocessing.block_encoder import BlockEncoder, EncodedBlock, IndexMerger
from preprocessing.text_scan import MAX_LINE_BYTES
from preprocessing.value_table import ValueTable
from preprocessing.worker_pool import WorkerPool

#: Bytes of text read at a time; half a MiB keeps the working arrays inside the processor's cache.
DEFAULT_CHUNK_BYTES = 1 << 19
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"


@dataclasses.dataclass
class RowChunk:
    """Some rows of a file, in file order.

    Attributes:
        line_numbers: int64 [rows], 1-based line of each row.
        sparse: int32 [rows, sparse columns], index of each value in its column's list of the value table; a value that
            is not in a frozen table has the list's length as index.
        dense: float32 [rows, dense columns], raw unit.
        labels: int8 [rows, tasks], 1 positive, 0 negative, -1 unknown (only where labels are not required).
        row_hashes: uint64 [rows], hash of the whole line.
    """

    line_numbers: np.ndarray
    sparse: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    row_hashes: np.ndarray


@dataclasses.dataclass
class InputFile:
    """What was learnt of a file while reading it: size in bytes, SHA-256 (of the file as it is on disk), lines."""

    path: str
    size: int = 0
    sha256: str = ""
    lines: int = 0
    rows: int = 0


def new_value_table(definition: DatasetDefinition, values: Optional[Dict[str, Sequence[str]]] = None) -> ValueTable:
    """Returns a value table for the sparse columns, empty or with the given {column: values in index order}."""
    return ValueTable(definition.sparse_columns, values)


def read_chunks(path: str, definition: DatasetDefinition, table: Optional[ValueTable] = None, grow: bool = True,
                require_labels: bool = True, bad_rows: Optional[BadRows] = None, info: Optional[InputFile] = None,
                chunk_bytes: int = DEFAULT_CHUNK_BYTES, num_workers: int = 1,
                progress: Optional[Callable[[int], None]] = None) -> Iterator[RowChunk]:
    """Reads a raw text file.

    Args:
        path: plain text, or gzip (known by its content).
        definition: the columns and what they are used for.
        table: the values known so far (:func:`new_value_table`); new ones are added to it, in order of appearance.
        grow: whether new values are added to ``table``; if not, they get the list's length as index.
        require_labels: whether an unknown label text makes a row a bad row. If not, its label is -1, and the file may
            lack all label columns.
        bad_rows: collects the bad rows and holds their limit; by default none is allowed.
        info: filled in while reading.
        chunk_bytes: bytes of text read at a time.
        num_workers: processes that split text, 1: this one; the result does not depend on it.
        progress: called with the number of bytes of the file read so far.

    Yields:
        The usable rows, in file order.

    Raises:
        DataError: the file is missing, empty or damaged, or (at its end) has more bad rows than allowed.
        ConfigError: a setting is out of range.
    """
    if chunk_bytes < 1:
        raise ConfigError("chunk_bytes %d: give at least 1 byte" % chunk_bytes)
    if num_workers < 1:
        raise ConfigError("num_workers %d: give at least 1" % num_workers)
    table = table if table is not None else new_value_table(definition)
    bad_rows = bad_rows if bad_rows is not None else BadRows(path)
    info = info if info is not None else InputFile(path)
    blocks = read_lines(path, chunk_bytes, info, progress)
    first = next(blocks, b"")
    if not first.strip():
        raise DataError("%s is empty: it has no rows; give a file with %d comma-separated columns"
                        % (path, len(definition.columns)))
    encoder = BlockEncoder(definition, _columns_of(first, definition, require_labels), table, grow, require_labels)
    with WorkerPool(lambda data: encoder(data).parts(), num_workers) as pool:
        merger = None if pool.in_process or not grow else IndexMerger(table, num_workers)
        for worker, arrays, rest in pool.map(_chain(first, blocks)):
            block = EncodedBlock(**arrays, **rest)
            first_line = info.lines + 1
            info.lines += block.lines
            for reason, lines in block.bad.items():
                bad_rows.add(reason, lines + first_line)
            sparse = block.sparse if merger is None else merger.merge(worker, block)
            info.rows += len(block.kept)
            yield RowChunk(block.kept + first_line, sparse, block.dense, block.labels, block.row_hashes)
    bad_rows.check(info.lines, _header_hint(bad_rows))
    if not info.rows:
        raise DataError("%s has no usable row: %s" % (path, bad_rows.describe()))


def read_lines(path: str, chunk_bytes: int, info: Optional[InputFile] = None,
               progress: Optional[Callable[[int], None]] = None) -> Iterator[bytes]:
    """Reads a plain or gzip file as blocks of whole lines.

    A missing final newline is added; one empty line at the end is left out; of a line longer than
    :data:`~preprocessing.text_scan.MAX_LINE_BYTES` only so much is given that it can be told.

    Args:
        path: the file.
        chunk_bytes: bytes of text per block; a block grows to hold at least one line.
        info: size and SHA-256 are filled in at the end.
        progress: called with the number of bytes of the file read so far.

    Yields:
        Blocks; each ends in a newline.

    Raises:
        DataError: the file is missing, unreadable, or a damaged gzip file.
    """
    # An empty line at the end of a block is held back until it is known whether it is the last one of the file.
    held, carry, cut = b"", b"", False
    for data in _read_bytes(path, chunk_bytes, info, progress):
        end = data.rfind(b"\n") + 1
        if not end:
            if not cut:
                carry += data
                if len(carry) > MAX_LINE_BYTES + 2:
                    carry, cut = carry[:MAX_LINE_BYTES + 2], True
            continue
        block = held + (carry + data[data.find(b"\n"):end] if cut else carry + data[:end])
        carry, cut = data[end:], False
        start = block.rfind(b"\n", 0, len(block) - 1) + 1
        held = block[start:]
        if held.strip():
            held = b""
            yield block
        elif start:
            yield block[:start]
    if carry:
        yield held + carry + b"\n"


def _read_bytes(path: str, chunk_bytes: int, info: Optional[InputFile],
                progress: Optional[Callable[[int], None]]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    size = 0
    if os.path.isdir(path):
        raise DataError("%s is a directory; give a text file" % path)
    try:
        with open(path, "rb") as stream:
            magic = stream.read(2)
            stream.seek(0)
            if path.endswith(".gz") and magic and magic != _GZIP_MAGIC:
                raise DataError("%s is not a gzip file although its name ends in .gz; rename it or get it again" % path)
            inflater = _Inflater(path) if magic == _GZIP_MAGIC else None
            first = True
            while True:
                raw = stream.read(min(chunk_bytes, 1 << 18) if inflater else chunk_bytes)
                if not raw:
                    break
                digest.update(raw)
                size += len(raw)
                for data in (inflater.feed(raw, chunk_bytes) if inflater else (raw,)):
                    if first and data:
                        first = False
                        data = data[3:] if data.startswith(_BYTE_ORDER_MARK) else data
                    if data:
                        yield data
                if progress is not None:
                    progress(size)
            if inflater:
                inflater.finish()
    except OSError as error:
        raise DataError("%s cannot be read: %s" % (path, error.strerror or error)) from error
    if info is not None:
        info.size, info.sha256 = size, digest.hexdigest()


class _Inflater:
    """Decompresses gzip members one after the other."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._member = zlib.decompressobj(31)
        self._started = False

    def feed(self, raw: bytes, most: int) -> Iterator[bytes]:
        """Yields the text of ``raw``, at most ``most`` bytes at a time."""
        try:
            while raw:
                if self._member.eof:
                    # Zero bytes may fill a gzip file up behind its last member.
                    raw = raw.lstrip(b"\0") if not self._started else raw
                    if not raw:
                        return
                    self._member = zlib.decompressobj(31)
                self._started = True
                data = self._member.decompress(raw, most)
                raw = self._member.unconsumed_tail
                if self._member.eof:
                    raw = self._member.unused_data
                    self._started = False
                if data:
                    yield data
            while not self._member.eof:
                data = self._member.decompress(b"", most)
                if not data:
                    return
                yield data
        except zlib.error as error:
            raise DataError("%s is a damaged gzip file (%s); get it again" % (self._path, error)) from error

    def finish(self) -> None:
        """Checks that the last member is whole."""
        if not self._member.eof:
            raise DataError("%s is a truncated gzip file; get it again" % self._path)


def _columns_of(block: bytes, definition: DatasetDefinition, require_labels: bool) -> List[str]:
    columns = list(definition.columns)
    if not require_labels:
        labels = {task.label_column for task in definition.tasks}
        unlabelled = [column for column in columns if column not in labels]
        if block[:block.find(b"\n")].count(b",") + 1 == len(unlabelled):
            return unlabelled
    return columns


def _header_hint(bad_rows: BadRows) -> Optional[str]:
    lines = {line for lines in bad_rows.first_lines.values() for line in lines}
    return " (line 1: the file must have no header)" if bad_rows.total == 1 and lines == {1} else None


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
