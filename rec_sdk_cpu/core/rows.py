"""Row storage of a table or of an optimizer state: a fixed variable, or one that grows with the keys."""
from typing import Any, List, Optional

import tensorflow as tf
from tensorflow.python.ops import gen_resource_variable_ops

from rec_sdk_cpu.core.initial_rows import BLOCK, InitialRows, TensorRows

_GROWTH_DIVISOR = 5  # A grown variable is a fifth larger: at most 1.25 rows per key, block rounding included.


class Rows:
    """float32 rows of one table.

    Attributes:
        variable: float32 [rows, dim], not trainable.
        grows: whether the number of rows changes.
    """

    grows = False

    def __init__(self, variable: tf.Variable, initial: InitialRows):
        self.variable = variable
        self._initial = initial

    def ensure(self, count: tf.Tensor) -> tf.Operation:
        """Returns an op after which the variable has at least ``count`` (int64 scalar) rows."""
        del count
        return tf.no_op()

    def start_again(self, rows: tf.Tensor) -> tf.Operation:
        """Returns an op that gives freed rows (int64 [n]) new initial values."""
        return tf.group(self.variable.scatter_update(tf.IndexedSlices(self._initial.reused(rows), rows)))

    def make_state(self, name: str, initial: InitialRows, collections: Optional[List[str]] = None) -> "Rows":
        """Returns storage of the same kind for an optimizer state.

        Args:
            name: name of the variable.
            initial: its initial values.
            collections: of the variable.
        """
        shape = self.variable.shape
        # No constant: TensorFlow would fold a constant fill, and the session would hold a copy of the state for ever.
        count = tf.compat.v1.placeholder_with_default(tf.constant(shape[0].value, tf.int64), [])
        value = tf.reshape(initial.range(tf.constant(0, tf.int64), count), shape)
        return Rows(_new_variable(value, name, collections), initial)


class GrowingRows(Rows):
    """Rows that are made when keys need them; memory follows the number of keys, not the capacity."""

    grows = True

    def ensure(self, count: tf.Tensor) -> tf.Operation:
        """See the base class."""
        with tf.name_scope("ensure_rows"):
            present = gen_resource_variable_ops.variable_shape(self.variable.handle, out_type=tf.int64)[0]
            return tf.group(tf.cond(count > present, lambda: self._grow(present, count), tf.no_op))

    def make_state(self, name: str, initial: InitialRows, collections: Optional[List[str]] = None) -> "Rows":
        """See the base class."""
        return GrowingRows(_new_variable(first_rows(initial), name, collections, growing=True), initial)

    def _grow(self, present: tf.Tensor, count: tf.Tensor) -> tf.Operation:
        wanted = tf.maximum(count, present + present // _GROWTH_DIVISOR)
        last = (wanted + BLOCK - 1) // BLOCK * BLOCK
        added = self._initial.range(present, last)
        return tf.group(self.variable.assign(tf.concat([self.variable.read_value(), added], axis=0), read_value=False))


def first_rows(initial: InitialRows) -> tf.Tensor:
    """Returns the value that a growing variable starts with: one block, in a tensor of unknown length."""
    value = initial.range(tf.constant(0, tf.int64), tf.constant(BLOCK, tf.int64))
    return tf.compat.v1.placeholder_with_default(value, [None, initial.dim])


def fixed_rows(variable: tf.Variable, initial: Optional[InitialRows] = None) -> Rows:
    """Returns storage around a fixed variable; without ``initial``, freed rows take its own initial value again."""
    return Rows(variable, initial or TensorRows(variable.initial_value))


def needed_rows(row_indices: tf.Tensor) -> tf.Tensor:
    """Returns the number of rows, int64 scalar, that a variable needs to hold the given rows (int64 [n])."""
    return tf.reduce_max(row_indices) + 1


def _new_variable(value: tf.Tensor, name: str, collections: Optional[List[str]], growing: bool = False) -> Any:
    return tf.compat.v1.Variable(value, name=name, trainable=False, use_resource=True, validate_shape=not growing,
                                 collections=collections)
