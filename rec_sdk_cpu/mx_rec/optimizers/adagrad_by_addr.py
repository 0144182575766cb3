"""Stand-in for ``mx_rec.optimizers.adagrad_by_addr``: Adagrad with dynamic expansion (rec_sdk_api 4)."""
from typing import Any

from rec_sdk_cpu.core.sparse_optimizer import LearningRate, register_optimizer
from rec_sdk_cpu.core.validator import Float, Text, checked
from rec_sdk_cpu.mx_rec.optimizers.adagrad import CustomizedAdagrad


@checked(LearningRate("learning_rate"), Float("initial_accumulator_value", 0, 1, open_low=True), Text("name", 1, 200))
def create_hash_optimizer_by_address(learning_rate: Any = 0.001, initial_accumulator_value: float = 0.9,
                                     name: str = "Adagrad") -> "CustomizedAdagradByAddress":
    """Creates the Adagrad of tables with dynamic expansion; the optimizer created last serves all tables.

    Args:
        learning_rate: in [0, 10].
        initial_accumulator_value: in (0, 1].
        name: of the slots and ops.

    Returns:
        An optimizer whose ``apply_gradients`` takes pairs of local gradient and address.

    Raises:
        ValueError: an argument out of range, or dynamic expansion is off.
    """
    return register_optimizer(CustomizedAdagradByAddress(learning_rate, initial_accumulator_value, False, name))


class CustomizedAdagradByAddress(CustomizedAdagrad):
    """s += g^2, row -= learning_rate * g / sqrt(s + 1e-7), on rows given by their addresses."""

    by_address = True
    saves_states = True
    epsilon = 1e-7
