"""Counts the rows that cannot be used, remembers the first places, and decides whether the run may continue."""
import collections
import re
from typing import Callable, Counter, List, Tuple, Union

from feature_specs.errors import ConfigError, DataError

#: Reason (the same words for all such rows), its 1-based line (text) or row (Parquet), what was found and expected.
BadRow = Tuple[str, int, str]

_SHOWN = 5
_LIMIT = re.compile(r"([0-9]+)\Z|([0-9]+(?:\.[0-9]+)?)%\Z")


def parse_limit(text: Union[int, str]) -> Tuple[int, float]:
    """Returns (N, 0.0) for a limit of ``N`` rows per file, (0, P / 100) for ``P%`` of its rows.

    Raises:
        ConfigError: it is neither.
    """
    match = _LIMIT.match(str(text).strip())
    if not match or (match.group(2) and float(match.group(2)) > 100):
        raise ConfigError("max_bad_rows %r: give a number of rows such as 10, or a share such as 0.1%%" % (text,))
    return (int(match.group(1)), 0.0) if match.group(1) else (0, float(match.group(2)) / 100)


class BadRowsError(DataError):
    """A file has more rows that cannot be used than are allowed."""


class BadRows:
    """The bad rows of one file, whose numbers count what ``unit`` says: lines of a text, or rows.

    ``hint`` is called when there are too many, and says what is probably wrong, if anything.
    """

    def __init__(self, path: str, limit: Union[int, str] = 0, hint: Callable[["BadRows"], str] = lambda _: "",
                 unit: str = "line") -> None:
        self.path, self._unit = path, unit
        self.counts: Counter[str] = collections.Counter()
        #: (row, what was found and what was expected) of the first rows.
        self.places: List[Tuple[int, str]] = []
        self._limit, self._hint = parse_limit(limit), hint

    def add(self, reason: str, row: int, text: str) -> None:
        """Counts a row: the parts of a :data:`BadRow`."""
        self.counts[reason] += 1
        if len(self.places) < _SHOWN:
            self.places.append((row, text))

    @property
    def total(self) -> int:
        """Number of bad rows."""
        return sum(self.counts.values())

    def describe(self) -> str:
        """Returns one line: the first five places, and how many rows there are for each reason."""
        text = "; ".join("%s %d: %s" % (self._unit, *place) for place in self.places)
        if self.total > len(self.places):
            text += "; ... in all %s" % ", ".join("%s: %d" % item for item in sorted(self.counts.items()))
        return text

    def hint(self) -> str:
        """Returns what is probably wrong with the file in brackets, or nothing."""
        hint = self._hint(self)
        return " (%s)" % hint if hint else ""

    def check(self, rows: int, is_end: bool = True) -> None:
        """Fails if there are more bad rows than allowed among the rows so far; before the end, only a limit in rows can
        be exceeded.

        Raises:
            BadRowsError: names the file, the places and, where it can be guessed, what is wrong with the file.
        """
        number, share = self._limit
        allowed = max(number, int(share * rows))
        if self.total > allowed and (is_end or not share):
            raise BadRowsError("%s: %d of %s%d rows cannot be used, %d allowed: %s%s; correct the file or the dataset "
                               "file, or allow them with --max_bad_rows" % (
                                   self.path, self.total, "" if is_end else "the first ", rows, allowed,
                                   self.describe(), self.hint()))
