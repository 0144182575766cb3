"""The ``train`` command: train_and_evaluate with an evaluation at every checkpoint and at the end."""
import contextlib
import os
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, TextIO

import tensorflow as tf

from estimator_app.config import Config
from estimator_app.metric_names import AUC_MEAN, LOSS
from estimator_app.model.gate_metrics import collapse_warnings
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.directory import METRICS_FILE, REPLACED_FOLDER, OtherModelError
from estimator_app.model_dir.lock import locked
from estimator_app.training import early_stopping, partial_restore, report
from estimator_app.training import phases as eval_schedule
from estimator_app.training.damaged_data import readable_data
from estimator_app.training.early_stop_hook import EarlyStopHook
from estimator_app.training.gate_summaries import write_gate_histograms
from estimator_app.training.interruption import SignalHook
from estimator_app.training.loss_guard import BadLossError, LossGuard, is_bad
from estimator_app.training.progress import EvaluationTable, ProgressHook
from estimator_app.training.rollback import TrainAgainError, after_bad_loss
from estimator_app.training.run_start import load_data, prepare_model_dir
from estimator_app.training.runtime import Runtime, build_runtime
from estimator_app.training.storage_errors import explained_storage_errors
from feature_specs.errors import ConfigError, DataError, UserError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest
from input_fn.diagnose import first_bad_record


def train(config: Config, fresh: bool = False, stream: Optional[TextIO] = None,
          partial: bool = False) -> Dict[str, Any]:
    """Trains a model, or goes on training it, in this process.

    Args:
        config: settings.
        fresh: start over; what is there is deleted after it was listed.
        stream: where results go, default standard output.
        partial: take over what fits where the model directory holds another network.

    Returns:
        The metrics of the last evaluation, with ``global_step``.

    Raises:
        UserError: data, settings or model directory do not fit, or the loss is no number.
        TrainAgainError: the model directory is back at the last good checkpoint; train again in a new process.
    """
    stream = stream or sys.stdout
    manifest = load_data(config)
    with locked(config.model_dir):
        try:
            start = prepare_model_dir(config, manifest, fresh, stream)
        except OtherModelError as error:
            _take_over(config, manifest, error, stream, partial)
            raise TrainAgainError("the network of %s was converted" % config.model_dir) from error
        readable, left_out = readable_data(config, manifest, start, stream)
        runtime = build_runtime(config, readable, training=True)
        try:
            with explained_storage_errors(config.model_dir), explained_input_errors(
                    readable, config.data_dir, (TRAIN_SPLIT, TEST_SPLIT)):
                result = _run(runtime, start, stream)
        except BadLossError as error:
            after_bad_loss(config, error, stream, runtime.rank_size == 1)
            raise TrainAgainError(str(error)) from error
        finally:
            runtime.close()
        if left_out:
            stream.write("%d damaged records were left out; %s names them\n" % (left_out, METRICS_FILE))
        return result


def _take_over(config: Config, manifest: Manifest, error: OtherModelError, stream: TextIO, partial: bool) -> None:
    path = checkpoints.resolve(config.model_dir, "latest")
    # Not closed: no session starts the host pipeline here, and this process ends or is replaced.
    expected = partial_restore.initial_values(build_runtime(config, manifest, training=True))
    rows = partial_restore.compare(path, expected, config, manifest)
    partial_restore.describe(rows, stream)
    if not partial:
        raise ConfigError("%s, or take over what fits with --partial_restore" % error) from error
    partial_restore.convert(path, rows, expected, config, manifest)
    stream.write("what fits of %s was taken over; the old checkpoints are in %s\n" % (
        path, os.path.join(config.model_dir, REPLACED_FOLDER)))


def run_phase(config: Config, text: str, stream: Optional[TextIO] = None) -> Dict[str, Any]:
    """Does one phase of an alternating training; the parent process has locked and prepared the model directory.

    Args:
        config: settings.
        text: ``train:FROM:TO`` or ``eval:STEP``.
        stream: where results go, default standard output.

    Returns:
        The metrics of the evaluation, with ``global_step``; empty after training.

    Raises:
        UserError: the phase is not understood, or data and settings do not fit.
    """
    stream = stream or sys.stdout
    manifest, left_out = readable_data(config, load_data(config), checkpoints.latest(config.model_dir) or 0, stream)
    runtime = build_runtime(config, manifest, training=True, phase=text)
    assert runtime.phase is not None
    try:
        with explained_storage_errors(config.model_dir), explained_input_errors(
                manifest, config.data_dir, (TRAIN_SPLIT, TEST_SPLIT)):
            progress = _progress(runtime)
            if runtime.phase.kind == eval_schedule.TRAIN:
                with _signals(runtime) as signals:
                    runtime.estimator.train(
                        runtime.train_input_fn, max_steps=runtime.phase.stop,
                        hooks=runtime.hooks([LossGuard(config.max_loss), progress] + signals))
                return {}
            recorder = _recorder(runtime, progress, stream)
            _evaluate(runtime, recorder, checkpoints.prefix(config.model_dir, runtime.phase.stop))
            if runtime.rank_id == 0:
                report.write_report(config.model_dir, manifest.dataset.task_names)
                if left_out:
                    stream.write("%d damaged records are left out; %s names them\n" % (left_out, METRICS_FILE))
            return recorder.last
    except BadLossError as error:
        if runtime.rank_id == 0:
            after_bad_loss(config, error, stream, may_restore=False)
        raise UserError(str(error)) from error
    finally:
        runtime.close()


@contextlib.contextmanager
def explained_input_errors(manifest: Manifest, data_dir: str, splits: Sequence[str]) -> Iterator[None]:
    """Turns TensorFlow's errors about records into one that names file and record.

    Raises:
        DataError: a record of the splits is damaged or does not fit the manifest.
    """
    try:
        yield
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        found = first_bad_record(manifest, data_dir, splits)
        if found is None:
            raise
        raise DataError("%s; prepare the data again" % found) from error


class EvaluationRecorder(tf.estimator.Exporter):
    """Called after every evaluation: table row, ``metrics.jsonl``, best checkpoint, old checkpoints."""

    def __init__(self, runtime: Runtime, table: EvaluationTable, progress: ProgressHook,
                 stopper: Optional[EarlyStopHook] = None):
        self._runtime = runtime
        self._table = table
        self._progress = progress
        self._stopper = stopper
        self.last: Dict[str, Any] = {}
        # A run that is done is evaluated again by the same command; that adds nothing to its history.
        self._recorded = {entry["global_step"] for entry in history.read(runtime.config.model_dir)
                          if entry.get("kind") == history.EVALUATION}
        self._started = time.time()

    @property
    def name(self) -> str:
        """Name of the exporter, which Estimators ask for."""
        return "evaluation_recorder"

    def evaluation_begins(self) -> None:
        """Notes the time, so that evaluation does not count as training."""
        self._started = time.time()

    def export(self, estimator: Any, export_path: Any, checkpoint_path: Any, eval_result: Dict[str, Any],
               is_the_final_export: bool) -> None:
        """Records an evaluation.

        Args:
            estimator: the Estimator.
            export_path: not used; nothing is exported.
            checkpoint_path: the checkpoint that was evaluated.
            eval_result: its metrics.
            is_the_final_export: not used.
        """
        del estimator, export_path, is_the_final_export
        config = self._runtime.config
        seconds = time.time() - self._started
        metrics = plain_metrics(eval_result)
        step = metrics["global_step"]
        if self.last.get("global_step") == step:
            return
        if is_bad(metrics[LOSS], 0.0):
            # The last update spoilt the weights; the next step's loss would say so too late for this checkpoint.
            raise BadLossError(step, metrics[LOSS], "evaluation")
        self.last = metrics
        best = False
        if self._runtime.rank_id == 0:
            if step not in self._recorded:
                history.append(config.model_dir, history.EVALUATION, dict(metrics, time=time.time(), seconds=seconds))
            checkpoints.ensure_checksums(config.model_dir, step)
            best = checkpoints.keep_best(config.model_dir, step, AUC_MEAN, metrics[AUC_MEAN])
            checkpoints.prune(config.model_dir, config.keep_checkpoint_max)
            early_stopping.note_best_steps(config.model_dir, self._runtime.manifest.dataset.task_names)
            write_gate_histograms(config.model_dir, metrics)
        self._progress.note_evaluation(metrics, seconds)
        self._table.show(step, metrics, "  best" if best else "")
        for line in collapse_warnings(metrics):
            self._table.note("warning: " + line)
        if self._stopper is not None and self._stopper.look():
            self._table.note("early stopping: %s" % self._stopper.reason)


class _EvaluationClock(tf.compat.v1.train.SessionRunHook):
    def __init__(self, recorder: EvaluationRecorder):
        self._recorder = recorder

    def begin(self) -> None:
        self._recorder.evaluation_begins()


def plain_metrics(eval_result: Dict[str, Any]) -> Dict[str, Any]:
    """Returns Estimator metrics as Python numbers.

    Args:
        eval_result: {name: NumPy scalar or array}.

    Returns:
        {name: float or lists of floats}, ``global_step`` and ``examples`` as int; without the unweighted ``loss`` of
        batches, whose place the exact ``mean_loss`` takes.
    """
    # tolist: a Python number of a scalar, nested lists of an array.
    metrics: Dict[str, Any] = {name: value.tolist() for name, value in eval_result.items() if name != "loss"}
    for name in ("global_step", "examples"):
        metrics[name] = int(eval_result[name])
    return metrics


def _progress(runtime: Runtime) -> ProgressHook:
    config = runtime.config
    return ProgressHook(config.model_dir, runtime.numbers.max_steps, config.batch_size, config.log_interval,
                        runtime.rank_id == 0)


def _recorder(runtime: Runtime, progress: ProgressHook, stream: TextIO,
              stopper: Optional[EarlyStopHook] = None) -> EvaluationRecorder:
    tasks = runtime.manifest.dataset.task_names
    return EvaluationRecorder(runtime, EvaluationTable(tasks, runtime.numbers.steps_per_epoch, stream), progress,
                              stopper)


@contextlib.contextmanager
def _signals(runtime: Runtime) -> Iterator[List[Any]]:
    """Handles signals where there is one rank; gives the hooks for it."""
    if runtime.rank_size > 1:
        yield []
        return
    hook = SignalHook(runtime.config.model_dir)
    with hook.handling():
        yield [hook]


def _evaluate(runtime: Runtime, recorder: EvaluationRecorder, path: Optional[str]) -> None:
    result = runtime.estimator.evaluate(runtime.eval_input_fn, steps=runtime.numbers.eval_steps, checkpoint_path=path,
                                        hooks=runtime.hooks([_EvaluationClock(recorder)]))
    recorder.export(runtime.estimator, None, path, result, True)


def _run(runtime: Runtime, start: int, stream: TextIO) -> Dict[str, Any]:
    config, numbers = runtime.config, runtime.numbers
    stream.write("train: %d rows, %d steps of %d examples (%d epochs), from step %d; evaluation: %d rows every %d "
                 "steps\n" % (runtime.manifest.split(TRAIN_SPLIT).rows, numbers.max_steps, config.batch_size,
                              config.train_epoch, start, runtime.manifest.split(TEST_SPLIT).rows, numbers.save_steps))
    stream.flush()
    progress = _progress(runtime)
    stopper = EarlyStopHook(config, runtime.manifest.dataset.task_names, runtime.rank_size)
    recorder = _recorder(runtime, progress, stream, stopper)
    if stopper.look():
        stream.write("stopped early at step %d: %s; nothing to train; go on: --early_stopping_patience, start over: "
                     "--fresh\n" % (start, stopper.reason))
        stopper.reason = None
        _evaluate(runtime, recorder, None)
    elif start >= numbers.max_steps:
        stream.write("already at step %d of %d: nothing to train; more epochs: --train_epoch, start over: --fresh\n"
                     % (start, numbers.max_steps))
        _evaluate(runtime, recorder, None)
    else:
        began = time.time()
        with _signals(runtime) as signals:
            tf.estimator.train_and_evaluate(
                runtime.estimator,
                tf.estimator.TrainSpec(runtime.train_input_fn, max_steps=numbers.max_steps,
                                       hooks=runtime.hooks([LossGuard(config.max_loss), progress, stopper] + signals)),
                tf.estimator.EvalSpec(runtime.eval_input_fn, steps=numbers.eval_steps,
                                      hooks=runtime.hooks([_EvaluationClock(recorder)]), exporters=[recorder],
                                      start_delay_secs=0, throttle_secs=0))
        stream.write("trained %d steps in %.1f s, evaluations included\n"
                     % (recorder.last["global_step"] - start, time.time() - began))
    if runtime.rank_id == 0:
        path = report.write_report(config.model_dir, runtime.manifest.dataset.task_names)
        stream.write("model directory %s, report %s\n" % (config.model_dir, path))
    return recorder.last
