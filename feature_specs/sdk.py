"""The names that moved between the SDK generations G2 and G3 (rec_sdk_api 0): rank helpers, hccl_ops, op libraries."""
import importlib
from typing import Any, Callable, Tuple

import tensorflow as tf

_RANK_MODULES = ("rec_sdk_common.communication.hccl.hccl_info", "mx_rec.util.communication.hccl_ops")
_HCCL_MODULES = ("rec_sdk_common.util.tf_adapter", "mx_rec.util.tf_version_adapter", "npu_bridge.hccl")


def get_rank_id() -> int:
    """Returns this process's rank, 0-based."""
    return int(_rank_helper("get_rank_id")())


def get_rank_size() -> int:
    """Returns the number of ranks."""
    return int(_rank_helper("get_rank_size")())


def allreduce_sum(tensor: tf.Tensor) -> tf.Tensor:
    """Sums a tensor over all ranks.

    Args:
        tensor: float, any shape, the same on every rank.

    Returns:
        The sum, same shape and dtype.
    """
    return _hccl_ops().allreduce(tensor, "sum")


def allgather(tensor: tf.Tensor, rank_size: int) -> tf.Tensor:
    """Concatenates the ranks' tensors along the first axis.

    Args:
        tensor: float32 or int32 [n, ...], the same shape on every rank.
        rank_size: number of ranks.

    Returns:
        The same dtype, [n * rank_size, ...].
    """
    return _hccl_ops().allgather(tensor, rank_size)


def return_timestamp(anchor: tf.Tensor) -> tf.Tensor:
    """Returns the time of the batch, int64 scalar, seconds since the epoch.

    Args:
        anchor: int64 tensor of the batch; only its place in the graph matters.
    """
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


def _hccl_ops() -> Any:
    for name in _HCCL_MODULES:
        try:
            return importlib.import_module(name).hccl_ops
        except (ImportError, AttributeError):
            continue
    raise ImportError("no hccl_ops found in %s" % ", ".join(_HCCL_MODULES))


def _rank_helper(name: str) -> Callable[[], Any]:
    return getattr(_first_module(_RANK_MODULES), name)


def _first_module(names: Tuple[str, ...]) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("none of %s can be imported" % ", ".join(names))
