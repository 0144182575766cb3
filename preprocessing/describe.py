"""Looks at data files and drafts a dataset file: ``bash run_estimator.sh describe FILE... --output my.yaml``."""
import argparse
import csv
import dataclasses
import json
import os
import re
import sys
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from feature_specs.dataset_file import parse_dataset
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import replace_text
from preprocessing.columns import MISSING_NUMBERS, to_text
from preprocessing.readers import find_inputs
from preprocessing.text_files import BLANKS, InputFile, is_parquet, read_blocks, split_line

ROWS = 100000
_ALWAYS_MISSING = ("\\N", "NULL", "null")
# Words that mean a missing value where everything else in the column is a number.
_MAYBE_MISSING = ("NA", "N/A", "n/a", "na", "None", "none", "-", "--", "missing", "unknown", "#N/A")
_HASH_ABOVE = 20000
_SEPARATORS = "\t,;|"
_LIST_SEPARATORS = "|,; "
_BINARY_LABEL = re.compile(r"((is|has|did|was)_)?(click|clicked|buy|bought|purchase\w*|order|ordered|conver\w*|install\w*|"
                           r"like|liked|share|follow|subscri\w*|churn\w*|fraud\w*|surviv\w*|response|outcome|label|target|"
                           r"y|income\w*)\w?\Z|.*_label\Z|label_.*", re.I)
_NUMBER_LABEL = re.compile(r"(.*_)?(amount|revenue|gmv|spend|watch\w*|dwell\w*|duration|target|label|y|seconds)"
                           r"(_.*)?\Z", re.I)
_SECOND_CHOICE = re.compile(r"(.*_)?(rating|score|stars|grade)\Z", re.I)
_TIME = re.compile(r"(.*_)?(time|timestamp|date|datetime|ts)\Z", re.I)
_IDENTITY = re.compile(r"(.*_)?(id|ids|code|type|category|zip|key|hash)\Z|.*Id\Z", re.I)
_GROUP = re.compile(r"(user|customer|member|visitor|session)(_?id)?\Z", re.I)
_WEIGHT = re.compile(r"w|(sample|instance|row)_?weights?\Z", re.I)
# A column that tells a label so well is rather known after it than before.
_LEAK = 0.98
_LEAK_ROWS = 20
_LEAK_VALUES = 50
_WHOLE = re.compile(r"-?\d{1,18}\Z", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Look:
    """What was read of files: the rows looked at as trimmed texts, and how the files are written."""

    paths: Tuple[str, ...]
    frame: pd.DataFrame
    is_all: bool
    files: Dict[str, Any]
    lists: Tuple[str, ...] = ()


@dataclasses.dataclass
class Column:
    """What was found in a column, and what it is proposed for."""

    name: str
    values: pd.Series
    distinct: int
    missing: float
    kind: str = ""
    separator: str = ""
    max_length: int = 0
    keys: List[str] = dataclasses.field(default_factory=list)
    why: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command to a parser."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="CSV (any separator, plain or gzip) or Parquet files, "
                                                                 "folders or quoted patterns [paths] (required)")
    parser.add_argument("--output", metavar="FILE",
                        help="dataset file to write; an existing file is not replaced [path] (default: the table only)")
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N",
                        help="rows to look at, from the beginning of the files (default: %d)" % ROWS)


def run(args: argparse.Namespace) -> None:
    """Prints a table of the columns and writes the draft.

    Raises:
        DataError: a file cannot be read.
        ConfigError: the output exists, or a number is out of range.
    """
    if args.rows < 1:
        raise ConfigError("rows %d: give at least 1" % args.rows)
    if args.output and os.path.lexists(args.output):
        raise ConfigError("%s exists and is not replaced; give another --output" % args.output)
    look = read(find_inputs(args.files), args.rows)
    columns = examine(look)
    sys.stdout.write("%s: %s%d rows, %d columns\n%s" % (
        ", ".join(look.paths[:3]) + (", ..." if len(look.paths) > 3 else ""), "" if look.is_all else "the first ",
        len(look.frame), len(columns), table(columns)))
    if args.output:
        text = draft(look, columns)
        parse_dataset(text, args.output)
        replace_text(args.output, text)
        sys.stdout.write("written: %s; check the tasks, then: bash run_estimator.sh prepare --dataset %s "
                         "--train_data_path %s --split 0.1 --output_path DIR\n" % (
                             args.output, args.output, " ".join(args.files)))


def read(paths: Sequence[str], rows: int) -> Look:
    """Reads the first rows of files as trimmed texts, a missing cell as the empty text."""
    packed = [path for path in paths if is_parquet(path)]
    if packed and len(packed) < len(paths):
        raise DataError("%s is a Parquet file and %s is not; describe files of one format"
                        % (packed[0], next(path for path in paths if path not in packed)))
    if packed:
        return _read_parquet(paths, rows)
    lines: List[bytes] = []
    for block in read_blocks(InputFile(paths[0]), 1 << 16):
        lines = block.data.split(b"\n")[:min(block.lines, 200)]
        break
    if not lines:
        raise DataError("%s is empty" % paths[0])
    separator = _sniff(lines)
    cells = [_cells(line, separator) for line in lines]
    header = _has_header(cells)
    names = cells[0] if header else ["c%d" % number for number in range(1, len(cells[0]) + 1)]
    frames: List[pd.DataFrame] = []
    left, is_all = rows + 1, True
    for path in paths:
        with open(path, "rb") as stream:
            compression = "gzip" if stream.read(2) == b"\x1f\x8b" else None
        try:
            frames.append(pd.read_csv(
                path, sep=separator, header=None, names=names, skiprows=1 if header else 0, dtype=str, nrows=left,
                keep_default_na=False, index_col=False, compression=compression, encoding_errors="replace",
                on_bad_lines="skip", quoting=csv.QUOTE_MINIMAL))
        except (ValueError, OSError, EOFError) as error:
            raise DataError("%s cannot be read: %s" % (path, str(error).splitlines()[0])) from error
        left -= len(frames[-1])
        if left <= 0:
            is_all = False
            break
    frame = pd.concat(frames, ignore_index=True).iloc[:rows]
    frame = frame.fillna("").apply(lambda column: column.str.strip(BLANKS))
    files: Dict[str, Any] = {"format": "csv", "header": header, "separator": separator}
    if not header:
        files["columns"] = names
    missing = [text for text in _ALWAYS_MISSING if (frame == text).any().any()]
    missing += _missing_among_numbers(frame.replace(missing, ""))
    if missing:
        files["missing"] = [""] + missing
        frame = frame.replace(missing, "")
    return Look(tuple(paths), frame, is_all, files)


def _missing_among_numbers(frame: pd.DataFrame) -> List[str]:
    """Returns the spellings of a missing value that stand in a column whose other values are numbers."""
    found: List[str] = []
    for name in frame.columns:
        texts = [text for text in frame[name].unique() if text and text not in MISSING_NUMBERS]
        odd = [text for text in texts if not _is_number(text)]
        if len(odd) < len(texts) and set(odd) <= set(_MAYBE_MISSING):
            found += [text for text in odd if text not in found]
    return found


def _read_parquet(paths: Sequence[str], rows: int) -> Look:
    batches: List[pa.Table] = []
    found, is_all = 0, True
    try:
        for path in paths:
            file = pa.parquet.ParquetFile(path)
            for batch in file.iter_batches(1 << 14):
                batches.append(pa.Table.from_batches([batch]))
                found += batch.num_rows
                if found > rows:
                    is_all = False
                    break
        data = pa.concat_tables(batches).slice(0, rows)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError("%s cannot be read as Parquet: %s" % (path, str(error).splitlines()[0])) from error
    texts: Dict[str, Any] = {}
    lists = []
    for name in data.column_names:
        column = data.column(name).combine_chunks()
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            lists.append(name)
            texts[name] = ["\x1f".join(map(str, item or [])) for item in column.to_pylist()]
        elif pa.types.is_floating(column.type):
            texts[name] = ["" if item is None or item != item else "%.9g" % item for item in column.to_pylist()]
        else:
            column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            texts[name] = to_text(column).fill_null("").to_pylist()
    return Look(tuple(paths), pd.DataFrame(texts), is_all, {"format": "parquet"}, tuple(lists))


def _cells(line: bytes, separator: str) -> List[str]:
    try:
        return [cell.strip(BLANKS) for cell in split_line(line, separator)]
    except ValueError:
        return line.decode("utf-8", "replace").split(separator)


def _sniff(lines: Sequence[bytes]) -> str:
    """Returns the separator that gives most lines the same number of fields, more than one."""
    best, found = (0.0, 0), ","
    for separator in _SEPARATORS:
        counts = [len(_cells(line, separator)) for line in lines]
        usual = max(set(counts), key=counts.count)
        score = (counts.count(usual) / len(counts), usual)
        if usual > 1 and score > best:
            best, found = score, separator
    return found


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    first = rows[0]
    if len(set(first)) < len(first) or any(_is_number(cell) or not cell for cell in first):
        return False
    below = [row for row in rows[1:] if len(row) == len(first)]
    return not any(cell in {row[place] for row in below} for place, cell in enumerate(first))


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def examine(look: Look) -> List[Column]:
    """Finds out what each column holds and what it is good for."""
    columns = []
    for name in look.frame.columns:
        values = look.frame[name]
        present = values[values != ""]
        column = Column(name, present, int(present.nunique()), 1 - len(present) / max(len(values), 1))
        columns.append(column)
        if name in look.lists:
            column.separator = "\x1f"
        _classify(column, len(values))
    _choose_labels(columns, look)
    _mark_leaks(columns, look)
    _share(columns)
    return columns


def _classify(column: Column, rows: int) -> None:
    distinct, name = column.distinct, column.name
    different = pd.Series(column.values.unique())
    is_number = bool(distinct) and all(_is_number(text) or text in MISSING_NUMBERS for text in different)
    is_whole = is_number and all(_WHOLE.match(text) for text in different)
    separator = column.separator or ("" if is_number else _list_separator(column.values))
    if not distinct:
        column.kind, column.why = "empty", "no value was seen"
    elif is_number and _WEIGHT.match(name) and column.values.map(float).min() >= 0:
        column.kind, column.why = "weight", "named like the weight of a row"
    elif _TIME.match(name) and distinct > 100:
        column.kind, column.why = "time", "a time: --split_by_time %s takes the last rows for testing" % name
    elif separator:
        lengths = column.values.str.count(re.escape(separator)) + 1
        column.kind, column.separator = "list", separator
        column.max_length = int(np.clip(np.ceil(np.quantile(lengths, 0.99)), 1, 50))
        column.distinct = int(column.values.str.split(separator).explode().nunique())
        column.why = "lists of up to %d values, %.1f on average" % (lengths.max(), lengths.mean())
    elif distinct == rows > 100 and (is_whole or not is_number) and (_IDENTITY.match(name) or not is_number):
        column.kind, column.why = "key", "another value in every row"
    elif is_number and not _IDENTITY.match(name) and (
            not is_whole or _SECOND_CHOICE.match(name) or distinct > 10 and not (distinct > rows / 10
                                                   and float(different.astype(float).max()) > 1e6)):
        column.kind, column.why = "numeric", "%d different numbers" % distinct
    else:
        column.kind, column.why = "categorical", "%d values" % distinct
    if column.kind in ("categorical", "list") and column.distinct > _HASH_ABOVE:
        column.keys.append("encoding: hash")
        column.why += "; hash: more than %d values" % _HASH_ABOVE


def _list_separator(values: pd.Series) -> str:
    for separator in _LIST_SEPARATORS:
        inside = values.str.contains(separator, regex=False)
        if inside.mean() < 0.2:
            continue
        pieces = values.str.split(separator).explode()
        # A phrase has blanks inside, a list of ids has none; and values of a list come back in other rows.
        is_word = pieces.str.match(r"[^\s|,;]+\Z").mean() > 0.95
        if is_word and (separator != " "
                        or pieces.str.isdigit().mean() > 0.95) and pieces.nunique() < 0.8 * len(pieces):
            return separator
    return ""


def _choose_labels(columns: List[Column], look: Look) -> None:
    two = [column for column in columns if column.distinct == 2 and column.kind in ("categorical", "numeric")]
    named = [column for column in two if _BINARY_LABEL.match(column.name)]
    for column in named or two[-1:]:
        column.kind = "label"
        column.why = "two values%s" % ("" if named else "; no column is named like a label, this is the last such one")
        texts = sorted(column.values.unique())
        if texts != ["0", "1"]:
            rare = min(texts, key=lambda text: int((column.values == text).sum()))
            other = [text for text in texts if text != rare][0]
            column.keys = ["positive: [%s]" % json.dumps(rare), "negative: [%s]" % json.dumps(other)]
    labels = [column for column in columns if column.kind == "label"]
    positive = {column.name: look.frame[column.name] == _positive(column) for column in labels}
    for column in labels:
        for other in labels:
            inner, outer = positive[column.name], positive[other.name]
            is_inside = inner.sum() < outer.sum() and not (inner & ~outer).any()
            if column is not other and is_inside and "given" not in column.why:
                column.keys.append("given: %s" % other.name)
                column.why += "; given: never without %s" % other.name
    numeric = [column for column in columns if column.kind == "numeric"]
    targets = [column.name for column in numeric if _NUMBER_LABEL.match(column.name)]
    if not targets and not labels:
        targets = [column.name for column in numeric if _SECOND_CHOICE.match(column.name)]
    for column in numeric:
        if column.name in targets:
            column.kind, column.keys = "target", []
            column.why = "a number that is named like a target"
            if _NUMBER_LABEL.match(column.name) and float(column.values.astype(float).min()) >= 0:
                column.keys.append("transform: log")
            known = look.frame[column.name] != ""
            for other in sorted(labels, key=lambda item: int(positive[item.name].sum())):
                if column.missing > 0.1 and not (known & ~positive[other.name]).any():
                    column.keys.append("where: %s" % other.name)
                    break


def _positive(column: Column) -> str:
    return json.loads(column.keys[0][len("positive: "):])[0] if column.keys and column.keys[0].startswith(
        "positive") else "1"


def _mark_leaks(columns: List[Column], look: Look) -> None:
    """Finds features that tell a label almost alone: they are mostly known only after it."""
    labels = [(column, look.frame[column.name] == _positive(column), look.frame[column.name] != "")
              for column in columns if column.kind == "label"]
    for column in columns:
        if column.kind not in ("numeric", "categorical") or column.separator:
            continue
        texts = look.frame[column.name]
        scores = [_known(texts)]
        if column.kind == "numeric":
            scores.append(pd.to_numeric(texts.where(~texts.isin(MISSING_NUMBERS)), errors="coerce").to_numpy())
        for label, positive, known in labels:
            found = scores
            if column.kind == "categorical" and column.distinct <= _LEAK_VALUES:
                found = scores + [texts.map(positive.groupby(texts).mean()).to_numpy(np.float64)]
            best = max((max(area, 1 - area) for area in (_area(score, positive, known) for score in found)), default=0.0)
            if best >= _LEAK:
                column.keys.append("type: %s" % column.kind)
                column.kind = "leak"
                column.why = "it tells %s almost alone (AUC %.3f), as what is known only afterwards does" % (
                    label.name, best)
                break


def _known(texts: pd.Series) -> np.ndarray:
    return (texts != "").to_numpy(np.float64)


def _area(score: np.ndarray, positive: pd.Series, known: pd.Series) -> float:
    """Returns the AUC of a score on the rows where it and the label are known; 0.5 where they are too few."""
    use = known.to_numpy() & ~np.isnan(score)
    labels = positive.to_numpy()[use]
    count = int(labels.sum())
    if min(count, len(labels) - count) < _LEAK_ROWS:
        return 0.5
    ranks = pd.Series(score[use]).rank().to_numpy()
    return float((ranks[labels].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def _share(columns: List[Column]) -> None:
    """Lets lists share the values of a column that has mostly the same ones."""
    single = {column.name: set(column.values.unique()) for column in columns
              if column.kind == "categorical" and column.distinct > 100}
    for column in columns:
        if column.kind != "list":
            continue
        pieces = set(column.values.str.split(column.separator).explode()) - {""}
        name = max(single, key=lambda other: len(pieces & single[other]), default="")
        if name and len(pieces) > 100 and len(pieces & single[name]) > 0.5 * min(len(pieces), len(single[name])):
            owner = next(item for item in columns if item.name == name)
            column.keys = [key for key in owner.keys if key.startswith("encoding")] + ["vocabulary: %s" % _name(name)]
            column.why += "; shares the values of %s" % name


def table(columns: Sequence[Column]) -> str:
    """Returns a table with a line per column."""
    lines = ["%-24s %-12s %9s %8s  %-28s %s\n" % ("column", "proposed", "distinct", "missing", "most frequent", "why")]
    for column in columns:
        frequent = str(column.values.value_counts().index[0]) if len(column.values) else ""
        lines.append("%-24s %-12s %9d %7.1f%%  %-28s %s\n" % (
            column.name[:24], column.kind, column.distinct, 100 * column.missing,
            frequent.replace("\x1f", "|")[:28], column.why))
    return "".join(lines)


def draft(look: Look, columns: Sequence[Column]) -> str:
    """Returns the text of a dataset file."""
    stem = re.sub(r"\W+", "_", os.path.basename(look.paths[0]).split(".")[0], flags=re.ASCII).strip("_") or "data"
    lines = ["# Drafted from %s%d rows of %s; every key is described in docs/datasets.md." % (
        "" if look.is_all else "the first ", len(look.frame), os.path.basename(look.paths[0])),
        "name: %s" % (stem if stem[0].isalpha() else "data_" + stem),
        "files: %s" % json.dumps(look.files, ensure_ascii=False), "features:"]
    lines[2] = re.sub(r'"(format|header|separator|missing|columns)":', r"\1:", lines[2])
    for column in columns:
        keys = ["type: %s" % ("numeric" if column.kind == "numeric" else "categorical")] + _column_key(column)
        if column.kind == "list":
            if column.separator != "\x1f":
                keys.append("separator: %s" % json.dumps(column.separator))
            keys.append("max_length: %d" % column.max_length)
        if column.kind in ("numeric", "categorical", "list"):
            lines.append("  %s: {%s}  # %s" % (_name(column.name), ", ".join(keys + column.keys), column.why))
        elif column.kind in ("key", "empty", "time"):
            lines.append("  # %s is left out: %s" % (column.name, column.why))
        elif column.kind == "leak":
            lines.append("  # left out, put it back if it is known before: %s\n  # %s: {%s}" % (
                column.why, _name(column.name), ", ".join(column.keys[-1:] + _column_key(column) + column.keys[:-1])))
    lines.append("tasks:")
    tasks = [column for column in columns if column.kind in ("label", "target")]
    if not tasks:
        raise DataError("%s: no column looks like a label (two values, or a number named amount, watch, duration, "
                        "...); write the dataset file by hand: docs/datasets.md" % look.paths[0])
    for column in tasks:
        keys = ["type: %s" % ("binary" if column.kind == "label" else "regression"),
                "column: %s" % _quoted(column.name)]
        lines.append("  %s: {%s}  # %s" % (_name(column.name), ", ".join(keys + column.keys), column.why))
    for key, found in (("group", [item for item in columns if _GROUP.match(item.name) and item.kind == "categorical"]),
                       ("weight", [item for item in columns if item.kind == "weight"]),
                       ("row_key", [item for item in columns if item.kind == "key"])):
        if found:
            lines.append("%s: %s" % (key, _quoted(found[0].name)))
    return "\n".join(lines) + "\n"


def _column_key(column: Column) -> List[str]:
    return [] if _name(column.name) == column.name else ["column: %s" % _quoted(column.name)]


def _quoted(text: str) -> str:
    return text if re.match(r"[A-Za-z]\w*\Z", text) and text.lower() not in ("y", "n", "yes", "no", "on", "off", "true",
                                                                          "false", "null") else json.dumps(text)


def _name(column: str) -> str:
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_")
    return name if name and name[0].isalpha() else "c_" + name

