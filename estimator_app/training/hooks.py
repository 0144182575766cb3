"""Session hooks: saving on the grid, stopping on signals, bad losses and early stopping, checksums of checkpoints."""
import contextlib
import math
import os
import signal
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import tensorflow as tf

from estimator_app.model_dir import checkpoints, sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from estimator_app.training.steps import StepNumbers
from feature_specs import data_files, storage
from feature_specs.errors import DataError, UserError
from feature_specs.manifest import Manifest
from feature_specs.sdk import allreduce_sum

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SAVE = signal.SIGUSR1


class BadLossError(Exception):
    """A loss that cannot be trained on: ``step`` is the global step that the bad step ended with."""

    def __init__(self, step: int, loss: float, what: str = "training"):
        super().__init__("the %s loss at step %d is %g" % (what, step, loss))
        self.step = step


class RunStoppedError(Exception):
    """A signal ended the run after a checkpoint was saved.

    Attributes:
        exit_status: what shells expect, 128 plus the signal's number.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__("stopped by %s at step %d" % (signal.Signals(signal_number).name, step))
        self.exit_status = 128 + signal_number


class DataGuard(tf.estimator.CheckpointSaverListener):
    """Refuses to save or to judge weights once the data files are others than at the start.

    Files are opened by name in every epoch, so that a preparation into the same directory would go unseen.
    """

    def __init__(self, manifest: Manifest, data_dir: str, model_dir: str):
        self._manifest, self._data_dir, self._model_dir = manifest, data_dir, model_dir
        self._state = data_files.state_of(manifest, data_dir)

    def check(self) -> None:
        """Raises DataError where a file was replaced or changed."""
        changed = [now[0] for before, now in zip(self._state, data_files.state_of(self._manifest, self._data_dir))
                   if now != before]
        if changed:
            step = checkpoints.latest(self._model_dir)
            raise DataError("%s was replaced or changed while it was in use; %s. Bring the data back and the same "
                            "command resumes from there; other data goes with another --model_dir or --continue_on" % (
                                changed[0], "the last good checkpoint is of step %d" % step if step else
                                "there is no checkpoint yet"))

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Checks before a checkpoint is written."""
        del session, global_step_value
        self.check()


class GridSaver(tf.compat.v1.train.CheckpointSaverHook):
    """Saves at the steps that are evaluated, wherever the session begins: not every so many steps from there.

    A checkpoint that is there already is not written again at the session's begin: it may be the only one.
    """

    def __init__(self, model_dir: str, numbers: StepNumbers, guard: DataGuard):
        super().__init__(model_dir, save_steps=numbers.save_steps, listeners=[guard])
        self._model_dir = model_dir
        self._timer = _GridTimer(numbers)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Saves where the step has no checkpoint yet; tells the listeners in any case, the first call of which
        counts."""
        step = int(session.run(self._global_step_tensor))
        if Checkpoint(self._model_dir, step).problem() is not None:
            super().after_create_session(session, coord)
            return
        self._timer.update_last_triggered_step(step)
        for listener in self._listeners:
            listener.after_save(session, step)


class _GridTimer:
    def __init__(self, numbers: StepNumbers) -> None:
        self._numbers = numbers
        self._last: Optional[int] = None

    def reset(self) -> None:
        """Forgets the last save."""
        self._last = None

    def should_trigger_for_step(self, step: int) -> bool:
        """Whether a checkpoint belongs to the step."""
        return step != self._last and (step - self._numbers.data_start) % self._numbers.save_steps == 0

    def update_last_triggered_step(self, step: int) -> Tuple[None, None]:
        """Notes a save."""
        self._last = step
        return None, None

    def last_triggered_step(self) -> Optional[int]:
        """The step saved last."""
        return self._last


class LossGuard(tf.compat.v1.train.SessionRunHook):
    """Raises :class:`BadLossError` after the first step whose loss is not finite, or above ``max_loss`` (0: any).

    It fetches what the Estimator's own NaN hook fetches in every step, so it costs nothing. The Estimator's saver runs
    before it, which is why whoever catches the error looks at the checkpoint of the same step too.
    """

    def __init__(self, max_loss: float = 0.0):
        self._max_loss = max_loss
        self._arguments: Any = None
        self._step_tensor: Any = None
        self._step = 0

    def begin(self) -> None:
        """Finds loss and global step in the graph."""
        self._arguments = tf.compat.v1.train.SessionRunArgs(
            tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1])
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
        if is_bad(float(run_values.results), self._max_loss):
            raise BadLossError(self._step, float(run_values.results))


def is_bad(loss: float, max_loss: float) -> bool:
    """Returns whether a loss is not finite, or above the bound where there is one (> 0)."""
    return not math.isfinite(loss) or 0.0 < max_loss < loss


def set_spoilt_aside(model_dir: str, bad_step: int) -> Tuple[int, List[str]]:
    """Moves the latest checkpoints out while they are of the bad step or not finite.

    Returns:
        The latest good step (0: none) and a warning per checkpoint.
    """
    warnings: List[str] = []
    folder = os.path.join(model_dir, checkpoints.DAMAGED_FOLDER)
    for step in reversed(checkpoints.steps(model_dir)):
        checkpoint = Checkpoint(model_dir, step)
        wrong = "it was saved after the bad step" if step >= bad_step else _not_finite(checkpoint)
        if not wrong:
            checkpoints.write_state(model_dir, checkpoints.steps(model_dir))
            return step, warnings
        checkpoint.set_aside(folder)
        warnings.append("the checkpoint of step %d is set aside in %s: %s" % (step, folder, wrong))
    return 0, warnings


def _not_finite(checkpoint: Checkpoint) -> str:
    """Returns which variable of a checkpoint holds values that are not finite, or nothing."""
    reader = tf.train.load_checkpoint(checkpoint.path)
    for name, kind in sorted(reader.get_variable_to_dtype_map().items()):
        if kind.is_floating and not np.isfinite(reader.get_tensor(name)).all():
            return "variable %s is not finite" % name
    for table in sparse_tables.tables(checkpoint.tables):
        for state in sparse_tables.states(checkpoint.tables, table):
            if not np.isfinite(sparse_tables.open_rows(checkpoint.tables, table, state)).all():
                return "%s of table %s is not finite" % (state, table)
    return ""


class StopHook(tf.compat.v1.train.SessionRunHook):
    """Ends training, without another step, once ``reason`` is set; the checkpoint of that step is the last one."""

    def __init__(self) -> None:
        self.reason: Optional[str] = None

    def before_run(self, run_context: Any) -> None:
        """Ends the session where there is a reason."""
        del run_context
        if self.reason is not None:
            # What sessions take for the regular end of the input; request_stop would run one step more.
            raise tf.errors.OutOfRangeError(None, None, self.reason)


class SignalHook(tf.compat.v1.train.SessionRunHook):
    """SIGTERM, SIGHUP and Ctrl-C save a checkpoint after a step and end the run, SIGUSR1 saves and continues.

    It saves with the session's own saver, which no evaluation is tied to, so that a stop is quick. Several ranks vote:
    every step sums what each has received, so that all of them save, which is a collective call, after the same step.
    """

    def __init__(self, model_dir: str, rank_size: int = 1, guard: Optional[DataGuard] = None):
        self._model_dir = model_dir
        self._rank_size = rank_size
        self._guard = guard
        self._received: Optional[int] = None
        self._step_tensor: Any = None
        self._vote: Any = None
        self._votes: Any = None

    @contextlib.contextmanager
    def handling(self) -> Iterator[None]:
        """Takes the signals over inside the context; the previous handlers return after it."""
        # Under nohup SIGHUP is ignored, and stays so.
        previous: Dict[int, Any] = {number: signal.signal(number, self._note) for number in _STOP + (_SAVE,)
                                    if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def begin(self) -> None:
        """Finds the global step, and builds the vote of several ranks."""
        self._step_tensor = tf.compat.v1.train.get_global_step()
        if self._rank_size > 1:
            # [stops, saves] of this rank; fed in every step, so that no optimizer folds the sum into a constant.
            self._vote = tf.compat.v1.placeholder(tf.float32, [2], name="signal_vote")
            self._votes = allreduce_sum(self._vote)

    def before_run(self, run_context: Any) -> Any:
        """Casts this rank's vote."""
        del run_context
        if self._votes is None:
            return None
        vote = [float(self._received in _STOP), float(self._received == _SAVE)]
        return tf.compat.v1.train.SessionRunArgs(self._votes, feed_dict={self._vote: vote})

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves where a signal has arrived; raises :class:`RunStoppedError` where it asks to stop."""
        if self._votes is None:
            received = self._received
        else:
            stops, saves = run_values.results
            received = (self._received or signal.SIGTERM) if stops else _SAVE if saves else None
        if received is None:
            return  # without an assignment, before which a signal could arrive and be lost
        self._received = None
        session = run_context.session
        step = int(session.run(self._step_tensor))
        if Checkpoint(self._model_dir, step).problem() is not None:
            if self._guard is not None:
                self._guard.check()
            saver = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SAVERS)[0]
            saver.save(session, os.path.join(self._model_dir, checkpoints.BASE_NAME), global_step=step)
        if received != _SAVE:
            raise RunStoppedError(received, step)

    def _note(self, number: int, frame: Any) -> None:
        del frame
        if self._received in _STOP and number in _STOP and self._rank_size == 1:
            # A second request: do not wait for the step.
            raise KeyboardInterrupt
        if self._received not in _STOP:
            self._received = number


@contextlib.contextmanager
def explained_storage_errors(model_dir: str) -> Iterator[None]:
    """Turns failed writes into a message.

    Raises:
        UserError: naming file, reason and the last good checkpoint.
    """
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        failure = storage.failure(error)
        if failure is None:
            raise
        name, reason = failure
        # A failed write does not always know its file.
        raise _explained(name or "a file in %s" % os.path.join(model_dir, ""), reason, model_dir) from error


def _explained(name: str, reason: str, model_dir: str) -> UserError:
    step = checkpoints.latest(model_dir)
    kept = "there is no checkpoint yet" if step is None else "the last good checkpoint is of step %d" % step
    return UserError("%s: %s; %s. When the storage works again, the same command resumes from there"
                     % (name, reason, kept))
