"""Stand-in for ``mx_rec.optimizers.ftrl`` (rec_sdk_api 4, from the SDK's documentation)."""
from typing import Any, Dict

import tensorflow as tf

from rec_sdk_cpu.core.sparse_optimizer import LearningRate, SparseOptimizer, register_optimizer, set_rows
from rec_sdk_cpu.core.validator import Bool, Text, checked


@checked(LearningRate("learning_rate"), Bool("use_locking"), Text("name", 1, 200))
def create_hash_optimizer(learning_rate: Any, use_locking: bool = False, name: str = "Ftrl",
                          **kwargs: Any) -> "CustomizedFtrl":
    """Creates the FTRL-Proximal of static tables; the optimizer created last serves all tables.

    Args:
        learning_rate: in [0, 10].
        use_locking: accepted; it does not change values.
        name: of the slots and ops.
        **kwargs: learning_rate_power (-0.5), initial_accumulator_value (0.1), l1_regularization_strength (0.0),
            l2_regularization_strength (0.0), l2_shrinkage_regularization_strength (0.0), accum_name and linear_name
            (None), as in tf.compat.v1.train.FtrlOptimizer, which also checks them.

    Returns:
        An optimizer for table variables only.

    Raises:
        TypeError: an unknown argument.
        ValueError: an argument out of range, or dynamic expansion is on.
    """
    return register_optimizer(CustomizedFtrl(learning_rate, use_locking=use_locking, name=name, **kwargs))


class CustomizedFtrl(SparseOptimizer, tf.compat.v1.train.FtrlOptimizer):
    """FTRL-Proximal on the touched rows; g sums all occurrences of the row's key.

    With s = g + 2 * shrinkage * row: n' = n + g^2, z += s - (n'^-p - n^-p) / lr * row; the new row is 0 where
    |z| <= l1, else (sign(z) l1 - z) / (n'^-p / lr + 2 l2); p is ``learning_rate_power``.
    """

    def __init__(self, learning_rate: Any, **kwargs: Any):
        super().__init__(learning_rate, **kwargs)
        self.states = (("accum", self._accum_name or "accum", self._initial_accumulator_value),
                       ("linear", self._linear_name or "linear", 0.0))
        self._setup()

    def _update_rows(self, variable: tf.Variable, states: Dict[str, tf.Variable], row_indices: tf.Tensor,
                     gradient: tf.Tensor) -> tf.Operation:
        rate, power = self._learning_rate_tensor, -self._learning_rate_power
        row = tf.gather(variable, row_indices)
        old = tf.gather(states["accum"], row_indices)
        new = old + tf.square(gradient)
        shrunk = gradient + 2.0 * self._l2_shrinkage_regularization_strength * row
        linear = tf.gather(states["linear"], row_indices) + shrunk - (new ** power - old ** power) / rate * row
        l1 = self._l1_regularization_strength
        divisor = new ** power / rate + 2.0 * self._l2_regularization_strength
        shifted = (tf.sign(linear) * l1 - linear) / divisor
        return tf.group(
            set_rows(states["accum"], row_indices, new), set_rows(states["linear"], row_indices, linear),
            set_rows(variable, row_indices, tf.where(tf.abs(linear) > l1, shifted, tf.zeros_like(shifted))))
