"""What the columns of unknown data hold and what each is good for: guesses that a person looks at."""
import dataclasses
import json
import re
from typing import List

import numpy as np
import pandas as pd

from preprocessing.columns import MISSING_NUMBERS
from preprocessing.look import Look
from preprocessing.splitting import times_of_texts
from preprocessing.text_files import is_number

_HASH_ABOVE = 20000
_LIST_SEPARATORS = "|,; "
# Patterns of names, in the form of simple_name.
_BINARY_LABEL = re.compile(
    r"((is|has|did|was)_)?(click|clicked|buy|bought|purchase\w*|order|ordered|conver\w*|install\w*|like|liked|"
    r"share|follow|subscri\w*|churn\w*|fraud\w*|surviv\w*|response|outcome|label|target|y|income\w*)\w?\Z|"
    r".*_label\Z|label_.*")
_NUMBER_LABEL = re.compile(
    r"(.*_)?(amount|revenue|gmv|spend|watch\w*|dwell\w*|duration|target|label|y|seconds)(_.*)?\Z")
_SECOND_CHOICE = re.compile(r"(.*_)?(rating|score|stars|grade)\Z")
_TIME = re.compile(r"(.*_)?(time|timestamp|date|datetime|day|ts)\Z")
_IDENTITY = re.compile(
    r"(?!(num|n|no|nr|count|total)_)(.*_)?(id|ids|code|type|category|zip|key|hash|user|customer|member|visitor|session|"
    r"patient|item|product|film|movie|song|artist|store|shop|device|ad|campaign|publisher|merchant|brand)\Z")
_WEIGHT = re.compile(r"(w|(sample|instance|row)_weights?)\Z")
_WEIGHT_HINT = "; if it is the weight of a row, give weight: instead"
_WHOLE = re.compile(r"-?\d{1,18}\Z", re.ASCII)
# Numbers that are times: seconds or more of the epoch, and days such as 20240531.
_EPOCH, _DAYS = 1e8, (19000101, 21001231)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?\Z", re.ASCII)
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?\Z", re.ASCII)
# A column that tells a label so well is rather known after it than before.
_LEAK = 0.98
_LEAK_ROWS = 20
# A share of rows that may be slips of the pen.
_FEW = 0.01
_LEAK_VALUES = 50
# Different values that say whether a column of texts holds times.
_LOOKED_AT = 200


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
        _classify(column, len(values), look)
    _choose_labels(columns, look)
    _mark_leaks(columns, look)
    _share(columns)
    return columns


def _classify(column: Column, rows: int, look: Look) -> None:
    distinct, name = column.distinct, simple_name(column.name)
    different = pd.Series(column.values.unique())
    is_number_column = column.name not in look.texts and bool(distinct) and all(
        is_number(text) or text in MISSING_NUMBERS for text in different)
    is_whole = is_number_column and all(_WHOLE.match(text) for text in different)
    separator = column.separator or ("" if is_number_column else _list_separator(column.values))
    odd_cells = "" if is_number_column else _odd_cells(column)
    odd_style = "" if is_number_column or column.separator else _odd_style(different)
    if not distinct:
        column.kind, column.why = "empty", "no value was seen"
    elif is_number_column and _WEIGHT.match(name) and column.values.map(float).min() >= 0:
        column.kind, column.why = "weight", "named like the weight of a row"
    elif column.name in look.times or not column.separator and _is_time(column, different, is_number_column):
        column.kind, column.why = "time", "a time: --split_by_time %s takes the last rows for testing" % column.name
    elif odd_style:
        column.kind, column.why = "unclear", odd_style
    elif separator:
        lengths = column.values.str.count(re.escape(separator)) + 1
        column.kind, column.separator = "list", separator
        column.max_length = int(np.clip(np.ceil(np.quantile(lengths, 0.99)), 1, 50))
        column.distinct = int(column.values.str.split(separator).explode().nunique())
        column.why = "lists of up to %d values, %.1f on average" % (lengths.max(), lengths.mean())
    elif distinct == rows > 100 and (not is_number_column or is_whole and _IDENTITY.match(name)):
        column.kind, column.why = "key", "another value in every row" + odd_cells
    elif is_number_column and not _IDENTITY.match(name) and (
            not is_whole or _SECOND_CHOICE.match(name) or distinct > 10 and not (distinct > rows / 10
                                                   and float(different.astype(float).max()) > 1e6)):
        column.kind, column.why = "numeric", "%d different numbers%s" % (distinct, _WEIGHT_HINT if re.match(
            r"weights?\Z", name) else "")
    else:
        column.kind, column.why = "categorical", "%d values%s" % (distinct, odd_cells)
    if column.kind in ("categorical", "list") and column.distinct > _HASH_ABOVE:
        column.keys.append("encoding: hash")
        column.why += "; hash: more than %d values" % _HASH_ABOVE


def _odd_cells(column: Column) -> str:
    """Says which few cells keep a column from being what the others are, or nothing."""
    counts = column.values.value_counts()
    odd = [text for text in counts.index if not is_number(text) and text not in MISSING_NUMBERS]
    rows = int(counts[odd].sum())
    if odd and rows <= _FEW * len(column.values):
        return "; all but %d rows are numbers, such as not %r: correct them, or name the text under missing" % (
            rows, odd[0])
    return ""


def _is_time(column: Column, different: pd.Series, is_numbers: bool) -> bool:
    if is_numbers:
        numbers = different[~different.isin(MISSING_NUMBERS)].astype(float)
        return bool(_TIME.match(simple_name(column.name))) and len(numbers) > 10 and (
            numbers.min() >= _EPOCH or bool(numbers.between(*_DAYS).all()))
    # Texts that are no times are found out one by one, which takes its time.
    return len(different) > 10 and bool(np.mean(np.isnan(times_of_texts(list(different[:_LOOKED_AT])))) < 0.05)


def _odd_style(different: pd.Series) -> str:
    """Says how numbers or dates are written that are none here, or nothing."""
    texts = different[~different.isin(MISSING_NUMBERS)]
    if len(texts) > 10 and texts.str.match(_DATE).mean() > 0.95:
        return "looks like dates in another style: write 2024-05-31 or 2024-05-31 12:30:00"
    if texts.str.contains(",", regex=False).mean() < 0.2:
        return ""
    if texts.str.match(_THOUSANDS).all():
        return "looks like numbers with commas between thousands: write them without"
    return "looks like numbers with a decimal comma: write a point" if texts.str.match(_DECIMAL_COMMA).all() else ""


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
    named = [column for column in two if _BINARY_LABEL.match(simple_name(column.name))]
    for column in named or two[-1:]:
        column.kind = "label"
        column.why = "two values%s" % ("" if named else "; no column is named like a label, this is the last such one")
        texts = sorted(column.values.unique())
        if texts != ["0", "1"]:
            rare = min(texts, key=lambda text: int((column.values == text).sum()))
            other = [text for text in texts if text != rare][0]
            column.keys = ["positive: [%s]" % json.dumps(rare), "negative: [%s]" % json.dumps(other)]
    if named:
        _add_stages(columns, look, named)
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
    targets = [column.name for column in numeric if _NUMBER_LABEL.match(simple_name(column.name))]
    if not targets and not labels:
        targets = [column.name for column in numeric if _SECOND_CHOICE.match(simple_name(column.name))]
    for column in numeric:
        if column.name in targets:
            column.kind, column.keys = "target", []
            column.why = "a number that is named like a target"
            if _NUMBER_LABEL.match(simple_name(column.name)) and float(column.values.astype(float).min()) >= 0:
                column.keys.append("transform: log")
            known = look.frame[column.name] != ""
            for other in sorted(labels, key=lambda item: int(positive[item.name].sum())):
                if column.missing > 0.1 and not (known & ~positive[other.name]).any():
                    column.keys.append("where: %s" % other.name)
                    break


def _add_stages(columns: List[Column], look: Look, named: List[Column]) -> None:
    """Makes labels of 0/1 columns without which a label never is 1: what comes before an order is no feature of it."""
    for column in columns:
        if column.kind not in ("categorical", "numeric") or set(column.values.unique()) != {"0", "1"}:
            continue
        outer = look.frame[column.name] == "1"
        for label in named:
            inner = look.frame[label.name] == _positive(label)
            if _LEAK_ROWS <= inner.sum() < outer.sum() and not (inner & ~outer).any():
                column.kind, column.why = "label", "%s never is without it" % label.name
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
            # A value that comes once tells its own row's label, which says nothing.
            if column.kind == "categorical" and column.distinct <= min(_LEAK_VALUES, len(texts) // 10):
                found = scores + [texts.map(positive.groupby(texts).mean()).to_numpy(np.float64)]
            areas = [_area(score, positive, known) for score in found]
            best = max(max(area, 1 - area) for area in areas)
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
            column.keys = [key for key in owner.keys if key.startswith("encoding")] + ["vocabulary: %s" % name_of(name)]
            column.why += "; shares the values of %s" % name


def simple_name(column: str) -> str:
    """Returns a column's name with words in lower case and underscores between them: watchTime (s) is watch_time_s."""
    return name_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)).lower()


def name_of(column: str) -> str:
    """Returns the name of a feature or task for a column."""
    name = re.sub(r"\W+", "_", column, flags=re.ASCII).strip("_")
    return name if name and name[0].isalpha() else "c_" + name


def quoted(text: str) -> str:
    """Returns a text as YAML takes it for one."""
    return text if re.match(r"[A-Za-z]\w*\Z", text, re.ASCII) and text.lower() not in (
        "y", "n", "yes", "no", "on", "off", "true", "false", "null") else json.dumps(text, ensure_ascii=False)
