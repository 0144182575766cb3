"""Stand-in for ``mx_rec.optimizers.lazy_adam`` (rec_sdk_api 4)."""
from typing import Any, Dict, List

import tensorflow as tf

from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.sparse_optimizer import (
    LearningRate,
    SparseOptimizer,
    register_optimizer,
    set_rows,
    subtract_rows,
)
from rec_sdk_cpu.core.validator import Bool, Float, Text, checked


@checked(LearningRate("learning_rate"), Float("beta1", 0, 1, open_low=True, open_high=True), Float("beta2", 0, 1),
         Float("epsilon", 0, 1, open_low=True), Text("name", 1, 200), Bool("use_fusion_optim"))
def create_hash_optimizer(learning_rate: Any = 0.001, beta1: float = 0.9, beta2: float = 0.999,
                          epsilon: float = 1e-8, name: str = "LazyAdam",
                          use_fusion_optim: bool = False) -> "CustomizedLazyAdam":
    """Creates the lazy Adam of static tables; the optimizer created last serves all tables.

    Args:
        learning_rate: in [0, 10].
        beta1: in (0, 1).
        beta2: in [0, 1].
        epsilon: in (0, 1], outside the square root in G3, inside it in G2.
        name: of the slots and ops.
        use_fusion_optim: accepted; it does not change values.

    Returns:
        An optimizer for table variables only.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is on.
    """
    del use_fusion_optim
    return register_optimizer(CustomizedLazyAdam(learning_rate, beta1, beta2, epsilon, name))


class CustomizedLazyAdam(SparseOptimizer, tf.compat.v1.train.AdamOptimizer):
    """Adam on the touched rows only, with bias correction by the number of steps of the whole table.

    t counts the apply_gradients calls; lr_t = lr * sqrt(1 - beta2^t) / (1 - beta1^t); for touched rows
    m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, row -= lr_t m / (sqrt(|v|) + epsilon), where g sums
    the gradients of all occurrences of the row's key. G2 divides by sqrt(v + epsilon) instead.
    """

    optimizer_type = "LazyAdam"
    states = (("m", "momentum", 0.0), ("v", "velocity", 0.0))

    def __init__(self, learning_rate: Any, beta1: float, beta2: float, epsilon: float, name: str):
        self._get_name(name)
        super().__init__(learning_rate, beta1, beta2, epsilon, use_locking=False, name=self.unique_name)
        self._epsilon_inside = ConfigInitializer.generation == "G2"
        self._setup()

    def _make_states(self, tables: List[Any]) -> None:
        # As in the SDK the powers have no scope: beside a dense Adam they become beta1_power_1 and beta2_power_1.
        first = min((table.variable for table in tables), key=lambda variable: variable.name)
        for power, value in (("beta1_power", self._beta1), ("beta2_power", self._beta2)):
            self._create_non_slot_variable(initial_value=value, name=power, colocate_with=first)
        super()._make_states(tables)

    def _update_rows(self, variable: tf.Variable, states: Dict[str, tf.Variable], row_indices: tf.Tensor,
                     gradient: tf.Tensor) -> tf.Operation:
        beta1_power, beta2_power = self._get_beta_accumulators()
        rate = self._lr_t * tf.sqrt(1 - beta2_power) / (1 - beta1_power)
        moment = self._beta1_t * tf.gather(states["m"], row_indices) + (1 - self._beta1_t) * gradient
        velocity = self._beta2_t * tf.gather(states["v"], row_indices) + (1 - self._beta2_t) * tf.square(gradient)
        if self._epsilon_inside:
            divisor = tf.sqrt(velocity + self._epsilon_t)
        else:
            divisor = tf.sqrt(tf.abs(velocity)) + self._epsilon_t
        return tf.group(set_rows(states["m"], row_indices, moment), set_rows(states["v"], row_indices, velocity),
                        subtract_rows(variable, row_indices, rate * moment / divisor))

    def _finish_step(self, updates: List[tf.Operation]) -> tf.Operation:
        beta1_power, beta2_power = self._get_beta_accumulators()
        with tf.control_dependencies(updates):
            return tf.group(beta1_power.assign(beta1_power * self._beta1_t),
                            beta2_power.assign(beta2_power * self._beta2_t), *updates)
