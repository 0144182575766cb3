"""Reads the files of a dataset, CSV (plain or gzip) or Parquet, as raw frames in blocks, so that memory is bounded.

Blocks are converted by several threads and come out in file order. See :mod:`preprocessing.reading.columns` for what a
raw frame is.
"""
import collections
import concurrent.futures
import dataclasses
import gc
import glob
import os
from typing import Any, Callable, Counter, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from feature_specs.checks import did_you_mean, shown
from feature_specs.cores import usable_cores
from feature_specs.dataset import PARQUET, DatasetDefinition
from feature_specs.errors import DataError
from feature_specs.files import sha256_of_file
from feature_specs.manifest import FILE_NAME
from preprocessing.reading.bad_rows import BadRow, BadRows
from preprocessing.reading.columns import FrameBuilder, Roles, check_type, roles_of
from preprocessing.reading.text_files import InputFile
from preprocessing.reading.text_rows import TextRows

#: Bytes of text in a block, rows of Parquet in a block.
BLOCK_BYTES, BLOCK_ROWS = 8 << 20, 1 << 15
_MOST_WORKERS = 8

#: The usable rows of a block, the others, and how many lines or rows they were.
_Converted = Tuple[pd.DataFrame, List[BadRow], int]
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        max_bad_rows: bad rows allowed per file, ``N`` or ``P%``.
        num_workers: threads; 0: one per core, at most 8; the frames do not depend on it.
        block_bytes: bytes of text per block.
        more_texts: columns to read as text besides those of the definition.
        places: {column: where the definition names it}, for messages.
        progress: called with (path, bytes of it read so far).
        rows_needed: whether a file without a usable row is an error; a file without a header that the definition
            expects always is.
        hashes: whether the files are hashed.
    """

    max_bad_rows: Union[int, str] = 0
    num_workers: int = 1
    block_bytes: int = BLOCK_BYTES
    more_texts: Tuple[str, ...] = ()
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)
    progress: Optional[Callable[[str, int], None]] = None
    rows_needed: bool = True
    hashes: bool = True


def find_inputs(patterns: Sequence[str], each_once: bool = True) -> List[str]:
    """Returns the files that paths, folders and globs name, each sorted by name; with ``each_once`` none comes twice.

    Raises:
        DataError: nothing is there under one of them.
    """
    found: List[str] = []
    for pattern in patterns:
        if os.path.isfile(os.path.join(pattern, FILE_NAME)):
            raise DataError("%s holds prepared data; give the files that it was prepared from" % pattern)
        if os.path.isdir(pattern):
            names = sorted(os.path.join(pattern, name) for name in os.listdir(pattern) if name[0] not in "._")
            paths = [name for name in names if os.path.isfile(name)]
        else:
            paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
        if not paths:
            raise DataError("%s: no such file; give a file, a directory with files, or a pattern that matches some"
                            % pattern)
        found.extend(paths)
    return list(dict.fromkeys(found)) if each_once else found


_AS_IT_IS = Reading()


def read_frames(definition: DatasetDefinition, paths: Sequence[str], reading: Reading = _AS_IT_IS,
                features: Optional[Sequence[str]] = None) -> "FrameReader":
    """Returns an iterable of the raw frames of files; ``features`` are those of :func:`columns.roles_of`.

    Raises:
        DataError: while iterating: a file is missing, empty, damaged, lacks columns, or has too many bad rows.
    """
    return FrameReader(definition, paths, reading, roles_of(definition, features, reading.more_texts))


class FrameReader:
    """Iterates over the raw frames of files, in order.

    Attributes:
        inputs: the files read so far.
        reports: the bad rows of each of them.
        bad_rows: {reason: rows left out} of the files read whole.
        first: the first file and the names of its columns.
        first_row, last_row: numbers of the first and the last row of the file that was read last, usable or not.
    """

    def __init__(self, definition: DatasetDefinition, paths: Sequence[str], reading: Reading, roles: Roles) -> None:
        self._definition, self._paths, self._reading, self._roles = definition, list(paths), reading, roles
        self._start()

    def _start(self) -> None:
        self.inputs: List[InputFile] = []
        self.reports: List[BadRows] = []
        self.bad_rows: Counter[str] = collections.Counter()
        self.first: Optional[Tuple[str, Sequence[str]]] = None
        self.first_row, self.last_row = 1, 0

    def __iter__(self) -> Iterator[pd.DataFrame]:
        self._start()
        # Arrow's signal handling walks over all objects at every block, which takes longer than the block where
        # TensorFlow is loaded; frozen ones are left out.
        gc.freeze()
        try:
            for path in self._paths:
                yield from self._read(path)
        finally:
            gc.unfreeze()

    def _read(self, path: str) -> Iterator[pd.DataFrame]:
        reading, info = self._reading, InputFile(path, is_hashed=self._reading.hashes)
        self.inputs.append(info)
        workers = reading.num_workers or min(usable_cores(), _MOST_WORKERS)
        file: Union[TextRows, _ParquetRows]
        if self._definition.files.format == PARQUET:
            file = _ParquetRows(self._definition, self._roles, info, workers)
        else:
            file = TextRows(self._definition, self._roles, info, reading.block_bytes)
        if file.names:
            self._check_columns(path, file.names, file.names_hint)
        report = BadRows(path, reading.max_bad_rows, file.hint, file.unit)
        self.reports.append(report)
        self.first_row, self.last_row = file.first_row, file.first_row - 1
        has_rows = False
        convert: Callable[[Any], _Converted] = file.convert
        for frame, problems, lines in ordered_map(convert, file.blocks, workers):
            for problem in sorted(problems, key=lambda item: item[1]):
                report.add(*problem)
            self.last_row += lines
            report.check(self.last_row - self.first_row + 1, is_end=False)
            if reading.progress is not None:
                reading.progress(path, info.size)
            if len(frame):
                has_rows = True
                frame.attrs.update(path=path, unit=file.unit)
                yield frame
        report.check(self.last_row - self.first_row + 1)
        self.bad_rows.update(report.counts)
        if not has_rows and (reading.rows_needed or not file.names):
            empty = "; it has a header and nothing else" if file.first_row > 1 and any(file.names) else "; it is empty"
            raise DataError("%s has no usable row%s" % (
                path, ": " + report.describe() + report.hint() if report.counts else empty))

    def _check_columns(self, path: str, names: Sequence[str], hint: str) -> None:
        """Checks that the columns are there, and the same in all files."""
        for name in self._roles.columns:
            if name not in names and name not in self._roles.optional:
                place = self._reading.places.get(name)
                raise DataError("%scolumn %s is not in %s%s; its columns: %s%s" % (
                    place + ": " if place else "", name, path, did_you_mean(name, names),
                    shown(tuple(names)), hint))
        twice = sorted(name for name in self._roles.columns if list(names).count(name) > 1)
        if twice:
            raise DataError("%s has two columns of the name %s; rename one" % (path, ", ".join(twice)))
        self.compare_columns(path, names)

    def compare_columns(self, path: str, names: Sequence[str]) -> None:
        """Raises DataError where a file has not the columns of the first one."""
        self.first = self.first or (path, names)
        lacking, besides = set(self.first[1]) - set(names), set(names) - set(self.first[1])
        if lacking or besides:
            raise DataError("%s has other columns than %s: it lacks %s and has besides %s; prepare them apart, or give "
                            "files with the same columns" % (path, self.first[0], ", ".join(sorted(lacking)) or "none",
                                                             ", ".join(sorted(besides)) or "none"))


class _ParquetRows:
    """The rows of one Parquet file; attributes and methods as of :class:`preprocessing.reading.text_rows.TextRows`."""

    unit = "row"

    def __init__(self, definition: DatasetDefinition, roles: Roles, info: InputFile, workers: int) -> None:
        self.names_hint, self.first_row = "", 1
        self._path, self._roles, self._workers = info.path, roles, workers
        self._builder = FrameBuilder(definition, roles)
        self._lists = {feature.column for feature in definition.categorical if feature.is_list}
        try:
            info.size = os.path.getsize(info.path)
            info.sha256 = sha256_of_file(info.path) if info.is_hashed else ""
            self._file = pa.parquet.ParquetFile(info.path)
        except (OSError, pa.ArrowException) as error:
            raise DataError("%s cannot be read as Parquet: %s" % (info.path, str(error).splitlines()[0])) from error
        self.names: List[str] = self._file.schema_arrow.names
        self.blocks = self._read()

    @staticmethod
    def hint(_: BadRows) -> str:
        """Says nothing."""
        return ""

    def _read(self) -> Iterator[Tuple[int, pa.RecordBatch]]:
        """Yields the number of a first row, and rows; fails where a column has another type, or damaged pages."""
        schema = self._file.schema_arrow
        used = [name for name in self.names if name in self._roles.columns]
        try:
            for name in used:
                check_type(name, schema.field(name).type, name in self._roles.texts, name in self._lists)
            start = 1
            for batch in self._file.iter_batches(BLOCK_ROWS, columns=used, use_threads=self._workers > 1):
                yield start, batch
                start += batch.num_rows
        except DataError as error:
            raise DataError("%s: %s" % (self._path, error)) from error
        except (OSError, pa.ArrowException) as error:
            raise DataError("%s is a damaged Parquet file: %s" % (self._path, str(error).splitlines()[0])) from error

    def convert(self, block: Tuple[int, pa.RecordBatch]) -> _Converted:
        """Converts a block."""
        start, batch = block
        rows = np.arange(start, start + batch.num_rows)
        try:
            return (*self._builder.build(pa.Table.from_batches([batch]), rows), len(rows))
        except pa.ArrowInvalid as error:
            raise DataError("%s: %s; categories must be text or whole numbers" % (
                self._path, str(error).splitlines()[0])) from error


def ordered_map(function: Callable[[_T], _R], items: Iterable[_T], workers: int) -> Iterator[_R]:
    """Applies a function in threads; results come in the order of the items, few of which are held at a time."""
    if workers <= 1:
        yield from map(function, items)
        return
    waiting: List[concurrent.futures.Future] = []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
