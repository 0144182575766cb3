"""The first rows of data files that nothing is known of: separator, header, and the cells as texts."""
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from feature_specs.dataset import LIST_SEPARATOR, CategoricalFeature, DatasetDefinition, FileFormat, TaskDefinition
from feature_specs.errors import DataError
from preprocessing.reading.columns import MISSING_NUMBERS, Roles, check_type, to_text
from preprocessing.reading.readers import FrameReader, Reading
from preprocessing.reading.text_files import InputFile, cells_of, is_number, is_parquet, read_blocks

_ALWAYS_MISSING = ("\\N", "NULL", "null")
# Words that mean a missing value where everything else in the column is a number.
MAYBE_MISSING = ("NA", "N/A", "n/a", "na", "None", "none", "-", "--", "missing", "unknown", "#N/A")
_SEPARATORS = "\t,;|"
_OTHER_FILES = {b"PK\x03\x04": "a ZIP archive or an Excel file", b"\xd0\xcf\x11\xe0": "an Excel file",
                b"{": "JSON lines", b"[": "JSON", b"<": "HTML or XML", b"sep=": "CSV with a line for Excel above it"}
_SNIFFED_LINES, _SNIFFED_BYTES = 200, 1 << 16


class Look(NamedTuple):
    """What was read of files.

    Attributes:
        frame: the rows looked at, as trimmed texts; values of a Parquet list with ``LIST_SEPARATOR`` between them.
        is_all: whether these are all rows.
        files: how the files are written, as in a dataset file.
        warnings: what is odd.
        types: {column of Parquet: ``list``, ``text`` or ``time``}; what others are the values must tell.
    """

    paths: Tuple[str, ...]
    frame: pd.DataFrame
    is_all: bool
    files: Dict[str, Any]
    warnings: Sequence[str]
    types: Mapping[str, str]


def read(paths: Sequence[str], rows: int) -> Look:
    """Reads the first rows of files as trimmed texts, a missing cell as the empty text.

    Raises:
        DataError: a file cannot be read, or is no table.
    """
    packed = [is_parquet(path) for path in paths]
    if len(set(packed)) > 1:
        raise DataError("%s is a Parquet file and %s is not; describe files of one format"
                        % (paths[packed.index(True)], paths[packed.index(False)]))
    look = _read_parquet(paths, rows) if packed[0] else _read_text(paths, rows)
    if not len(look.frame):
        raise DataError("%s has no rows" % paths[0])
    return look


def _read_text(paths: Sequence[str], rows: int) -> Look:
    block = next(read_blocks(InputFile(paths[0]), _SNIFFED_BYTES), None)
    if block is None:
        raise DataError("%s is empty" % paths[0])
    for beginning, what in _OTHER_FILES.items():
        if block.data.lstrip().startswith(beginning):
            raise DataError("%s looks like %s; write it as CSV or Parquet" % (paths[0], what))
    lines = block.data.split(b"\n")[:min(block.lines, _SNIFFED_LINES)]
    separator = _sniff(lines)
    cells = [cells_of(line, separator) for line in lines]
    header = _has_header(cells)
    names = cells[0] if header else ["c%d" % number for number in range(1, len(cells[0]) + 1)]
    warnings = ["column %d has no name in line 1 and is left out" % place
                for place, name in enumerate(names, 1) if not name]
    names = [name for name in names if name]
    if len(names) < 2:
        raise DataError("%s has fewer than two columns with a name; a feature and a label are needed; where something "
                        "else than a tab, comma, semicolon or bar separates them, write one of these: its first line "
                        "is %r" % (paths[0], lines[0].decode("utf-8", "replace")[:80]))
    files: Dict[str, Any] = {"format": "csv", "header": header, "separator": separator}
    if not header:
        files["columns"] = tuple(names)
    # The roles say what is read; a definition is the frame around the format of the files.
    definition = DatasetDefinition(
        "look", FileFormat(**files), (CategoricalFeature("c1", "c1"),), (), (TaskDefinition("c2", "c2"),))
    reader = FrameReader(definition, paths, Reading(max_bad_rows="100%"), Roles(tuple(names), (), check_labels=False))
    frames: List[pd.DataFrame] = []
    for frame in reader:
        frames.append(frame.astype(object))
        if sum(map(len, frames)) > rows:
            break
    frame = pd.concat(frames, ignore_index=True).iloc[:rows]
    warnings += ["%s: prepare cannot use %d of these rows: %s%s" % (
        report.path, report.total, report.describe(), report.hint()) for report in reader.reports if report.total]
    missing = [text for text in _ALWAYS_MISSING if (frame == text).any().any()]
    missing += _missing_among_numbers(frame.replace(missing, ""))
    if missing:
        files["missing"] = [""] + missing
        frame = frame.replace(missing, "")
    return Look(tuple(paths), frame, sum(map(len, frames)) <= rows, files, warnings, {})


def _missing_among_numbers(frame: pd.DataFrame) -> List[str]:
    """Returns the spellings of a missing value that stand in a column whose other values are numbers."""
    found: List[str] = []
    for name in frame.columns:
        texts = [text for text in frame[name].unique() if text and text not in MISSING_NUMBERS]
        odd = [text for text in texts if not is_number(text)]
        if len(odd) < len(texts) and set(odd) <= set(MAYBE_MISSING):
            found += [text for text in odd if text not in found]
    # One of two or three words is a value there.
    return [text for text in found if not any(
        (frame[name] == text).mean() > 0.2 and frame[name].nunique() <= 3 for name in frame.columns)]


def _read_parquet(paths: Sequence[str], rows: int) -> Look:
    batches: List[pa.RecordBatch] = []
    try:
        for path in paths:
            file = pa.parquet.ParquetFile(path)
            for batch in file.iter_batches(1 << 14):
                batches.append(batch)
                if sum(map(len, batches)) > rows:
                    break
        data = pa.Table.from_batches(batches, file.schema_arrow)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError("%s cannot be read as Parquet: %s" % (path, str(error).splitlines()[0])) from error
    texts: Dict[str, List[str]] = {}
    types: Dict[str, str] = {}
    warnings = []
    for name in data.column_names:
        column = data.column(name).slice(0, rows).combine_chunks()
        column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        try:
            types[name] = _type_of(name, column.type)
        except DataError as error:
            warnings.append("%s; it is left out" % error)
            continue
        if types[name] == "list":
            texts[name] = [LIST_SEPARATOR.join(map(str, item or [])) for item in column.to_pylist()]
        elif pa.types.is_floating(column.type):
            texts[name] = ["" if item is None or item != item else "%d" % item if item == item // 1 and abs(item) < 1e18
                           else "%.9g" % item for item in column.to_pylist()]
        else:
            texts[name] = pc.ascii_trim_whitespace(to_text(column).fill_null("")).to_pylist()
    return Look(tuple(paths), pd.DataFrame(texts), len(data) <= rows, {"format": "parquet"}, warnings, types)


def _type_of(name: str, kind: pa.DataType) -> str:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    check_type(name, kind, is_text=not is_list and not pa.types.is_decimal(kind), is_list=is_list)
    if pa.types.is_duration(kind):
        raise DataError("column %s: Parquet type %s is neither text nor a number" % (name, kind))
    if pa.types.is_temporal(kind):
        return "time"  # a time of day, too: it splits nothing, and is no number
    return "list" if is_list else "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else ""


def _sniff(lines: Sequence[bytes]) -> str:
    """Returns the separator that gives most lines, and the first one, the same number of fields, more than one; a comma
    if none does. Of several, cells of the true one have the others less often: they stand in lists and numbers."""
    def score(separator: str) -> Tuple[float, float, int]:
        rows = [cells_of(line, separator) for line in lines]
        counts = list(map(len, rows))
        usual = max(set(counts), key=counts.count)
        if usual < 2 or counts[0] != usual:
            return 0.0, 0.0, int(separator == ",")
        cells = [cell for row in rows for cell in row]
        strange = sum(any(other in cell for other in _SEPARATORS.replace(separator, "")) for cell in cells)
        return round(counts.count(usual) / len(counts), 1), -strange / len(cells), usual

    return max(_SEPARATORS, key=score)


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names: text above numbers, or cells of which none comes again. A frame that was
    written with its index has no name above it, one without names has numbers from 0 on."""
    first = rows[0]
    count = len(rows) - 1
    if first[0] == "" and [row[0] for row in rows[1:]] == [str(number) for number in range(count)] and len(first) > 1:
        return True
    if first == [str(number) for number in range(len(first))]:
        return True
    columns = list(zip(*[row for row in rows if len(row) == len(first)]))
    no_value = set(MISSING_NUMBERS + _ALWAYS_MISSING + MAYBE_MISSING)
    for cell, *below in columns:
        values = set(below) - no_value
        if cell not in no_value and not is_number(cell) and len(values) > 1 and all(map(is_number, values)):
            return True
    return len(set(first)) == len(first) and not any(
        is_number(cell) or not cell or cell in below for cell, *below in columns)
