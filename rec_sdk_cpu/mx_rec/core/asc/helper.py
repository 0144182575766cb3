"""Stand-in for ``mx_rec.core.asc.helper``: the insert function of a dataset (rec_sdk_api 2.2)."""
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

import tensorflow as tf

from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import Bool, Instance, checked
from rec_sdk_cpu.mx_rec.core.asc.feature_spec import FeatureSpec

READ_KEY_SUFFIX = "_read_emb_key"


@checked(Instance("tgt_key_specs", (FeatureSpec, list, tuple), optional=True),
         Instance("args_index_list", list, optional=True), Instance("table_names", list, optional=True),
         Bool("is_training", optional=True), Bool("dump_graph", optional=True))
def get_asc_insert_func(tgt_key_specs: Union[None, FeatureSpec, Sequence[FeatureSpec]] = None,
                        args_index_list: Optional[List[int]] = None, table_names: Optional[List[str]] = None,
                        **kwargs: Any) -> Callable[..., Any]:
    """Returns the function to map over a batched dataset, before ``prefetch``.

    Args:
        tgt_key_specs: the FeatureSpec or FeatureSpecs of the batch.
        args_index_list: positions of id tensors (used with graph modification, instead of specs).
        table_names: tables of ``args_index_list``.
        **kwargs: ``is_training`` (default True) chooses the channel; others are ignored.

    Returns:
        A function from a batch to the batch plus one scalar int32 entry, ``<last key>_read_emb_key``.

    Raises:
        ValueError: both or neither of specs and args_index_list given, an empty list, or an item of another type.
        RuntimeError: table_names with specs, or missing with args_index_list.
    """
    if (tgt_key_specs is None) == (args_index_list is None):
        raise ValueError("exactly one of tgt_key_specs and args_index_list must be given")
    if tgt_key_specs is None:
        return create_asc_insert_func_with_acg(args_index_list, table_names, **kwargs)
    if table_names is not None:
        raise RuntimeError("table_names goes with args_index_list, not with tgt_key_specs")
    return create_asc_insert_func_with_specs(tgt_key_specs, **kwargs)


def create_asc_insert_func_with_specs(tgt_key_specs: Union[FeatureSpec, Sequence[FeatureSpec]],
                                      **kwargs: Any) -> Callable[..., Any]:
    """See :func:`get_asc_insert_func`, specs mode."""
    specs = [tgt_key_specs] if isinstance(tgt_key_specs, FeatureSpec) else list(tgt_key_specs)
    if not specs or not all(isinstance(spec, FeatureSpec) for spec in specs):
        raise ValueError("tgt_key_specs must hold at least one FeatureSpec and nothing else, given %r" % (specs,))
    is_training = kwargs.get("is_training")
    is_training = True if is_training is None else is_training
    config = ConfigInitializer.get_instance()
    for spec in specs:
        config.feature_spec_config[is_training].add(spec)

    timestamp_key = next((spec.index_key for spec in specs if spec.is_timestamp), None)
    for spec in specs:
        spec.timestamp_key = timestamp_key

    # The SDK's op is not Python to be converted, and converting costs more than a second at every start.
    @tf.autograph.experimental.do_not_convert
    def insert(*batch: Any) -> Any:
        config.train_params_config.insert_training_mode_channel_id(is_training)
        if len(batch) == 1 and isinstance(batch[0], dict):
            return _insert_dict(specs, batch[0], is_training)
        return _insert_sequence(specs, batch, is_training)

    return insert


def create_asc_insert_func_with_acg(args_index_list: Optional[List[int]], table_names: Optional[List[str]],
                                    **kwargs: Any) -> Callable[..., Any]:
    """See :func:`get_asc_insert_func`, args-index mode: the batch passes unchanged but for the added entry."""
    del kwargs
    if not args_index_list or not table_names or len(args_index_list) != len(table_names):
        raise RuntimeError("args_index_list needs table_names of the same length")

    @tf.autograph.experimental.do_not_convert
    def insert(*batch: Any) -> Any:
        if len(batch) == 1 and isinstance(batch[0], dict):
            return _with_read_key(batch[0])
        return tuple(batch) + (tf.constant(0, tf.int32),)

    return insert


def _insert_dict(specs: Sequence[FeatureSpec], batch: Dict[str, tf.Tensor], is_training: bool) -> Dict[str, tf.Tensor]:
    result = _with_read_key(batch)
    for spec in specs:
        if spec.is_timestamp:
            if spec.index_key not in batch:
                raise KeyError("the batch has no timestamp %r; it has %s" % (spec.index_key, sorted(batch)))
            spec.insert_timestamp(batch[spec.index_key], is_training)
        elif spec.index_key in batch:
            spec.insert(batch[spec.index_key], is_training)
        spec.element_keys = tuple(sorted(result))
    return result


def _insert_sequence(specs: Sequence[FeatureSpec], batch: Sequence[Any], is_training: bool) -> Any:
    for spec in specs:
        if not isinstance(spec.index_key, int) or spec.index_key >= len(batch):
            raise ValueError("FeatureSpec %s: index_key %r is not a position in a batch of %d tensors"
                             % (spec.name, spec.index_key, len(batch)))
        if spec.is_timestamp:
            spec.insert_timestamp(batch[spec.index_key], is_training)
        else:
            spec.insert(batch[spec.index_key], is_training)
    return tuple(batch) + (tf.constant(0, tf.int32),)


def _with_read_key(batch: Dict[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
    result = dict(batch)
    result[max(batch) + READ_KEY_SUFFIX] = tf.constant(0, tf.int32)
    return result


__all__ = ["FeatureSpec", "create_asc_insert_func_with_acg", "create_asc_insert_func_with_specs",
           "get_asc_insert_func"]
