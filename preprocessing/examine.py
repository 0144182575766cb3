"""What the columns of unknown data hold and what each is good for: guesses that a person looks at."""
import dataclasses
import json
import re
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import pandas as pd

from feature_specs.dataset import LIST_SEPARATOR
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
_WHOLE = re.compile(r"-?\d{1,18}\Z", re.ASCII)
# Numbers that are times: seconds or more of the epoch, and days such as 20240531.
_EPOCH, _DAYS = 1e8, (19000101, 21001231)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?\Z", re.ASCII)
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?\Z", re.ASCII)
# A column that tells a label so well is rather known after it than before.
_LEAK, _LEAK_ROWS, _LEAK_VALUES = 0.98, 20, 50
# A share of rows that may be slips of the pen.
_FEW = 0.01
# Different values that say whether a column of texts holds times: what is none is found out one by one.
_LOOKED_AT = 200
# Texts of labels, in lower case; the first of a pair is what makes one 1.
_YES_NO = (("1", "0"), ("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("1", "-1"))


@dataclasses.dataclass
class Column:
    """What was found in a column, and what it is proposed for.

    Attributes:
        texts: of all rows, empty where one is missing; ``values`` are those that are not missing.
        different: each of the values once; of a list, the values in it.
        numbers: float64 [rows], NaN where missing; None where other texts are among them.
        separator: of a list.
        kind: ``label``, ``target``, ``categorical``, ``list``, ``numeric``, ``weight``, or why it is none of these:
            ``key``, ``time``, ``empty``, ``unclear``, ``leak``; ``why`` is the reason, for a person.
        keys: {key: its value in YAML} of the feature or task.
        positive: the text that makes a label 1.
    """

    name: str
    texts: pd.Series
    values: pd.Series
    different: Sequence[str]
    numbers: Optional[pd.Series]
    separator: str
    kind: str = ""
    why: str = ""
    keys: Dict[str, str] = dataclasses.field(default_factory=dict)
    positive: str = "1"

    @property
    def is_positive(self) -> pd.Series:
        """Where the label is 1, bool [rows]."""
        return self.texts == self.positive


def examine(look: Look) -> List[Column]:
    """Finds out what each column holds and what it is good for."""
    columns = []
    for name in look.frame.columns:
        texts, kind = look.frame[name], look.types.get(name)
        values = texts[texts != ""]
        different = values.unique()
        numbers = None
        if kind != "text" and len(different) and all(is_number(text) or text in MISSING_NUMBERS for text in different):
            numbers = pd.to_numeric(texts.where(~texts.isin(MISSING_NUMBERS)))
        column = Column(name, texts, values, different, numbers, LIST_SEPARATOR if kind == "list" else "")
        column.kind, column.why = _kind(column, kind == "time")
        if column.kind in ("categorical", "list") and len(column.different) > _HASH_ABOVE:
            column.keys["encoding"] = "hash"
            column.why += "; hash: more than %d values" % _HASH_ABOVE
        columns.append(column)
    labels = _choose_labels(columns)
    _choose_targets(columns, labels)
    _mark_leaks(columns, labels)
    _share(columns)
    return columns


def _kind(column: Column, is_time: bool) -> Tuple[str, str]:
    """Returns kind and reason of a column by itself; of a list, sets separator, length and different values."""
    name, numbers, rows, distinct = simple_name(column.name), column.numbers, len(column.texts), len(column.different)
    if not distinct:
        return "empty", "no value was seen"
    if numbers is not None and _WEIGHT.match(name) and numbers.min() >= 0:
        return "weight", "named like the weight of a row"
    if is_time or not column.separator and _is_time(name, column.different, numbers):
        return "time", "a time: --split_by_time %s takes the last rows for testing" % column.name
    if distinct == 1 and len(column.values) == rows > 100:
        return "empty", "the same value in all rows"
    if numbers is None and not column.separator:
        odd_style = _odd_style(pd.Series(column.different))
        if odd_style:
            return "unclear", odd_style
        column.separator = list_separator(column.values)
    if column.separator:
        lengths = column.values.str.count(re.escape(column.separator)) + 1
        if column.separator != LIST_SEPARATOR:
            column.keys["separator"] = json.dumps(column.separator)
        column.keys["max_length"] = "%d" % np.clip(np.ceil(np.quantile(lengths, 0.99)), 1, 50)
        column.different = column.values.str.split(column.separator).explode().unique()
        return "list", "lists of up to %d values, %.1f on average" % (lengths.max(), lengths.mean())
    odd_cells = "" if numbers is not None else _odd_cells(column.values)
    is_whole = numbers is not None and all(map(_WHOLE.match, column.different))
    is_id = bool(_IDENTITY.match(name))
    if distinct == rows > 100 and (numbers is None or is_whole and is_id):
        return "key", "another value in every row" + odd_cells
    if numbers is not None and not is_id:
        looks_like_ids = distinct > rows / 10 and numbers.max() > 1e6
        if not is_whole or _SECOND_CHOICE.match(name) or distinct > 10 and not looks_like_ids:
            is_odd_weight = re.match(r"weights?\Z", name)
            return "numeric", "%d different numbers%s" % (
                distinct, "; if it is the weight of a row, give weight: instead" if is_odd_weight else "")
    return "categorical", "%d values%s" % (distinct, odd_cells)


def _odd_cells(values: pd.Series) -> str:
    """Says which few cells keep a column from being what the others are, or nothing."""
    counts = values.value_counts()
    odd = [text for text in counts.index if not is_number(text) and text not in MISSING_NUMBERS]
    rows = int(counts[odd].sum())
    return "" if not odd or rows > _FEW * len(values) else (
        "; all but %d rows are numbers (%r is none): correct them, or name the text under missing" % (rows, odd[0]))


def _is_time(name: str, different: Sequence[str], numbers: Optional[pd.Series]) -> bool:
    if numbers is not None:
        present = numbers.dropna()
        return bool(_TIME.match(name)) and present.nunique() > 10 and (
            present.min() >= _EPOCH or bool(present.between(*_DAYS).all()))
    return (len(different) > 10 or bool(_TIME.match(name))) and bool(
        np.isnan(times_of_texts(different[:_LOOKED_AT])).mean() < 0.05)


def _odd_style(different: pd.Series) -> str:
    """Says how numbers or dates are written that are none here, or nothing."""
    texts = different[~different.isin(MISSING_NUMBERS)]
    if len(texts) > 10 and texts.str.match(_DATE).mean() > 0.95:
        return "looks like dates in another style: write 2024-05-31 or 2024-05-31 12:30:00"
    if texts.str.contains(",", regex=False).mean() < 0.2:
        return ""
    odd_one = 1 if len(texts) > 10 else 0  # what stands for "no value"
    if (~texts.str.match(_THOUSANDS)).sum() <= odd_one:
        return "looks like numbers with commas between thousands: write them without"
    if (~texts.str.match(_DECIMAL_COMMA)).sum() <= odd_one:
        return "looks like numbers with a decimal comma: write a point"
    return ""


def list_separator(values: pd.Series) -> str:
    """Returns what stands between the values of lists in a column's texts; nothing where they are no lists."""
    for separator in _LIST_SEPARATORS:
        if values.str.contains(separator, regex=False).mean() < 0.2:
            continue
        pieces = values.str.split(separator).explode()
        # A phrase has blanks inside, a list of ids has none; and values of a list come back in other rows.
        if (pieces.str.match(r"[^\s|,;]+\Z").mean() > 0.95 and pieces.nunique() < 0.8 * len(pieces)
                and (separator != " " or pieces.str.isdigit().mean() > 0.95)):
            return separator
    return ""


def _choose_labels(columns: List[Column]) -> List[Column]:
    """Makes binary labels of columns with two values, and finds those that build on each other."""
    two = {}
    for column in columns:
        texts = _two_values(column) if column.kind in ("categorical", "numeric") else ()
        if texts:
            two[column.name], column.positive = texts, texts[0]
    named = [column for column in columns if column.name in two and _BINARY_LABEL.match(simple_name(column.name))]
    found = named or [column for column in columns if column.name in two][-1:]
    reasons = {column.name: "two values%s" % (
        "" if named else "; no column is named like a label, this is the last such one") for column in found}
    # What comes before an order is no feature of it.
    for column in columns:
        if column.name in two and column not in found and _yes_no(two[column.name]):
            later = [label.name for label in found
                     if label.is_positive.sum() >= _LEAK_ROWS and _is_within(label, column)]
            if later:
                reasons[column.name] = "there is no %s without it" % later[0]
    labels = [column for column in columns if column.name in reasons]
    for column in labels:
        odd = _odd_cells(column.values) if len(column.different) > 2 else ""
        column.kind, column.why, texts = "label", reasons[column.name] + odd, two[column.name]
        column.keys = {} if texts == ("1", "0") else {
            "positive": json.dumps([texts[0]]), "negative": json.dumps([texts[1]])}
    for column in labels:
        for other in labels:
            if "given" not in column.keys and _is_within(column, other):
                column.keys["given"] = name_of(other.name)
                column.why += "; given: never without %s" % other.name
    return labels


def _two_values(column: Column) -> Tuple[str, ...]:
    """Returns the two values of a column, that first which makes a label 1: of a yes and a no (a few slips of the pen
    may be among them) the yes, else the rarer one; nothing where there are more values."""
    if len(column.different) > 2 + _FEW * len(column.values):
        return ()
    counts = column.values.value_counts()
    texts = tuple(sorted(counts.index[:2], reverse=True))
    is_pair = len(texts) == 2 and _yes_no(texts)
    if len(texts) < 2 or len(counts) > 2 and not (is_pair and counts[2:].sum() <= _FEW * len(column.values)):
        return ()
    return texts if is_pair else tuple(counts.index[1::-1])


def _yes_no(texts: Tuple[str, ...]) -> bool:
    return (texts[0].lower(), texts[1].lower()) in _YES_NO


def _is_within(inner: Column, outer: Column) -> bool:
    """Whether one label never is 1 without the other, which is it more often."""
    one, other = inner.is_positive, outer.is_positive
    return bool(one.sum() < other.sum()) and not (one & ~other).any()


def _choose_targets(columns: List[Column], labels: List[Column]) -> None:
    numeric = [column for column in columns if column.kind == "numeric"]
    named = [column for column in numeric if _NUMBER_LABEL.match(simple_name(column.name))]
    second = [] if labels else [column for column in numeric if _SECOND_CHOICE.match(simple_name(column.name))]
    for column in named or second:
        column.kind, column.why = "target", "a number that is named like a target"
        if named and column.numbers is not None and column.numbers.min() >= 0:
            column.keys["transform"] = "log"
        known = column.texts != ""
        within = [label for label in labels if known.mean() < 0.9 and not (known & ~label.is_positive).any()]
        if within:
            column.keys["where"] = name_of(min(within, key=lambda label: int(label.is_positive.sum())).name)


def _mark_leaks(columns: List[Column], labels: List[Column]) -> None:
    """Finds features that tell a label almost alone: they are mostly known only after it."""
    for column in columns:
        if column.kind not in ("numeric", "categorical"):
            continue
        scores = [(column.texts != "").to_numpy(np.float64)]
        if column.kind == "numeric" and column.numbers is not None:
            scores.append(column.numbers.to_numpy())
        # A value that comes once tells its own row's label, which says nothing.
        is_coarse = column.kind == "categorical" and len(column.different) <= min(_LEAK_VALUES, len(column.texts) // 10)
        for label in labels:
            means = [column.texts.map(label.is_positive.groupby(column.texts).mean()).to_numpy(np.float64)]
            best = max(_area(score, label) for score in (scores + means if is_coarse else scores))
            if best >= _LEAK:
                column.keys["type"], column.kind = column.kind, "leak"
                column.why = "it tells %s almost alone (AUC %.3f), as what is known only afterwards does" % (
                    label.name, best)
                break


def _area(score: np.ndarray, label: Column) -> float:
    """Returns the AUC of a score, or of its negative if that is higher, on the rows where it and the label are known;
    0.5 where they are too few."""
    use = (label.texts != "").to_numpy() & ~np.isnan(score)
    is_one = label.is_positive.to_numpy()[use]
    count = int(is_one.sum())
    if min(count, len(is_one) - count) < _LEAK_ROWS:
        return 0.5
    ranks = pd.Series(score[use]).rank().to_numpy()
    area = float((ranks[is_one].sum() - count * (count + 1) / 2) / (count * (len(is_one) - count)))
    return max(area, 1 - area)


def _share(columns: List[Column]) -> None:
    """Lets lists share the values of a column that has mostly the same ones."""
    single = [(item, set(item.different)) for item in columns
              if item.kind == "categorical" and len(item.different) > 100]
    for column in columns:
        if column.kind == "list" and single:
            pieces = set(column.different) - {""}
            owner, values = max(single, key=lambda other: len(pieces & other[1]))
            if len(pieces) > 100 and len(pieces & values) > 0.5 * min(len(pieces), len(values)):
                column.keys.pop("encoding", None)
                column.keys.update(owner.keys, vocabulary=name_of(owner.name))
                column.why += "; shares the values of %s" % owner.name


def simple_name(column: str) -> str:
    """Returns a column's name with words in lower case and underscores between them: watchTime (s) is watch_time_s."""
    return name_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)).lower()


def name_of(text: str, prefix: str = "c_") -> str:
    """Returns a name for a column or file; ``prefix`` stands before what does not begin with a letter."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return name if name and name[0].isalpha() else prefix + name


def quoted(text: str) -> str:
    """Returns a text as YAML takes it for one."""
    return text if re.match(r"[A-Za-z]\w*\Z", text, re.ASCII) and text.lower() not in (
        "y", "n", "yes", "no", "on", "off", "true", "false", "null") else json.dumps(text, ensure_ascii=False)
