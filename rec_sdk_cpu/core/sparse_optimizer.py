"""What the SDK's optimizers have in common: they update rows of tables, by variable or by address (rec_sdk_api 4)."""
from typing import Any, Dict, List, Optional, Sequence, Tuple

import tensorflow as tf

from rec_sdk_cpu.core import graph_state, notices
from rec_sdk_cpu.core import table as table_module
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.customized_optimizer import CustomizedOptimizer
from rec_sdk_cpu.core.rows import Rows, needed_rows
from rec_sdk_cpu.core.table import BaseSparseEmbedding
from rec_sdk_cpu.core.validator import Rule

MODE_MISMATCH = ("The dynamic expansion mode is not compatible with the optimizer, please config dynamic expansion "
                 "mode and optimizer correctly.")
WRONG_VARIABLE = "You are using a wrong type of variable."
NO_GRADIENTS = "No gradients provided for any variable"

_Part = Tuple[tf.Tensor, tf.Tensor]


class LearningRate(Rule):
    """A float in [0, 10], or a tensor whose value is such a float or is not known yet (rec_sdk_api 0.2)."""

    def allowed(self) -> str:
        """See the base class."""
        return "a float, or a tensor of a float, in [0, 10]"

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        if isinstance(value, tf.Tensor):
            if ConfigInitializer.generation == "G2":
                notices.tell("G2 learning rate tensor", "a tensor as learning rate: some versions of G2 refuse it, and "
                             "public programs pass one; a Python float is taken by all")
            return _value_fits(value)
        return isinstance(value, float) and 0 <= value <= 10


def _value_fits(tensor: tf.Tensor) -> bool:
    try:
        with tf.compat.v1.Session(graph=tensor.graph) as session:
            value = session.run(tensor)
    except (tf.errors.OpError, RuntimeError):
        # It depends on a variable or placeholder that has no value yet: the SDK warns and lets it pass too.
        notices.tell("learning rate without value", "the learning rate %s has no value yet: its range is not checked, "
                     "here as in the SDK; a %s is cast to float", tensor.name, tensor.dtype.name)
        return True
    return tensor.dtype.is_floating and bool(0 <= value <= 10)


def register_optimizer(optimizer: "SparseOptimizer") -> Any:
    """Makes an optimizer the one that serves all tables.

    Raises:
        ValueError: it is not made for the dynamic expansion setting of ``init``.
    """
    config = ConfigInitializer.get_instance()
    if config.use_dynamic_expansion != optimizer.by_address:
        raise ValueError(MODE_MISMATCH)
    config.optimizer_config.optimizer_instance = optimizer
    return optimizer


class SparseOptimizer(tf.compat.v1.train.Optimizer, CustomizedOptimizer):
    """Base of the SDK's optimizers: gradients of one row are summed first, then each row is updated once.

    Subclasses list their states and say how rows change.

    Attributes:
        by_address: gradients come with addresses (dynamic expansion) instead of table variables.
        optimizer_type: what the folders of the states in a sparse checkpoint begin with.
        states: (name inside the optimizer, folder suffix in the checkpoint, initial value) of each state.
        saves_states: False leaves the states to the TensorFlow checkpoint.
    """

    by_address = False
    optimizer_type = ""
    states: Sequence[Tuple[str, str, float]] = ()
    saves_states = True

    def _setup(self) -> None:
        self._rows: Dict[Tuple[str, str], Rows] = {}
        self._slot_num = len(self.states)
        self._derivative = 2 if self.states else 1

    def get_slot_init_values(self) -> List[float]:
        """Returns the initial value of each state."""
        return [value for _, _, value in self.states]

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: Optional[str] = None) -> tf.Operation:
        """Updates the rows.

        Args:
            grads_and_vars: pairs of IndexedSlices and table variable; by address, of the gradient of a tensor in
                ASCEND_SPARSE_LOOKUP_LOCAL_EMB (float32 [n, dim]) and the entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET at
                the same position. Pairs whose gradient is None are left out.
            global_step: a variable to add 1 to; the SDK's recipe passes none.
            name: of the op.

        Returns:
            The op of the update.

        Raises:
            ValueError: there is no gradient at all.
            NotImplementedError: a variable that is not a table's.
        """
        pairs = [(gradient, target) for gradient, target in grads_and_vars if gradient is not None]
        if not pairs:
            raise ValueError("%s: %s" % (NO_GRADIENTS, [target for _, target in grads_and_vars]))
        parts: Dict[str, List[_Part]] = {}
        tables: Dict[str, BaseSparseEmbedding] = {}
        for gradient, target in pairs:
            graph_state.note_gradient(gradient)
            table, part = self._part(gradient, target)
            tables[table.table_name] = table
            parts.setdefault(table.table_name, []).append(part)
        with tf.init_scope():
            self._make_states(list(tables.values()))
        with tf.name_scope(name, self.get_name()) as scope:
            self._prepare()
            updates = [self._update(tables[key], *_summed(parts[key])) for key in tables]
            finish = self._finish_step(updates)
            if global_step is not None:
                with tf.control_dependencies([finish]):
                    finish = tf.compat.v1.assign_add(global_step, 1).op
            return tf.group(finish, name=scope)

    def get_slot(self, var: Any, name: str) -> Any:
        """Returns a state's variable of a table variable, or None."""
        table = table_module.of_variable(var)
        rows = self._rows.get((table.table_name, name)) if table is not None else None
        return rows.variable if rows is not None else None

    def get_slot_names(self) -> List[str]:
        """Returns the names of the states, sorted."""
        return sorted(name for name, _, _ in self.states)

    def _make_states(self, tables: List[BaseSparseEmbedding]) -> None:
        for table in tables:
            table.has_optimizer = table.has_optimizer or self.saves_states
            for state, folder, value in self.states:
                if (table.table_name, state) not in self._rows:
                    self._rows[table.table_name, state] = table.add_state(
                        "%s_%s" % (self.optimizer_type, folder),
                        "%s/%s/%s" % (table.variable.op.name, self._name, folder), value, saved=self.saves_states)

    def _part(self, gradient: Any, target: Any) -> Tuple[BaseSparseEmbedding, _Part]:
        if self.by_address:
            table = table_module.of_address(target) if isinstance(target, tf.Tensor) else None
            if table is None:
                raise NotImplementedError("%s %s is not an entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET"
                                          % (WRONG_VARIABLE, getattr(target, "name", target)))
            # Slices of the local embedding are summed to a dense gradient: duplicates count once each.
            if isinstance(gradient, tf.IndexedSlices):
                gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, tf.size(target))
            return table, (target, gradient)
        table = table_module.of_variable(target)
        if table is None or not isinstance(gradient, tf.IndexedSlices):
            raise NotImplementedError("%s %s is not the variable of a table, or its gradient is dense"
                                      % (WRONG_VARIABLE, getattr(target, "name", target)))
        return table, (gradient.indices, gradient.values)

    def _update(self, table: BaseSparseEmbedding, row_indices: tf.Tensor, gradient: tf.Tensor) -> tf.Operation:
        states = {state: self._rows[table.table_name, state] for state, _, _ in self.states}
        ready: List[tf.Operation] = []
        for rows in states.values():
            # One after the other: while a state grows it is in memory twice.
            with tf.control_dependencies(ready[-1:]):
                ready += [rows.ensure(needed_rows(row_indices))] if rows.grows else []
        with tf.control_dependencies(ready):
            return self._update_rows(table.variable, {name: rows.variable for name, rows in states.items()},
                                     row_indices, gradient)

    def _update_rows(self, variable: tf.Variable, states: Dict[str, tf.Variable], row_indices: tf.Tensor,
                     gradient: tf.Tensor) -> tf.Operation:
        """Returns the op that updates distinct rows (int64 [n]) by their gradients (float32 [n, dim])."""
        raise NotImplementedError

    def _finish_step(self, updates: List[tf.Operation]) -> tf.Operation:
        return tf.group(*updates)


def set_rows(variable: tf.Variable, row_indices: tf.Tensor, values: tf.Tensor) -> tf.Operation:
    """Returns an op that replaces rows (int64 [n], distinct) by values (float32 [n, dim])."""
    return tf.group(variable.scatter_update(tf.IndexedSlices(values, row_indices)))


def subtract_rows(variable: tf.Variable, row_indices: tf.Tensor, values: tf.Tensor) -> tf.Operation:
    """Returns an op that subtracts values (float32 [n, dim]) from rows (int64 [n])."""
    return tf.group(variable.scatter_sub(tf.IndexedSlices(values, row_indices)))


def _summed(parts: List[_Part]) -> _Part:
    """Sums the gradients of each row over all occurrences; the distinct rows of one lookup need no sum."""
    if len(parts) == 1 and _rows_are_unique(parts[0][0]):
        return parts[0]
    row_indices = tf.concat([rows for rows, _ in parts], axis=0)
    values = tf.concat([gradient for _, gradient in parts], axis=0)
    unique, positions = tf.unique(row_indices)
    return unique, tf.math.unsorted_segment_sum(values, positions, tf.size(unique))


def _rows_are_unique(indices: tf.Tensor) -> bool:
    tensor = indices
    while tensor.op.type in ("Reshape", "Identity"):
        if any(tensor is unique for unique in graph_state.of(indices.graph).unique_row_indices):
            return True
        tensor = tensor.op.inputs[0]
    return any(tensor is unique for unique in graph_state.of(indices.graph).unique_row_indices)


