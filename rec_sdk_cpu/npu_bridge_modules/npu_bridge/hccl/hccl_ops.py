"""Stands in for ``npu_bridge.hccl.hccl_ops``: collectives over the ranks (npu_bridge_api 1.6).

Over one rank a sum is the tensor itself. Several ranks exchange through :mod:`rec_sdk_cpu.core.collectives`; where the
environment announces ranks that nobody started, every collective raises instead of giving a number that is wrong. As on
an NPU, only :func:`allreduce` has a gradient.
"""
from typing import Any, List, Sequence

import tensorflow as tf

from rec_sdk_cpu.core import collectives, ranks
from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_common

_WORLD = "hccl_world_group"
_REDUCTIONS = ("sum", "max", "min", "prod")


def allreduce(tensor: tf.Tensor, reduction: str, fusion: int = 1, fusion_id: int = -1,
              group: str = _WORLD) -> tf.Tensor:
    """Reduces a tensor over the ranks; differentiable.

    Args:
        tensor: tensor of any shape, the same on each rank.
        reduction: "sum", "max", "min" or "prod".
        fusion: fusion rule of the device; no effect here.
        fusion_id: fusion group of the device; no effect here.
        group: name of the group of ranks.

    Returns:
        tensor of the same shape and dtype.

    Raises:
        ValueError: another reduction.
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 1.6.
    """
    _check_reduction(reduction)
    if _several("allreduce"):
        return collectives.allreduce(tensor, reduction, "allreduce")
    return tf.identity(tensor, name="HcomAllReduce")


def allgather(tensor: tf.Tensor, rank_size: int, group: str = _WORLD, fusion: int = 0,
              fusion_id: int = -1) -> tf.Tensor:
    """Concatenates the ranks' tensors along the first axis; no gradient.

    Args:
        tensor: tensor of shape [n, ...].
        rank_size: number of ranks.
        group: name of the group of ranks.
        fusion: no effect here.
        fusion_id: no effect here.

    Returns:
        tensor of shape [n * rank_size, ...].

    Raises:
        ValueError: rank_size is not the number of ranks.
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 1.6.
    """
    if _several("allgather", rank_size):
        tensor = tf.convert_to_tensor(tensor)
        gathered = collectives.allgather(tensor, "allgather")
        if tensor.shape.rank and tensor.shape[0].value is not None:
            gathered.set_shape([tensor.shape[0].value * rank_size] + tensor.shape.as_list()[1:])
        return _without_gradient(gathered, "HcomAllGather")
    return _without_gradient(tensor, "HcomAllGather")


def broadcast(tensor: Sequence[tf.Tensor], root_rank: int, fusion: int = 2, fusion_id: int = 0,
              group: str = _WORLD) -> List[tf.Tensor]:
    """Sends the root's tensors to all ranks; no gradient.

    Args:
        tensor: a list of tensors.
        root_rank: the sender.
        fusion: no effect here.
        fusion_id: no effect here.
        group: name of the group of ranks.

    Returns:
        list of tensors, in the same order.

    Raises:
        TypeError: a lone tensor in place of the list.
        ValueError: the root is not a rank.
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 1.6.
    """
    if not isinstance(tensor, (list, tuple)):
        raise TypeError("hccl_ops.broadcast takes a list of tensors and returns a list, but %s was given; write "
                        "broadcast([tensor], root_rank)[0]" % type(tensor).__name__)
    several = _several("broadcast")
    _check_root(root_rank)
    if several:
        return [_without_gradient(collectives.broadcast(tf.convert_to_tensor(one), root_rank, "broadcast"),
                                  "HcomBroadcast") for one in tensor]
    return [_without_gradient(one, "HcomBroadcast") for one in tensor]


def reduce(tensor: tf.Tensor, reduction: str, root_rank: int, fusion: int = 0, fusion_id: int = -1,
           group: str = _WORLD) -> tf.Tensor:
    """Reduces a tensor over the ranks onto the root; no gradient.

    Args:
        tensor: tensor of any shape.
        reduction: "sum", "max", "min" or "prod".
        root_rank: the receiver; the others have the result too.
        fusion: no effect here.
        fusion_id: no effect here.
        group: name of the group of ranks.

    Returns:
        tensor of the same shape and dtype.

    Raises:
        ValueError: another reduction, or the root is not a rank.
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 1.6.
    """
    _check_reduction(reduction)
    several = _several("reduce")
    _check_root(root_rank)
    if several:
        # On an NPU the others' results are not defined; one graph for all ranks is what keeps them in step.
        return _without_gradient(collectives.allreduce(tensor, reduction, "reduce"), "HcomReduce")
    return _without_gradient(tensor, "HcomReduce")


def reduce_scatter(tensor: tf.Tensor, reduction: str, rank_size: int, group: str = _WORLD, fusion: int = 0,
                   fusion_id: int = -1) -> tf.Tensor:
    """Reduces over the ranks and leaves each rank its part of the first axis; no gradient.

    Args:
        tensor: tensor of shape [n * rank_size, ...].
        reduction: "sum", "max", "min" or "prod".
        rank_size: number of ranks.
        group: name of the group of ranks.
        fusion: no effect here.
        fusion_id: no effect here.

    Returns:
        tensor of shape [n, ...].

    Raises:
        ValueError: another reduction, or rank_size is not the number of ranks.
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 1.6.
    """
    _check_reduction(reduction)
    if _several("reduce_scatter", rank_size):
        # Horovod scatters sums only; a split of the whole serves every reduction.
        reduced = collectives.allreduce(tensor, reduction, "reduce_scatter")
        return _without_gradient(tf.split(reduced, rank_size)[ranks.get_rank_id()], "HcomReduceScatter")
    return _without_gradient(tensor, "HcomReduceScatter")


def all_to_all_v(send_data: tf.Tensor, send_counts: tf.Tensor, send_displacements: tf.Tensor, recv_counts: tf.Tensor,
                 recv_displacements: tf.Tensor, group: str = _WORLD) -> tf.Tensor:
    """Sends each rank its part of a tensor and takes its own parts from all; no gradient.

    Args:
        send_data: values, of any shape; counts and displacements are in values, not in rows.
        send_counts: int64 [ranks], how many values go to each rank.
        send_displacements: int64 [ranks], where those of each rank begin.
        recv_counts: int64 [ranks], how many values come from each rank.
        recv_displacements: int64 [ranks], where those of each rank are put.
        group: name of the group of ranks.

    Returns:
        The values received, 1-D; places that no rank fills are 0.

    Raises:
        RuntimeError: ranks that were not started. The step fails where recv_counts is not what the others send.

    Source: signatures file; the parameters' meaning from TF Adapter's documentation.
    """
    sent = tf.gather(tf.reshape(send_data, [-1]), _places(send_counts, send_displacements))
    places = _places(recv_counts, recv_displacements)
    received = _exchanged(sent, send_counts, recv_counts, "all_to_all_v")
    length = tf.reduce_max(tf.concat([places + 1, tf.zeros([1], tf.int64)], axis=0))
    return _without_gradient(tf.scatter_nd(places[:, None], received, [length]), "HcomAllToAllV")


def all_to_all_v_c(send_data: tf.Tensor, send_count_matrix: tf.Tensor, rank: int, fusion: int = 0, fusion_id: int = -1,
                   group: str = _WORLD) -> tf.Tensor:
    """Sends each rank its part of a tensor, whose parts follow each other in the order of the ranks; no gradient.

    Args:
        send_data: values, of any shape; counts are in values, not in rows.
        send_count_matrix: int64 [ranks, ranks], or as many values in a row: how many values rank i sends to rank j.
        rank: this process's rank.
        fusion: no effect here.
        fusion_id: no effect here.
        group: name of the group of ranks.

    Returns:
        The values received, 1-D, in the order of the senders.

    Raises:
        ValueError: ``rank`` is not this process's.
        RuntimeError: ranks that were not started. The step fails where the others send other counts.

    Source: signatures file; the parameters' meaning from TF Adapter's documentation.
    """
    size = ranks.get_rank_size() if ranks.several() else 1
    own = ranks.get_rank_id() if ranks.several() else 0
    if rank != own:
        raise ValueError("rank must be this process's, %d, but %r was given" % (own, rank))
    matrix = tf.reshape(send_count_matrix, [size, size])
    received = _exchanged(tf.reshape(send_data, [-1]), matrix[own], matrix[:, own], "all_to_all_v_c")
    return _without_gradient(received, "HcomAllToAllVC")


def send(tensor: tf.Tensor, sr_tag: int, dest_rank: int, group: str = _WORLD) -> None:
    """Would send a tensor to another rank, which the stand-in does not do.

    Args:
        tensor: tensor of any shape.
        sr_tag: tag that pairs it with a receive.
        dest_rank: the receiver.
        group: name of the group of ranks.

    Raises:
        RuntimeError: always.

    Source: npu_bridge_api 1.6.
    """
    raise RuntimeError("hccl_ops.send to rank %r: the CPU stand-in exchanges between all ranks only; use broadcast or "
                       "all_to_all_v" % (dest_rank,))


def receive(shape: Sequence[int], data_type: tf.DType, sr_tag: int, src_rank: int, group: str = _WORLD) -> None:
    """Would receive a tensor from another rank, which the stand-in does not do.

    Args:
        shape: shape of the tensor.
        data_type: its dtype.
        sr_tag: tag that pairs it with a send.
        src_rank: the sender.
        group: name of the group of ranks.

    Raises:
        RuntimeError: always.

    Source: npu_bridge_api 1.6.
    """
    raise RuntimeError("hccl_ops.receive from rank %r: the CPU stand-in exchanges between all ranks only; use "
                       "broadcast or all_to_all_v" % (src_rank,))


def _exchanged(values: tf.Tensor, send_counts: tf.Tensor, recv_counts: tf.Tensor, operation: str) -> tf.Tensor:
    """Sends values (1-D, in the order of the ranks) and checks how many come from each rank."""
    if _several(operation):
        received, counts = collectives.alltoall(values, tf.cast(send_counts, tf.int32), operation)
    else:
        received, counts = values, tf.reshape(send_counts, [-1])
    expected = tf.reshape(recv_counts, [-1])
    check = tf.debugging.Assert(tf.reduce_all(tf.equal(tf.cast(counts, tf.int64), tf.cast(expected, tf.int64))), [
        "hccl_ops.%s: the ranks send other counts than this rank expects (sent, expected):" % operation, counts,
        expected], summarize=8)
    with tf.control_dependencies([check]):
        return tf.identity(received)


def _places(counts: tf.Tensor, displacements: tf.Tensor) -> tf.Tensor:
    """Returns the index of every value of blocks that begin at ``displacements`` (int64 [ranks]), int64 [n]."""
    counts, displacements = tf.cast(counts, tf.int64), tf.cast(displacements, tf.int64)
    before = tf.cumsum(counts, exclusive=True)
    return tf.repeat(displacements - before, counts) + tf.range(tf.reduce_sum(counts))


def _check_reduction(reduction: str) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError("reduction must be one of %s, but %r was given" % (", ".join(_REDUCTIONS), reduction))


def _check_root(root_rank: int) -> None:
    size = ranks.get_rank_size() if ranks.several() else 1
    if not 0 <= root_rank < size:
        raise ValueError("root_rank must be a rank, 0 to %d, but %r was given" % (size - 1, root_rank))


def _several(operation: str, rank_size: int = 0) -> bool:
    """Tells whether there are several ranks, and refuses those that the environment only announces."""
    if ranks.several():
        size = int(collectives.engine().size())
        if rank_size not in (0, size):
            raise ValueError("hccl_ops.%s: rank_size must be the number of ranks, %d, but %r was given"
                             % (operation, size, rank_size))
        return True
    announced = max(rank_size, npu_common.read_rank_size())
    if announced > 1:
        raise RuntimeError("hccl_ops.%s over %d ranks: this process is one rank by itself; start the ranks together "
                           "(python -m rec_sdk_cpu.rank_launcher --ranks %d -- COMMAND), or leave RANK_SIZE and "
                           "CM_WORKER_SIZE unset" % (operation, announced, announced))
    return False


def _without_gradient(tensor: tf.Tensor, name: str) -> tf.Tensor:
    # The device's op has no registered gradient: differentiating through it is a LookupError there, and so here.
    return tf.raw_ops.PreventGradient(input=tf.convert_to_tensor(tensor), name=name, message=(
        "%s has no gradient; only allreduce can be differentiated" % name))


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.hccl.hccl_ops", name)
