"""Counts the rows that cannot be used and decides whether the run may go on."""
import math
import re
from typing import Dict, List, Optional, Tuple, Union

import numpy as np

from feature_specs.errors import ConfigError, DataError

_SHOWN = 5
_LIMIT = re.compile(r"([0-9]+)\Z|([0-9]+(?:\.[0-9]+)?)%\Z")


def parse_limit(text: Union[int, str, None]) -> Tuple[int, float]:
    """Reads a limit of bad rows.

    Args:
        text: ``N`` (rows per file), ``P%`` (of the rows of a file), or None for no bad row at all.

    Returns:
        (N, 0.0) or (0, P / 100).

    Raises:
        ConfigError: it is neither.
    """
    match = _LIMIT.match(str(0 if text is None else text).strip())
    if not match or (match.group(2) and float(match.group(2)) > 100):
        raise ConfigError("max_bad_rows %r: give a number of rows such as 10, or a share such as 0.1%%" % (text,))
    if match.group(1):
        return int(match.group(1)), 0.0
    return 0, float(match.group(2)) / 100


class BadRows:
    """The bad rows of one file.

    Args:
        path: the file, for messages.
        max_bad_rows: see :func:`parse_limit`.
    """

    def __init__(self, path: str, max_bad_rows: Union[int, str, None] = None) -> None:
        self.path = path
        self._limit = parse_limit(max_bad_rows)
        self.counts: Dict[str, int] = {}
        self.first_lines: Dict[str, List[int]] = {}

    def add(self, reason: str, lines: np.ndarray) -> None:
        """Counts rows.

        Args:
            reason: why they cannot be used.
            lines: int64 [n], their 1-based line numbers, ascending.
        """
        if len(lines):
            self.counts[reason] = self.counts.get(reason, 0) + len(lines)
            shown = self.first_lines.setdefault(reason, [])
            shown.extend(lines[:_SHOWN - len(shown)].tolist())

    @property
    def total(self) -> int:
        """Number of bad rows."""
        return sum(self.counts.values())

    def describe(self) -> str:
        """Returns one line: each reason with its count and its first five lines."""
        parts = []
        for reason in sorted(self.counts):
            lines = self.first_lines[reason]
            parts.append("%s: %d (%s %s%s)" % (
                reason, self.counts[reason], "line" if len(lines) == 1 else "lines", ", ".join(map(str, lines)),
                ", ..." if self.counts[reason] > len(lines) else ""))
        return "; ".join(parts)

    def check(self, rows: int, hint: Optional[str] = None) -> None:
        """Fails if there are more bad rows than allowed.

        Args:
            rows: rows of the file, bad ones included.
            hint: added to the message.

        Raises:
            DataError: names the file, the reasons and the lines.
        """
        number, share = self._limit
        allowed = max(number, int(math.floor(share * rows)))
        if self.total > allowed:
            raise DataError("%s: %d of %d rows cannot be used, %d allowed: %s; correct the file%s, or allow them with "
                            "--max_bad_rows" % (self.path, self.total, rows, allowed, self.describe(), hint or ""))
