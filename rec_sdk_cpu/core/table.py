"""An embedding table on stock TensorFlow ops: values, optimizer states, key index, history (rec_sdk_api 3.1-3.5)."""
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import tensorflow as tf
from tensorflow.python.ops import init_ops

from rec_sdk_cpu.core import collectives, graph_state, initial_rows, notices, ranks
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.history import KeyHistory, Thresholds
from rec_sdk_cpu.core.key_index import KeyIndex
from rec_sdk_cpu.core.merged_states import MergedState
from rec_sdk_cpu.core.rows import GrowingRows, Rows, first_rows, fixed_rows, needed_rows
from rec_sdk_cpu.core.table_facts import TableFacts

TABLE_AFTER_START = "Emb cache management has been established, you cannot build new hash table."
DUPLICATED_NAME = "Duplicated hashtable name %r: a table of that name already exists in this graph."
BATCH_OVERFLOW = ("Device cache overflow! Please set a grater value for `device_vocabulary_size`. Table %s keeps %d "
                  "rows of this rank in device memory; the batch has more distinct ids:")


class Sizes(NamedTuple):
    """Rows of a table over all ranks: in device memory, in host memory and on disk."""

    device: int
    host: int = 0
    ssd: int = 0


class BaseSparseEmbedding(TableFacts):
    """A table as ``create_table`` returns it.

    Attributes:
        table_name: name without characters other than letters, digits and underscores.
        variable: float32 [rows, emb_size]; not trainable and not in the TensorFlow checkpoint. Static device tables
            have all rows from the start; others have [None, emb_size] and grow with the keys.
        emb_size: values per row (dim).
        is_hbm: whether all rows live in device memory; also True with dynamic expansion.
        is_dynamic: whether the table has no limit (dynamic expansion).
        send_count: the send_count of the latest lookup, or None.
        slice_device_vocabulary_size, slice_host_vocabulary_size: rows of one rank.
        history: admission and eviction, or None where it is off.
        has_optimizer: whether an optimizer that the host knows serves the table in this graph.
        merged_states: {folder: state} of states that go, on several ranks, into the TensorFlow checkpoint.
        gradient_scale: multiplies the gradients of a row, summed over the ranks; every rank's copy of an ``is_dp``
            table takes their plain sum.
    """

    def __init__(self, name: str, emb_size: int, sizes: Sizes, emb_initializer: Any, init_param: float,
                 key_dtype: tf.DType, is_save: bool, is_dp: bool, gradient_scale: float = 1.0):
        config = ConfigInitializer.get_instance()
        self.table_name = name
        self.emb_size = emb_size
        self.emb_initializer = emb_initializer
        self.init_param = init_param
        self.multi_lookup_times = {True: 0, False: 0}
        self.key_dtype = key_dtype
        self.is_save = is_save
        self.is_dp = is_dp
        self.gradient_scale = gradient_scale
        self.is_dynamic = config.use_dynamic_expansion
        # With dynamic expansion the SDK resets the other sizes silently (rec_sdk_api 3.1, 7.5).
        self.sizes = Sizes(sizes.device) if self.is_dynamic else sizes
        self.is_hbm = self.sizes.host == 0
        self.send_count: Optional[int] = None
        self.gradient_enabled = False
        self.has_optimizer = False
        self.history: Optional[KeyHistory] = None
        self.lookup_limits: Dict[bool, Optional[Thresholds]] = {}
        self.device_vocabulary_size = self.sizes.device
        self._rank_size = 1 if is_dp else ranks.get_rank_size()
        self.slice_device_vocabulary_size = -(-self.sizes.device // self._rank_size)
        self.slice_host_vocabulary_size = -(-self.sizes.host // self._rank_size)
        collections = [tf.compat.v1.GraphKeys.GLOBAL_VARIABLES,
                       config.train_params_config.ascend_global_hashtable_collection]
        self.rows = self._make_rows(emb_initializer, init_param, collections)
        self.index = KeyIndex(name, None if self.is_dynamic else self._slice_capacity())
        self._states: Dict[str, Rows] = {}
        self.merged_states: Dict[str, MergedState] = {}
        self._size = self.index.size()
        self._last_size = 0

    @property
    def variable(self) -> tf.Variable:
        """The variable of the rows."""
        return self.rows.variable

    def capacity(self) -> int:
        """Returns the keys that the table can hold on all ranks: device rows, or with host memory host and disk rows.

        With dynamic expansion there is no limit; the device size that was asked for is returned.
        """
        return self.sizes.device if self.is_hbm else self.sizes.host + self.sizes.ssd

    def size(self) -> int:
        """Returns the number of keys in use in the session that ran last, of this rank; 0 before one."""
        state = graph_state.of(self.variable.graph)
        session = state.session() if state.session is not None else None
        if session is not None and not session._closed:
            self._last_size = int(session.run(self._size))
        return self._last_size

    def owns_address(self, address: Any) -> bool:
        """Returns whether a tensor is an entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET of this table."""
        return isinstance(address, tf.Tensor) and of_address(address) is self

    def find(self, keys: tf.Tensor) -> tf.Tensor:
        """Returns the row of each key (int64 [n], distinct), int64 [n], -1 where it has none."""
        return self.index.find(keys)

    def find_or_insert(self, keys: tf.Tensor) -> tf.Tensor:
        """Returns the row of each key (int64 [n], distinct), int64 [n]; unseen keys get a row, which exists then."""
        checks = []
        if not self.is_hbm:
            count = tf.size(keys, out_type=tf.int64)
            checks.append(tf.debugging.Assert(
                count <= self.slice_device_vocabulary_size,
                [BATCH_OVERFLOW % (self.table_name, self.slice_device_vocabulary_size), count]))
        with tf.control_dependencies(checks):
            row_indices = self.index.find_or_insert(keys)
        if not self.rows.grows:
            return row_indices
        with tf.control_dependencies([self.rows.ensure(needed_rows(row_indices))]):
            return tf.identity(row_indices)

    def use_history(self, limits: Thresholds) -> KeyHistory:
        """Switches admission and eviction on; all lookups of a table share one history.

        Raises:
            ValueError: eviction with dynamic expansion.
        """
        if limits.eviction is not None and self.is_dynamic:
            raise ValueError("table %s: eviction is not supported with dynamic expansion" % self.table_name)
        if self.history is None:
            self.history = KeyHistory(self.table_name, limits)
            if limits.eviction is not None:
                self.index.allow_release()
        return self.history

    def evict(self) -> tf.Tensor:
        """Returns the number of rows freed, int64 scalar; running it drops the ids whose time is up.

        Freed rows start again with initial values; their optimizer states stay as they are (rec_sdk_api 5.1).
        """
        if self.history is None:
            return tf.constant(0, tf.int64)
        freed = self.index.release(self.history.drop_expired())
        count = tf.size(freed, out_type=tf.int64)
        again = tf.cond(count > 0, lambda: self.rows.start_again(freed), tf.no_op)
        with tf.control_dependencies([again]):
            return tf.identity(count)

    def add_state(self, folder: str, variable_name: str, value: float, saved: bool = True) -> Rows:
        """Makes an optimizer state of this table.

        Args:
            folder: ``<optimizer>_<state>``, the folder of the state in a sparse checkpoint.
            variable_name: name of the variable.
            value: initial value.
            saved: False leaves it to the TensorFlow checkpoint, by row number.
        """
        state = self.rows.make_state(variable_name, initial_rows.ConstantRows(self.emb_size, value))
        if saved or ranks.several():
            self._states[folder] = state
        if not saved and ranks.several():
            self.merged_states[folder] = MergedState(
                variable_name, [self.device_vocabulary_size, self.emb_size], value)
        return state

    def states(self) -> Dict[str, Rows]:
        """Returns {checkpoint folder name: rows}: the embedding first, then the optimizer states."""
        states = {"embedding": self.rows}
        states.update(sorted(self._states.items()))
        return states

    def sparse_variables(self) -> List[tf.Variable]:
        """Returns the variables that belong into the sparse checkpoint folder."""
        return [state.variable for state in self.states().values()]

    def _slice_capacity(self) -> int:
        return -(-self.capacity() // self._rank_size)

    def _make_rows(self, initializer: Any, factor: float, collections: List[str]) -> Rows:
        rank = ranks.get_rank_id() if ranks.several() and not self.is_dp else 0
        if self.is_hbm and not self.is_dynamic:
            made = _scaled(initializer, factor)
            if self.is_dp and ranks.several():
                made = _of_rank_0(made, self.table_name)
            variable = tf.compat.v1.get_variable(
                self.table_name, shape=[self.slice_device_vocabulary_size, self.emb_size], dtype=tf.float32,
                trainable=False, use_resource=True, initializer=made, collections=collections)
            followed = initial_rows.is_supported(initializer)
            return fixed_rows(variable, initial_rows.from_initializer(initializer, self.emb_size, factor, rank)
                              if followed else None)
        initial = initial_rows.from_initializer(initializer, self.emb_size, factor, rank)
        variable = tf.compat.v1.get_variable(
            self.table_name, initializer=first_rows(initial), validate_shape=False, trainable=False,
            use_resource=True, collections=collections)
        return GrowingRows(variable, initial)


def register(table: BaseSparseEmbedding) -> BaseSparseEmbedding:
    """Enters a new table into its graph and the process-wide list of names."""
    graph_state.of().tables[table.table_name] = table
    ConfigInitializer.get_instance().sparse_embed_config.table_instance_dict[table.table_name] = table
    return table


def of_variable(variable: tf.Variable) -> Optional[BaseSparseEmbedding]:
    """Returns the table of the default graph that a variable belongs to, or None."""
    for table in graph_state.of().tables.values():
        if table.variable is variable:
            return table
    return None


def of_address(address: tf.Tensor) -> Optional[BaseSparseEmbedding]:
    """Returns the table that an entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET belongs to, or None."""
    pairs: List[Tuple[tf.Tensor, Any]] = graph_state.of(address.graph).addresses
    return next((table for tensor, table in pairs if tensor is address), None)


def check_new_name(name: str) -> None:
    """Refuses a name that this graph has already, or a new one once the host pipeline runs.

    Raises:
        ValueError: the graph has a table of that name.
        EnvironmentError: the pipeline runs and the name is new.
    """
    config = ConfigInitializer.get_instance()
    if name in graph_state.of().tables:
        raise ValueError(DUPLICATED_NAME % name)
    if config.hybrid_manager_config.asc_manager is not None and name not in config.sparse_embed_config.table_name_set:
        raise OSError("%s (table %r)" % (TABLE_AFTER_START, name))


def fix_table_name(name: str) -> str:
    """Removes every character that is not a letter, digit or underscore, as the SDK does.

    Raises:
        ValueError: nothing is left.
    """
    fixed = re.sub(r"\W", "", name)
    if not fixed:
        raise ValueError("table name %r has no letter, digit or underscore" % name)
    if fixed != name:
        notices.tell("table name %r" % name, "table name %r becomes %r, as in the SDK", name, fixed)
    elif not re.match(r"[A-Za-z0-9]", fixed):
        notices.tell("table name %r" % name, "table name %r passes the SDK's check; outside a variable scope "
                     "TensorFlow refuses it as the name of the table's variable, on a device too", name)
    return fixed


def _of_rank_0(initializer: Any, table_name: str) -> Any:
    """Returns an initializer with rank 0's values on all ranks, which the copies of a replicated table start from."""
    def initialize(shape: Any, dtype: Any = tf.float32, partition_info: Any = None) -> tf.Tensor:
        return collectives.broadcast(initializer(shape, dtype=dtype, partition_info=partition_info), 0,
                                     table_name + ".initial")
    return initialize


def _scaled(initializer: Any, factor: float) -> Any:
    if factor == 1.0 and isinstance(initializer, init_ops.Initializer):
        return initializer

    # A function, because variables do not take the initializers of TensorFlow 2 as they are.
    def initialize(shape: Any, dtype: Any = tf.float32, partition_info: Any = None) -> tf.Tensor:
        del partition_info
        value = initializer(shape, dtype=dtype)
        return value if factor == 1.0 else factor * value

    return initialize
