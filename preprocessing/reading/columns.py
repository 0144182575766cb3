"""From Arrow columns to the columns of a raw frame: texts as categories, numbers as float32; and what is wrong in them.

A raw frame is what flows through preparation and prediction: a pandas frame whose index is the 1-based line or row in
the file, with one column per column that the definition uses. Texts (categories, lists as text with their separator,
labels of binary tasks, group, row key) are categorical and trimmed, and a missing one is the empty text; numbers are
float32, NaN where missing, under the name that :func:`number_name` gives them.
"""
import dataclasses
import re
from typing import Any, Collection, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_specs.dataset import ANY, BINARY, REGRESSION, DatasetDefinition, TaskDefinition
from feature_specs.errors import DataError
from feature_specs.records import PADDING_LABEL, UNKNOWN_LABEL
from preprocessing.reading.bad_rows import BadRow
from preprocessing.reading.text_files import is_number

#: Cells that stand for a missing number, whatever the definition says.
MISSING_NUMBERS = ("", "?", "nan", "NaN", "NAN")
_BAD_LABEL = PADDING_LABEL
# What Arrow takes for no number besides.
_NAN = re.compile(r"-?nan(\(\w*\))?\Z", re.ASCII | re.IGNORECASE)
# Stands for the value in the text of a problem.
_VALUE = "\0"
#: (reason, bool [rows], text, values [rows] or none).
_Problem = Tuple[str, np.ndarray, str, Sequence]


@dataclasses.dataclass(frozen=True)
class Roles:
    """Which columns are read as texts and as numbers, and which may be absent, most of which are not read either.

    With ``check_labels`` a label or weight out of range makes a row unusable.
    """

    texts: Tuple[str, ...]
    numbers: Tuple[str, ...]
    optional: Tuple[str, ...] = ()
    check_labels: bool = True

    @property
    def columns(self) -> Tuple[str, ...]:
        """All columns that are read, each once."""
        return tuple(dict.fromkeys(self.texts + self.numbers))


def roles_of(definition: DatasetDefinition, features: Optional[Collection[str]] = None,
             more_texts: Sequence[str] = ()) -> Roles:
    """Returns how the columns of a definition are read, and ``more_texts`` besides, as text.

    With names of ``features`` only these are read and must be there, and the row key, which may be absent like all
    other columns; None: everything is read and must be there.
    """
    texts = [item.column for item in definition.categorical if features is None or item.name in features]
    numbers = [item.column for item in definition.numeric if features is None or item.name in features]
    optional = [name for name in definition.columns if features is not None and name not in texts + numbers]
    texts.append(definition.row_key)  # after the optional ones: predictions need it
    if features is None:
        texts += [task.column for task in definition.tasks if task.kind == BINARY] + [definition.group]
        numbers += [task.column for task in definition.tasks if task.kind == REGRESSION] + [definition.weight]
    texts, numbers = (list(dict.fromkeys(filter(None, names))) for names in (texts + list(more_texts), numbers))
    return Roles(tuple(texts), tuple(numbers), tuple(optional), check_labels=features is None)


def number_name(column: str) -> str:
    """Returns the name of a column's numbers in a raw frame, where its texts have its own name."""
    return column + ":number"


def missing_numbers(definition: DatasetDefinition) -> Tuple[str, ...]:
    """Returns the trimmed cells that stand for a missing number."""
    return tuple(dict.fromkeys(MISSING_NUMBERS + definition.files.missing))


class FrameBuilder:
    """Makes raw frames from Arrow tables and checks their values."""

    def __init__(self, definition: DatasetDefinition, roles: Roles) -> None:
        self._definition, self._roles = definition, roles
        self._missing = pa.array(definition.files.missing, pa.string())
        self._missing_numbers = missing_numbers(definition)
        self._separators = {feature.column: feature.list_separator for feature in definition.categorical
                            if feature.is_list}

    def build(self, table: Optional[pa.Table], rows: np.ndarray) -> Tuple[pd.DataFrame, List[BadRow]]:
        """Returns the frame of the usable rows of a table, which has the columns of the roles that the file has, and
        the others.

        ``rows`` is int64 [n], the line or row of each; of an empty table or none there is an empty frame.
        """
        if not table:
            return pd.DataFrame(), []
        columns: Dict[str, Any] = {}
        problems: List[_Problem] = []
        for name in self._roles.columns:
            key = number_name(name)
            is_text, is_number_column = name in self._roles.texts, name in self._roles.numbers
            if name not in table.column_names:
                if is_text:
                    columns[name] = pd.Categorical.from_codes(np.zeros(len(rows), np.int8), [""])
                if is_number_column:
                    columns[key] = np.full(len(rows), np.nan, np.float32)
                continue
            column = table.column(name).combine_chunks()
            if not is_text and not _holds_text(column.type):
                columns[key] = _floats(column)
                continue
            if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
                column, split = _join_lists(column, self._separators[name])
                problems.append(("column %s: separator in a value" % name, split,
                                 "column %s: a value holds the separator %r; give another one: separator" % (
                                     name, self._separators[name]), ()))
            texts, codes = _different(column, self._missing)
            if is_text:
                columns[name] = _categories(texts, codes)
            if is_number_column:
                values, wrong = _numbers(texts, self._missing_numbers)
                columns[key] = values[codes]
                shown = np.array([text[:40] for text in texts.to_pylist()], object)[codes] if wrong.any() else ()
                problems.append(("column %s: not a number" % name, wrong[codes],
                                 "column %s: %s is not a number" % (name, _VALUE), shown))
        frame = pd.DataFrame(columns, index=rows, copy=False)
        problems += [("column %s: not finite" % name, np.isinf(frame[number_name(name)].to_numpy()),
                      "column %s: the number is infinite or beyond float32" % name, ()) for name in self._roles.numbers]
        if self._roles.check_labels:
            problems += self._label_problems(frame)
        return _without(frame, problems)

    def _label_problems(self, frame: pd.DataFrame) -> Iterator[_Problem]:
        for task in self._definition.tasks:
            if task.kind == BINARY:
                labels: Any = frame[task.column].array
                wrong = (label_values(task, labels.categories) == _BAD_LABEL)[labels.codes]
                yield ("label %s: unknown text" % task.name, wrong,
                       "label of %s %s: expected %s" % (task.name, _VALUE, _expected(task)), labels)
            elif task.transform == "log":
                numbers = frame[number_name(task.column)].to_numpy()
                with np.errstate(invalid="ignore"):  # a missing one compares with a warning
                    wrong = numbers <= -1
                yield ("label %s: not above -1" % task.name, wrong,
                       "label of %s %s: transform log needs numbers above -1" % (task.name, _VALUE), numbers)
        if self._definition.weight:
            weights = frame[number_name(self._definition.weight)].to_numpy()
            with np.errstate(invalid="ignore"):
                wrong = ~(weights >= 0)
            yield ("weight: missing or negative", wrong, "weight %s: a number of at least 0 is expected" % _VALUE,
                   weights)


def label_values(task: TaskDefinition, texts: Sequence[str]) -> np.ndarray:
    """Returns int8 [n]: the labels that texts mean for a binary task; -1 unknown (empty), -2 none.

    Where a text is not one of the definition's, blanks in it, a dot at its end and ``.0`` do not matter.
    """
    positive = task.positive or ("1",)
    negative = task.negative or ("0",)
    values = {text: 0 for text in negative if text != ANY}
    values.update((text, 1) for text in positive)
    loose = {_loose(text): value for text, value in values.items()}
    otherwise = 0 if negative == (ANY,) else _BAD_LABEL
    return np.array([UNKNOWN_LABEL if not text else values.get(text, loose.get(_loose(text), otherwise))
                     for text in texts], np.int8)


def _loose(text: str) -> str:
    text = "".join(text.split())
    return text[:-2] if text.endswith(".0") else text.rstrip(".")


def _expected(task: TaskDefinition) -> str:
    if not task.positive:
        return "'0' or '1', or what positive: and negative: name in the dataset file"
    texts = list(task.negative) + list(task.positive)
    return " or ".join(repr(text) for text in texts) if len(texts) <= 4 else "one of %s" % ", ".join(map(repr, texts))


def _holds_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _different(column: pa.Array, missing: pa.Array) -> Tuple[pa.Array, np.ndarray]:
    """Returns the trimmed texts of a column, some perhaps twice, and int [rows] places among them; missing ones are
    the empty text, which is the last one."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    texts = pc.ascii_trim_whitespace(pc.fill_null(to_text(column.dictionary), ""))
    texts = pc.if_else(pc.is_in(texts, value_set=missing), "", texts)
    return pa.concat_arrays([texts, pa.array([""])]), column.indices.fill_null(len(texts)).to_numpy()


def _categories(texts: pa.Array, codes: np.ndarray) -> pd.Categorical:
    encoded = texts.dictionary_encode()
    if len(encoded.dictionary) < len(texts):
        codes = encoded.indices.to_numpy()[codes]
    return pd.Categorical.from_codes(codes, pd.Index(encoded.dictionary.to_numpy(zero_copy_only=False), dtype=object))


def _numbers(texts: pa.Array, missing: Sequence[str]) -> Tuple[np.ndarray, np.ndarray]:
    """Returns float32 [k], the numbers that texts are, NaN where missing; and bool [k], which are none."""
    present = pc.if_else(pc.is_in(texts, value_set=pa.array(missing)), pa.scalar(None, pa.string()), texts)
    try:
        return _floats(present), np.zeros(len(texts), bool)
    except pa.ArrowInvalid:
        values = [float(text) if text and is_number(text) else np.nan for text in present.to_pylist()]
        return np.array(values, np.float32), np.array([
            bool(text) and not is_number(text) and not _NAN.match(text) for text in present.to_pylist()], bool)


def to_text(values: pa.Array) -> pa.Array:
    """Returns the values as strings; whole numbers in decimal form, so that text files and Parquet agree."""
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values).cast(pa.int64())
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    return values if pa.types.is_string(values.type) else values.cast(pa.string())


def check_type(column: str, kind: pa.DataType, is_text: bool, is_list: bool) -> None:
    """Raises DataError where a Parquet column cannot be read as what a definition uses it for."""
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    inner = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else None
    allowed = [types.is_integer, types.is_null]
    if is_list or is_text:
        allowed += [types.is_string, types.is_large_string]
    if not is_list or inner is None:
        allowed += [types.is_boolean, types.is_floating, types.is_temporal if is_text else types.is_decimal]
    if not any(is_of(inner if is_list and inner is not None else kind) for is_of in allowed):
        expected = "a list or text" if is_list else "text or whole numbers" if is_text else "a number"
        raise DataError("column %s: Parquet type %s does not fit; expected %s%s" % (
            column, kind, expected, "; a list feature needs max_length" if inner is not None and not is_list else ""))


def _join_lists(column: pa.Array, separator: str) -> Tuple[pa.Array, np.ndarray]:
    """Returns lists as texts, and which rows hold the separator inside a value."""
    values = to_text(column.flatten()).fill_null("")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    inside = pc.match_substring(values, separator).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    split = np.zeros(len(column), bool)
    split[np.repeat(np.arange(len(column)), lengths)[inside]] = True
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), values), separator), split


def _floats(column: pa.Array) -> np.ndarray:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    with np.errstate(over="ignore"):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32)


def _without(frame: pd.DataFrame, problems: Sequence[_Problem]) -> Tuple[pd.DataFrame, List[BadRow]]:
    bad = np.zeros(len(frame), bool)
    found: List[BadRow] = []
    for reason, mask, text, values in problems:
        new = np.flatnonzero(mask & ~bad)
        found += [(reason, int(frame.index[place]), text.replace(_VALUE, repr(values[place])) if len(values) else text)
                  for place in new.tolist()]
        bad[new] = True
    return frame[~bad] if found else frame, found
