"""Stand-in for ``mx_rec.core.embedding``: tables and lookups (rec_sdk_api 3)."""
import os
import re
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import tensorflow as tf
from tensorflow.python.ops import init_ops, init_ops_v2

from rec_sdk_cpu.core import constants, graph_state, history, notices, ranks
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.lookup import Admission, embedding_lookup
from rec_sdk_cpu.core.table import BaseSparseEmbedding, Sizes, check_new_name, fix_table_name, register
from rec_sdk_cpu.core.validator import (
    MAX_INT32,
    AnyOf,
    Bool,
    Directories,
    Dtype,
    Float,
    Instance,
    Int,
    Option,
    Rule,
    Text,
    check_storage_paths,
    checked,
)
from rec_sdk_cpu.mx_rec.core.asc.feature_spec import EVICTION_WITHOUT_ADMISSION, FeatureSpec

NEEDS_GRAPH_MODIFICATION = "when the 'ddr or ssd' mode are used, the 'modify graph' is required"
LOOKUP_AFTER_START = "Cannot build new sparse forward graph after emb cache management was built."
_INITIALIZERS = (init_ops.Initializer, init_ops_v2.Initializer)


class _DimShape(Rule):
    """A TensorShape of one dimension in [1, 8192]."""

    def allowed(self) -> str:
        """See the base class."""
        return "a tf.TensorShape([n]) with n in [1, 8192]"

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return (isinstance(value, tf.TensorShape) and value.rank == 1 and value.num_elements() is not None
                and 1 <= value.num_elements() <= 8192)


class _HostSize(Rule):
    """An int from 0 to the generation's limit for host memory and disk (10^9 in G3, 10^10 in G2)."""

    def _limit(self) -> int:
        return constants.MAX_VOCABULARY_SIZE * (10 if ConfigInitializer.generation == "G2" else 1)

    def allowed(self) -> str:
        """See the base class."""
        return Int(self.name, 0, self._limit()).allowed()

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return Int(self.name, 0, self._limit()).accepts(value)


@checked(
    Dtype("key_dtype", (tf.int64, tf.int32)), AnyOf("dim", (Int("dim", 1, 8192), _DimShape("dim"))),
    Text("name", 1, 100, word=True), Instance("emb_initializer", _INITIALIZERS),
    Int("device_vocabulary_size", 1, constants.MAX_DEVICE_VOCABULARY_SIZE),
    _HostSize("host_vocabulary_size"), _HostSize("ssd_vocabulary_size"), Directories("ssd_data_path"), Bool("is_save"),
    Bool("is_dp"), Float("init_param", -10, 10),
    Option("all2all_gradients_op", [op.value for op in constants.All2allGradientsOp]), Bool("enable_merge"),
    Bool("padding_keys_mask"), Int("padding_keys_len", 1, MAX_INT32, optional=True),
    Dtype("value_dtype", (tf.float32,)), Int("shard_num", 1, 8192),
    Bool("fusion_optimizer_var"), Int("hashtable_threshold", 0, MAX_INT32))
def create_table(key_dtype: tf.DType, dim: Union[int, tf.TensorShape], name: str, emb_initializer: Any,
                 device_vocabulary_size: int = 1, host_vocabulary_size: int = 0, ssd_vocabulary_size: int = 0,
                 ssd_data_path: Sequence[str] = (os.getcwd(),), is_save: bool = True, is_dp: bool = False,
                 init_param: float = 1.0, all2all_gradients_op: str = "sum_gradients", enable_merge: bool = False,
                 padding_keys: Any = None, padding_keys_mask: bool = False, padding_keys_len: Any = None,
                 value_dtype: tf.DType = tf.float32, shard_num: int = 1, fusion_optimizer_var: bool = True,
                 hashtable_threshold: int = 0) -> BaseSparseEmbedding:
    """Creates an embedding table in the default graph (rec_sdk_api 3.1).

    Args:
        key_dtype: tf.int64 or tf.int32.
        dim: values per row.
        name: characters other than letters, digits and underscores are removed.
        emb_initializer: a TensorFlow initializer.
        device_vocabulary_size: rows in device memory, total over all ranks.
        host_vocabulary_size, ssd_vocabulary_size, ssd_data_path: rows in host memory and on disk. The stand-in keeps
            all rows in memory, made when keys need them; dynamic expansion resets these sizes to 0.
        is_save: whether the table is saved.
        is_dp: whether every rank holds the whole table.
        init_param: factor on the initial values.
        all2all_gradients_op: how the gradients of several ranks for one row are combined: their sum, or the sum
            divided by the number of ranks.
        enable_merge: merging of tables, only with dynamic expansion.
        padding_keys, padding_keys_mask, padding_keys_len: padding keys, which the stand-in does not provide.
        value_dtype: tf.float32.
        shard_num, fusion_optimizer_var, hashtable_threshold: accepted; they do not change values.

    Returns:
        The table.

    Raises:
        TypeError: an unknown argument; padding keys under G2, which has no such arguments.
        ValueError: an argument out of range, or a name that this graph has already.
        AttributeError: enable_merge with an int as dim.
        EnvironmentError: ``init`` has not run, or the pipeline runs and the name is new.
        RuntimeError: enable_merge without dynamic expansion.
        NotImplementedError: padding keys, which the stand-in does not provide.
    """
    config = ConfigInitializer.get_instance()
    del shard_num, fusion_optimizer_var, hashtable_threshold
    if config.generation == "G2" and (padding_keys, padding_keys_mask, padding_keys_len) != (None, False, None):
        raise TypeError("create_table() got an unexpected keyword argument: padding_keys, padding_keys_mask and "
                        "padding_keys_len came with SDK generation G3")
    for argument, given in (("key_dtype", key_dtype), ("value_dtype", value_dtype)):
        if not isinstance(given, tf.DType):
            notices.tell("%s %r" % (argument, given), "%s=%r passes the SDK's check, because TensorFlow's types equal "
                         "it; the SDK keeps it as it is given, pass tf.%s", argument, given, tf.as_dtype(given).name)
    if ssd_vocabulary_size > 0:
        if host_vocabulary_size == 0:
            raise ValueError("ssd_vocabulary_size %d needs host_vocabulary_size > 0" % ssd_vocabulary_size)
        check_storage_paths(ssd_data_path)
    if padding_keys is None and padding_keys_mask:
        raise ValueError("padding_keys_mask=True needs padding_keys")
    if padding_keys is not None:
        if not padding_keys_mask or padding_keys_len is None:
            raise ValueError("padding_keys needs padding_keys_mask=True and padding_keys_len")
        raise NotImplementedError("the CPU stand-in does not provide padding keys")
    if enable_merge and not config.use_dynamic_expansion:
        raise RuntimeError("merge table function requires dynamic expansion mode")
    if enable_merge and isinstance(dim, int):
        raise AttributeError("'int' object has no attribute 'num_elements': with enable_merge=True the SDK takes "
                             "dim=tf.TensorShape([%d]) only" % dim)
    table_name = fix_table_name(name)
    check_new_name(table_name)
    size = dim if isinstance(dim, int) else dim.num_elements()
    return register(BaseSparseEmbedding(
        name=table_name, emb_size=size,
        sizes=Sizes(device_vocabulary_size, host_vocabulary_size, ssd_vocabulary_size),
        emb_initializer=emb_initializer, init_param=init_param, key_dtype=key_dtype, is_save=is_save, is_dp=is_dp,
        gradient_scale=_gradient_scale(constants.All2allGradientsOp(all2all_gradients_op))))


@checked(
    Instance("hashtable", BaseSparseEmbedding), Instance("ids", (FeatureSpec, tf.Tensor)),
    Int("send_count", 1, MAX_INT32, optional=True), Bool("is_train"), Text("name", 1, 255, optional=True),
    Bool("modify_graph", optional=True), Instance("batch", dict, optional=True),
    Instance("access_and_evict_config", dict, optional=True), Bool("is_grad"),
    Instance("serving_default_value", tf.Tensor, optional=True))
def sparse_lookup(hashtable: BaseSparseEmbedding, ids: Union[FeatureSpec, tf.Tensor],
                  send_count: Optional[int] = None, is_train: bool = True, name: Optional[str] = None,
                  modify_graph: Optional[bool] = False, batch: Optional[Dict[str, Any]] = None,
                  access_and_evict_config: Optional[Dict[str, int]] = None, is_grad: bool = True,
                  serving_default_value: Optional[tf.Tensor] = None, **kwargs: Any) -> tf.Tensor:
    """Looks embeddings up (rec_sdk_api 3.4).

    Args:
        hashtable: the table.
        ids: a FeatureSpec, or with ``modify_graph=True`` an integer tensor.
        send_count: ids sent to one rank, mandatory in static mode.
        is_train: True inserts unseen ids; False gives zeros for them.
        name: scope of the lookup.
        modify_graph: must be True for tensor ids.
        batch: the feature dict, mandatory with a FeatureSpec and dynamic shape.
        access_and_evict_config: admission and eviction for tensor ids.
        is_grad: False stops the gradient of this lookup.
        serving_default_value: value of rows that are not in the table, instead of zeros.
        **kwargs: ignored, as the SDK ignores them.

    Returns:
        float32, shape of the ids + [dim].

    Raises:
        ValueError: an argument out of range; a tensor without ``modify_graph``; no send_count in static mode, or one
            that host tables cannot hold; a FeatureSpec of another table; thresholds that do not go together, lack a
            timestamp or differ between the lookups of a table.
        RuntimeError: the FeatureSpec has not been through a dataset, no batch with dynamic shape, more than 128
            lookups of one table, host tables without graph modification, FeatureSpecs and tensors mixed, or a
            training lookup of a tensor after the pipeline's start.
        KeyError: the batch lacks the FeatureSpec's key.
    """
    del kwargs
    state = graph_state.of()
    if isinstance(ids, FeatureSpec) and not hashtable.is_hbm:
        raise RuntimeError(NEEDS_GRAPH_MODIFICATION)
    _check_send_count(hashtable, send_count)
    if isinstance(ids, FeatureSpec):
        cached = state.feature_results.get((ids.name, is_train))
        if cached is not None:
            return cached
        tensor = _ids_of_feature(hashtable, ids, is_train, batch)
        state.uses_feature_specs = True
        access, eviction, coefficient = ids.access_threshold, ids.eviction_threshold, ids.faae_coefficient or 1
        timestamp = _of_batch(ids, ids.timestamp_key, batch) if ids.timestamp_key is not None else None
    else:
        _check_tensor_lookup(is_train, modify_graph)
        tensor = ids
        access, eviction, coefficient = _thresholds_of(access_and_evict_config)
        timestamp = next(iter(tf.compat.v1.get_collection(constants.ASCEND_TIMESTAMP)), None)
    if state.uses_feature_specs and state.uses_tensor_ids:
        raise RuntimeError("lookups of FeatureSpecs and of tensors cannot be mixed in one graph")
    count = hashtable.multi_lookup_times[is_train]
    if count >= constants.MULTI_LOOKUP_TIMES:
        raise RuntimeError("table %s is looked up more than %d times in one mode"
                           % (hashtable.table_name, constants.MULTI_LOOKUP_TIMES))
    default_name = hashtable.get_default_lookup_name()
    admission = _admission(hashtable, access, eviction, coefficient, timestamp, is_train)
    hashtable.multi_lookup_times[is_train] = count + 1
    hashtable.send_count = send_count
    with tf.name_scope(_scope_name(name) or default_name):
        output = embedding_lookup(hashtable, tensor, is_train, is_grad, serving_default_value, admission,
                                  send_count if ConfigInitializer.get_instance().use_static else None)
    if isinstance(ids, FeatureSpec):
        state.feature_results[(ids.name, is_train)] = output
    return output


def _scope_name(name: Optional[str]) -> Optional[str]:
    fixed = re.sub(r"[^A-Za-z0-9_.\\/-]", "_", name) if name else name
    if fixed != name:
        notices.tell("lookup name %r" % name, "the name %r of a lookup passes the SDK's check; on a device TensorFlow "
                     "refuses it as the name of a scope, use %r", name, fixed)
    return fixed


def _gradient_scale(operation: constants.All2allGradientsOp) -> float:
    return 1.0 if operation is constants.All2allGradientsOp.SUM_GRADIENTS else 1.0 / ranks.get_rank_size()


def _check_send_count(hashtable: BaseSparseEmbedding, send_count: Optional[int]) -> None:
    if not ConfigInitializer.get_instance().use_static:
        return
    if send_count is None:
        raise ValueError("Send count must be a integer which is larger than 0. Static mode needs it in every lookup.")
    needed = send_count * ranks.get_rank_size()
    for place, rows in (("device", hashtable.slice_device_vocabulary_size),
                        ("host", hashtable.slice_host_vocabulary_size)):
        if not hashtable.is_hbm and rows < needed:
            raise ValueError("table %s: static mode with DDR or SSD needs at least send_count * rank_size = %d rows "
                             "per rank in %s memory, it has %d" % (hashtable.table_name, needed, place, rows))


def _check_tensor_lookup(is_train: bool, modify_graph: Optional[bool]) -> None:
    if not modify_graph:
        raise ValueError("a tensor of ids needs modify_graph=True; pass a FeatureSpec without graph modification")
    config = ConfigInitializer.get_instance()
    if is_train and config.hybrid_manager_config.asc_manager is not None:
        raise RuntimeError(LOOKUP_AFTER_START)
    config.modify_graph = True
    state = graph_state.of()
    state.uses_tensor_ids = True
    state.trains_tensor_ids = state.trains_tensor_ids or is_train


def _thresholds_of(config: Optional[Dict[str, int]]) -> Tuple[Optional[int], Optional[int], int]:
    """Reads access_and_evict_config with the rules of FeatureSpec's arguments."""
    values = dict(config or {})
    access, eviction = values.pop("access_threshold", None), values.pop("eviction_threshold", None)
    coefficient = values.pop("faae_coefficient", 1)
    if values:
        notices.tell("access_and_evict_config", "access_and_evict_config: the SDK ignores the keys %s; it knows "
                     "access_threshold, eviction_threshold and faae_coefficient", sorted(map(str, values)))
    for name, value in (("access_threshold", access), ("eviction_threshold", eviction)):
        Int(name, -1, MAX_INT32, optional=True).check(value)
    Int("faae_coefficient", 1, MAX_INT32).check(coefficient)
    if eviction is not None and access is None:
        raise ValueError(EVICTION_WITHOUT_ADMISSION)
    return access, eviction, coefficient


def _admission(hashtable: BaseSparseEmbedding, access: Optional[int], eviction: Optional[int], coefficient: int,
               timestamp: Optional[tf.Tensor], is_train: bool) -> Optional[Admission]:
    """Returns how a training lookup counts; evaluation and prediction only read (rec_sdk_api 6)."""
    limits = history.thresholds(hashtable.table_name, access, eviction)
    known = hashtable.lookup_limits.setdefault(is_train, limits)
    if known != limits:
        raise ValueError("table %s: all lookups of a table need the same access_threshold and eviction_threshold, "
                         "found %s and %s" % (hashtable.table_name, known, limits))
    if limits is None or not is_train:
        return None
    if limits.eviction is not None and timestamp is None:
        raise ValueError(history.THRESHOLD_ERROR % (
            hashtable.table_name, "eviction needs the batch's timestamp: a FeatureSpec with is_timestamp=True, or with "
                                  "graph modification the collection ASCEND_TIMESTAMP"))
    hashtable.use_history(limits)
    return Admission(limits, coefficient, timestamp)


def _ids_of_feature(hashtable: BaseSparseEmbedding, spec: FeatureSpec, is_train: bool,
                    batch: Optional[Dict[str, Any]]) -> tf.Tensor:
    if spec.table_name != hashtable.table_name:
        raise ValueError("FeatureSpec %s belongs to table %r, not to %r"
                         % (spec.name, spec.table_name, hashtable.table_name))
    if not spec.initialized_modes:
        raise RuntimeError("Feature Spec has not been initialized. Map get_asc_insert_func over the dataset first "
                           "(FeatureSpec %s)" % spec.name)
    if is_train not in spec.initialized_modes:
        raise RuntimeError("You have not config feature for is training mode %s (FeatureSpec %s)"
                           % (is_train, spec.name))
    return _of_batch(spec, spec.index_key, batch)


def _of_batch(spec: FeatureSpec, key: Any, batch: Optional[Dict[str, Any]]) -> tf.Tensor:
    if batch is not None:
        if key not in batch:
            raise KeyError("FeatureSpec %s: the batch has no %r; it has %s" % (spec.name, key, sorted(batch)))
        return batch[key]
    if not ConfigInitializer.get_instance().use_static:
        raise RuntimeError("with dynamic shape, sparse_lookup of a FeatureSpec needs batch=<the feature dict>")
    return _of_iterator(spec, key)


def _of_iterator(spec: FeatureSpec, key: Any) -> tf.Tensor:
    """Finds a tensor of the batch in static mode, where the SDK's host pipeline delivers it by itself."""
    graph = tf.compat.v1.get_default_graph()
    found = [op for op in graph.get_operations()
             if op.type in ("IteratorGetNext", "IteratorGetNextSync") and len(op.outputs) == len(spec.element_keys)]
    if len(found) != 1:
        raise RuntimeError("FeatureSpec %s: %d iterators of this graph fit its dataset; pass batch=<the feature dict>"
                           % (spec.name, len(found)))
    return found[0].outputs[spec.element_keys.index(key)]
