"""Statistics with bounded memory: moments and bins of numbers, moments of labels, numbers of different values.

Up to :data:`MAX_DISTINCT` different values per column everything is exact. Beyond, neighbouring values are merged into
groups of about 1/500,000 of the rows; the rank of a bin edge is then off by at most that share per compaction (one per
500,000 new values). Memory per column: 16 bytes per different value kept, three times that while merging. Values are
taken in fixed blocks of rows, so that the result does not depend on how the file was cut into chunks.
"""
from typing import Dict, List, Sequence, Tuple

import numpy as np

from feature_specs.dataset import BINARY, MAX_BINS, TaskDefinition
from feature_specs.manifest import DenseStatistics, LabelStatistics

MAX_DISTINCT = 1000000
_BLOCK_ROWS = 1 << 16


class _FixedBlocks:
    """Cuts rows into blocks of one size, so that sums do not depend on how the rows came."""

    def __init__(self) -> None:
        self._waiting: List[np.ndarray] = []
        self._waiting_rows = 0

    def add(self, values: np.ndarray) -> None:
        """Adds rows: float32 [rows, columns]; NaN is a missing value."""
        self._waiting.append(values)
        self._waiting_rows += len(values)
        if self._waiting_rows >= _BLOCK_ROWS:
            rows = np.concatenate(self._waiting)
            whole = len(rows) - len(rows) % _BLOCK_ROWS
            for start in range(0, whole, _BLOCK_ROWS):
                self._add_block(rows[start:start + _BLOCK_ROWS])
            self._waiting, self._waiting_rows = [rows[whole:].copy()], len(rows) - whole

    def _flush(self) -> None:
        if self._waiting_rows:
            self._add_block(np.concatenate(self._waiting))
            self._waiting, self._waiting_rows = [], 0

    def _add_block(self, values: np.ndarray) -> None:
        raise NotImplementedError


class DenseAccumulator(_FixedBlocks):
    """Collects numeric rows and gives their statistics, exact up to ``max_distinct`` different values per column."""

    def __init__(self, columns: Sequence[str], max_distinct: int = MAX_DISTINCT) -> None:
        super().__init__()
        self._columns = {name: _Column(max_distinct) for name in columns}

    def finish(self) -> Dict[str, DenseStatistics]:
        """Returns {column: statistics of all rows added}."""
        self._flush()
        return {name: column.finish() for name, column in self._columns.items()}

    def _add_block(self, values: np.ndarray) -> None:
        for column, numbers in zip(self._columns.values(), values.T):
            present = numbers[~np.isnan(numbers)]
            if len(present):
                column.add(present)


class LabelAccumulator(_FixedBlocks):
    """Collects the known labels of tasks: moments in the units of the transform, positives, unknown ones."""

    def __init__(self, tasks: Sequence[TaskDefinition]) -> None:
        super().__init__()
        self._tasks = tuple(tasks)
        self._moments = {task.name: _Moments() for task in tasks}
        self.unknown = {task.name: 0 for task in tasks}
        self.positives = {task.name: 0 for task in tasks if task.kind == BINARY}
        self._places = {task.name: place for place, task in enumerate(tasks)}
        #: {task with ``given``: rows where it is 1 and the task that it builds on 0}.
        self.contradictions = {task.name: 0 for task in tasks if task.given}

    def finish(self) -> Dict[str, LabelStatistics]:
        """Returns {task: statistics}; 0 where no label is known."""
        self._flush()
        return {name: LabelStatistics(moments.mean, moments.std()) for name, moments in self._moments.items()}

    def _add_block(self, values: np.ndarray) -> None:
        for task, labels in zip(self._tasks, values.T):
            if task.given:
                given = values[:, self._places[task.given]]
                self.contradictions[task.name] += int(np.count_nonzero((labels == 1) & (given == 0)))
            known = labels[~np.isnan(labels)].astype(np.float64)
            self.unknown[task.name] += len(values) - len(known)
            if task.kind == BINARY:
                self.positives[task.name] += int(np.count_nonzero(known == 1))
            if len(known):
                self._moments[task.name].add(np.log1p(known) if task.transform == "log" else known,
                                             np.ones(len(known), np.int64))


class DistinctCounter:
    """Counts different integers: exactly up to a bound, beyond with HyperLogLog (2**14 registers, about 1 % off)."""

    _BITS = 14

    def __init__(self, exact: int = 1 << 20) -> None:
        self._exact = exact
        # All values, as long as they are kept.
        self._values = np.zeros(0, np.int64)
        self._new: List[np.ndarray] = []
        self._new_size = 0
        self._registers = np.zeros(1 << self._BITS, np.uint8)

    @property
    def _is_exact(self) -> bool:
        return not self._registers.any()

    def add(self, values: np.ndarray) -> None:
        """Adds int64 [n] values."""
        if not self._is_exact:
            self._register(values)
            return
        self._new.append(np.unique(values))
        self._new_size += len(self._new[-1])
        if self._new_size > max(len(self._values), 1 << 16):
            self._merge()

    def count(self) -> int:
        """Returns the number of different values."""
        self._merge()
        if self._is_exact:
            return len(self._values)
        empty, size = int(np.count_nonzero(self._registers == 0)), len(self._registers)
        estimate = 0.7213 / (1 + 1.079 / size) * size ** 2 / float(np.sum(2.0 ** -self._registers.astype(np.float64)))
        return int(round(size * np.log(size / empty) if empty and estimate < 2.5 * size else estimate))

    def _merge(self) -> None:
        self._values = np.unique(np.concatenate([self._values] + self._new))
        self._new, self._new_size = [], 0
        if len(self._values) > self._exact:
            self._register(self._values)
            self._values = self._values[:0].copy()

    def _register(self, values: np.ndarray) -> None:
        mixed = mix(values)
        register = (mixed >> np.uint64(64 - self._BITS)).astype(np.int64)
        rest = (mixed << np.uint64(self._BITS)) | np.uint64((1 << self._BITS) - 1)
        # The place of the first 1 among the bits that are left: their number less that of the leading digit.
        rank = (64 - np.floor(np.log2(rest.astype(np.float64)))).astype(np.uint8)
        np.maximum.at(self._registers, register, np.maximum(rank, 1))


def mix(values: np.ndarray) -> np.ndarray:
    """Spreads integers over uint64 (the finalizer of SplitMix64); different ones stay different."""
    mixed = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class _Column:
    """Different values with their counts, and the moments of all values once neighbours had to be merged."""

    def __init__(self, max_distinct: int) -> None:
        self._max = max_distinct
        self._values, self._counts = np.zeros(0, np.float32), np.zeros(0, np.int64)
        self._new: List[Tuple[np.ndarray, np.ndarray]] = []
        self._new_size = 0
        self._raw, self._log = _Moments(), _Moments()
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        values, counts = _count_values(values)
        self._minimum, self._maximum = min(self._minimum, float(values[0])), max(self._maximum, float(values[-1]))
        if self._raw.count:
            self._add_moments(values, counts)
        self._new.append((values, counts))
        self._new_size += len(values)
        # Merging only when as much is new as is old keeps the cost per value constant.
        if self._new_size > max(len(self._values), 1 << 18):
            self._merge()

    def finish(self) -> DenseStatistics:
        self._merge()
        if not len(self._values):
            return DenseStatistics(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (), (0,))
        if not self._raw.count:
            self._add_moments(self._values, self._counts)
        edges = bin_edges(self._values, self._counts)
        bins = np.searchsorted(np.array(edges, np.float32), self._values, side="left")
        counts = np.bincount(bins, weights=self._counts, minlength=len(edges) + 1).astype(np.int64)
        return DenseStatistics(
            int(self._counts.sum()), self._raw.mean, self._raw.std(), self._minimum, self._maximum, self._log.mean,
            self._log.std(), bin_edges=tuple(edges), bin_counts=tuple(counts.tolist()))

    def _merge(self) -> None:
        if not self._new:
            return
        values, counts = map(np.concatenate, zip((self._values, self._counts), *self._new))
        self._new, self._new_size = [], 0
        order = np.argsort(values, kind="stable")
        values, counts = values[order], counts[order]
        starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
        self._values, self._counts = values[starts], np.add.reduceat(counts, starts)
        if len(self._values) > self._max:
            if not self._raw.count:
                self._add_moments(self._values, self._counts)
            self._values, self._counts = _compact(self._values, self._counts, max(self._max // 2, 1))

    def _add_moments(self, values: np.ndarray, counts: np.ndarray) -> None:
        values = values.astype(np.float64)
        self._raw.add(values, counts)
        self._log.add(np.sign(values) * np.log1p(np.abs(values)), counts)


class _Moments:
    """Count, mean and sum of squared differences from the mean, in float64."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray, counts: np.ndarray) -> None:
        """Adds values (Chan's formula): float64 [n], and int64 [n] how often each is there."""
        added = int(counts.sum())
        # Around a pivot, so that a large common offset costs no digits.
        pivot = float(values[len(values) // 2])
        mean = pivot + float(np.sum((values - pivot) * counts)) / added
        squares = float(np.sum((values - mean) ** 2 * counts))
        count, delta = self.count + added, mean - self.mean
        self.squares += squares + delta * delta * (self.count * (added / count))
        self.mean += delta * (added / count)
        self.count = count

    def std(self) -> float:
        """Returns the population standard deviation; 0 of no value."""
        return float(np.sqrt(self.squares / max(self.count, 1)))


def bin_edges(values: np.ndarray, counts: np.ndarray, max_bins: int = MAX_BINS) -> List[float]:
    """Chooses the edges of equal-frequency bins of float32 [n] ascending values, of int64 [n] rows each.

    Up to ``max_bins`` different values get a bin each. Otherwise a value that holds a bin's share of the rows has a bin
    of its own (the most frequent first, should the gaps between such values need more bins than there are), and
    the other bins are shared out among the gaps by their rows.

    Returns:
        At most ``max_bins - 1`` ascending edges, each exactly representable in float32. An edge lies midway between the
        values on both sides, so that value x is in bin ``searchsorted(edges, x, side="left")``.
    """
    last = np.arange(len(values) - 1) if len(values) <= max_bins else _last_of_bins(counts, max_bins)
    low, high = values[last], values[last + 1]
    middle = ((low.astype(np.float64) + high.astype(np.float64)) / 2).astype(np.float32)
    # Between neighbouring float32 values the middle rounds to one of them; the upper one would go into the lower bin.
    middle = np.where(middle >= high, low, middle) + np.float32(0.0)
    return middle.tolist()


def _last_of_bins(counts: np.ndarray, max_bins: int) -> np.ndarray:
    """Returns int64: positions of the last value of every bin but the last bin, of more values than bins."""
    is_heavy = np.zeros(len(counts), bool)
    while True:
        # What is frequent is judged against the share that the less frequent values have left.
        bins = max_bins - int(is_heavy.sum())
        more = is_heavy | (counts * bins >= counts[~is_heavy].sum())
        if bins <= 1 or more.sum() >= max_bins or more.sum() == is_heavy.sum():
            break
        is_heavy = more
    heavy = np.flatnonzero(is_heavy)
    heavy = heavy[np.argsort(-counts[heavy], kind="stable")]
    for kept in range(len(heavy), -1, -1):
        marks = np.sort(heavy[:kept])
        bounds = np.concatenate([[-1], marks, [len(counts)]])
        gaps = np.flatnonzero(np.diff(bounds) > 1)
        if kept + len(gaps) <= max_bins:
            break
    starts, ends = bounds[gaps] + 1, bounds[gaps + 1]
    upto = np.concatenate([[0], np.cumsum(counts)])
    weights = upto[ends] - upto[starts]
    shares = 1 + weights * (max_bins - len(marks) - len(gaps)) // weights.sum()
    targets = [upto[start] + weight * np.arange(1, share) / share
               for start, weight, share in zip(starts, weights, shares)]
    last = np.unique(np.concatenate([marks, ends - 1, np.searchsorted(upto[1:], np.concatenate(targets))]))
    return last[last < len(counts) - 1]


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


def _compact(values: np.ndarray, counts: np.ndarray, groups: int) -> Tuple[np.ndarray, np.ndarray]:
    """Merges neighbours into at most ``groups`` groups of about equal weight, each under its greatest value."""
    upto = np.cumsum(counts)
    group = (upto - 1) * groups // upto[-1]
    ends = np.flatnonzero(np.concatenate([group[1:] != group[:-1], [True]]))
    return values[ends], np.diff(upto[ends], prepend=0)
