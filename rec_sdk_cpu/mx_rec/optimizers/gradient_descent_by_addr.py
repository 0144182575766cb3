"""Stand-in for ``mx_rec.optimizers.gradient_descent_by_addr`` (rec_sdk_api 4)."""
from typing import Any

from rec_sdk_cpu.core.sparse_optimizer import LearningRate, register_optimizer
from rec_sdk_cpu.core.validator import Bool, Float, Text, checked
from rec_sdk_cpu.mx_rec.optimizers.gradient_descent import CustomizedGradientDescent


@checked(LearningRate("learning_rate"), Float("weight_decay", 0, 1), Bool("use_locking"), Text("name", 1, 200))
def create_hash_optimizer_by_addr(learning_rate: Any, weight_decay: float = 0.0001, use_locking: bool = False,
                                  name: str = "GradientDescentByAddr") -> "CustomizedGradientDescentByAddr":
    """Creates the gradient descent of tables with dynamic expansion; the optimizer created last serves all tables.

    Unlike the static one it decays the weights by default, as in the SDK.

    Args:
        learning_rate: in [0, 10].
        weight_decay: in [0, 1].
        use_locking: accepted; it does not change values.
        name: of the ops.

    Returns:
        An optimizer whose ``apply_gradients`` takes pairs of local gradient and address.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is off.
    """
    return register_optimizer(CustomizedGradientDescentByAddr(learning_rate, weight_decay, use_locking, name))


class CustomizedGradientDescentByAddr(CustomizedGradientDescent):
    """The update of :class:`CustomizedGradientDescent`, on rows given by their addresses."""

    by_address = True
