"""The names that moved between the SDK generations G2 and G3 (rec_sdk_api 0): rank helpers, hccl_ops, op libraries."""
import importlib
from typing import Any, Sequence

import tensorflow as tf

_RANK_MODULES = ("rec_sdk_common.communication.hccl.hccl_info", "mx_rec.util.communication.hccl_ops")
_HCCL_MODULES = ("rec_sdk_common.util.tf_adapter", "mx_rec.util.tf_version_adapter", "npu_bridge.hccl")


def get_rank_id() -> int:
    """Returns this process's rank, 0-based."""
    return int(_first(_RANK_MODULES, "get_rank_id")())


def get_rank_size() -> int:
    """Returns the number of ranks."""
    return int(_first(_RANK_MODULES, "get_rank_size")())


def allreduce_sum(tensor: tf.Tensor) -> tf.Tensor:
    """Sums a float tensor over all ranks, which have it in the same shape."""
    return _first(_HCCL_MODULES, "hccl_ops").allreduce(tensor, "sum")


def allgather(tensor: tf.Tensor, rank_size: int) -> tf.Tensor:
    """Concatenates the ranks' tensors, float32 or int32 [n, ...] each, along the first axis: [n * rank_size, ...]."""
    return _first(_HCCL_MODULES, "hccl_ops").allgather(tensor, rank_size)


def return_timestamp(anchor: tf.Tensor) -> tf.Tensor:
    """Returns the time of the batch, int64 scalar, seconds since the epoch; an int64 tensor of the batch gives it its
    place in the graph."""
    from mx_rec.util.ops import import_host_pipeline_ops
    try:
        from mx_rec.constants.constants import LIBREC_TF_REC_V1_CPU_SO
    except ImportError:
        return import_host_pipeline_ops().return_timestamp(anchor)
    return import_host_pipeline_ops(LIBREC_TF_REC_V1_CPU_SO).return_timestamp(anchor)


def mark_end_of_sequence(dataset: tf.data.Dataset, is_training: bool) -> tf.data.Dataset:
    """Inserts the end-of-sequence mark that FeatureSpec mode needs before the insert function, where this SDK
    generation has it (2.2)."""
    if not hasattr(dataset, "eos_map"):
        return dataset
    from mx_rec.constants.constants import EVAL_CHANNEL_ID, LIBREC_EOS_OPS_SO, TRAIN_CHANNEL_ID
    from mx_rec.util.ops import import_host_pipeline_ops
    library = import_host_pipeline_ops(LIBREC_EOS_OPS_SO)
    # -1: no limit of the steps of training and of one evaluation.
    return dataset.eos_map(library, TRAIN_CHANNEL_ID if is_training else EVAL_CHANNEL_ID, -1, -1)


def _first(modules: Sequence[str], name: str) -> Any:
    """Returns what has the name in the first of the modules that has it."""
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError("no %s found in %s" % (name, ", ".join(modules)))
