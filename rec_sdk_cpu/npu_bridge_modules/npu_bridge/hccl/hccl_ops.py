"""Stands in for ``npu_bridge.hccl.hccl_ops``: collectives over one rank (npu_bridge_api 1.6).

The stand-in has one rank, so a sum over the ranks is the tensor itself. Where the environment announces more, every
collective raises instead of giving a number that is wrong. As on an NPU, only :func:`allreduce` has a gradient.
"""
from typing import Any, List, Sequence

import tensorflow as tf

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
        RuntimeError: more than one rank.

    Source: npu_bridge_api 1.6.
    """
    _check_reduction(reduction)
    _require_one_rank("allreduce")
    return tf.identity(tensor, name="HcomAllReduce")


def allgather(tensor: tf.Tensor, rank_size: int, group: str = _WORLD, fusion: int = 0,
              fusion_id: int = -1) -> tf.Tensor:
    """Concatenates the ranks' tensors along the first axis; no gradient.

    Args:
        tensor: tensor of shape [n, ...].
        rank_size: number of ranks, 1 here.
        group: name of the group of ranks.
        fusion: no effect here.
        fusion_id: no effect here.

    Returns:
        tensor of shape [n * rank_size, ...].

    Raises:
        RuntimeError: more than one rank.

    Source: npu_bridge_api 1.6.
    """
    _require_one_rank("allgather", rank_size)
    return _without_gradient(tensor, "HcomAllGather")


def broadcast(tensor: Sequence[tf.Tensor], root_rank: int, fusion: int = 2, fusion_id: int = 0,
              group: str = _WORLD) -> List[tf.Tensor]:
    """Sends the root's tensors to all ranks; no gradient.

    Args:
        tensor: a list of tensors.
        root_rank: the sender, 0 here.
        fusion: no effect here.
        fusion_id: no effect here.
        group: name of the group of ranks.

    Returns:
        list of tensors, in the same order.

    Raises:
        TypeError: a lone tensor in place of the list.
        ValueError: the root is not a rank.
        RuntimeError: more than one rank.

    Source: npu_bridge_api 1.6.
    """
    if not isinstance(tensor, (list, tuple)):
        raise TypeError("hccl_ops.broadcast takes a list of tensors and returns a list, but %s was given; write "
                        "broadcast([tensor], root_rank)[0]" % type(tensor).__name__)
    _require_one_rank("broadcast")
    _check_root(root_rank)
    return [_without_gradient(one, "HcomBroadcast") for one in tensor]


def reduce(tensor: tf.Tensor, reduction: str, root_rank: int, fusion: int = 0, fusion_id: int = -1,
           group: str = _WORLD) -> tf.Tensor:
    """Reduces a tensor over the ranks onto the root; no gradient.

    Args:
        tensor: tensor of any shape.
        reduction: "sum", "max", "min" or "prod".
        root_rank: the receiver, 0 here.
        fusion: no effect here.
        fusion_id: no effect here.
        group: name of the group of ranks.

    Returns:
        tensor of the same shape and dtype.

    Raises:
        ValueError: another reduction, or the root is not a rank.
        RuntimeError: more than one rank.

    Source: npu_bridge_api 1.6.
    """
    _check_reduction(reduction)
    _require_one_rank("reduce")
    _check_root(root_rank)
    return _without_gradient(tensor, "HcomReduce")


def reduce_scatter(tensor: tf.Tensor, reduction: str, rank_size: int, group: str = _WORLD, fusion: int = 0,
                   fusion_id: int = -1) -> tf.Tensor:
    """Reduces over the ranks and leaves each rank its part of the first axis; no gradient.

    Args:
        tensor: tensor of shape [n * rank_size, ...].
        reduction: "sum", "max", "min" or "prod".
        rank_size: number of ranks, 1 here.
        group: name of the group of ranks.
        fusion: no effect here.
        fusion_id: no effect here.

    Returns:
        tensor of shape [n, ...].

    Raises:
        ValueError: another reduction.
        RuntimeError: more than one rank.

    Source: npu_bridge_api 1.6.
    """
    _check_reduction(reduction)
    _require_one_rank("reduce_scatter", rank_size)
    return _without_gradient(tensor, "HcomReduceScatter")


def send(tensor: tf.Tensor, sr_tag: int, dest_rank: int, group: str = _WORLD) -> None:
    """Sends a tensor to another rank, of which there is none here.

    Args:
        tensor: tensor of any shape.
        sr_tag: tag that pairs it with a receive.
        dest_rank: the receiver.
        group: name of the group of ranks.

    Raises:
        RuntimeError: always.

    Source: npu_bridge_api 1.6.
    """
    raise RuntimeError("hccl_ops.send: the CPU stand-in has one rank and no rank %r to send to" % (dest_rank,))


def receive(shape: Sequence[int], data_type: tf.DType, sr_tag: int, src_rank: int, group: str = _WORLD) -> None:
    """Receives a tensor from another rank, of which there is none here.

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
    raise RuntimeError("hccl_ops.receive: the CPU stand-in has one rank and no rank %r to receive from" % (src_rank,))


def _check_reduction(reduction: str) -> None:
    if reduction not in _REDUCTIONS:
        raise ValueError("reduction must be one of %s, but %r was given" % (", ".join(_REDUCTIONS), reduction))


def _check_root(root_rank: int) -> None:
    if root_rank != 0:
        raise ValueError("root_rank must be a rank, and the CPU stand-in's only rank is 0, but %r was given"
                         % (root_rank,))


def _require_one_rank(operation: str, rank_size: int = 1) -> None:
    announced = max(rank_size, npu_common.read_rank_size(), npu_common.read_mpi_rank_size())
    if announced > 1:
        raise RuntimeError("hccl_ops.%s over %d ranks: the CPU stand-in has one rank; start one process (RANK_SIZE, "
                           "CM_WORKER_SIZE and OMPI_COMM_WORLD_SIZE unset or 1)" % (operation, announced))


def _without_gradient(tensor: tf.Tensor, name: str) -> tf.Tensor:
    # The device's op has no registered gradient: differentiating through it is a LookupError there, and so here.
    return tf.raw_ops.PreventGradient(input=tf.convert_to_tensor(tensor), name=name, message=(
        "%s has no gradient; only allreduce can be differentiated" % name))


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.hccl.hccl_ops", name)
