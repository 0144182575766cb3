"""Collectives between the ranks of a CPU program: Horovod over Gloo, each with a name of its own and watched.

Horovod matches the collectives of the ranks by name, so a name follows from the order in which a graph is built, which
all ranks share. It imports nothing of Horovod before there are several ranks.
"""
import os
from typing import Any, Callable, Tuple

import numpy as np
import tensorflow as tf

from rec_sdk_cpu.core import graph_state, ranks
from rec_sdk_cpu.core.watchdog import watchdog

NOT_INSTALLED = ("%d ranks on CPUs need Horovod, which is not installed here: bash run_estimator.sh setup "
                 "--distributed")
NOT_LAUNCHED = ("the environment announces %d ranks (OMPI_COMM_WORLD_SIZE), but no launcher that this stand-in knows "
                "started this process; start the ranks with: python -m rec_sdk_cpu.rank_launcher --ranks %d -- COMMAND")


def engine() -> Any:
    """Returns ``horovod.tensorflow``, started and watched.

    Raises:
        RuntimeError: Horovod is not installed, the ranks were not started by its launcher or ours, or it counts
            other ranks than the environment announces.
    """
    size = ranks.get_rank_size()
    if "HOROVOD_RANK" not in os.environ:
        raise RuntimeError(NOT_LAUNCHED % (size, size))
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        raise RuntimeError("%s (%s)" % (NOT_INSTALLED % size, error)) from error
    if not hvd.is_initialized():
        hvd.init()
        watchdog.start()
    if (hvd.rank(), hvd.size()) != (ranks.get_rank_id(), size):
        raise RuntimeError("the environment announces rank %d of %d, Horovod started rank %d of %d"
                           % (ranks.get_rank_id(), size, hvd.rank(), hvd.size()))
    return hvd


def allreduce(tensor: tf.Tensor, reduction: str, label: str) -> tf.Tensor:
    """Reduces a tensor over the ranks; the gradient is the sum of the ranks' gradients.

    Args:
        tensor: the same shape and dtype on each rank.
        reduction: "sum", "min", "max" or "prod".
        label: what it is for; the name is made of it.

    Returns:
        The same shape and dtype.
    """
    @tf.custom_gradient
    def reduced(value: tf.Tensor) -> Any:
        return _reduce(value, reduction, label), lambda gradient: _reduce(gradient, "sum", label + ".gradient")
    return reduced(tf.convert_to_tensor(tensor))


def allgather(tensor: tf.Tensor, label: str) -> tf.Tensor:
    """Concatenates the ranks' tensors along the first axis, whose length may differ; no gradient."""
    hvd = engine()
    gathered = _watched(label, tensor, lambda value, name: hvd.allgather(value, name=name))
    gathered.set_shape([None] + tensor.shape.as_list()[1:])
    return gathered


def broadcast(tensor: tf.Tensor, root_rank: int, label: str) -> tf.Tensor:
    """Returns the root's tensor, of the same shape on each rank; no gradient."""
    hvd = engine()
    received = _watched(label, tensor, lambda value, name: hvd.broadcast(value, root_rank, name=name))
    received.set_shape(tensor.shape)
    return received


def alltoall(tensor: tf.Tensor, splits: tf.Tensor, label: str) -> Tuple[tf.Tensor, tf.Tensor]:
    """Sends ``splits[r]`` (int32 [ranks]) entries of the first axis to each rank r, in order; no gradient.

    Returns:
        The entries received, in the order of the senders, and how many came from each, int32 [ranks].
    """
    hvd = engine()
    with tf.control_dependencies([tensor]):
        received, counts = _watched(label, splits, lambda value, name: hvd.alltoall(tensor, splits=value, name=name))
    received.set_shape([None] + tensor.shape.as_list()[1:])
    counts.set_shape([ranks.get_rank_size()])
    return received, counts


class Agreement:
    """A question that all ranks answer together; built before the graph is finalised."""

    def __init__(self, label: str):
        self._mine = tf.compat.v1.placeholder(tf.int32, [])
        self._all = allreduce(self._mine, "min", label)

    def all(self, session: Any, mine: bool) -> bool:
        """Waits for all ranks and returns whether each of them said True."""
        return bool(session.run(self._all, {self._mine: int(mine)}))


def _reduce(tensor: tf.Tensor, reduction: str, label: str) -> tf.Tensor:
    hvd = engine()
    operation = {"sum": hvd.Sum, "min": hvd.Min, "max": hvd.Max, "prod": hvd.Product}[reduction]
    reduced = _watched(label, tensor, lambda value, name: hvd.allreduce(value, op=operation, name=name))
    reduced.set_shape(tensor.shape)
    return reduced


def _watched(label: str, tensor: tf.Tensor, collective: Callable[[tf.Tensor, str], Any]) -> Any:
    """Builds a collective of which the watchdog learns when it begins and ends."""
    name = _new_name(label)
    # At the root: an op inside a name scope would have the scope in its name.
    with tf.name_scope(None):
        with tf.control_dependencies([tensor]):
            begun = _call(watchdog.begin, name, "begin")
        # The zero out of Python keeps optimizers of graphs from taking the input for a constant: Horovod's ops are
        # not stateful, and one that is folded runs once and never again, on this rank alone.
        if tensor.dtype == tf.bool:
            moved = tf.logical_or(tensor, tf.cast(begun, tf.bool))
        else:
            moved = tensor + tf.cast(begun, tensor.dtype)
        result = collective(moved, name)
        with tf.control_dependencies(tf.nest.flatten(result)):
            ended = _call(watchdog.end, name, "end")
        with tf.control_dependencies([ended]):
            return tf.nest.map_structure(tf.identity, result)


def _call(note: Callable[[str], None], name: str, what: str) -> tf.Tensor:
    def call() -> np.ndarray:
        note(name)
        return np.zeros([], np.int32)
    zero = tf.numpy_function(call, [], tf.int32, name="%s.%s" % (name, what))
    zero.set_shape([])
    return zero


def _new_name(label: str) -> str:
    used = graph_state.of().collectives
    number = used[label] = used.get(label, -1) + 1
    return "rec_sdk_cpu.%s.%d" % (label, number)
