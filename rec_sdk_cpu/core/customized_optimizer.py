"""The base of the SDK's optimizers, and of those that programs write themselves (rec_sdk_api 12).

Programs derive from a TensorFlow optimizer and from :class:`CustomizedOptimizer`, and override
``_apply_sparse_duplicate_indices(grad, var)``, which TensorFlow calls for the SDK's ref variables. The tables of the
stand-in are resource variables, for which it calls another method; a subclass gets that one from here, so that its own
update runs.
"""
from collections import defaultdict
from typing import Any, Callable, Dict, List, Optional, Tuple

import tensorflow as tf

from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.core import table as table_module

_FOR_REF = "_apply_sparse_duplicate_indices"
_FOR_RESOURCE = "_resource_apply_sparse_duplicate_indices"


class CustomizedOptimizer:
    """Numbers the optimizers of a process by name, and sums the gradients of one row.

    Attributes:
        unique_name: ``<name>_<count>``, 0 for the first optimizer of a name.
        base_name: the name itself.
        slot_num: states per table; what the host is told.
        derivative: 1 where the update of a row may be split over its occurrences, else 2.
    """

    MAX_COUNTER_COUNT = 1000
    name_counter: Dict[str, int] = defaultdict(int)
    unique_name = ""
    base_name = ""
    _slot_num = 0
    _derivative = 1
    # Rows of the gradient that an update gets just now, for sum_same_id_gradients.
    _rows_of_update: List[tf.Tensor] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for owner in cls.__mro__:
            if owner.__module__.startswith("tensorflow"):
                return
            if _FOR_RESOURCE in vars(owner):
                return
            if _FOR_REF in vars(owner):
                setattr(cls, _FOR_RESOURCE, _update_of_own_class)
                return

    @property
    def slot_num(self) -> int:
        """States per table."""
        return self._slot_num

    @property
    def derivative(self) -> int:
        """1 or 2; see the class."""
        return self._derivative

    @staticmethod
    def sum_same_id_gradients(grad: tf.Tensor, var: Any, is_expansion: bool) -> Tuple[tf.Tensor, tf.Tensor]:
        """Sums the gradients of each row over its occurrences.

        Args:
            grad: float32 [n, dim]: the values of the gradient of a table variable; with expansion, the gradient of an
                entry of ASCEND_SPARSE_LOOKUP_LOCAL_EMB.
            var: the table variable; with expansion, the entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET.
            is_expansion: whether dynamic expansion is on.

        Returns:
            float32 [unique, dim] and the rows, int64 [unique].

        Raises:
            RuntimeError: called outside an update, without expansion.
        """
        if is_expansion:
            rows = var
        elif CustomizedOptimizer._rows_of_update:
            rows = CustomizedOptimizer._rows_of_update[-1]
        else:
            raise RuntimeError("sum_same_id_gradients belongs into an optimizer's _apply_sparse_duplicate_indices: "
                               "outside, the rows of the gradient are not known")
        unique, positions = tf.unique(rows)
        return tf.math.unsorted_segment_sum(grad, positions, tf.size(unique)), unique

    def get_slot_init_values(self) -> List[float]:
        """Returns the initial value of each state; subclasses say which.

        Raises:
            NotImplementedError: the subclass does not.
        """
        raise NotImplementedError("Please define a specific realization on %s." % type(self).__name__)

    def _get_name(self, name: str = "CustomizedOptimizer") -> None:
        """Counts a name and makes the unique one of it.

        Raises:
            ValueError: more than 1000 names.
        """
        counter = CustomizedOptimizer.name_counter
        if name in counter:
            counter[name] += 1
        elif len(counter) > self.MAX_COUNTER_COUNT:
            raise ValueError("The optimizer exceeds the max num limitation.")
        self.unique_name = "%s_%d" % (name, counter[name])
        self.base_name = name


def _update_of_own_class(self: Any, grad: tf.Tensor, handle: tf.Variable, indices: tf.Tensor) -> tf.Operation:
    """Runs a program's update, written for ref variables, on a table's resource variable.

    Args:
        self: the optimizer.
        grad: float32 [n, dim].
        handle: the table's variable.
        indices: int64 [n].

    Raises:
        NotImplementedError: states on a table whose rows grow.
    """
    table = table_module.of_variable(handle)
    if table is not None:
        if table.rows.grows and any(_has_slot(self, handle, name) for name in self.get_slot_names()):
            raise NotImplementedError("%s keeps states of table %s, whose rows grow with the keys: the CPU stand-in "
                                      "has that for the SDK's own optimizers; use a table in device memory"
                                      % (type(self).__name__, table.table_name))
        table.has_optimizer = True
    gradient = tf.IndexedSlices(grad, indices, tf.shape(handle))
    graph_state.note_gradient(gradient)
    CustomizedOptimizer._rows_of_update.append(indices)
    try:
        return getattr(self, _FOR_REF)(gradient, handle)
    finally:
        CustomizedOptimizer._rows_of_update.pop()


def _has_slot(optimizer: Any, variable: tf.Variable, name: str) -> bool:
    return optimizer.get_slot(variable, name) is not None


def custom_update_op(self: Any, opt: Any, grad: Any) -> Optional[tf.Operation]:
    """Applies a gradient to an address; TensorFlow itself knows no update of a tensor.

    Raises:
        RuntimeError: the gradient is not a tensor.
    """
    if not isinstance(grad, tf.Tensor):
        raise RuntimeError("Only support g with type Tensor.")
    graph_state.note_gradient(grad)
    return opt._apply_sparse(grad, self._v)


def control_update_op_decorator(apply_sparse: Callable[..., Any]) -> Callable[..., Any]:
    """Orders an update after the swapping of rows on a device; here rows are in place, and the update runs as it is."""
    return apply_sparse
