"""Session hooks that save on the grid and at signals and guard the data; errors of a training, and what they leave."""
import contextlib
import os
import signal
import sys
from typing import Any, ContextManager, Iterator, List, Optional

import numpy as np
import tensorflow as tf

from estimator_app.model.definition import Model
from estimator_app.model_dir import checkpoints, sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from estimator_app.signals import STOP, handled, ignore_interrupts
from estimator_app.training.run_start import Run
from feature_specs import data_files, storage
from feature_specs.errors import DataError, UserError
from feature_specs.sdk import allreduce_sum
from input_fn.diagnose import first_bad_record

_SAVE = signal.SIGUSR1


class BadLossError(UserError):
    """A loss that cannot be trained on: ``step`` is the global step that the bad step ended with."""

    def __init__(self, step: int, loss: float, what: str = "training"):
        super().__init__("the %s loss at step %d is %g" % (what, step, loss))
        self.step = step


class RunStoppedError(Exception):
    """A signal ended the run after a checkpoint was saved; ``exit_status`` is what shells expect of it."""

    def __init__(self, signal_number: int, step: int):
        super().__init__("stopped by %s at step %d" % (signal.Signals(signal_number).name, step))
        self.exit_status = 128 + signal_number


def last_good(model_dir: str) -> str:
    """Says which checkpoint a run can resume from."""
    step = checkpoints.latest(model_dir)
    return "the last good checkpoint is of step %d" % step if step else "there is no checkpoint yet"


class DataGuard(tf.estimator.CheckpointSaverListener):
    """Refuses to save or to judge weights once the data files are others than at the start.

    Files are opened by name in every epoch, so that a preparation into the same directory would go unseen.
    """

    def __init__(self, model: Model):
        self._model = model
        self._state = self._state_now()

    def _state_now(self) -> List[List[Any]]:
        return data_files.state_of(self._model.manifest, self._model.config.data_dir)

    def check(self) -> None:
        """Raises DataError where a file was replaced or changed."""
        changed = [now[0] for before, now in zip(self._state, self._state_now()) if now != before]
        if changed:
            raise DataError("%s was replaced or changed while it was in use; %s. Bring the data back and the same "
                            "command resumes from there; other data goes with another --model_dir or --continue_on"
                            % (changed[0], last_good(self._model.config.model_dir)))

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Checks before a checkpoint is written."""
        self.check()

    @contextlib.contextmanager
    def explained_errors(self, *splits: str) -> Iterator[None]:
        """Turns TensorFlow's errors about records of some splits into one that names file and record, or says that
        files were replaced (DataError)."""
        try:
            yield
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
            self.check()
            model = self._model
            found = None if isinstance(error, tf.errors.NotFoundError) else first_bad_record(
                model.manifest, model.encoding, model.config.data_dir, splits)
            if found is None:
                raise
            raise DataError("%s; prepare the data again" % found) from error


class GridSaver(tf.compat.v1.train.CheckpointSaverHook):
    """Saves at the steps that are evaluated, wherever the session begins: not every so many steps from there.

    A checkpoint that is there already is not written again at the session's begin: it may be the only one.
    """

    def __init__(self, run: Run, guard: DataGuard):
        super().__init__(run.config.model_dir, save_steps=1, listeners=[guard])
        self._numbers = run.numbers

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Saves where the step has no checkpoint yet; tells the listeners in any case, the first call of which
        counts."""
        step = int(session.run(self._global_step_tensor))
        if Checkpoint(self._checkpoint_dir, step).problem() is not None:
            super().after_create_session(session, coord)
            return
        self._timer.update_last_triggered_step(step)
        for listener in self._listeners:
            listener.after_save(session, step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Saves after a step of the grid, whatever the base class, which may save after every step, would do."""
        # What was fetched beside the step should be the global step before it, but nothing orders the two.
        if self._is_on_grid(run_values.results + 1) and self._is_on_grid(run_context.session.run(
                self._global_step_tensor)):
            super().after_run(run_context, run_values)

    def _is_on_grid(self, step: int) -> bool:
        return (step - self._numbers.data_start) % self._numbers.save_steps == 0


class SignalHook(tf.compat.v1.train.SessionRunHook):
    """SIGTERM, SIGHUP and Ctrl-C save a checkpoint after a step and end the run, SIGUSR1 saves and continues.

    It saves with the session's own saver, which no evaluation is tied to, so that a stop is quick. Several ranks vote:
    every step sums what each has received, so that all of them save, which is a collective call, after the same step.
    """

    def __init__(self, run: Run, guard: DataGuard):
        self._run, self._guard = run, guard
        self._received: Optional[int] = None
        self._vote: Any = None
        self._votes: Any = None

    def handling(self) -> ContextManager[None]:
        """Takes the signals over inside the context."""
        return handled(self._note, STOP + (_SAVE,))

    def begin(self) -> None:
        """Builds the vote of several ranks."""
        if self._run.rank_size > 1:
            # [stops, saves] of this rank; fed in every step, so that no optimizer folds the sum into a constant.
            self._vote = tf.compat.v1.placeholder(tf.float32, [2], name="signal_vote")
            self._votes = allreduce_sum(self._vote)

    def before_run(self, run_context: Any) -> Any:
        """Casts this rank's vote."""
        if self._votes is None:
            return None
        vote = [float(self._received in STOP), float(self._received == _SAVE)]
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
        session, model_dir = run_context.session, self._run.config.model_dir
        step = int(session.run(tf.compat.v1.train.get_global_step(session.graph)))
        if Checkpoint(model_dir, step).problem() is not None:
            self._guard.check()
            saver = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SAVERS)[0]
            saver.save(session, os.path.join(model_dir, checkpoints.BASE_NAME), global_step=step)
        if received != _SAVE:
            ignore_interrupts()
            raise RunStoppedError(received, step)

    def _note(self, number: int) -> None:
        if self._received in STOP and number in STOP and self._run.rank_size == 1:
            # A second request: do not wait for the step.
            ignore_interrupts()
            raise KeyboardInterrupt
        if self._received not in STOP:
            self._received = number


@contextlib.contextmanager
def explained_errors(run: Run) -> Iterator[None]:
    """Turns a bad loss, whose checkpoints are set aside, and failed writes into a UserError that says what to do."""
    model_dir = run.config.model_dir
    try:
        yield
    except BadLossError as error:
        if run.rank_id:
            raise
        way = ("from which the same command resumes" if _set_spoilt_aside(model_dir, error.step) else
               "and the same command begins anew")
        raise UserError("%s; %s, %s: lower --learning_rate and --sparse_learning_rate, or look for extreme values in "
                        "the data" % (error, last_good(model_dir), way)) from error
    except (tf.errors.OpError, OSError) as error:
        failure = storage.failure(error)
        if failure is None:
            raise
        name, reason = failure
        # A failed write does not always know its file.
        raise UserError("%s: %s; %s. When the storage works again, the same command resumes from there" % (
            name or "a file in %s" % os.path.join(model_dir, ""), reason, last_good(model_dir))) from error


def _set_spoilt_aside(model_dir: str, bad_step: int) -> int:
    """Moves the latest checkpoints out while they are of the bad step or not finite, with a warning each; returns the
    latest good step, 0 for none."""
    folder = os.path.join(model_dir, checkpoints.DAMAGED_FOLDER)
    for step in reversed(checkpoints.steps(model_dir)):
        checkpoint = Checkpoint(model_dir, step)
        wrong = "it was saved after the bad step" if step >= bad_step else _not_finite(checkpoint)
        if not wrong:
            checkpoints.write_state(model_dir, checkpoints.steps(model_dir))
            return step
        checkpoint.set_aside(folder)
        sys.stdout.write("warning: the checkpoint of step %d is set aside in %s: %s\n" % (step, folder, wrong))
    return 0


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
