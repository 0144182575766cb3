"""Signals: SIGTERM and Ctrl-C save a checkpoint after the current step and end the run, SIGUSR1 saves and goes on."""
import contextlib
import os
import signal
from typing import Any, Dict, Iterator, Optional

import tensorflow as tf

from estimator_app.model_dir import checkpoints

_STOP = (signal.SIGTERM, signal.SIGINT)
_SAVE = signal.SIGUSR1


class RunStoppedError(Exception):
    """A signal ended the run after a checkpoint was saved.

    Attributes:
        signal_number: the signal.
        step: step of the saved checkpoint.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__("stopped by %s at step %d" % (signal.Signals(signal_number).name, step))
        self.signal_number = signal_number
        self.step = step

    @property
    def exit_status(self) -> int:
        """The status that shells expect: 128 plus the signal's number."""
        return 128 + self.signal_number


class SignalHook(tf.compat.v1.train.SessionRunHook):
    """Saves between two steps when a signal has arrived.

    It saves with the session's own saver, which no evaluation is tied to, so that a stop is quick. With several ranks
    a save is a collective call, and signals do not reach all ranks in one step; use it with one rank only.
    """

    def __init__(self, model_dir: str):
        self._path = os.path.join(model_dir, checkpoints.BASE_NAME)
        self._received: Optional[int] = None
        self._step_tensor: Any = None

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Takes the signals over inside the context; the previous handlers return after it."""
        previous: Dict[int, Any] = {number: signal.signal(number, self._note) for number in _STOP + (_SAVE,)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def begin(self) -> None:
        """Finds the global step."""
        self._step_tensor = tf.compat.v1.train.get_global_step()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves where a signal has arrived; raises :class:`RunStoppedError` where it asks to stop."""
        del run_values
        received, self._received = self._received, None
        if received is None:
            return
        session = run_context.session
        step = int(session.run(self._step_tensor))
        if not os.path.exists(checkpoints.prefix(os.path.dirname(self._path), step) + ".index"):
            saver = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SAVERS)[0]
            saver.save(session, self._path, global_step=step)
        if received != _SAVE:
            raise RunStoppedError(received, step)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if self._received in _STOP and number in _STOP:
            # A second request: do not wait for the step.
            raise KeyboardInterrupt
        if self._received not in _STOP:
            self._received = number
