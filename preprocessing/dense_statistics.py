"""Statistics of numeric columns: moments and equal-frequency bins, with bounded memory.

Up to :data:`MAX_DISTINCT` different values per column everything is exact. Beyond, neighbouring values are merged into
groups of about 1/500,000 of the rows; the rank of a bin edge is then off by at most that share per compaction (one per
500,000 new values). Memory per column: 16 bytes per different value kept, three times that while merging. Values are
taken in fixed blocks of rows, so that the result does not depend on how the file was cut into chunks.
"""
from typing import Dict, List, Sequence, Tuple

import numpy as np

from feature_specs.manifest import DenseStatistics

MAX_DISTINCT = 1000000
MAX_BINS = 255
_BLOCK_ROWS = 1 << 16


class DenseAccumulator:
    """Collects numeric rows and gives their statistics.

    Args:
        columns: the columns' names.
        max_distinct: different values per column up to which all is exact.
    """

    def __init__(self, columns: Sequence[str], max_distinct: int = MAX_DISTINCT) -> None:
        self._columns = [_Column(max_distinct) for _ in columns]
        self._names = tuple(columns)
        self._waiting: List[np.ndarray] = []
        self._waiting_rows = 0

    def add(self, dense: np.ndarray) -> None:
        """Adds rows: float32 [rows, columns], finite."""
        if not self._columns or not len(dense):
            return
        self._waiting.append(dense)
        self._waiting_rows += len(dense)
        if self._waiting_rows >= _BLOCK_ROWS:
            values = np.concatenate(self._waiting)
            whole = len(values) - len(values) % _BLOCK_ROWS
            for start in range(0, whole, _BLOCK_ROWS):
                self._add_block(values[start:start + _BLOCK_ROWS])
            self._waiting = [values[whole:].copy()]
            self._waiting_rows = len(values) - whole

    def finish(self) -> Dict[str, DenseStatistics]:
        """Returns {column: statistics of all rows added}."""
        if self._waiting_rows:
            self._add_block(np.concatenate(self._waiting))
            self._waiting, self._waiting_rows = [], 0
        return {name: column.finish() for name, column in zip(self._names, self._columns)}

    def _add_block(self, values: np.ndarray) -> None:
        for place, column in enumerate(self._columns):
            column.add(values[:, place])


class _Column:
    """Different values with their counts, and the moments once values had to be merged."""

    def __init__(self, max_distinct: int) -> None:
        self._max = max_distinct
        self._values = np.zeros(0, np.float32)
        self._counts = np.zeros(0, np.int64)
        self._new: List[Tuple[np.ndarray, np.ndarray]] = []
        self._new_size = 0
        self._moments: List[_Moments] = []
        self._exact = True
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        values, counts = _count_values(values)
        self._minimum, self._maximum = min(self._minimum, float(values[0])), max(self._maximum, float(values[-1]))
        if not self._exact:
            self._merge_moments(values, counts)
        self._new.append((values, counts))
        self._new_size += len(values)
        # Merging only when as much is new as is old keeps the cost per value constant.
        if self._new_size > max(len(self._values), 1 << 18):
            self._merge()

    def finish(self) -> DenseStatistics:
        self._merge()
        if self._exact:
            self._merge_moments(self._values, self._counts)
        raw, log = self._moments
        edges = bin_edges(self._values, self._counts)
        bins = np.searchsorted(np.array(edges, np.float32), self._values, side="left")
        counts = np.bincount(bins, weights=self._counts, minlength=len(edges) + 1).astype(np.int64)
        return DenseStatistics(
            count=int(self._counts.sum()), mean=raw.mean, std=raw.std(), minimum=self._minimum, maximum=self._maximum,
            log_mean=log.mean, log_std=log.std(), bin_edges=tuple(edges), bin_counts=tuple(counts.tolist()))

    def _merge(self) -> None:
        if not self._new:
            return
        values = np.concatenate([self._values] + [new for new, _ in self._new])
        counts = np.concatenate([self._counts] + [new for _, new in self._new])
        self._new, self._new_size = [], 0
        self._values, self._counts = _sum_equal(values, counts)
        if len(self._values) > self._max:
            if self._exact:
                self._merge_moments(self._values, self._counts)
                self._exact = False
            self._values, self._counts = _compact(self._values, self._counts, max(self._max // 2, 1))

    def _merge_moments(self, values: np.ndarray, counts: np.ndarray) -> None:
        values = values.astype(np.float64)
        parts = [_Moments(values, counts), _Moments(np.sign(values) * np.log1p(np.abs(values)), counts)]
        if not self._moments:
            self._moments = parts
        else:
            for whole, part in zip(self._moments, parts):
                whole.merge(part)


class _Moments:
    """Count, mean and sum of squared differences from the mean, in float64."""

    def __init__(self, values: np.ndarray, counts: np.ndarray) -> None:
        self.count = int(counts.sum())
        # Around a pivot, so that a large common offset costs no digits.
        pivot = float(values[len(values) // 2])
        self.mean = pivot + float(np.sum((values - pivot) * counts)) / self.count
        self.squares = float(np.sum((values - self.mean) ** 2 * counts))

    def merge(self, other: "_Moments") -> None:
        """Adds another part (Chan's formula)."""
        count = self.count + other.count
        delta = other.mean - self.mean
        self.squares += other.squares + delta * delta * (self.count * (other.count / count))
        self.mean += delta * (other.count / count)
        self.count = count

    def std(self) -> float:
        """Returns the population standard deviation."""
        return float(np.sqrt(self.squares / self.count))


def bin_edges(values: np.ndarray, counts: np.ndarray, max_bins: int = MAX_BINS) -> List[float]:
    """Chooses the edges of equal-frequency bins.

    Up to ``max_bins`` different values get a bin each. Otherwise a value that holds a bin's share of the rows has a bin
    of its own (the most frequent first, should the gaps between such values need more bins than there are), and
    the other bins are shared out among the gaps by their rows.

    Args:
        values: float32 [n], different and ascending.
        counts: int64 [n], rows per value.
        max_bins: most bins.

    Returns:
        At most ``max_bins - 1`` ascending edges, each exactly representable in float32. An edge lies midway between the
        values on both sides, so that value x is in bin ``searchsorted(edges, x, side="left")``.
    """
    size = len(values)
    if size <= max_bins:
        last = np.arange(size - 1)
    else:
        last = _last_of_bins(counts, max_bins)
    low, high = values[last], values[last + 1]
    middle = ((low.astype(np.float64) + high.astype(np.float64)) / 2).astype(np.float32)
    # Between neighbouring float32 values the middle rounds to one of them; the upper one would go into the lower bin.
    middle = np.where(middle >= high, low, middle) + np.float32(0.0)
    return [float(edge) for edge in middle]


def _last_of_bins(counts: np.ndarray, max_bins: int) -> np.ndarray:
    """Returns int64: positions of the last value of every bin but the last bin."""
    size, total = len(counts), int(counts.sum())
    is_heavy = counts * max_bins >= total
    while True:
        # What is frequent is judged against the share that the less frequent values have left.
        light, bins = total - int(counts[is_heavy].sum()), max_bins - int(is_heavy.sum())
        more = is_heavy | (counts * max(bins, 1) >= max(light, 1))
        if bins <= 1 or more.sum() >= max_bins or more.sum() == is_heavy.sum():
            break
        is_heavy = more
    heavy = np.flatnonzero(is_heavy)
    heavy = heavy[np.argsort(-counts[heavy], kind="stable")]
    while True:
        marks = np.sort(heavy)
        gap_starts = np.concatenate([[0], marks + 1])
        gap_ends = np.concatenate([marks, [size]])
        used = gap_ends > gap_starts
        gap_starts, gap_ends = gap_starts[used], gap_ends[used]
        if len(marks) + len(gap_starts) <= max_bins:
            break
        heavy = heavy[:-1]
    upto = np.concatenate([[0], np.cumsum(counts)])
    weights = upto[gap_ends] - upto[gap_starts]
    spare = max_bins - len(marks) - len(gap_starts)
    shares = 1 + (weights * spare // max(int(weights.sum()), 1)).astype(np.int64)
    last = [marks, marks[marks > 0] - 1]
    for start, end, weight, share in zip(gap_starts, gap_ends, weights, shares):
        targets = upto[start] + weight * np.arange(1, share) / share
        cuts = np.searchsorted(upto[start + 1:end + 1], targets, side="left") + start
        last.append(cuts[cuts < end])
        last.append(np.array([end - 1]))
    positions = np.unique(np.concatenate(last)).astype(np.int64)
    return positions[(positions >= 0) & (positions < size - 1)]


def _count_values(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the different values, ascending, and how often each occurs."""
    if values.min() >= 0 and values.max() < 1 << 17:
        whole = values.astype(np.int64)
        if (whole == values).all():
            # Counting small whole numbers is several times as fast as sorting them.
            counts = np.bincount(whole)
            present = np.flatnonzero(counts)
            return present.astype(np.float32), counts[present]
    return np.unique(values, return_counts=True)


def _sum_equal(values: np.ndarray, counts: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return values[starts], np.add.reduceat(counts, starts)


def _compact(values: np.ndarray, counts: np.ndarray, groups: int) -> Tuple[np.ndarray, np.ndarray]:
    """Merges neighbours into at most ``groups`` groups of about equal weight, each under its greatest value."""
    upto = np.cumsum(counts)
    group = (upto - 1) * groups // upto[-1]
    ends = np.flatnonzero(np.concatenate([group[1:] != group[:-1], [True]]))
    return values[ends], np.diff(upto[ends], prepend=0)
