"""What a run shows while it trains: a progress bar or plain lines, and a table row per evaluation."""
import math
import sys
import time
from typing import Any, Dict, List, Optional

import tensorflow as tf
from tqdm import tqdm

from estimator_app.model.tasks import MEAN_LOSS
from estimator_app.model_dir import history
from estimator_app.training.hooks import BadLossError
from estimator_app.training.run_start import Run

_REFRESH_SECONDS = 0.5


class EvaluationTable:
    """Prints one row per evaluation, with a heading before the first one; on the first rank only."""

    def __init__(self, run: Run):
        self._run = run
        self._scores = run.model.tasks.main_scores()
        self._is_begun = False

    def show(self, step: int, metrics: Dict[str, Any], note: str = "") -> None:
        """Prints a row."""
        if not self._is_begun:
            self.note("%9s %7s %9s" % ("step", "epoch", "loss") + "".join(" %14s" % name for name in self._scores))
            self._is_begun = True
        epoch = (step - self._run.numbers.data_start) / self._run.numbers.steps_per_epoch
        scores = ("n/a" if metrics[name] is None else "%.5f" % metrics[name] for name in self._scores)
        self.note("%9d %7.2f %9.5f" % (step, epoch, metrics[MEAN_LOSS]) + "".join(" %14s" % score for score in scores)
                  + ("  " + note if note else ""))

    def note(self, line: str) -> None:
        """Prints a line; tqdm moves its bar out of the way."""
        if self._run.rank_id == 0:
            tqdm.write(line)
            sys.stdout.flush()


class ProgressHook(tf.compat.v1.train.SessionRunHook):
    """Looks at the loss of every step, which the Estimator's own NaN hook fetches anyway.

    Raises :class:`BadLossError` after the first step whose loss is not finite, or above ``max_loss`` (0: any); the
    Estimator's saver runs before it, which is why whoever catches the error looks at the checkpoint of the same step
    too. Shows step, examples/s of all ranks, time left and the last scores, and writes training summaries, by the host,
    so that the graph is the same on every rank.
    """

    def __init__(self, run: Run):
        self._run = run
        self._batch = run.config.batch_size * run.rank_size
        self._bar: Optional[tqdm] = None
        self._writer: Any = None
        self._loss: Any = None
        self._step_tensor: Any = None
        self._step = self._first_step = self._reported_step = 0
        # Times at which the session and the current report would have begun, had no evaluation come between.
        self._began = self._reported = 0.0
        self._scores = ""

    def begin(self) -> None:
        """Finds loss and global step in the graph."""
        self._loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1]
        self._step_tensor = tf.compat.v1.train.get_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Opens bar and summary file at the step that the session starts from."""
        del coord
        self._step = self._first_step = self._reported_step = int(session.run(self._step_tensor))
        self._began = self._reported = time.time()
        if self._run.rank_id:
            return
        self._writer = tf.compat.v1.summary.FileWriterCache.get(self._run.config.model_dir)
        if sys.stderr.isatty():
            # The time left is ours: tqdm's own counts evaluations as training.
            self._bar = tqdm(total=self._run.numbers.max_steps, initial=self._step, leave=False, dynamic_ncols=True,
                             mininterval=_REFRESH_SECONDS, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}")

    def before_run(self, run_context: Any) -> Any:
        """Fetches the loss."""
        del run_context
        return tf.compat.v1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Refuses a bad loss, moves the bar, and reports every ``log_interval`` steps."""
        del run_context
        self._step += 1
        loss, config = float(run_values.results), self._run.config
        if not math.isfinite(loss) or 0.0 < config.max_loss < loss:
            raise BadLossError(self._step, loss)
        if self._run.rank_id:
            return
        if self._step % config.log_interval == 0 or self._step == self._run.numbers.max_steps:
            self._report(loss)
        if self._bar is not None:
            self._bar.set_postfix_str(self._left() + self._scores, refresh=False)
            self._bar.update()

    def end(self, session: Any) -> None:
        """Closes the bar."""
        del session
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def note_evaluation(self, metrics: Dict[str, Any], seconds: float) -> None:
        """Takes over the scores of an evaluation and leaves its time out of the training speed."""
        self._began += seconds
        self._reported += seconds
        self._scores = "".join(", %s=%.4f" % (name, metrics[name]) for name in self._run.model.tasks.main_scores()
                               if metrics.get(name) is not None)

    def _left(self) -> str:
        """Returns the speed since the session began, and the time left at that speed: it does not jump."""
        speed = (self._step - self._first_step) / max(time.time() - self._began, 1e-9)
        left = (self._run.numbers.max_steps - self._step) / max(speed, 1e-9)
        return "%.0f examples/s, %d:%02d left" % (speed * self._batch, left // 60, left % 60)

    def _report(self, loss: float) -> None:
        now = time.time()
        speed = (self._step - self._reported_step) * self._batch / max(now - self._reported, 1e-9)
        self._reported, self._reported_step = now, self._step
        if self._bar is None:
            sys.stderr.write("step %d/%d, loss %.5f, %s%s\n" % (
                self._step, self._run.numbers.max_steps, loss, self._left(), self._scores))
            sys.stderr.flush()
        values = {"examples_per_second": speed, "loss": loss}
        history.append(self._run.config.model_dir, history.TRAIN, dict(values, global_step=self._step, time=now))
        summaries: List[Any] = [tf.compat.v1.Summary.Value(tag="training/" + name, simple_value=value)
                                for name, value in sorted(values.items())]
        self._writer.add_summary(tf.compat.v1.Summary(value=summaries), self._step)
        # A process that is killed loses what its writer still holds.
        self._writer.flush()
