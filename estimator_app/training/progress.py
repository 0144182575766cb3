"""What a run shows while it goes on: a progress bar or plain lines, and a table row per evaluation."""
import sys
import time
from typing import Any, Dict, List, Optional, Sequence, TextIO

import tensorflow as tf
from tqdm import tqdm

from estimator_app.metric_names import AUC_MEAN, AUC_PREFIX, LOSS
from estimator_app.model_dir import history


class EvaluationTable:
    """Prints one row per evaluation, with a heading before the first one."""

    def __init__(self, tasks: Sequence[str], steps_per_epoch: int, stream: Optional[TextIO] = None):
        self._tasks = tasks
        self._steps_per_epoch = steps_per_epoch
        self._stream = stream or sys.stdout
        self._rows = 0

    def heading(self) -> str:
        """Returns the heading."""
        return "%9s %7s %9s" % ("step", "epoch", "loss") + "".join(
            " %14s" % (AUC_PREFIX + task) for task in self._tasks)

    def row(self, step: int, metrics: Dict[str, Any]) -> str:
        """Returns one row."""
        return "%9d %7.2f %9.5f" % (step, step / self._steps_per_epoch, metrics[LOSS]) + "".join(
            " %14.5f" % metrics[AUC_PREFIX + task] for task in self._tasks)

    def show(self, step: int, metrics: Dict[str, Any], note: str = "") -> None:
        """Prints a row; tqdm moves its bar out of the way."""
        lines = [self.heading()] if self._rows == 0 else []
        lines.append(self.row(step, metrics) + note)
        self._rows += 1
        tqdm.write("\n".join(lines), file=self._stream)
        self._stream.flush()

    def note(self, line: str) -> None:
        """Prints a line below the rows."""
        tqdm.write(line, file=self._stream)
        self._stream.flush()


class ProgressHook(tf.compat.v1.train.SessionRunHook):
    """Shows step, examples/s, time left and the last AUCs, and writes training summaries.

    The loss is fetched only in the steps that report it. The summaries are written by the host, so that the graph is
    the same on every rank.
    """

    def __init__(self, model_dir: str, max_steps: int, batch_size: int, log_interval: int, is_chief: bool = True,
                 stream: Optional[TextIO] = None):
        self._model_dir = model_dir
        self._max_steps = max_steps
        self._batch_size = batch_size
        self._log_interval = log_interval
        self._is_chief = is_chief
        self._stream = stream or sys.stderr
        self._bar: Optional[tqdm] = None
        self._writer: Any = None
        self._loss: Optional[tf.Tensor] = None
        self._step_tensor: Any = None
        self._step = 0
        self._last_step = 0
        self._last_time = 0.0
        self._paused = 0.0
        self._report_next = False
        self._fetches: List[tf.Tensor] = []
        self._arguments: Any = None
        self._aucs = ""

    def begin(self) -> None:
        """Finds loss and global step in the graph."""
        losses = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)
        self._loss = losses[-1] if losses else None
        self._step_tensor = tf.compat.v1.train.get_global_step()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Opens bar and summary file at the step that the session starts from."""
        del coord
        self._step = self._last_step = int(session.run(self._step_tensor))
        self._last_time = time.time()
        self._arguments = tf.compat.v1.train.SessionRunArgs([self._loss] if self._loss is not None else [])
        if not self._is_chief:
            return
        self._writer = tf.compat.v1.summary.FileWriterCache.get(self._model_dir)
        if self._stream.isatty():
            self._bar = tqdm(total=self._max_steps, initial=self._step, unit="step", file=self._stream, leave=False,
                             dynamic_ncols=True)

    def before_run(self, run_context: Any) -> Any:
        """Fetches the loss in the steps that report it."""
        del run_context
        following = self._step + 1
        self._report_next = following % self._log_interval == 0 or following == self._max_steps
        return self._arguments if self._report_next else None

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Reports every ``log_interval`` steps."""
        del run_context
        self._step += 1
        if self._report_next and self._is_chief:
            self._report(run_values.results[0] if run_values.results else None)

    def end(self, session: Any) -> None:
        """Closes the bar."""
        del session
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def note_evaluation(self, metrics: Dict[str, Any], seconds: float) -> None:
        """Takes over the AUCs of an evaluation and leaves its time out of the training speed."""
        self._paused += seconds
        self._aucs = " ".join("%s=%.4f" % (name, value) for name, value in sorted(metrics.items())
                              if name.startswith(AUC_PREFIX) and name != AUC_MEAN)

    def _report(self, loss: Any) -> None:
        now = time.time()
        seconds = max(now - self._last_time - self._paused, 1e-9)
        speed = (self._step - self._last_step) * self._batch_size / seconds
        left = (self._max_steps - self._step) * self._batch_size / max(speed, 1e-9)
        self._last_time, self._last_step, self._paused = now, self._step, 0.0
        if self._bar is not None:
            self._bar.update(self._step - self._bar.n)
            self._bar.set_postfix_str("%.0f examples/s %s" % (speed, self._aucs))
        else:
            self._stream.write("step %d/%d loss %.5f %.0f examples/s, %.0f s left %s\n" % (
                self._step, self._max_steps, float("nan") if loss is None else loss, speed, left, self._aucs))
            self._stream.flush()
        values = {"examples_per_second": speed}
        if loss is not None:
            values["loss"] = float(loss)
        history.append(self._model_dir, history.TRAIN, dict(values, global_step=self._step, time=now))
        self._writer.add_summary(tf.compat.v1.Summary(value=[
            tf.compat.v1.Summary.Value(tag="training/" + name, simple_value=value)
            for name, value in sorted(values.items())]), self._step)
