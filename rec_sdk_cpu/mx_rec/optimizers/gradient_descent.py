"""Stand-in for ``mx_rec.optimizers.gradient_descent`` (rec_sdk_api 4)."""
from typing import Any, Dict, Optional

import tensorflow as tf

from rec_sdk_cpu.core.sparse_optimizer import LearningRate, SparseOptimizer, register_optimizer, subtract_rows
from rec_sdk_cpu.core.validator import Bool, Float, Text, checked


@checked(LearningRate("learning_rate"), Bool("use_locking"), Text("name", 1, 200), Bool("use_fusion_optim"),
         Float("weight_decay", 1e-5, 1e-2, optional=True))
def create_hash_optimizer(learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent",
                          use_fusion_optim: bool = False,
                          weight_decay: Optional[float] = None) -> "CustomizedGradientDescent":
    """Creates the gradient descent of static tables; the optimizer created last serves all tables.

    Args:
        learning_rate: in [0, 10].
        use_locking: accepted; it does not change values.
        name: of the ops.
        use_fusion_optim: accepted; it does not change values.
        weight_decay: in [1e-5, 1e-2], or None for none.

    Returns:
        An optimizer for table variables only.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is on.
    """
    del use_fusion_optim
    return register_optimizer(CustomizedGradientDescent(learning_rate, weight_decay, use_locking, name))


class CustomizedGradientDescent(SparseOptimizer, tf.compat.v1.train.GradientDescentOptimizer):
    """row -= learning_rate * (g + weight_decay * row) on the touched rows; g sums all occurrences of the row's key."""

    optimizer_type = "gradient_descent"

    def __init__(self, learning_rate: Any, weight_decay: Optional[float], use_locking: bool, name: str):
        self._get_name(name)
        super().__init__(learning_rate, use_locking=use_locking, name=self.unique_name)
        self._weight_decay = weight_decay
        self._setup()

    def _update_rows(self, variable: tf.Variable, states: Dict[str, tf.Variable], row_indices: tf.Tensor,
                     gradient: tf.Tensor) -> tf.Operation:
        if self._weight_decay:
            gradient += self._weight_decay * tf.gather(variable, row_indices)
        return subtract_rows(variable, row_indices, self._learning_rate_tensor * gradient)
