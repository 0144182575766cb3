"""What the columns of unknown data are good for, seen together: labels, targets, what is known only afterwards."""
import json
import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pandas as pd

from preprocessing.drafting.column_kinds import FEW, HASHED, RATING, Column, read_column, set_keys, simple_name
from preprocessing.drafting.look import MAYBE_MISSING, Look
from preprocessing.reading.times import times_of_texts

# Patterns of names, in the form of simple_name. What happened to a row's object is a label; what it is, is not.
_BINARY_LABEL = re.compile(
    r"((is|has|did|was|y)_)?(un)?(clicks?|clicked|clk|buy|bought|purchased?|ordered|reordered|convert(ed)?|conversion|"
    r"install(ed)?|likes?|liked|disliked?|shared?|follow(ed)?|subscribed|churn(ed)?|fraud|surviv(ed|al)|respon(se|ded)|"
    r"outcome|label|target|y|income\w*|retained|retention|booked|booking|applied|hired|returned|opened|viewed|paid|"
    r"attrition|default(ed)?|exited|cancell?ed|won|win|sale|sold|attributed|attribution|match(ed)?|class|status|"
    r"loan_status|favorited?|commented|forward(ed)?|accepted|renewed|no_show|upsell|deposit|revenue|recommended)"
    r"(_?(bool|flag|d?\d\w*))?\Z|"
    r"(?!private_|white_).*_label\Z|label_.*")
_STRONG_TARGET = re.compile(
    r"(.*_)?(watch\w*|dwell\w*|(play|view|viewing|stay|reading)_?(time|seconds|secs?|ms|minutes))(_.*)?\Z")
_GRADE = re.compile(r"target|label|y|ltv|relevance")
_TARGET = re.compile(r"(.*_)?(amount|revenue|gmv|spend|duration|seconds|payment)(_.*)?\Z|" + _GRADE.pattern)
# Sums and means of the past, and what belongs to the object.
_NO_TARGET = re.compile(r"(avg|mean|average|last|prev\w*|past|total|since|video|movie|film|song|loan|credit)_.*|"
                        r".*(_\d+(d|h|m|days|hours)|_avg|_mean|_pred\w*)\Z|video|(.*_)?(views|plays)")
# What follows a label is the outcome's, whatever else its name may mean.
_PAID = re.compile(r"(.*_)?(value|paid|spent|price|total|basket|cart|tips?|fare|profit|sales|cost|fee|bill|turnover|"
                   r"margin|earnings)(_.*)?")
_GROUP = re.compile(r"(user|customer|member|visitor|session|guest|client|account|buyer|shopper|reader|viewer|listener|"
                    r"player|patient|student|subscriber)(_?id)?\Z|uid\Z")
_NO_LABEL = re.compile(r"(.*_)?(gender|sex|geschlecht)\Z")
# Times of the row's object, which say nothing of when the row came.
_EARLY = re.compile(
    r"(.*_)?(birth|born|dob|sign_?up|regist\w*|join\w*|releas\w*|publi\w*|launch\w*|found\w*|hire\w*)(_.*)?")
# A column that tells a label so well is rather known after it than before.
_LEAK, _LEAK_ROWS, _LEAK_VALUES = 0.98, 20, 50
# Members, yes or no, are no groups.
_FEWEST_GROUPS = 10
# Rows that would say otherwise by chance: so few that fit are no rule.
_CHANCE = 10
# Texts of labels, in lower case; the first of a pair is what makes one 1.
_YES_NO = {("1", "0"), ("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("1", "-1"), ("on", "off"),
           ("ja", "nein"), ("j", "n"), ("oui", "non"), ("si", "no"), ("s\u00ed", "no"), ("sim", "n\u00e3o"),
           ("\u0434\u0430", "\u043d\u0435\u0442"), ("\u662f", "\u5426")}
_GOOD_BAD = {("like", "dislike"), ("positive", "negative"), ("pos", "neg"), ("won", "lost"), ("win", "loss"),
             ("accepted", "declined"), ("accepted", "rejected"), ("approved", "declined"), ("approved", "rejected"),
             ("approved", "denied"), ("good", "bad"), ("success", "failure"), ("2", "1")}
_NO = {no for _, no in _YES_NO}
_NEGATIONS = ("not ", "not_", "not-", "no ", "no_", "no-", "non-", "non", "un", "in")


class _Pair(NamedTuple):
    """The values of a column of two: what makes a label 1, what 0, what means that it is not known; how many cells have
    others; and whether the words say which is which."""

    yes: Tuple[str, ...]
    no: Tuple[str, ...]
    missing: Tuple[str, ...]
    others: int
    is_said: bool


def examine(look: Look) -> List[Column]:
    """Finds out what each column holds and what it is good for."""
    columns = [read_column(name, look.frame[name], look.types.get(name, "")) for name in look.frame.columns]
    set_keys(columns)
    for column in columns:
        if simple_name(column.name) == "w" and {"h", "height"} & {simple_name(other.name) for other in columns}:
            column.kind, column.why = "numeric", "a width"
    labels = _choose_labels(columns)
    _choose_targets(columns, labels)
    _mark_leaks(columns, labels)
    _share(columns)
    return columns


def choose_time(columns: Sequence[Column]) -> Optional[Column]:
    """Returns the column whose greatest values are the last rows, known in every row, after its reason has been
    completed; None where there is none."""
    known = []
    for column in columns:
        if column.kind == "time" and len(column.values) == len(column.texts) and not _EARLY.match(
                simple_name(column.name)):
            times = column.texts.map(pd.Series(times_of_texts(column.different), column.different))
            if np.isfinite(times).all():
                known.append((times.is_monotonic_increasing, column))
    if not known:
        return None
    # Rows are written as they come: what grows from row to row is their time.
    chosen = next((column for grows, column in known if grows), known[0][1])
    chosen.why += ": --split_by_time %s takes the last rows for testing" % chosen.name
    return chosen


def _choose_labels(columns: List[Column]) -> List[Column]:
    """Makes binary labels of columns with two values, and finds those that build on each other."""
    pairs = {}
    for column in columns:
        pair = _pair(column) if column.kind in ("categorical", "numeric") else None
        if pair:
            pairs[column.key], column.yes, column.is_flag = pair, pair.yes, pair.is_said
    two = [column for column in columns if column.key in pairs]
    named = [column for column in two if is_named_label(column)]
    found = named or _unnamed(columns, two)
    reasons = {column.key: "two values" + ", named like an outcome" * bool(named) for column in found}
    # What comes before an order, or after it, is no feature of it.
    for column in two:
        if column not in found and column.is_flag:
            later = [label.name for label in found if _is_within(label, column)]
            earlier = [label.name for label in found if _is_within(column, label)]
            if later or earlier:
                reasons[column.key] = "there is no %s without it" % later[0] if later else (
                    "it is never without %s" % earlier[0])
    labels = [column for column in columns if column.key in reasons]
    for column in labels:
        _make_label(column, pairs[column.key], reasons[column.key])
    if not named and labels:
        others = [column.name for column in two if column.kind != "label" and column.is_flag]
        found[0].doubt = "no column is named like a label: %s was taken, which has two values%s" % (
            found[0].name, "; make tasks of others that are: %s" % ", ".join(others) if others else "")
    for column in labels:
        outer = [other for other in labels if _is_within(column, other)]
        if outer:
            nearest = min(outer, key=lambda other: int(other.is_positive.sum()))
            column.keys["given"] = nearest.key
            column.why += "; given: never without %s" % nearest.name
    return labels


def _unnamed(columns: List[Column], two: List[Column]) -> List[Column]:
    """Returns the column of two values that is most likely the label where no name says so; none where a rating is."""
    if any(column.numbers is not None and column not in two and (
            RATING.match(name) or _GRADE.fullmatch(name)) for column in columns for name in [simple_name(column.name)]):
        return []
    likely = [column for column in two if column.is_flag] or [
        column for column in two if not _NO_LABEL.match(simple_name(column.name))]
    at_end = [column for column in likely if column is columns[-1]] or [
        column for column in likely if column is columns[0]]
    return at_end or likely[-1:]


def _make_label(column: Column, pair: _Pair, reason: str) -> None:
    column.kind, column.why = "label", reason
    column.missing = pair.missing
    if set(map(_plain, pair.yes)) != {"1"} or set(map(_plain, pair.no)) != {"0"}:
        column.keys = {"positive": json.dumps(pair.yes, ensure_ascii=False),
                       "negative": json.dumps(pair.no, ensure_ascii=False)}
    if not pair.is_said:
        column.doubt = "label %s: no word says which of %r and %r is the yes: the rarer one was taken" % (
            column.name, pair.yes[0], pair.no[0])
    elif len(pair.yes) > 1 and all(text.isdigit() for text in pair.yes):
        column.doubt = "label %s: a count, of which 1 and more were taken for a yes" % column.name
    if pair.others:
        odd = next(text for text in column.different if text not in pair.yes + pair.no + pair.missing)
        column.doubt = "label %s: %d rows have other texts, such as %r: correct them, or prepare refuses them" % (
            column.name, pair.others, odd)


def _pair(column: Column) -> Optional[_Pair]:
    """Returns the two values of a column, with other spellings and a few slips of the pen among them; None where there
    are more values. Of two words that do not say which is the yes it is the rarer one."""
    if len(column.different) > 3 + FEW * len(column.values):
        return None
    counts = column.values.value_counts()
    missing = tuple(text for text in counts.index if text in MAYBE_MISSING)
    if not missing or len(counts) < len(missing) + 2 or not is_named_label(column):
        missing = ()
    counts = counts.drop(list(missing))
    if len(counts) < 2:
        return None
    yes, no = counts.index[1::-1]
    ordered = [pair for pair in ((yes, no), (no, yes)) if _is_yes_no(*map(_plain, pair))]
    if ordered:
        yes, no = ordered[0]
    rest = counts.index[2:]
    more = [text for text in rest if _plain(text) == _plain(yes) or (
        _plain(yes), _plain(no)) == ("1", "0") and text.isdigit() and int(text) > 1]
    less = [text for text in rest if _plain(text) == _plain(no)]
    others = int(counts.drop([yes, no] + more + less).sum())
    if len(rest) and (not ordered or _plain(yes) == "2") or counts[rest].sum() > FEW * len(column.values):
        return None
    if not ordered and not missing and (yes in MAYBE_MISSING and _plain(no) in _NO or no in MAYBE_MISSING and (
            _plain(yes) in _NO)):
        return None
    return _Pair((yes, *more), (no, *less), missing, others, bool(ordered))


def _plain(text: str) -> str:
    text = text.lower()
    return text[:-2] if text.endswith(".0") else text


def _is_yes_no(yes: str, no: str) -> bool:
    return (yes, no) in _YES_NO or (yes, no) in _GOOD_BAD or no in [word + yes for word in _NEGATIONS]


def _is_within(inner: Column, outer: Column) -> bool:
    """Whether one label never is 1 without the other, in more rows than chance would do it."""
    return bool(inner.is_positive.sum() < outer.is_positive.sum()) and _implies(inner.is_positive, outer)


def _implies(happens: pd.Series, label: Column) -> bool:
    known = label.texts != ""
    count = int((happens & known).sum())
    expected = count * (1 - label.is_positive[known].mean())
    return count >= _LEAK_ROWS and expected >= _CHANCE and not (happens & known & ~label.is_positive).any()


def _choose_targets(columns: List[Column], labels: List[Column]) -> None:
    numeric = [(column, simple_name(column.name)) for column in columns if column.kind == "numeric" or (
        column.numbers is not None and column.kind == "categorical" and _TARGET.fullmatch(simple_name(column.name)))]
    named = [column for column, name in numeric if (
        not _NO_TARGET.fullmatch(name) and (_STRONG_TARGET.fullmatch(name) or not labels and _TARGET.fullmatch(name))
        or not _NO_TARGET.fullmatch(name.replace("total_", "")) and (_TARGET.fullmatch(name) or _PAID.fullmatch(name))
        and _follows(column, labels))]
    ratings = [] if labels else [column for column, name in numeric if RATING.match(name)]
    strong = [column for column in named if _STRONG_TARGET.fullmatch(simple_name(column.name))]
    for column in strong + ratings if ratings else named:
        column.kind, column.why = "target", "a number that is named like a target"
        if column not in ratings and column.numbers is not None and column.numbers.min() >= 0:
            column.keys["transform"] = "log"
            column.why += "; log: none is negative"
        known = column.texts != ""
        within = [label for label in labels if known.mean() < 0.9 and not (known & ~label.is_positive).any()]
        if within:
            nearest = min(within, key=lambda label: int(label.is_positive.sum()))
            column.keys["where"] = nearest.key
            column.why += "; where: it is there only where %s is 1" % nearest.name


def _follows(column: Column, labels: List[Column]) -> bool:
    """Whether a number is there, or is not zero, only where a label is 1."""
    is_there = (column.texts != "") & (column.numbers != 0)
    return any(_implies(is_there, label) for label in labels)


def _mark_leaks(columns: List[Column], labels: List[Column]) -> None:
    """Finds features that tell a label almost alone: they are mostly known only after it."""
    # Of several labels that a column follows the nearest one, which is 1 in the fewest rows.
    labels = sorted(labels, key=lambda label: int(label.is_positive.sum()))
    for column in columns:
        if column.kind not in ("numeric", "categorical", "list"):
            continue
        differs = column.texts != column.texts.value_counts().index[0]
        scores = [(column.texts != "").to_numpy(np.float64), differs.to_numpy(np.float64)]
        if column.kind == "numeric" and column.numbers is not None:
            scores.append(column.numbers.to_numpy())
        # A value that comes once tells its own row's label, which says nothing.
        is_coarse = column.kind == "categorical" and len(column.different) <= min(_LEAK_VALUES, len(column.texts) // 10)
        for label in labels:
            means = [column.texts.map(label.is_positive.groupby(column.texts).mean()).to_numpy(np.float64)]
            best = max(_area(score, label) for score in (scores + means if is_coarse else scores))
            follows, excludes = _implies(differs, label), _excludes(column, label)
            if best >= _LEAK or follows or excludes:
                if follows and column.kind == "numeric":
                    column.follows = label.key
                column.keys["type"], column.kind = {"numeric": "numeric"}.get(column.kind, "categorical"), "leak"
                column.why = "%s: it is probably known only afterwards" % (
                    "it tells %s almost alone (AUC %.3f)" % (label.name, best) if best >= _LEAK else
                    "it is never yes where %s is" % label.name if excludes else
                    "it is %s only where %s is 1" % (
                        "there" if (column.texts[~differs] == "").all() else
                        "other than %r" % column.texts[~differs].iloc[0][:40], label.name))
                break


def _excludes(column: Column, label: Column) -> bool:
    """Whether a yes-or-no column never is yes where a label is 1, in more rows than chance would do it."""
    if not column.is_flag:
        return False
    happens = column.is_positive & (label.texts != "")
    expected = happens.sum() * label.is_positive[label.texts != ""].mean()
    return bool(happens.sum() >= _LEAK_ROWS and expected >= _CHANCE and not (happens & label.is_positive).any())


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
    """Lets lists share the values of a column that has mostly the same ones; of users only where no other has them."""
    single = [(item, set(item.different)) for item in columns
              if item.kind == "categorical" and len(item.different) > 100]
    for column in columns:
        if column.kind == "list" and single:
            pieces = set(column.different) - {""}
            owner, values = max(single, key=lambda other: (
                _overlap(pieces, other[1]) and not is_group(other[0]), len(pieces & other[1])))
            if _overlap(pieces, values):
                column.keys.pop("encoding", None)
                column.keys.update(owner.keys, vocabulary=owner.key)
                column.why = "%s; shares the values of %s" % (column.why.replace(HASHED, ""), owner.name)


def _overlap(pieces: set, values: set) -> bool:
    return len(pieces) > 100 and len(pieces & values) > 0.5 * min(len(pieces), len(values))


def is_group(column: Column) -> bool:
    """Whether a column is named like whom a row belongs to."""
    return len(column.different) > _FEWEST_GROUPS and bool(
        _GROUP.match(simple_name(column.name)))


def is_named_label(column: Column) -> bool:
    """Whether a column is named like something that happens or not."""
    return bool(_BINARY_LABEL.match(simple_name(column.name)))
