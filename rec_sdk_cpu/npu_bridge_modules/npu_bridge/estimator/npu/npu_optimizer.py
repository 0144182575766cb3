"""Stands in for ``npu_bridge.estimator.npu.npu_optimizer``: gradients averaged over ranks (npu_bridge_api 1.5, 2.5).

With one rank nothing is averaged.
"""
import os
from typing import Any, List, Optional, Tuple, Union

import tensorflow as tf

from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import util
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops

_Gradient = Union[tf.Tensor, tf.IndexedSlices]
_GradsAndVars = List[Tuple[Optional[_Gradient], tf.Variable]]


def allreduce(tensor: _Gradient, average: bool = True) -> _Gradient:
    """Sums a gradient over the ranks.

    Args:
        tensor: dense tensor (one allreduce) or IndexedSlices (values and indices are gathered).
        average: divide by the number of ranks.

    Returns:
        gradient of the same kind; the argument itself where there is one rank.

    Raises:
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 2.5.
    """
    size = util.get_ranksize()
    if size <= 1:
        return tensor
    divisor = size if average else 1
    if isinstance(tensor, tf.IndexedSlices):
        return tf.IndexedSlices(hccl_ops.allgather(tensor.values, size) / divisor,
                                hccl_ops.allgather(tensor.indices, size), dense_shape=tensor.dense_shape)
    return hccl_ops.allreduce(tensor, "sum") / divisor


def reduce(tensor: tf.Tensor, root_rank: int, average: bool = True, fusion: int = 0, fusion_id: int = -1) -> tf.Tensor:
    """Sums a tensor over the ranks onto the root.

    Args:
        tensor: dense tensor.
        root_rank: the receiver.
        average: divide by the number of ranks.
        fusion: no effect here.
        fusion_id: no effect here.

    Returns:
        tensor of the same shape and dtype; the argument itself where there is one rank.

    Raises:
        RuntimeError: ranks that were not started.

    Source: signatures file; npu_bridge_api 2.5.
    """
    size = util.get_ranksize()
    if size <= 1:
        return tensor
    summed = hccl_ops.reduce(tensor, "sum", root_rank, fusion, fusion_id)
    return summed / size if average else summed


def npu_allreduce(values: Any, reduction: str = "mean", fusion: int = 1, fusion_id: int = -1,
                  group: str = "hccl_world_group") -> Any:
    """Reduces a tensor, or each of a list of them, over the ranks.

    Args:
        values: tensor or list of tensors.
        reduction: "mean", or a reduction of ``hccl_ops.allreduce``.
        fusion: no effect here.
        fusion_id: no effect here.
        group: name of the group of ranks.

    Returns:
        what was given, reduced.

    Raises:
        ValueError: another reduction.
        RuntimeError: ranks that were not started.

    Source: npu_bridge_api 1.5.
    """
    kind = "sum" if reduction == "mean" else reduction
    reduced = tf.nest.map_structure(lambda one: hccl_ops.allreduce(one, kind, fusion, fusion_id, group), values)
    size = util.get_ranksize()
    if reduction != "mean" or size == 1:
        return reduced
    return tf.nest.map_structure(lambda one: one / size, reduced)


def npu_distributed_optimizer_wrapper(optimizer: Any) -> Any:
    """Makes an optimizer's gradients averages over the ranks.

    ``compute_gradients`` of a TensorFlow 1 optimizer, or ``get_gradients`` of a Keras one, is replaced on the object.

    Args:
        optimizer: the optimizer to change.

    Returns:
        the same object.

    Raises:
        ValueError: the object has neither method.

    Source: npu_bridge_api 1.5, 2.5.
    """
    if hasattr(optimizer, "compute_gradients"):
        compute_gradients = optimizer.compute_gradients
        optimizer.compute_gradients = lambda *args, **kwargs: _average(compute_gradients(*args, **kwargs))
    elif hasattr(optimizer, "get_gradients"):
        get_gradients = optimizer.get_gradients
        optimizer.get_gradients = lambda *args, **kwargs: [
            None if one is None else allreduce(one) for one in get_gradients(*args, **kwargs)]
    else:
        raise ValueError("npu_distributed_optimizer_wrapper needs a TensorFlow or Keras optimizer, but %r was given"
                         % (optimizer,))
    return optimizer


class NPUDistributedOptimizer(tf.compat.v1.train.Optimizer):
    """An optimizer around another one, whose gradients are averages over the ranks.

    Source: npu_bridge_api 1.5, 2.5.
    """

    def __init__(self, optimizer: tf.compat.v1.train.Optimizer, is_weight_update_sharding: bool = False,
                 name: Optional[str] = None) -> None:
        """Wraps an optimizer.

        Args:
            optimizer: the optimizer that computes and applies.
            is_weight_update_sharding: share the update work among the ranks; needs DEVICE_ID and no more ranks than
                gradients.
            name: None = "Distributed<class of the optimizer>".
        """
        super().__init__(name=name or "Distributed" + type(optimizer).__name__, use_locking=False)
        self._optimizer = optimizer
        self._is_weight_update_sharding = is_weight_update_sharding

    def compute_gradients(self, *args: Any, **kwargs: Any) -> _GradsAndVars:
        """Computes the wrapped optimizer's gradients and averages them.

        Returns:
            list of (gradient or None, variable).

        Raises:
            ValueError: weight update sharding without DEVICE_ID, or over more ranks than gradients.
            RuntimeError: ranks that were not started.
        """
        grads_and_vars = self._optimizer.compute_gradients(*args, **kwargs)
        size = util.get_ranksize()
        if size > 1 and self._is_weight_update_sharding:
            if not os.getenv("DEVICE_ID"):
                raise ValueError("is_weight_update_sharding needs DEVICE_ID in the environment")
            if size > len(grads_and_vars):
                raise ValueError("is_weight_update_sharding needs no more ranks than gradients, but there are %d ranks "
                                 "and %d gradients" % (size, len(grads_and_vars)))
        return _average(grads_and_vars)

    def apply_gradients(self, *args: Any, **kwargs: Any) -> tf.Operation:
        """Applies through the wrapped optimizer."""
        return self._optimizer.apply_gradients(*args, **kwargs)

    def get_slot(self, *args: Any, **kwargs: Any) -> Any:
        """Returns a slot of the wrapped optimizer."""
        return self._optimizer.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> List[str]:
        """Returns the slot names of the wrapped optimizer."""
        return self._optimizer.get_slot_names(*args, **kwargs)

    def variables(self, *args: Any, **kwargs: Any) -> List[tf.Variable]:
        """Returns the variables of the wrapped optimizer."""
        return self._optimizer.variables(*args, **kwargs)


class NPUOptimizer(NPUDistributedOptimizer):
    """An optimizer around another one with averaging and loss scaling as asked for.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, opt: tf.compat.v1.train.Optimizer, loss_scale_manager: Any = None,
                 is_distributed: bool = False, is_loss_scale: bool = False, is_tailing_optimization: bool = False,
                 name: Optional[str] = None) -> None:
        """Wraps an optimizer.

        Args:
            opt: the optimizer that computes and applies.
            loss_scale_manager: gives the loss scale.
            is_distributed: average the gradients over the ranks.
            is_loss_scale: scale the loss; needs loss_scale_manager.
            is_tailing_optimization: a rule of the device for the last gradients; no effect here.
            name: None = "NPUOptimizer<class of the optimizer>".

        Raises:
            ValueError: loss scaling without a manager.
        """
        if is_loss_scale and loss_scale_manager is None:
            raise ValueError("is_loss_scale=True needs a loss_scale_manager")
        name = name or "NPUOptimizer" + type(opt).__name__
        wrapped: Any = opt
        if is_loss_scale:
            # Imported here: the class pulls in tf.contrib, which costs seconds.
            from rec_sdk_cpu.npu_bridge_modules.loss_scale import NPULossScaleOptimizer
            wrapped = NPULossScaleOptimizer(opt, loss_scale_manager, is_distributed)
        super().__init__(wrapped, name=name)
        self._is_distributed = is_distributed
        self._is_tailing_optimization = is_tailing_optimization

    def compute_gradients(self, *args: Any, **kwargs: Any) -> _GradsAndVars:
        """Computes the gradients, of the unscaled loss; averages them where asked for."""
        grads_and_vars = self._optimizer.compute_gradients(*args, **kwargs)
        return _average(grads_and_vars) if self._is_distributed else grads_and_vars


def _average(grads_and_vars: _GradsAndVars) -> _GradsAndVars:
    if util.get_ranksize() <= 1:
        return grads_and_vars
    return [(None if gradient is None else allreduce(gradient), variable) for gradient, variable in grads_and_vars]


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.estimator.npu.npu_optimizer", name)
