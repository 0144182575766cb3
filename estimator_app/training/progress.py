"""What a run shows while it trains: a progress bar or plain lines, and a table row per evaluation."""
import sys
import time
from typing import Any, Dict, List, Optional, TextIO

import tensorflow as tf
from tqdm import tqdm

from estimator_app.model.tasks import MEAN_LOSS, TaskSet
from estimator_app.model_dir import history
from estimator_app.training.run_start import Run
from estimator_app.training.steps import StepNumbers

_REFRESH_SECONDS = 0.5


class EvaluationTable:
    """Prints one row per evaluation, with a heading before the first one; nothing without a stream."""

    def __init__(self, tasks: TaskSet, numbers: StepNumbers, stream: Optional[TextIO]):
        self._scores = tasks.main_scores()
        self._numbers = numbers
        self._stream = stream
        self._rows = 0

    def heading(self) -> str:
        """Returns the heading."""
        return "%9s %7s %9s" % ("step", "epoch", "loss") + "".join(" %14s" % name for name in self._scores)

    def row(self, step: int, metrics: Dict[str, Any]) -> str:
        """Returns one row."""
        epoch = (step - self._numbers.data_start) / self._numbers.steps_per_epoch
        return "%9d %7.2f %9.5f" % (step, epoch, metrics[MEAN_LOSS]) + "".join(
            " %14s" % ("n/a" if metrics[name] is None else "%.5f" % metrics[name]) for name in self._scores)

    def show(self, step: int, metrics: Dict[str, Any], note: str = "") -> None:
        """Prints a row; tqdm moves its bar out of the way."""
        if self._rows == 0:
            self.note(self.heading())
        self._rows += 1
        self.note(self.row(step, metrics) + ("  " + note if note else ""))

    def note(self, line: str) -> None:
        """Prints a line below the rows."""
        if self._stream is not None:
            tqdm.write(line, file=self._stream)
            self._stream.flush()


class ProgressHook(tf.compat.v1.train.SessionRunHook):
    """Shows step, examples/s of all ranks, time left and the last scores, and writes training summaries.

    The loss is fetched only in the steps that report it. The summaries are written by the host, so that the graph is
    the same on every rank.
    """

    def __init__(self, run: Run, stream: Optional[TextIO] = None):
        config = run.model.config
        self._run = run
        self._model_dir = config.model_dir
        self._batch = config.batch_size * run.rank_size
        self._log_interval = config.log_interval
        self._stream = stream or sys.stderr
        self._bar: Optional[tqdm] = None
        self._writer: Any = None
        self._loss: Optional[tf.Tensor] = None
        self._step_tensor: Any = None
        self._step = self._first_step = self._reported_step = 0
        self._began = self._reported = self._refreshed = 0.0
        self._paused = self._paused_since_report = 0.0
        self._report_next = False
        self._arguments: Any = None
        self._scores = ""

    def begin(self) -> None:
        """Finds loss and global step in the graph."""
        losses = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)
        self._loss = losses[-1] if losses else None
        self._step_tensor = tf.compat.v1.train.get_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Opens bar and summary file at the step that the session starts from."""
        del coord
        self._step = self._first_step = self._reported_step = int(session.run(self._step_tensor))
        self._began = self._reported = self._refreshed = time.time()
        self._arguments = tf.compat.v1.train.SessionRunArgs([self._loss] if self._loss is not None else [])
        if self._run.rank_id:
            return
        self._writer = tf.compat.v1.summary.FileWriterCache.get(self._model_dir)
        if self._stream.isatty():
            # The time left is ours: tqdm's own counts evaluations as training.
            self._bar = tqdm(total=self._run.numbers.max_steps, initial=self._step, file=self._stream, leave=False,
                             dynamic_ncols=True, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}")

    def before_run(self, run_context: Any) -> Any:
        """Fetches the loss in the steps that report it."""
        del run_context
        following = self._step + 1
        self._report_next = following % self._log_interval == 0 or following == self._run.numbers.max_steps
        return self._arguments if self._report_next else None

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Reports every ``log_interval`` steps, and moves the bar twice a second."""
        del run_context
        self._step += 1
        if self._run.rank_id:
            return
        if self._report_next:
            self._report(run_values.results[0] if run_values.results else None)
        if self._bar is not None and time.time() - self._refreshed > _REFRESH_SECONDS:
            self._refresh()

    def end(self, session: Any) -> None:
        """Closes the bar."""
        del session
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def note_evaluation(self, metrics: Dict[str, Any], seconds: float) -> None:
        """Takes over the scores of an evaluation and leaves its time out of the training speed."""
        if self._began:  # else it was owed, and made before training began
            self._paused += seconds
            self._paused_since_report += seconds
        self._scores = "".join(", %s=%.4f" % (name, metrics[name]) for name in self._run.model.tasks.main_scores()
                               if metrics.get(name) is not None)

    def _left(self) -> str:
        """Returns the speed since the session began, and the time left at that speed: it does not jump."""
        seconds = max(time.time() - self._began - self._paused, 1e-9)
        speed = (self._step - self._first_step) / seconds
        left = (self._run.numbers.max_steps - self._step) / max(speed, 1e-9)
        return "%.0f examples/s, %d:%02d left" % (speed * self._batch, left // 60, left % 60)

    def _refresh(self) -> None:
        assert self._bar is not None
        self._refreshed = time.time()
        self._bar.n = self._step
        self._bar.set_postfix_str(self._left() + self._scores)

    def _report(self, loss: Any) -> None:
        now = time.time()
        seconds = max(now - self._reported - self._paused_since_report, 1e-9)
        speed = (self._step - self._reported_step) * self._batch / seconds
        self._reported, self._reported_step, self._paused_since_report = now, self._step, 0.0
        if self._bar is None:
            self._stream.write("step %d/%d%s, %s%s\n" % (
                self._step, self._run.numbers.max_steps, "" if loss is None else ", loss %.5f" % loss, self._left(),
                self._scores))
            self._stream.flush()
        values: Dict[str, float] = {"examples_per_second": speed}
        if loss is not None:
            values["loss"] = float(loss)
        history.append(self._model_dir, history.TRAIN, dict(values, global_step=self._step, time=now))
        summaries: List[Any] = [tf.compat.v1.Summary.Value(tag="training/" + name, simple_value=value)
                                for name, value in sorted(values.items())]
        self._writer.add_summary(tf.compat.v1.Summary(value=summaries), self._step)
        # A process that is killed loses what its writer still holds.
        self._writer.flush()
