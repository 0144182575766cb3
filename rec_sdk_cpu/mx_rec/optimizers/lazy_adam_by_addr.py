"""Stand-in for ``mx_rec.optimizers.lazy_adam_by_addr``: lazy Adam with dynamic expansion (rec_sdk_api 4)."""
from typing import Any

from rec_sdk_cpu.core.sparse_optimizer import LearningRate, register_optimizer
from rec_sdk_cpu.core.validator import Float, Text, checked
from rec_sdk_cpu.mx_rec.optimizers.lazy_adam import CustomizedLazyAdam


@checked(LearningRate("learning_rate"), Float("beta1", 0, 1, open_low=True, open_high=True), Float("beta2", 0, 1),
         Float("epsilon", 0, 1, open_low=True), Text("name", 1, 200))
def create_hash_optimizer_by_address(learning_rate: Any = 0.001, beta1: float = 0.9, beta2: float = 0.999,
                                     epsilon: float = 1e-8,
                                     name: str = "LazyAdamByAddress") -> "CustomizedLazyAdamByAddress":
    """Creates the lazy Adam of tables with dynamic expansion; the optimizer created last serves all tables.

    Args:
        learning_rate: in [0, 10].
        beta1: in (0, 1).
        beta2: in [0, 1].
        epsilon: in (0, 1], outside the square root in G3, inside it in G2.
        name: of the slots and ops.

    Returns:
        An optimizer whose ``apply_gradients`` takes pairs of local gradient and address.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is off.
    """
    return register_optimizer(CustomizedLazyAdamByAddress(learning_rate, beta1, beta2, epsilon, name))


class CustomizedLazyAdamByAddress(CustomizedLazyAdam):
    """The update of :class:`CustomizedLazyAdam`, on rows given by their addresses."""

    by_address = True
