"""What the stand-in knows of one TensorFlow graph: its tables, lookups and features.

Kept beside the graph, not in its collections, because collections are exported with every meta graph.
"""
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import tensorflow as tf
from tensorflow.python.ops import lookup_ops


class LookupResult(NamedTuple):
    """One lookup, kept so that a pooled product can avoid the [batch, fields, dim] intermediate.

    Attributes:
        output: float32 [..., dim], what ``sparse_lookup`` returned.
        rows: float32 [unique, dim], the embedding of each distinct id of the batch.
        positions: int64 [number of ids], index into ``rows`` of each id, in row-major order.
        is_train: whether it is a training lookup.
    """

    output: tf.Tensor
    rows: tf.Tensor
    positions: tf.Tensor
    is_train: bool


class GraphState:
    """Tables, lookups and input features of one graph."""

    def __init__(self) -> None:
        self.tables: Dict[str, Any] = {}
        self.lookups: List[LookupResult] = []
        self.unique_row_indices: List[tf.Tensor] = []
        self.addresses: List[Tuple[tf.Tensor, Any]] = []
        self.feature_results: Dict[Any, tf.Tensor] = {}
        self.pipeline_started = False
        self.graph_modified = False
        # Tensor lookups, which need graph modification, and whether compute_gradients has merged them.
        self.uses_tensor_ids = False
        self.trains_tensor_ids = False
        self.lookups_merged = False
        self.uses_feature_specs = False
        self.restored = False
        # How many collectives of each label the graph has: their names are made of it.
        self.collectives: Dict[str, int] = {}
        # What iterators of this graph returned, by the op that makes it.
        self.batches: Dict[tf.Operation, Any] = {}
        # Loads tables of another checkpoint once the session is there.
        self.warm_starts: List[Callable[[Any], None]] = []
        # The session that ran last, the steps of a device's loop, and per set of fetches whether it holds the loop.
        self.session: Optional[Callable[[], Any]] = None
        self.iterations_per_loop = 1
        self.loops: Dict[Tuple[Any, ...], bool] = {}
        self._thresholds: Optional[lookup_ops.MutableHashTable] = None

    def sparse_variables(self) -> List[tf.Variable]:
        """Returns the variables that live in sparse checkpoint folders instead of the TensorFlow checkpoint."""
        return [variable for table in self.tables.values() for variable in table.sparse_variables()]

    def set_threshold(self, table_name: str, value: tf.Tensor) -> tf.Operation:
        """Returns an op that sets the access threshold (int64 scalar) of a table, or of all ("")."""
        return self._threshold_table().insert([tf.constant(table_name)], [tf.reshape(value, [])])

    def changed_threshold(self, table_name: str) -> tf.Tensor:
        """Returns what :meth:`set_threshold` set last for a table, int64 scalar; -1 where it did not run."""
        own, common = tf.unstack(self._threshold_table().lookup(tf.constant([table_name, ""])))
        return tf.where(own >= 0, own, common)

    def _threshold_table(self) -> lookup_ops.MutableHashTable:
        # A hash table needs no initializer, which programs with sess.run would not run for a variable of ours.
        if self._thresholds is None:
            with tf.control_dependencies(None):
                self._thresholds = lookup_ops.MutableHashTable(tf.string, tf.int64, tf.constant(-1, tf.int64),
                                                               name="access_thresholds", checkpoint=False)
        return self._thresholds

    def find_lookup(self, output: tf.Tensor) -> Optional[LookupResult]:
        """Returns the lookup that made a tensor, or None."""
        for result in self.lookups:
            if result.output is output:
                return result
        return None


# Called with each gradient that a sparse optimizer takes; the migration report listens.
gradient_listeners: List[Callable[[Any], None]] = []


def note_gradient(gradient: Any) -> None:
    """Tells the listeners of a gradient (tensor or IndexedSlices) that a table's optimizer takes."""
    for listener in gradient_listeners:
        listener(gradient)


# An attribute of the graph itself: the state refers to the graph's tensors, so that any table of graphs outside would
# keep every graph of an Estimator alive.
_ATTRIBUTE = "_rec_sdk_cpu_state"


def of(graph: Optional[tf.Graph] = None) -> GraphState:
    """Returns the state of a graph (default: the default graph), made on first use."""
    graph = graph or tf.compat.v1.get_default_graph()
    state = getattr(graph, _ATTRIBUTE, None)
    if state is None:
        state = GraphState()
        setattr(graph, _ATTRIBUTE, state)
    return state


def peek(graph: tf.Graph) -> Optional[GraphState]:
    """Returns the state of a graph, or None where none was made."""
    return getattr(graph, _ATTRIBUTE, None)


def known(graph: Optional[tf.Graph] = None) -> Optional[GraphState]:
    """Returns the state of a graph where it has tables, else None."""
    state = getattr(graph or tf.compat.v1.get_default_graph(), _ATTRIBUTE, None)
    return state if state is not None and state.tables else None
