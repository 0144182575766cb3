"""Stand-in for ``mx_rec.optimizers.ftrl`` (rec_sdk_api 4, from the SDK's documentation)."""
from typing import Any, Dict

import tensorflow as tf

from rec_sdk_cpu.core.sparse_optimizer import LearningRate, SparseOptimizer, register_optimizer, set_rows
from rec_sdk_cpu.core.validator import MAX_INT32, Bool, Float, Text, checked

_OPTIONS = ("learning_rate_power", "initial_accumulator_value", "l1_regularization_strength",
            "l2_regularization_strength", "l2_shrinkage_regularization_strength", "accum_name", "linear_name")


@checked(LearningRate("learning_rate"), Float("initial_accumulator_value", 0, 1, open_low=True),
         Float("learning_rate_power", -MAX_INT32, 0), Float("l1_regularization_strength", 0, 1e4),
         Float("l2_regularization_strength", 0, 1e4), Float("l2_shrinkage_regularization_strength", 0, 1e4),
         Bool("use_locking"), Text("name", 1, 200), Text("accum_name", 1, 255), Text("linear_name", 1, 255))
def create_hash_optimizer(learning_rate: Any, use_locking: bool = False, name: str = "Ftrl",
                          **kwargs: Any) -> "CustomizedFtrl":
    """Creates the FTRL-Proximal of static tables; the optimizer created last serves all tables.

    Args:
        learning_rate: in [0, 10].
        use_locking: accepted; it does not change values.
        name: of the slots and ops.
        **kwargs: learning_rate_power (-0.5), initial_accumulator_value (0.1), l1_regularization_strength (0.0),
            l2_regularization_strength (0.0), l2_shrinkage_regularization_strength (0.0), accum_name and linear_name
            (not given), as in tf.compat.v1.train.FtrlOptimizer; others are ignored.

    Returns:
        An optimizer for table variables only.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is on.
    """
    known = {name_: value for name_, value in kwargs.items() if name_ in _OPTIONS}
    return register_optimizer(CustomizedFtrl(learning_rate, name, use_locking=use_locking, **known))


class CustomizedFtrl(SparseOptimizer, tf.compat.v1.train.FtrlOptimizer):
    """FTRL-Proximal on the touched rows; g sums all occurrences of the row's key.

    With p = ``learning_rate_power``: n' = n + g^2, sigma = (n'^-p - n^-p) / lr. Without shrinkage z += g + sigma * row:
    the SDK adds where TensorFlow's FTRL subtracts (two versions read). With it z += g + 2 * shrinkage * row - sigma *
    row, as in TensorFlow. The new row is 0 where |z| <= l1, else (sign(z) l1 - z) / (n'^-p / lr + 2 l2).
    """

    optimizer_type = "ftrl"

    def __init__(self, learning_rate: Any, name: str, **kwargs: Any):
        self._get_name(name)
        super().__init__(learning_rate, name=self.unique_name, **kwargs)
        self.states = (("accum", "accum", self._initial_accumulator_value), ("linear", "linear", 0.0))
        self._setup()

    def _update_rows(self, variable: tf.Variable, states: Dict[str, tf.Variable], row_indices: tf.Tensor,
                     gradient: tf.Tensor) -> tf.Operation:
        rate, power = self._learning_rate_tensor, -self._learning_rate_power
        row = tf.gather(variable, row_indices)
        old = tf.gather(states["accum"], row_indices)
        new = old + tf.square(gradient)
        shrinkage = self._l2_shrinkage_regularization_strength
        moved = (new ** power - old ** power) / rate * row
        linear = tf.gather(states["linear"], row_indices) + gradient + (
            2.0 * shrinkage * row - moved if shrinkage > 0 else moved)
        l1 = self._l1_regularization_strength
        divisor = new ** power / rate + 2.0 * self._l2_regularization_strength
        shifted = (tf.sign(linear) * l1 - linear) / divisor
        return tf.group(
            set_rows(states["accum"], row_indices, new), set_rows(states["linear"], row_indices, linear),
            set_rows(variable, row_indices, tf.where(tf.abs(linear) > l1, shifted, tf.zeros_like(shifted))))
