"""What a column of unknown data holds, by its name and its values alone: guesses that a person looks at."""
import dataclasses
import itertools
import json
import re
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
import pandas as pd

from feature_specs.dataset import LIST_SEPARATOR
from preprocessing.reading.columns import MISSING_NUMBERS
from preprocessing.reading.text_files import is_number
from preprocessing.reading.times import times_of_texts

_HASH_ABOVE = 20000
HASHED = "; hash: more than %d values" % _HASH_ABOVE
_LIST_SEPARATORS = "|,; "
# Most blanks inside a value of a list, and least lists per value where values have some.
_BLANKS, _LISTS_PER_PHRASE = 3, 2
# Patterns of names, in the form of simple_name.
RATING = re.compile(r"(.*_)?(rating|score|stars|grade|overall)\Z")
_IDENTITY = re.compile(
    r"(?!(num|n|no|nr|count|total)_|.*(^|_)(per|since|to)_)((.*_)?(id|ids|code|type|category|zip|plz|key|hash|user|"
    r"customer|member|visitor|viewer|candidate|session|patient|guest|client|account|buyer|shopper|listener|player|"
    r"student|subscriber|item|product|film|movie|video|song|artist|store|shop|device|ad|campaign|"
    r"publisher|merchant|brand|listing|job)|(.*_)?(zip|post|postal)_?codes?|\w*(nummer|_no|_nr)|"
    r"\w*postleitzahl|(?!(.*_)?(\w*paid|bid|\w*valid|covid|grid|mid|aid|void|kid|solid|rapid|fluid|humid|acid|android|"
    r"hybrid)\Z)\w*id)\Z")
_AMOUNT = re.compile(r"(.*_)?(price|amount|salary|cost|revenue|income|value|spend|sales|budget|rent)(_.*)?\Z")
_TIME = re.compile(r"(.*_)?(time|time_?stamp|date|datetime|day|hour|ts|at|on)(_(s|ms|us|ns))?\Z")
_COUNTED_TIME = re.compile(r"(.*_)?time_?stamp(_.*)?\Z")
_ROW_NUMBER = re.compile(r"index(_level_\d+)?\Z|unnamed_\d+\Z|row(_?(no|number|num|index))?\Z")
_WEIGHT = re.compile(r"(w|(sample|instance|row)_weights?)\Z")
_WHOLE = re.compile(r"-?\d{1,39}(\.0)?\Z", re.ASCII)
# Numbers that are times: seconds or more of the epoch, days such as 20240531, hours such as 14102100 (YYMMDDHH).
_EPOCH, _DAYS, _HOURS = 1e8, (19000101, 21001231), 1e7
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}([.\s]\d{3})+)(,\d+)?\Z")
_ODD_NUMBER = re.compile(r"\D+\Z|[^A-Za-z]+\Z|[+-]?\d+(\.\d*)?[eE][+-]?\d+\Z", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})*(\.\d+)?\Z", re.ASCII)
_SIGNS = re.compile(r"[\s€$£¥₽%]|EUR|USD|GBP")
_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|\d{1,2} \d{1,2}, ?\d{4}|"
                   r"\d{4}[./]\d{1,2}[./]\d{1,2}|\d{4}-\d\d(-\d\d[T ].*)?\Z|"
                   r"\d{8}[T ]\d{4,6}|.*\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.*\d\d",
                   re.ASCII | re.IGNORECASE)
# A share of rows that may be slips of the pen, and of different values that make a column one of nearly unique ones.
FEW, _NEARLY, _NEARLY_TEXT = 0.01, 0.99, 0.95
# Different values that say whether a column of texts holds times: what is none is found out one by one.
_LOOKED_AT = 200
_MANY_ROWS, _LONGEST_KEY = 100, 64
_LONE_YES = ("1", "x", "yes", "y", "true", "t")


@dataclasses.dataclass
class Column:
    """What was found in a column, and what it is proposed for.

    Attributes:
        texts: of all rows, empty where one is missing; ``values`` are those that are not missing.
        different: each of the values once; of a list, the values in it.
        numbers: float64 [rows], NaN where missing; None where other texts are among them.
        separator: of a list.
        key: the name in the dataset file, which no other column has.
        kind: ``label``, ``target``, ``categorical``, ``list``, ``numeric``, ``weight``, or why it is none of these:
            ``key``, ``unique``, ``time``, ``empty``, ``unclear``, ``leak``; ``why`` is the reason, for a person.
        keys: {key: its value in YAML} of the feature or task.
        yes: the texts that make a label 1; ``is_flag`` whether the words of its two values say which these are.
        missing: the texts that mean that a number or label is not known.
        follows: of a number that is left out, the label that it follows.
        doubt: what a person should look at before anything is prepared; empty where nothing is.
    """

    name: str
    texts: pd.Series
    values: pd.Series
    different: Sequence[str]
    numbers: Optional[pd.Series]
    separator: str
    key: str = ""
    kind: str = ""
    why: str = ""
    keys: Dict[str, str] = dataclasses.field(default_factory=dict)
    yes: Tuple[str, ...] = ("1",)
    is_flag: bool = False
    missing: Tuple[str, ...] = ()
    follows: str = ""
    doubt: str = ""

    @property
    def is_positive(self) -> pd.Series:
        """Where the label is 1, bool [rows]."""
        return self.texts.isin(self.yes)


def read_column(name: str, texts: pd.Series, type_name: str) -> Column:
    """Finds out what a column holds; ``type_name`` is that of Parquet: ``list``, ``text``, ``time`` or nothing."""
    values = texts[texts != ""]
    different = values.unique()
    column = Column(name, texts, values, different, None, LIST_SEPARATOR if type_name == "list" else "")
    if type_name not in ("text", "list", "time"):
        _set_numbers(column)
    column.kind, column.why = _kind(column, type_name == "time")
    if column.kind != "numeric":
        column.missing, column.doubt = (), ""  # elsewhere the few are values like the others
    if column.kind in ("categorical", "list") and len(column.different) > _HASH_ABOVE:
        column.keys["encoding"] = "hash"
        column.why += HASHED
    return column


def _set_numbers(column: Column) -> None:
    """Sets the numbers of a column of numbers, in which a few cells may be none, and says what these are."""
    numbers = {text: float(text) for text in column.different if is_number(text)}
    odd = [text for text in column.different if text not in numbers and text not in MISSING_NUMBERS]
    rows = int(column.values.isin(odd).sum()) if odd else 0
    # A code with a letter before its digits is none.
    if not numbers or rows > FEW * len(column.values) or not all(map(_ODD_NUMBER.match, odd)):
        return
    column.numbers = column.texts.map(numbers).astype(float)
    if len(odd) == 1 and not re.search(r"\d", odd[0]):
        column.missing = (odd[0],)
    if odd:
        column.doubt = "column %s: all but %d rows are numbers (%r is none): %s" % (
            column.name, rows, odd[0], "it is drafted as a missing value" if column.missing else "correct them")


def _kind(column: Column, is_time: bool) -> Tuple[str, str]:
    """Returns kind and reason of a column by itself; of a list, sets separator, length and different values."""
    name, numbers, rows, distinct = simple_name(column.name), column.numbers, len(column.texts), len(column.different)
    if not distinct:
        return "empty", "no value was seen"
    known = len(column.values)
    if numbers is not None and _WEIGHT.match(name) and numbers.min() >= 0:
        return ("weight", "named like the weight of a row") if known == rows else (
            "unclear", "named like the weight of a row, and empty in some: fill it, and give weight:")
    if is_time or not column.separator and _is_time(name, column.different, numbers):
        return "time", "a time"
    if distinct == 1 and rows > _MANY_ROWS and known > _NEARLY_TEXT * rows:
        return "empty", "the same value in all rows"
    if distinct == 1 and known < rows and column.different[0].lower() in _LONE_YES:
        return "unclear", ("%r or nothing: if an empty cell means no, write 0 there, and make it a task if it is known "
                           "only afterwards" % column.different[0])
    if numbers is None and not column.separator:
        odd_style = _odd_style(pd.Series(column.different))
        if odd_style:
            return "unclear", odd_style
        column.separator = list_separator(column.values)
    if column.separator:
        return _list(column)
    is_whole = numbers is not None and all(_WHOLE.match(text) for text in column.different if is_number(text))
    is_id = (numbers is None or is_whole) and (bool(_IDENTITY.match(name)) or is_whole and _has_codes(column.different))
    unique = _unique(column, is_id, is_whole)
    if unique:
        return unique
    if numbers is not None and not is_id:
        is_round = np.mean(numbers.dropna() % 10 == 0) > 0.9
        looks_like_ids = distinct > rows / 10 and numbers.max() > 1e6 and not _AMOUNT.match(name) and not is_round
        if not is_whole or RATING.match(name) or distinct > 10 and not looks_like_ids:
            is_odd_weight = re.match(r"weights?\Z", name)
            return "numeric", "%d different numbers%s" % (
                distinct, "; if it is the weight of a row, give weight: instead" if is_odd_weight else "")
    return "categorical", "%d value%s%s" % (distinct, "" if distinct == 1 else "s", (
        ", %.1f rows each" % (known / distinct)) if distinct > _MANY_ROWS else "")


def _list(column: Column) -> Tuple[str, str]:
    lengths = column.values.str.count(re.escape(column.separator)) + 1
    if column.separator != LIST_SEPARATOR:
        column.keys["separator"] = json.dumps(column.separator)
    column.keys["max_length"] = "%d" % np.clip(np.ceil(np.quantile(lengths, 0.99)), 1, 50)
    column.different = column.values.str.split(column.separator).explode().str.strip().unique()
    return "list", "lists of up to %d values, %.1f on average" % (lengths.max(), lengths.mean())


def _unique(column: Column, is_id: bool, is_whole: bool) -> Optional[Tuple[str, str]]:
    """Returns kind and reason of a column with another value in (nearly) every row, from which nothing is learnt."""
    known, distinct, numbers = len(column.values), len(column.different), column.numbers
    if distinct <= _MANY_ROWS:
        return None
    if numbers is not None and not is_id:
        is_count = is_whole and distinct == len(column.texts) and (
            numbers.max() - numbers.min() == distinct - 1 or bool(_ROW_NUMBER.match(simple_name(column.name))))
        return ("unique", "the number of the row") if is_count else None
    if distinct == len(column.texts):
        is_key = numbers is not None or not column.values.str.contains(r"[\s|,;]").any() and (
            column.values.str.len().max() <= _LONGEST_KEY)
        return ("key", "another value in every row") if is_key else ("unique", "another text in every row")
    if distinct > (_NEARLY if is_id else _NEARLY_TEXT) * known:
        return "unique", "another value in nearly every row"
    return None


def _has_codes(different: Sequence[str]) -> bool:
    """Whether whole numbers are written with leading zeros, as codes are."""
    return float(np.mean([len(text) > 1 and text[0] == "0" for text in different])) > FEW


def _is_time(name: str, different: Sequence[str], numbers: Optional[pd.Series]) -> bool:
    if numbers is not None:
        present = numbers.dropna()
        least = _HOURS if name.endswith("hour") else _EPOCH
        return bool(_TIME.match(name)) and present.nunique() > 10 and (
            bool(_COUNTED_TIME.match(name)) or np.mean(present >= least) > 0.95
            or np.mean(present.between(*_DAYS)) > 0.95)
    sample = different[:_LOOKED_AT]
    is_dated = ~np.isnan(times_of_texts(sample)) & ~np.array([is_number(text) for text in sample], bool)
    return (len(different) > 10 or bool(_TIME.match(name))) and bool(is_dated.mean() > 0.95)


def _odd_style(different: pd.Series) -> str:
    """Says how numbers, dates or lists are written that are none here, or nothing."""
    texts = different[~different.isin(MISSING_NUMBERS)]
    if (texts.str.startswith("[") & texts.str.endswith("]")).mean() > 0.95:
        return "looks like lists in brackets: write the values with one character between them, such as 12|5|9"
    if len(texts) > 10 and texts.str.match(_DATE).mean() > 0.95:
        return "looks like dates in another style: write 2024-05-31 or 2024-05-31 12:30:00"
    odd_one = 1 if len(texts) > 10 else 0  # what stands for "no value"
    plain = texts.str.replace(_SIGNS, "")
    has_signs = bool((plain != texts).mean() > 0.5)
    if not has_signs and texts.str.contains(",", regex=False).mean() < 0.2:
        return ""
    if (~plain.str.match(_THOUSANDS)).sum() <= odd_one:
        return ("looks like amounts with a sign or blanks: write plain numbers such as 1234.56" if has_signs else
                "looks like numbers with commas between thousands: write them without")
    if (~plain.str.match(_DECIMAL_COMMA)).sum() <= odd_one:
        return "looks like numbers with a decimal comma: write a point"
    return ""


def list_separator(values: pd.Series) -> str:
    """Returns what stands between the values of lists in a column's texts; nothing where they are no lists."""
    for separator in _LIST_SEPARATORS:
        if values.str.contains(separator, regex=False).mean() < 0.2:
            continue
        parts = values.str.split(separator)
        pieces = parts.explode().str.strip()
        # Values of a list come back in other rows. A phrase has blanks inside, a list of ids has none; where lists hold
        # phrases, there are many more lists than values.
        is_plain = pieces.str.match(r"[^\s|,;]+\Z").mean() > 0.95 and pieces.nunique() < 0.8 * len(pieces)
        has_phrases = separator != " " and (pieces.str.match(r"[^|,;]+\Z") & (pieces.str.count(" ") <= _BLANKS)).mean(
            ) > 0.95 and values.nunique() > _LISTS_PER_PHRASE * pieces.nunique()
        if ((is_plain or has_phrases) and (separator != " " or pieces.str.match(r"[A-Za-z]{0,3}\d+\Z").mean() > 0.95)
                and pieces.str.match(r"-?\d+\.\d+\Z").mean() < 0.5 and not _has_places(parts)):
            return separator
    return ""


def _has_places(parts: pd.Series) -> bool:
    """Whether texts have the same number of parts, and each place values of its own, as in "Berlin,DE"."""
    if parts.str.len().nunique() > 1:
        return False
    places = [set(place) for place in zip(*parts)]
    return all(len(one & other) < 0.1 * min(len(one), len(other)) for one, other in itertools.combinations(places, 2))


def simple_name(column: str) -> str:
    """Returns a column's name with words in lower case and underscores between them: watchTime (s) is watch_time_s."""
    return name_of(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)).lower()


def name_of(text: str, prefix: str = "c_") -> str:
    """Returns a name for a column or file; ``prefix`` stands before what does not begin with a letter."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return name if name and name[0].isalpha() else prefix + name


def set_keys(columns: Sequence[Column]) -> None:
    """Gives every column a name for the dataset file, with a number where several would have the same."""
    used: List[str] = []
    for column in columns:
        name = name_of(column.name)
        others = ("%s_%d" % (name.rstrip("_"), number) for number in itertools.count(2))
        column.key = next(key for key in itertools.chain([name], others) if key not in used)
        used.append(column.key)
