"""Initial values of table rows as a function of (seed, row), so that rows can be made when they are needed.

A table that grows makes its rows in blocks of :data:`BLOCK`; a block's values depend on the seed and the block's
number alone. A run that was resumed therefore gives a new key the same start value as a run without a break.
"""
import logging
from typing import Any, List, Optional

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import init_ops, init_ops_v2

logger = logging.getLogger("rec_sdk_cpu")

BLOCK = 64
_CONSTANT = (init_ops.Constant, init_ops_v2.Constant)
_NORMAL = (init_ops.RandomNormal, init_ops_v2.RandomNormal)
_TRUNCATED = (init_ops.TruncatedNormal, init_ops_v2.TruncatedNormal)
# Keeps the streams of blocks and of re-initialised rows apart.
_REUSE_SEED = 0x5EED
# Blocks and rows of one rank; the numbers of the next rank begin after them, so that no two keys start alike.
_STREAMS_PER_RANK = 2 ** 40


def is_supported(initializer: Any) -> bool:
    """Tells whether host tables and growing tables understand an initializer (rec_sdk_api 3.3)."""
    return isinstance(initializer, _CONSTANT + _NORMAL + _TRUNCATED)


class InitialRows:
    """Values of new rows.

    Attributes:
        dim: values per row.
    """

    def __init__(self, dim: int):
        self.dim = dim

    def range(self, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """Returns float32 [last - first, dim]; both ends (int64 scalars) are multiples of :data:`BLOCK`."""
        raise NotImplementedError

    def reused(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns float32 [n, dim]: the values that freed rows (int64 [n]) start again with."""
        raise NotImplementedError


class ConstantRows(InitialRows):
    """Every row the same.

    Args:
        dim: values per row.
        value: a number, or ``dim`` numbers.
    """

    def __init__(self, dim: int, value: Any):
        super().__init__(dim)
        self._row = np.broadcast_to(np.asarray(value, np.float32), [dim])

    def range(self, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        return self._rows(last - first)

    def reused(self, rows: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        return self._rows(tf.size(rows, out_type=tf.int64))

    def _rows(self, count: tf.Tensor) -> tf.Tensor:
        if (self._row == self._row[0]).all():
            return tf.fill(tf.stack([count, self.dim]), tf.constant(self._row[0]))
        return tf.tile(self._row[None, :], tf.stack([count, 1]))


class NormalRows(InitialRows):
    """Normally distributed rows, drawn block by block from counter-based streams.

    Args:
        dim: values per row.
        mean, stddev: of the distribution.
        seed: of the streams.
        truncated: redraw values further than two standard deviations from the mean.
        factor: multiplies the values.
        rank: whose rows they are; ranks draw from streams of their own.
    """

    def __init__(self, dim: int, mean: float, stddev: float, seed: Optional[int], truncated: bool,
                 factor: float = 1.0, rank: int = 0):
        super().__init__(dim)
        self._first_stream = rank * _STREAMS_PER_RANK
        self._mean, self._stddev, self._seed = factor * mean, abs(factor) * stddev, seed or 0
        self._draw = tf.random.stateless_truncated_normal if truncated else tf.random.stateless_normal

    def range(self, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        blocks = tf.range(first // BLOCK, last // BLOCK)
        return tf.reshape(self._streams(blocks, self._seed, [BLOCK, self.dim]), [-1, self.dim])

    def reused(self, rows: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        return self._streams(rows, self._seed ^ _REUSE_SEED, [self.dim])

    def _streams(self, numbers: tf.Tensor, seed: int, shape: List[int]) -> tf.Tensor:
        if self._first_stream:
            numbers += self._first_stream
        return tf.map_fn(
            lambda number: self._draw(shape, seed=tf.stack([tf.constant(seed, tf.int64), number]), mean=self._mean,
                                      stddev=self._stddev),
            numbers, dtype=tf.float32, back_prop=False)


class TensorRows(InitialRows):
    """Rows out of a whole initial value, for fixed tables whose initializer cannot be asked for single rows.

    Args:
        value: float32 [rows, dim].
    """

    def __init__(self, value: tf.Tensor):
        super().__init__(value.shape[1].value)
        self._value = value

    def range(self, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        return self._value[first:last]

    def reused(self, rows: tf.Tensor) -> tf.Tensor:
        """See the base class."""
        return tf.gather(self._value, rows)


def from_initializer(initializer: Any, dim: int, factor: float, rank: int = 0) -> InitialRows:
    """Returns the rows of a host table or a growing table, as the SDK makes them (rec_sdk_api 3.3).

    Args:
        initializer: constant, random_normal and truncated_normal are followed; every other initializer is replaced
            by truncated_normal(0, 1) with seed 0, without ``factor``.
        dim: values per row.
        factor: ``init_param``.
        rank: whose rows they are.
    """
    if isinstance(initializer, _CONSTANT):
        return ConstantRows(dim, factor * np.asarray(initializer.value, np.float32))
    if isinstance(initializer, _NORMAL + _TRUNCATED):
        return NormalRows(dim, initializer.mean, initializer.stddev, initializer.seed,
                          isinstance(initializer, _TRUNCATED), factor, rank)
    logger.warning("initializer %s is not supported outside static device memory: truncated_normal(0, 1) takes its "
                   "place, as in the SDK", type(initializer).__name__)
    return NormalRows(dim, 0.0, 1.0, 0, True, rank=rank)
