"""Splits a block of comma-separated lines into cells with NumPy, without a Python object per line or cell.

The result holds, per good line, a hash for each categorical cell and a number for each numeric cell; lines that cannot
be used are listed with the reason. What comes out depends only on the lines, not on how they were cut into blocks.
"""
import dataclasses
import re
from typing import Dict, List, Optional, Tuple

import numpy as np

from preprocessing.text_hash import BlockHasher

WRONG_FIELDS = "wrong number of fields"
INVALID_TEXT = "invalid text"
BAD_NUMBER = "bad number"
LINE_TOO_LONG = "line too long"
#: Longest line that is read, in bytes.
MAX_LINE_BYTES = 1 << 20

_COMMA, _NEWLINE, _RETURN, _BLANK, _TAB, _DOT, _MINUS = 44, 10, 13, 32, 9, 46, 45
_NUMBER = re.compile(rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
# Up to 15 digits and 10**15 are exact in float64, so that one division gives the correctly rounded value.
_MAX_DIGITS = 15
_POWERS_OF_TEN = 10.0 ** np.arange(_MAX_DIGITS + 1)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the cells are: ``columns`` fields per line, ``texts`` and ``numbers`` are positions of the used ones."""

    columns: int
    texts: Tuple[int, ...]
    numbers: Tuple[int, ...]


@dataclasses.dataclass
class ScannedBlock:
    """The cells of one block.

    Attributes:
        block: uint8 [bytes], the lines that are left, each ending in a newline.
        lines: number of lines the block had, bad ones included.
        kept: int64 [rows], 0-based place of each row among ``lines``.
        starts, ends: int64 [rows, texts], byte positions in ``block`` of the categorical cells without blanks around.
        hashes: uint64 [rows, texts], hashes of these cells.
        dense: float32 [rows, numbers], finite.
        row_hashes: uint64 [rows], hashes of the whole lines.
        bad: {reason: int64 [n], 0-based places of the lines left out}.
    """

    block: np.ndarray
    lines: int
    kept: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    hashes: np.ndarray
    dense: np.ndarray
    row_hashes: np.ndarray
    bad: Dict[str, np.ndarray]

    def text(self, row: int, column: int) -> str:
        """Returns the text of one categorical cell, without blanks around it."""
        return self.block[self.starts[row, column]:self.ends[row, column]].tobytes().decode("utf-8")


def scan_block(data: bytes, layout: Layout, hasher: Optional[BlockHasher] = None) -> ScannedBlock:
    """Splits complete lines into cells.

    Args:
        data: whole lines; each ends in a newline (``\\n`` or ``\\r\\n``).
        layout: which fields are used, and for what.
        hasher: keeps its tables from block to block; not shared between threads.

    Returns:
        The cells of the usable lines, and the unusable lines by reason.
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    hasher = hasher or BlockHasher()
    block = np.frombuffer(data, np.uint8)
    line_ends = np.flatnonzero(block == _NEWLINE)
    lines = len(line_ends)
    block, kept, bad, separators, has_tabs = _drop_bad_lines(data, block, line_ends, layout.columns)
    rows = len(kept)
    bounds = separators.reshape(rows, layout.columns)
    sums = hasher.sums(block)
    row_ends = bounds[:, -1]
    row_starts = np.concatenate([np.zeros(min(rows, 1), np.int64), row_ends[:-1] + 1])
    row_hashes = hasher.spans(sums, row_starts, row_ends)
    starts, ends = _trimmed(block, bounds, row_starts, layout.texts, has_tabs)
    hashes = hasher.spans(sums, starts, ends)
    number_starts, number_ends = _trimmed(block, bounds, row_starts, layout.numbers, has_tabs)
    dense, valid = parse_numbers(block, number_starts, number_ends)
    good = valid.all(axis=1)
    if not good.all():
        bad[BAD_NUMBER] = kept[~good]
        kept, starts, ends = kept[good], starts[good], ends[good]
        hashes, dense, row_hashes = hashes[good], dense[good], row_hashes[good]
    return ScannedBlock(block, lines, kept, starts, ends, hashes, dense, row_hashes, bad)


def parse_numbers(block: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Parses decimal numbers out of a block; gives what ``numpy.float32(float(text))`` gives.

    Args:
        block: uint8 [bytes].
        starts, ends: int64 of one shape, positions of the numbers without blanks around.

    Returns:
        float32 values of that shape (0.0 where invalid; never -0.0), and bool of that shape: a finite decimal number
        that float32 can hold. Words such as ``nan`` or ``inf`` are not numbers.
    """
    shape = starts.shape
    starts, ends = starts.ravel(), ends.ravel()
    values = np.zeros(len(starts), np.float64)
    valid = np.ones(len(starts), bool)
    if len(starts):
        simple = _parse_plain(block, starts, ends, values)
        rest = np.flatnonzero(~simple)
        cache: Dict[bytes, Optional[float]] = {}
        for cell in rest.tolist():
            text = block[starts[cell]:ends[cell]].tobytes()
            if text not in cache:
                cache[text] = float(text) if _NUMBER.match(text) else None
            value = cache[text]
            valid[cell] = value is not None
            values[cell] = 0.0 if value is None else value
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    finite = np.isfinite(result)
    if not finite.all():
        valid &= finite
        result[~finite] = 0.0
    result += np.float32(0.0)  # -0.0 becomes 0.0
    return result.reshape(shape), valid.reshape(shape)


def _parse_plain(block: np.ndarray, starts: np.ndarray, ends: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Parses numbers such as 12, -3 and 4.50 into ``values``; returns which cells are of that kind."""
    negative = block.take(starts) == _MINUS
    has_sign = bool(negative.any())
    first = starts + negative if has_sign else starts
    lengths = ends - first
    simple = (lengths > 0) & (lengths <= _MAX_DIGITS + 1)
    mantissa = np.zeros(len(starts), np.int64)
    dots = np.full(len(starts), -1, np.int64)
    active = np.flatnonzero(simple)
    for place in range(_MAX_DIGITS + 1):
        if place:
            active = active[lengths.take(active) > place]
        if not len(active):
            break
        character = block.take(first.take(active) + place)
        digit = character - np.uint8(48)
        is_digit = digit < 10
        if is_digit.all():
            mantissa[active] = mantissa.take(active) * 10 + digit if place else digit
            continue
        at = active[is_digit]
        mantissa[at] = mantissa[at] * 10 + digit[is_digit]
        other = active[~is_digit]
        is_dot = (character[~is_digit] == _DOT) & (dots[other] < 0)
        dots[other[is_dot]] = place
        simple[other[~is_dot]] = False
        if not is_dot.all():
            active = active[simple[active]]
    digits = lengths - (dots >= 0)
    simple &= (digits > 0) & (digits <= _MAX_DIGITS)
    values[simple] = mantissa[simple]
    fractional = np.flatnonzero(simple & (dots >= 0))
    if len(fractional):
        values[fractional] /= _POWERS_OF_TEN[lengths[fractional] - 1 - dots[fractional]]
    if has_sign:
        np.negative(values, out=values, where=negative & simple)
    return simple


def _drop_bad_lines(data: bytes, block: np.ndarray, line_ends: np.ndarray, columns: int
                    ) -> Tuple[np.ndarray, np.ndarray, Dict[str, np.ndarray], np.ndarray, bool]:
    """Returns the block without bad lines, the kept lines, the bad ones, the separators, and whether it has tabs."""
    lines = len(line_ends)
    separator = block == _COMMA
    separator[line_ends] = True
    separators = np.flatnonzero(separator)
    controls = int(np.count_nonzero(block < _BLANK))
    tabs = data.count(b"\t") if controls != lines else 0
    clean = (len(separators) == lines * columns
             and np.array_equal(separators[columns - 1::columns], line_ends)
             and controls == lines + tabs
             and not bool((block >= 127).any()))
    line_starts = np.concatenate([np.zeros(min(lines, 1), np.int64), line_ends[:-1] + 1])
    if clean and lines and int((line_ends - line_starts).max()) <= MAX_LINE_BYTES:
        return block, np.arange(lines), {}, separators, tabs > 0
    reasons: List[Tuple[str, np.ndarray]] = [
        (LINE_TOO_LONG, line_ends - line_starts > MAX_LINE_BYTES),
        (INVALID_TEXT, _invalid_text(block, line_starts, line_ends)),
        (WRONG_FIELDS, _per_line(block == _COMMA, line_ends) != columns - 1),
    ]
    bad: Dict[str, np.ndarray] = {}
    dropped = np.zeros(lines, bool)
    for reason, found in reasons:
        fresh = np.flatnonzero(found & ~dropped)
        if len(fresh):
            bad[reason] = fresh
            dropped[fresh] = True
    kept = np.flatnonzero(~dropped)
    if len(kept) < lines:
        block = block[np.repeat(~dropped, line_ends + 1 - line_starts)]
    separators = np.flatnonzero((block == _COMMA) | (block == _NEWLINE))
    return block, kept, bad, separators, tabs > 0


def _invalid_text(block: np.ndarray, line_starts: np.ndarray, line_ends: np.ndarray) -> np.ndarray:
    control = (block < _BLANK) & (block != _NEWLINE) & (block != _TAB)
    control |= block == 127
    invalid = _per_line(control, line_ends) > 0
    for line in np.flatnonzero(_per_line(block >= 128, line_ends)).tolist():
        if not invalid[line]:
            try:
                block[line_starts[line]:line_ends[line]].tobytes().decode("utf-8")
            except UnicodeDecodeError:
                invalid[line] = True
    return invalid


def _per_line(mask: np.ndarray, line_ends: np.ndarray) -> np.ndarray:
    """Returns int64 [lines], how many positions of the mask lie in each line."""
    upto = np.searchsorted(np.flatnonzero(mask), line_ends, side="right")
    return np.diff(upto, prepend=0)


def _trimmed(block: np.ndarray, bounds: np.ndarray, row_starts: np.ndarray, columns: Tuple[int, ...], has_tabs: bool
             ) -> Tuple[np.ndarray, np.ndarray]:
    """Returns int64 [rows, len(columns)] starts and ends of cells, blanks around them left out."""
    rows = len(bounds)
    starts = np.empty((rows, len(columns)), np.int64)
    for place, column in enumerate(columns):
        starts[:, place] = bounds[:, column - 1] + 1 if column else row_starts
    ends = np.ascontiguousarray(bounds[:, list(columns)])
    if not starts.size:
        return starts, ends
    while True:
        blank = block.take(starts) == _BLANK
        if has_tabs:
            blank |= block[starts] == _TAB
        if not blank.any():
            break
        starts += blank
    while True:
        last = block.take(ends - 1)
        blank = last == _BLANK
        if has_tabs:
            blank |= last == _TAB
        blank &= ends > starts
        if not blank.any():
            break
        ends -= blank
    return starts, ends
