"""What a run shows while it trains: a progress bar or plain lines, and a table row per evaluation."""
import math
import os
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
_COLUMNS = 80


def tell(run: Run, line: str) -> None:
    """Prints a line on the first rank; tqdm moves its bar out of the way."""
    if run.rank_id == 0:
        tqdm.write(line)
        sys.stdout.flush()


def tell_evaluation(run: Run, metrics: Dict[str, Any], note: str = "", with_heading: bool = True) -> None:
    """Prints the table row of an evaluation on the first rank."""
    scores, numbers, step = run.model.tasks.main_scores(), run.numbers, metrics["global_step"]
    if with_heading:
        tell(run, "%9s %7s %9s" % ("step", "epoch", MEAN_LOSS) + "".join(" %14s" % name for name in scores))
    cells = ("n/a" if metrics[name] is None else "%.5f" % metrics[name] for name in scores)
    tell(run, "%9d %7.2f %9.5f" % (step, (step - numbers.data_start) / numbers.steps_per_epoch, metrics[MEAN_LOSS])
         + "".join(" %*s" % (max(14, len(name)), cell) for name, cell in zip(scores, cells))
         + ("  " + note if note else ""))


class ProgressHook(tf.compat.v1.train.SessionRunHook):
    """Looks at the loss of every step, which the Estimator's own NaN hook fetches anyway.

    Raises :class:`BadLossError` after the first step whose loss is not finite, or above ``max_loss`` (0: any); the
    Estimator's saver runs before it, which is why whoever catches the error looks at the checkpoint of the same step
    too. Shows step, examples/s of all ranks, time left and the last scores, and writes training summaries, by the host,
    so that the graph is the same on every rank. Once ``stop_reason`` is set, training ends without another step.
    """

    def __init__(self, run: Run):
        self.stop_reason: Optional[str] = None
        self._run = run
        self._batch = run.config.batch_size * run.rank_size
        self._bar: Optional[tqdm] = None
        self._writer: Any = None
        self._loss: Any = None
        self._step = self._first_step = self._reported_step = 0
        # Times at which the session and the current report would have begun, had no evaluation come between.
        self._began = self._reported = 0.0
        self._scores = ""

    def begin(self) -> None:
        """Finds the loss in the graph."""
        self._loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1]

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Opens bar and summary file at the step that the session starts from."""
        step = int(session.run(tf.compat.v1.train.get_global_step(session.graph)))
        self._step = self._first_step = self._reported_step = step
        self._began = self._reported = time.time()
        if self._run.rank_id:
            return
        self._writer = tf.compat.v1.summary.FileWriterCache.get(self._run.config.model_dir)
        if sys.stderr.isatty():
            # Where a terminal does not know its width tqdm would leave the bar out and show its own time besides ours,
            # which counts evaluations as training.
            knows_width = os.get_terminal_size(sys.stderr.fileno()).columns > 0
            self._bar = tqdm(total=self._run.numbers.max_steps, initial=self._step, leave=False,
                             dynamic_ncols=knows_width, ncols=None if knows_width else _COLUMNS,
                             mininterval=_REFRESH_SECONDS, bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}")

    def before_run(self, run_context: Any) -> Any:
        """Fetches the loss, or ends the session where there is a reason."""
        if self.stop_reason is not None:
            # What sessions take for the regular end of the input; request_stop would run one step more.
            raise tf.errors.OutOfRangeError(None, None, self.stop_reason)
        return tf.compat.v1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Refuses a bad loss, moves the bar, and reports every ``log_interval`` steps."""
        self._step += 1
        loss, config = float(run_values.results), self._run.config
        if not math.isfinite(loss) or 0.0 < config.max_loss < loss:
            raise BadLossError(self._step, loss)
        if self._run.rank_id:
            return
        if self._step % config.log_interval == 0 or self._step == self._run.numbers.max_steps:
            self._report(loss)
        if self._bar is not None:
            # Two scores fit into 80 columns so.
            self._bar.set_postfix_str(self._left("ex/s") + self._scores, refresh=False)
            self._bar.update()

    def end(self, session: Any) -> None:
        """Closes the bar."""
        self.close()

    def close(self) -> None:
        """Closes the bar, also where a signal or an error ends the session."""
        if self._bar is not None:
            self._bar.close()

    def note_evaluation(self, metrics: Dict[str, Any], seconds: float) -> None:
        """Takes over the scores of an evaluation and leaves its time out of the training speed."""
        self._began += seconds
        self._reported += seconds
        self._scores = "".join(", %s=%.4f" % (name, metrics[name]) for name in self._run.model.tasks.main_scores()
                               if metrics.get(name) is not None)

    def _left(self, unit: str = "examples/s") -> str:
        """Returns the speed since the session began, and the time left at that speed: it does not jump."""
        speed = (self._step - self._first_step) / max(time.time() - self._began, 1e-9)
        left = (self._run.numbers.max_steps - self._step) / max(speed, 1e-9)
        return "%.0f %s, %d:%02d left" % (speed * self._batch, unit, left // 60, left % 60)

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
