"""Puts together what the ranks of an evaluation found, each on its share of the rows."""
from typing import List

import tensorflow as tf

from feature_specs import sdk


class RankMerge:
    """Collectives of one graph, in the order in which they are built: every rank builds and runs the same ones.

    With one rank nothing is added to the graph. Only gathering is used, and only of float32 and int32, which every HCCL
    release has; sums are formed from what was gathered, in the order of the ranks, so all ranks get the same bits.

    Args:
        rank_size: number of ranks.
    """

    def __init__(self, rank_size: int = 1) -> None:
        self._rank_size = rank_size
        self._last: List[tf.Operation] = []

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the ranks' tensors one behind the other.

        Args:
            tensor: float32 or int32 [n, ...], the same shape on every rank.

        Returns:
            The same dtype, [n * rank_size, ...].
        """
        if self._rank_size == 1:
            return tensor
        with tf.control_dependencies(self._last):
            gathered = sdk.allgather(tf.identity(tensor), self._rank_size)
        self._last = [gathered.op]
        return gathered

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the sum over the ranks.

        Args:
            tensor: any shape, known beforehand; float32 and float64 travel as float32, integers as int32.

        Returns:
            The same shape and dtype.
        """
        if self._rank_size == 1:
            return tensor
        travelling = tf.cast(tensor, tf.float32 if tensor.dtype.is_floating else tf.int32)
        parts = tf.cast(self.gather(tf.expand_dims(travelling, 0)), tensor.dtype)
        return tf.reduce_sum(tf.reshape(parts, [self._rank_size] + tensor.shape.as_list()), axis=0)
