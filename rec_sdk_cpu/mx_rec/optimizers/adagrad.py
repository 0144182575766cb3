"""Stand-in for ``mx_rec.optimizers.adagrad`` (rec_sdk_api 4)."""
from typing import Any, Dict

import tensorflow as tf

from rec_sdk_cpu.core.sparse_optimizer import (
    LearningRate,
    SparseOptimizer,
    register_optimizer,
    set_rows,
    subtract_rows,
)
from rec_sdk_cpu.core.validator import Bool, Float, Text, checked


@checked(LearningRate("learning_rate"), Float("initial_accumulator_value", 0, 1, open_low=True), Bool("use_locking"),
         Text("name", 1, 200))
def create_hash_optimizer(learning_rate: Any = 0.001, initial_accumulator_value: float = 0.9,
                          use_locking: bool = False, name: str = "Adagrad") -> "CustomizedAdagrad":
    """Creates the Adagrad of static tables; the optimizer created last serves all tables.

    As in the SDK its accumulator is not registered with the host: it stays in the TensorFlow checkpoint by row
    number, and tables in host memory or on disk are refused when the pipeline starts.

    Args:
        learning_rate: in [0, 10].
        initial_accumulator_value: in (0, 1].
        use_locking: accepted; it does not change values.
        name: of the slots and ops.

    Returns:
        An optimizer for table variables only.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is on.
    """
    return register_optimizer(CustomizedAdagrad(learning_rate, initial_accumulator_value, use_locking, name))


class CustomizedAdagrad(SparseOptimizer, tf.compat.v1.train.AdagradOptimizer):
    """s += g^2, row -= learning_rate * g / sqrt(s) on the touched rows; g sums all occurrences of the row's key."""

    optimizer_type = "Adagrad"
    saves_states = False
    epsilon = 0.0

    def __init__(self, learning_rate: Any, initial_accumulator_value: float, use_locking: bool, name: str):
        self._get_name(name)
        super().__init__(learning_rate, initial_accumulator_value, use_locking=use_locking, name=self.unique_name)
        self.states = (("acc", "accumulator", initial_accumulator_value),)
        self._setup()

    def _update_rows(self, variable: tf.Variable, states: Dict[str, tf.Variable], row_indices: tf.Tensor,
                     gradient: tf.Tensor) -> tf.Operation:
        total = tf.gather(states["acc"], row_indices) + tf.square(gradient)
        step = self._learning_rate_tensor * gradient / tf.sqrt(total + self.epsilon)
        return tf.group(set_rows(states["acc"], row_indices, total), subtract_rows(variable, row_indices, step))
