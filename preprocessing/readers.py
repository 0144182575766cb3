"""Reads the files of a dataset, CSV (plain or gzip) or Parquet, as raw frames in blocks, so that memory is bounded.

Arrow reads and converts; blocks are converted by several threads and come out in file order. A block that Arrow cannot
place is looked at again line by line (:func:`preprocessing.text_files.second_look`), so that every row that cannot be
used is named with its line. See :mod:`preprocessing.columns` for what a raw frame is.
"""
import collections
import concurrent.futures
import contextlib
import dataclasses
import difflib
import functools
import gc
import glob
import hashlib
import itertools
import os
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from feature_specs.dataset import PARQUET, DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import FILE_NAME
from preprocessing.bad_rows import BadRows
from preprocessing.columns import FrameBuilder, Roles, check_type, missing_numbers, roles_of
from preprocessing.text_files import (
    BLANKS,
    NOT_UTF8,
    OPEN_QUOTES,
    Block,
    InputFile,
    is_number,
    must_look_again,
    read_blocks,
    second_look,
    split_line,
)

#: Bytes of text in a block, rows of Parquet in a block.
BLOCK_BYTES, BLOCK_ROWS = 8 << 20, 1 << 15
_SEPARATORS = (("\t", "a tab"), (",", "a comma"), (";", "a semicolon"), ("|", "a bar"), (" ", "a blank"))
_LOOKED_AT = 100
_AS_UTF8 = "write the file as UTF-8, such as: iconv -f LATIN1 -t UTF-8 OLD > NEW"
_REMEDIES = ((NOT_UTF8, _AS_UTF8), (OPEN_QUOTES, "line breaks inside quotes are not supported: write blanks instead"))

_Problems = List[Tuple[str, int, str]]
_Result = Tuple[pd.DataFrame, _Problems, int]
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        max_bad_rows: bad rows allowed per file, ``N`` or ``P%``.
        num_workers: threads; the frames do not depend on it.
        block_bytes: bytes of text per block.
        more_texts: columns to read as text besides those of the definition.
        places: {column: where the definition names it}, for messages.
        progress: called with (path, bytes of it read so far).
        rows_needed: whether a file without a usable row is an error; a file without a header that the definition
            expects always is.
    """

    max_bad_rows: Union[int, str] = 0
    num_workers: int = 1
    block_bytes: int = BLOCK_BYTES
    more_texts: Tuple[str, ...] = ()
    places: Mapping[str, str] = dataclasses.field(default_factory=dict)
    progress: Optional[Callable[[str, int], None]] = None
    rows_needed: bool = True


def find_inputs(patterns: Sequence[str], each_once: bool = True) -> List[str]:
    """Returns the files that paths, folders and globs name, each sorted by name; each file once, if so chosen.

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
            raise DataError("%s: no such file; give a file, a folder with files, or a pattern that matches some"
                            % pattern)
        found.extend(paths)
    return list(dict.fromkeys(found)) if each_once else found


_AS_IT_IS = Reading()


def read_frames(definition: DatasetDefinition, paths: Sequence[str], reading: Reading = _AS_IT_IS,
                labels_optional: bool = False, optional: Sequence[str] = ()) -> "FrameReader":
    """Reads files as raw frames.

    Args:
        definition: the columns and what they are used for.
        paths: the files, in order.
        reading: how.
        labels_optional: labels, weight, group and row key may be absent, and a label that is no label is unknown.
        optional: columns of features that may be absent; their values are missing.

    Returns:
        An iterable of raw frames; what was found is in its attributes afterwards.

    Raises:
        DataError: while iterating: a file is missing, empty, damaged, lacks columns, or has too many bad rows.
    """
    return FrameReader(definition, paths, reading, roles_of(definition, labels_optional, optional, reading.more_texts))


class FrameReader:
    """Iterates over the raw frames of files; see :func:`read_frames`.

    Attributes:
        inputs: the files read so far.
        bad_rows: {reason: rows left out} so far.
        rows: usable rows so far.
        first_row, last_row: numbers of the first and the last row of the file that was read last, usable or not.
    """

    def __init__(self, definition: DatasetDefinition, paths: Sequence[str], reading: Reading, roles: Roles) -> None:
        self._definition, self._reading, self._roles = definition, reading, roles
        self._paths = list(paths)
        #: The first file that was opened and the names of its columns.
        self.first: Optional[Tuple[str, FrozenSet[str]]] = None
        self.inputs: List[InputFile] = []
        self.bad_rows: Dict[str, int] = {}
        #: The bad rows of each file.
        self.reports: List[BadRows] = []
        self.rows = self.last_row = 0
        self.first_row = 1

    def __iter__(self) -> Iterator[pd.DataFrame]:
        self.inputs, self.bad_rows, self.reports, self.rows = [], {}, [], 0
        for path in self._paths:
            info = InputFile(path)
            self.inputs.append(info)
            source = _parquet_results if self._definition.files.format == PARQUET else _csv_results
            file = _File(self._definition, self._roles, self._reading, info, self._check_columns)
            report = BadRows(path, self._reading.max_bad_rows, file.hint)
            self.reports.append(report)
            rows, done = 0, 0
            for frame, problems, lines in source(file):
                for problem in problems:
                    report.add(*problem)
                done += lines
                self.first_row, self.last_row = file.first_line, file.first_line - 1 + done
                rows += len(frame)
                self.rows += len(frame)
                report.check(done, is_end=False)
                if self._reading.progress is not None:
                    self._reading.progress(path, info.size)
                if len(frame):
                    frame.attrs["path"] = path
                    yield frame
            report.check(done)
            for reason, count in report.counts.items():
                self.bad_rows[reason] = self.bad_rows.get(reason, 0) + count
            nameless = source is _csv_results and self._definition.files.header and not file.names
            if not rows and (self._reading.rows_needed or nameless):
                hint = file.hint(report) if report.total else ""
                raise DataError("%s has no usable row%s%s" % (path, ": " + report.describe() if report.total else
                                                              "; it is empty", " (%s)" % hint if hint else ""))

    def _check_columns(self, path: str, names: Sequence[str], hint: str = "") -> None:
        """Checks that the columns are there, and the same in all files."""
        for name in self._roles.columns:
            if name not in names and name not in self._roles.optional:
                near = difflib.get_close_matches(name, names, 1)
                place = self._reading.places.get(name)
                raise DataError("%scolumn %s is not in %s%s; its columns: %s%s" % (
                    place + ": " if place else "", name, path, ", did you mean %s?" % near[0] if near else "",
                    ", ".join(list(names)[:60]), hint))
        used = [name for name in names if name in self._roles.columns]
        twice = sorted({name for name in used if used.count(name) > 1})
        if twice:
            raise DataError("%s has two columns of the name %s; rename one" % (path, ", ".join(twice)))
        self.compare_columns(path, frozenset(names))

    def compare_columns(self, path: str, names: FrozenSet[str]) -> None:
        """Checks that a file has the columns of the first one.

        Raises:
            DataError: names what is missing and what there is besides.
        """
        if self.first is None:
            self.first = (path, names)
        elif self.first[1] != names:
            theirs = self.first[1]
            raise DataError("%s has other columns than %s: it lacks %s and has besides %s; prepare them apart, or give "
                            "files with the same columns" % (path, self.first[0], ", ".join(sorted(
                                theirs - names)) or "none", ", ".join(sorted(names - theirs)) or "none"))


@dataclasses.dataclass
class _File:
    """One file while it is read; ``names`` are its columns, ``first_lines`` what hints are made of."""

    definition: DatasetDefinition
    roles: Roles
    reading: Reading
    info: InputFile
    check_columns: Callable[..., None]
    names: Tuple[str, ...] = ()
    first_lines: Tuple[bytes, ...] = ()
    first_line: int = 1

    def hint(self, bad: BadRows) -> str:
        """Says what is probably wrong with a text file that has too many bad rows, or nothing."""
        if not self.first_lines:
            return ""
        hints = [hint for reason, hint in _REMEDIES if reason in bad.counts]
        separator = self.definition.files.separator
        expected = len(self.names)
        lines = self.first_lines[1 if _is_header(self, self.first_lines[0]) else 0:]
        rows = [_cells(line, separator) for line in lines] or [_cells(self.first_lines[0], separator)]
        wrong = [row for row in rows if len(row) != expected]
        if bad.places and bad.places[0][0] == 1 and self.first_line == 1 and _is_header(self, self.first_lines[0]):
            hints.append("line 1 looks like a header; remove it, or describe the columns with header: true")
        if len(wrong) == len(rows):
            index = [row[0].strip(BLANKS) for row in rows[:5]]
            if all(len(row) == expected + 1 for row in rows) and all(cell.isdigit() for cell in index):
                hints.append("the first column looks like an index")
            if self.definition.name == "census" and all(len(row) == 15 for row in rows):
                hints.append("this looks like the Adult data set (UCI 2); Census-Income (KDD) is UCI 117")
            for other, name in _SEPARATORS:
                if other != separator and all(len(_cells(line, other)) == expected for line in lines[:5]):
                    hints.append("the separator looks like %s; files: {separator: ...} sets it" % name)
        return "; ".join(hints)


def _cells(line: bytes, separator: str) -> List[str]:
    try:
        return split_line(line, separator)
    except ValueError:
        return line.decode("utf-8", "replace").split(separator)


def _is_header(file: _File, line: bytes) -> bool:
    """Whether a line of a file without a header holds names: no number where numbers must be."""
    cells = [cell.strip(BLANKS) for cell in _cells(line, file.definition.files.separator)]
    if file.definition.files.header:
        return False
    if len(set(cells) & set(file.definition.files.columns)) > len(cells) // 2:
        return True
    if len(cells) != len(file.names):
        return False
    numbers = [cell for name, cell in zip(file.names, cells) if name in file.roles.numbers]
    return bool(numbers) and all(cell and not is_number(cell) and cell[0].isalpha() for cell in numbers)


def _csv_results(file: _File) -> Iterator[_Result]:
    blocks = read_blocks(file.info, file.reading.block_bytes)
    first = next(blocks, None)
    if first is None:
        return
    lines = first.data.split(b"\n", _LOOKED_AT)[:min(_LOOKED_AT, first.lines)]
    separator = file.definition.files.separator
    if file.definition.files.header:
        try:
            lines[0].decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError("%s line 1: %s; %s" % (file.info.path, NOT_UTF8, _AS_UTF8)) from error
        names = [name.strip(BLANKS) for name in _cells(lines[0], separator)]
        hint = "".join("; the separator looks like %s" % name for other, name in _SEPARATORS if len(names) == 1 and
                       other != separator and set(_cells(lines[0], other)) & set(file.roles.columns))
        if not hint and any(is_number(name) for name in names):
            hint = "; does the file have no header? then give header: false with columns: [...]"
        file.check_columns(file.info.path, names, hint)
        data = first.data[len(lines[0]) + 1:]
        first = Block(first.first_line + 1, first.lines - 1, data)
        file.first_lines, file.first_line = tuple(lines[1:]), 2
    else:
        names = _names_without_header(file, lines)
        file.first_lines = tuple(lines)
    file.names = tuple(name if name in file.roles.columns else "\0%d" % place for place, name in enumerate(names))
    convert = _BlockConverter(file)
    # Arrow's signal handling walks over all objects at every block, which takes longer than the block where TensorFlow
    # is loaded; frozen ones are left out.
    gc.freeze()
    try:
        yield from ordered_map(convert, itertools.chain([first], blocks), file.reading.num_workers)
    finally:
        gc.unfreeze()


def _names_without_header(file: _File, lines: Sequence[bytes]) -> List[str]:
    """Returns the names of a headerless file's columns, some of the optional ones absent if there are fewer fields."""
    every = list(file.definition.files.columns)
    counts = collections.Counter(len(_cells(line, file.definition.files.separator)) for line in lines)
    fields = counts.most_common(1)[0][0]
    optional = [name for name in every if name in file.roles.optional]
    lacking = len(every) - fields
    if not 0 < lacking <= len(optional):
        return every
    best: Tuple[int, List[str]] = (len(lines) + 1, every)
    missing = missing_numbers(file.definition)
    block = Block(1, len(lines), b"\n".join(lines) + b"\n")
    builder = FrameBuilder(file.definition, dataclasses.replace(file.roles, check_labels=True))
    # Which of them is absent shows in the rows: with the right ones, numbers are numbers and labels are labels.
    for absent in itertools.combinations(reversed(optional), lacking):
        names = [name for name in every if name not in absent]
        shown = tuple(name if name in file.roles.columns else "\0%d" % at for at, name in enumerate(names))
        good, kept, bad = second_look(block, file.definition.files.separator, shown, file.roles.numbers, missing)
        if len(kept):
            table = _read_table(good.data, shown, file)
            bad = bad + builder.build(table, kept)[1]
        if len({line for _, line, _ in bad}) < best[0]:
            best = (len({line for _, line, _ in bad}), names)
    return best[1]


class _BlockConverter:
    def __init__(self, file: _File) -> None:
        self._file = file
        self._builder = FrameBuilder(file.definition, file.roles)
        self._missing = missing_numbers(file.definition)

    def __call__(self, block: Block) -> _Result:
        """Converts one block of text."""
        rows = np.arange(block.first_line, block.first_line + block.lines)
        problems: _Problems = []
        table = None
        if not must_look_again(block.data):
            with contextlib.suppress(pa.ArrowInvalid):
                table = _read_table(block.data, self._file.names, self._file)
        # Quotes that are not closed make one row of several lines, an empty line makes none; nothing makes more.
        if table is None or table.num_rows != block.lines:
            separator = self._file.definition.files.separator
            numbers = [name for name in self._file.roles.numbers if name not in self._file.roles.texts]
            good, rows, problems = second_look(block, separator, self._file.names, numbers, self._missing)
            table = _read_table(good.data, self._file.names, self._file)
        frame, more = self._builder.build(table, rows)
        return frame, sorted(problems + more, key=lambda item: item[1]), block.lines


def _read_table(data: bytes, names: Sequence[str], file: _File) -> pa.Table:
    roles = file.roles
    used = [name for name in names if name in roles.columns]
    text, number = pa.dictionary(pa.int32(), pa.string()), pa.float64()
    types = {name: text if name in roles.texts else number for name in used}
    if not data:
        return pa.table({name: pa.array([], types[name]) for name in used})
    missing = missing_numbers(file.definition)
    return pa.csv.read_csv(
        pa.BufferReader(data),
        read_options=pa.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(names)),
        parse_options=pa.csv.ParseOptions(delimiter=file.definition.files.separator, ignore_empty_lines=len(names) > 1),
        convert_options=pa.csv.ConvertOptions(column_types=types, include_columns=used, strings_can_be_null=False,
                                              null_values=list(missing) + [" " + item for item in missing]))


def _parquet_results(file: _File) -> Iterator[_Result]:
    path = file.info.path
    try:
        with open(path, "rb") as stream:
            digest = hashlib.sha256()
            for data in iter(functools.partial(stream.read, 1 << 20), b""):
                digest.update(data)
                file.info.size += len(data)
        file.info.sha256 = digest.hexdigest()
        parquet = pa.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError("%s cannot be read as Parquet: %s" % (path, str(error).splitlines()[0])) from error
    schema = parquet.schema_arrow
    file.check_columns(path, schema.names)
    used = [name for name in schema.names if name in file.roles.columns]
    lists = {feature.column for feature in file.definition.categorical if feature.is_list}
    try:
        for name in used:
            check_type(name, schema.field(name).type, name in file.roles.texts, name in lists)
    except DataError as error:
        raise DataError("%s: %s" % (path, error)) from error
    builder = FrameBuilder(file.definition, file.roles)

    def convert(item: Tuple[int, pa.RecordBatch]) -> _Result:
        start, batch = item
        try:
            return builder.build(pa.Table.from_batches([batch]), np.arange(
                start, start + batch.num_rows)) + (batch.num_rows,)
        except pa.ArrowInvalid as error:
            raise DataError("%s: %s; categories must be text or whole numbers" % (
                path, str(error).splitlines()[0])) from error

    def batches() -> Iterator[Tuple[int, pa.RecordBatch]]:
        start = 1
        for batch in parquet.iter_batches(BLOCK_ROWS, columns=used, use_threads=file.reading.num_workers > 1):
            yield start, batch
            start += batch.num_rows

    try:
        yield from ordered_map(convert, batches(), file.reading.num_workers)
    except pa.ArrowException as error:
        raise DataError("%s is a damaged Parquet file: %s" % (path, str(error).splitlines()[0])) from error


def ordered_map(function: Callable[[_T], _R], items: Iterable[_T], workers: int) -> Iterator[_R]:
    """Applies a function in threads; results come in the order of the items, few of which are held at a time."""
    if workers <= 1:
        yield from map(function, items)
        return
    waiting: Any = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def check_reading(reading: Reading) -> None:
    """Checks the settings.

    Raises:
        ConfigError: one is out of range.
    """
    BadRows("", reading.max_bad_rows)
    for name, value, least, most in (("num_workers", reading.num_workers, 1, 64),
                                     ("block_bytes", reading.block_bytes, 1, 1 << 28)):
        if not least <= value <= most:
            raise ConfigError("%s %d: give a whole number from %d to %d" % (name, value, least, most))
