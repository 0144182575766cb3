"""Optimizer states that the SDK leaves to the TensorFlow checkpoint by row number, on several ranks.

A checkpoint of one rank holds the accumulator of the static Adagrad as a variable, row i for the i-th key. Several
ranks save it the same way: rank 0 puts the rows of all shares together, under the variable's name and in the order of
the merged keys, and each rank takes its rows out of it again. So the checkpoint fits any number of ranks.
"""
from typing import List

import numpy as np
import tensorflow as tf
from tensorflow.python.training.saving import saveable_object


class MergedState(saveable_object.SaveableObject):
    """What a TensorFlow Saver stores in place of one rank's variable.

    Attributes:
        value: initial value of a row.
    """

    def __init__(self, variable_name: str, shape: List[int], value: float):
        self.value = value
        self._shape = shape
        self._rows = np.zeros([0, shape[1]], np.float32)
        tensor = tf.numpy_function(self._all_rows, [], tf.float32)
        tensor.set_shape(shape)
        super().__init__(tensor, [saveable_object.SaveSpec(tensor, "", variable_name)], variable_name)

    def restore(self, restored_tensors: List[tf.Tensor], restored_shapes: object) -> tf.Operation:
        """Does nothing: the rows are taken when the keys are known, see :meth:`read`."""
        del restored_tensors, restored_shapes
        return tf.no_op()

    def keep(self, rows: np.ndarray) -> None:
        """Takes the rows of all ranks, float32 [keys, dim], for the TensorFlow files that are written next."""
        self._rows = rows

    def read(self, checkpoint_path: str, count: int) -> np.ndarray:
        """Returns the rows of the first ``count`` keys of a checkpoint, float32 [count, dim].

        Raises:
            ValueError: the checkpoint has another shape.
        """
        rows = tf.train.load_checkpoint(checkpoint_path).get_tensor(self.name)
        if rows.shape[0] < count or rows.shape[1] != self._shape[1]:
            raise ValueError("%s of %s has shape %s, expected %d rows or more of %d" % (
                self.name, checkpoint_path, list(rows.shape), count, self._shape[1]))
        return rows[:count]

    def _all_rows(self) -> np.ndarray:
        rows = np.full(self._shape, self.value, np.float32)
        rows[:self._rows.shape[0]] = self._rows
        return rows
