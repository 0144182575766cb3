"""Loss scaling: the classes behind ``npu_loss_scale_manager`` and ``npu_loss_scale_optimizer``.

They subclass TensorFlow's contrib classes, whose import takes seconds; the two public modules load this one when one
of its names is first used. Source: npu_bridge_api 1.4, 1.5.
"""
from typing import Any, List, Optional, Tuple

import tensorflow as tf
from tensorflow.contrib.mixed_precision.python import loss_scale_manager as contrib_manager
from tensorflow.contrib.mixed_precision.python import loss_scale_optimizer as contrib_optimizer

from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import util


class FixedLossScaleManager(contrib_manager.FixedLossScaleManager):
    """A constant loss scale.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, loss_scale: float, enable_overflow_check: bool = True) -> None:
        """Keeps the scale.

        Args:
            loss_scale: factor of the loss, >= 1.
            enable_overflow_check: skip the update of a step whose gradients are not all finite.

        Raises:
            ValueError: loss_scale < 1.
        """
        if loss_scale < 1:
            raise ValueError("loss_scale must be at least 1, but %r was given" % (loss_scale,))
        super().__init__(loss_scale)
        self._enable_overflow_check = enable_overflow_check

    def get_enable_overflow_check(self) -> bool:
        """Returns whether non-finite gradients skip the update."""
        return self._enable_overflow_check


class ExponentialUpdateLossScaleManager(contrib_manager.ExponentialUpdateLossScaleManager):
    """A loss scale that grows after good steps and shrinks after overflows; it makes variables.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, init_loss_scale: float, incr_every_n_steps: int, decr_every_n_nan_or_inf: int = 2,
                 incr_ratio: float = 2, decr_ratio: float = 0.8) -> None:
        """Makes the variables; not inside ``tf.control_dependencies``.

        Args:
            init_loss_scale: first factor of the loss.
            incr_every_n_steps: good steps in a row before it grows.
            decr_every_n_nan_or_inf: overflowing steps before it shrinks.
            incr_ratio: factor of growth, > 1.
            decr_ratio: factor of shrinking, < 1.
        """
        super().__init__(init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf, incr_ratio, decr_ratio)


class NPULossScaleOptimizer(contrib_optimizer.LossScaleOptimizer):
    """An optimizer around another one that scales the loss and skips the steps that overflow.

    A CPU computes in INF/NAN mode, where the real class leaves the work to TensorFlow's. The update runs inside a
    ``tf.cond``, which renames Adam's power variables: checkpoints differ from those of the unscaled graph.

    Source: npu_bridge_api 1.4, 1.5 and section 3, item 10.
    """

    def __init__(self, opt: tf.compat.v1.train.Optimizer, loss_scale_manager: Any,
                 is_distributed: bool = False) -> None:
        """Wraps an optimizer.

        Args:
            opt: the optimizer that computes and applies.
            loss_scale_manager: gives the loss scale.
            is_distributed: an overflow on one rank counts for all.
        """
        super().__init__(opt, loss_scale_manager)
        self._is_distributed = is_distributed

    def apply_gradients(self, grads_and_vars: List[Tuple[Any, tf.Variable]], global_step: Optional[tf.Variable] = None,
                        name: Optional[str] = None) -> tf.Operation:
        """Applies the gradients where all are finite, and adapts the scale.

        Args:
            grads_and_vars: list of (gradient of the unscaled loss, variable).
            global_step: counted up only by steps that are applied.
            name: name of the op.

        Raises:
            RuntimeError: more than one rank with is_distributed.
        """
        if self._is_distributed and util.get_ranksize() > 1:
            raise RuntimeError("NPULossScaleOptimizer(is_distributed=True) over %d ranks: the CPU stand-in has one "
                               "rank" % util.get_ranksize())
        if isinstance(self._loss_scale_manager, FixedLossScaleManager) and (
                not self._loss_scale_manager.get_enable_overflow_check()):
            return self._opt.apply_gradients(grads_and_vars, global_step=global_step, name=name)
        return super().apply_gradients(grads_and_vars, global_step=global_step, name=name)
