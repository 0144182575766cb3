"""Stops a training whose loss is no finite number, or too large, before anything is built on it."""
import math
from typing import Any

import tensorflow as tf


class BadLossError(Exception):
    """The loss of a step cannot be trained on.

    Attributes:
        step: the global step that the bad step ended with.
        loss: its loss.
    """

    def __init__(self, step: int, loss: float, what: str = "training"):
        super().__init__("the %s loss at step %d is %g" % (what, step, loss))
        self.step = step
        self.loss = loss


def is_bad(loss: float, max_loss: float) -> bool:
    """Returns whether a loss is not finite, or above the bound where there is one (> 0)."""
    return not math.isfinite(loss) or 0.0 < max_loss < loss


class LossGuard(tf.compat.v1.train.SessionRunHook):
    """Raises :class:`BadLossError` after the first bad step.

    It fetches what the Estimator's own NaN hook fetches in every step, so it costs nothing. It stands before the hooks
    that report and save on signals; the Estimator's saver runs before it, which is why whoever catches the error has to
    look at the checkpoint of the same step too.
    """

    def __init__(self, max_loss: float = 0.0):
        self._max_loss = max_loss
        self._arguments: Any = None
        self._step_tensor: Any = None
        self._step = 0

    def begin(self) -> None:
        """Finds loss and global step in the graph."""
        loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1]
        self._arguments = tf.compat.v1.train.SessionRunArgs(loss)
        self._step_tensor = tf.compat.v1.train.get_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Notes the step that the session starts from."""
        del coord
        self._step = int(session.run(self._step_tensor))

    def before_run(self, run_context: Any) -> Any:
        """Fetches the loss."""
        del run_context
        return self._arguments

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Looks at the loss."""
        del run_context
        self._step += 1
        loss = float(run_values.results)
        if is_bad(loss, self._max_loss):
            raise BadLossError(self._step, loss)
