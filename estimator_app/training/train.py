"""The ``train`` command: train_and_evaluate with an evaluation at every checkpoint and at the end."""
import contextlib
import sys
import time
from typing import Any, Dict, Iterator, List, Optional, TextIO

import tensorflow as tf

from estimator_app.model.definition import Model
from estimator_app.model.metrics import collapse_warnings
from estimator_app.model.tasks import MEAN_LOSS
from estimator_app.model_dir import checkpoints, directory, history
from estimator_app.model_dir.checkpoints import Best, Checkpoint
from estimator_app.model_dir.lock import locked, phase_locked
from estimator_app.training import report
from estimator_app.training.early_stopping import run_stop_reason
from estimator_app.training.evaluate import explained_input_errors, plain_metrics
from estimator_app.training.hooks import (
    BadLossError,
    GridSaver,
    LossGuard,
    SignalHook,
    StopHook,
    explained_storage_errors,
    is_bad,
    set_spoilt_aside,
)
from estimator_app.training.progress import EvaluationTable, ProgressHook
from estimator_app.training.run_start import (
    Run,
    TrainRequest,
    begin_stage,
    nothing_to_train,
    open_run,
    prepare_run,
)
from estimator_app.training.runtime import Runtime, build_runtime
from estimator_app.training.steps import EVALUATE, TRAIN, parse_phase
from feature_specs import sdk
from feature_specs.errors import ConfigError, DataError, UserError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT


def train(request: TrainRequest, model: Model, stream: Optional[TextIO] = None) -> Dict[str, Any]:
    """Trains a model, or resumes its training, in this process; with a phase, does that part of a planned training.

    Args:
        request: what was asked for.
        model: settings and data.
        stream: where results go, default standard output.

    Returns:
        The metrics of the last evaluation, with ``global_step``; empty where nothing was evaluated.

    Raises:
        UserError: data, settings or model directory do not fit, or the loss is no number.
    """
    stream = stream or sys.stdout
    config, rank_id, rank_size = model.config, sdk.get_rank_id(), sdk.get_rank_size()
    if request.phase:
        # The process that planned the phases has made the directory ready.
        with contextlib.nullcontext() if rank_id else phase_locked(config.model_dir):
            stages = directory.read_stages(config.model_dir)
            if stages and stages[-1].data["identity"] != model.manifest.identity():
                raise DataError("%s was prepared anew while it was in use; bring the data back and the same command "
                                "resumes" % config.data_dir)
            start = checkpoints.latest(config.model_dir) or 0
            run = open_run(model, stages[-1].data_start if stages else start, start, rank_id, rank_size)
            return _run(request, run, stream)
    if rank_size > 1:
        raise ConfigError("this is rank %d of %d, started by another launcher: start them with train --ranks %d, which "
                          "plans what each process does" % (rank_id, rank_size, rank_size))
    with locked(config.model_dir), phase_locked(config.model_dir):
        run = prepare_run(request, model, 1, stream)
        done = nothing_to_train(run)
        if done and not run.owed:
            return _tell_last(run, done, stream)
        return _run(request, run, stream)


def _tell_last(run: Run, done: str, stream: TextIO) -> Dict[str, Any]:
    """Says why nothing is trained and shows the last evaluation as it was recorded; trains and evaluates nothing."""
    stream.write(done + "\n")
    evaluations = history.evaluations(run.model.config.model_dir)
    if not evaluations:
        return {}
    report.complete_report(run.model.config.model_dir, run.model.tasks)
    EvaluationTable(run.model.tasks, run.numbers, stream).show(evaluations[-1]["global_step"], evaluations[-1])
    return evaluations[-1]


def _run(request: TrainRequest, run: Run, stream: TextIO) -> Dict[str, Any]:
    config = run.model.config
    phase = parse_phase(request.phase, run.start, run.numbers)
    warm_start = None
    if request.warm_start_from and not run.start and phase.kind != EVALUATE:
        from estimator_app.training.warm_start import warm_start_settings
        warm_start = warm_start_settings(request.warm_start_from, run.model, stream)
    runtime = build_runtime(run, phase, warm_start)
    try:
        with explained_storage_errors(config.model_dir), explained_input_errors(
                run.model, (TRAIN_SPLIT, TEST_SPLIT), runtime.guard):
            progress = ProgressHook(run)
            recorder = EvaluationRecorder(runtime, progress, stream)
            if phase.kind == TRAIN:
                _train_phase(runtime, progress)
            elif phase.kind == EVALUATE:
                _evaluate(runtime, recorder, phase.stop)
            else:
                _train_and_evaluate(request, runtime, recorder, progress, stream)
            if phase.kind != TRAIN and run.rank_id == 0:
                path = report.write_report(config.model_dir, run.model.tasks)
                if not request.phase:
                    stream.write("model directory %s, report %s\n" % (config.model_dir, path))
            return recorder.last
    except BadLossError as error:
        if run.rank_id:
            raise UserError(str(error)) from error
        good, warnings = set_spoilt_aside(config.model_dir, error.step)
        for line in warnings:
            stream.write("warning: %s\n" % line)
        place = ("the last good checkpoint is of step %d, from which the same command resumes" % good if good else
                 "there is no checkpoint yet, and the same command begins anew")
        raise UserError("%s; %s: lower --learning_rate and --sparse_learning_rate, or look for extreme values in the "
                        "data" % (error, place)) from error
    finally:
        runtime.close()


def _train_phase(runtime: Runtime, progress: ProgressHook) -> None:
    config = runtime.run.model.config
    with _signals(runtime) as signals:
        runtime.estimator.train(
            runtime.train_input_fn, max_steps=runtime.phase.stop, saving_listeners=[runtime.guard],
            hooks=runtime.hooks([LossGuard(config.max_loss), progress] + signals))


def _train_and_evaluate(request: TrainRequest, runtime: Runtime, recorder: "EvaluationRecorder",
                        progress: ProgressHook, stream: TextIO) -> None:
    run = runtime.run
    config, numbers, manifest = run.model.config, run.numbers, run.model.manifest
    if run.rank_id == 0:
        stream.write(
            "train: %d rows, %d steps of %d examples (%d epoch%s%s), from step %d; evaluation: %d rows every %d "
            "steps\n" % (
                manifest.split(TRAIN_SPLIT).rows, numbers.max_steps - numbers.data_start,
                config.batch_size * run.rank_size, numbers.epochs, "" if numbers.epochs == 1 else "s",
                "" if config.train_epoch else ", by the data", run.start, manifest.split(TEST_SPLIT).rows,
                numbers.save_steps))
        stream.flush()
    for step in run.owed:
        _evaluate(runtime, recorder, step)
    done = nothing_to_train(run)
    if done:
        stream.write(done + "\n")
        return
    if not request.phase:
        begin_stage(run, stream)
    began = time.time()
    with _signals(runtime) as signals:
        # A step's loss is looked at and noted before its checkpoint exists: a restart from there does not repeat it.
        saver = GridSaver(config.model_dir, numbers, runtime.guard)
        hooks = [LossGuard(config.max_loss), progress, saver, recorder.stopper] + signals
        tf.estimator.train_and_evaluate(
            runtime.estimator,
            tf.estimator.TrainSpec(runtime.train_input_fn, max_steps=numbers.max_steps, hooks=runtime.hooks(hooks)),
            tf.estimator.EvalSpec(runtime.eval_input_fn, steps=numbers.eval_steps, exporters=[recorder],
                                  hooks=runtime.hooks([_EvaluationClock(recorder)]), start_delay_secs=0,
                                  throttle_secs=0))
    if run.rank_id == 0:
        stream.write("trained %d steps in %.1f s, evaluations included\n"
                     % (recorder.last["global_step"] - run.start, time.time() - began))


class EvaluationRecorder(tf.estimator.Exporter):
    """Called after every evaluation: table row, ``metrics.jsonl``, best checkpoint, old checkpoints, early stopping."""

    def __init__(self, runtime: Runtime, progress: ProgressHook, stream: TextIO):
        run = runtime.run
        self._run, self._guard = run, runtime.guard
        self._table = EvaluationTable(run.model.tasks, run.numbers, stream if run.rank_id == 0 else None)
        self._progress = progress
        self.stopper = StopHook()
        self.last: Dict[str, Any] = {}
        # On several ranks every one keeps the list, since all must end at the same step.
        self._evaluations = history.evaluations(run.model.config.model_dir)
        self._started = time.time()

    @property
    def name(self) -> str:
        """Name of the exporter, which Estimators ask for."""
        return "evaluation_recorder"

    def evaluation_begins(self) -> None:
        """Notes the time, so that evaluation does not count as training."""
        self._started = time.time()

    def stop_reason(self) -> Optional[str]:
        """Returns why training ends now, or None."""
        return run_stop_reason(self._run.model, self._run.numbers.data_start, self._evaluations)

    def export(self, estimator: Any, export_path: Any, checkpoint_path: Any, eval_result: Dict[str, Any],
               is_the_final_export: bool) -> None:
        """Records an evaluation, ``eval_result``; the other arguments are not used."""
        del estimator, export_path, checkpoint_path, is_the_final_export
        seconds = time.time() - self._started
        self._guard.check()
        metrics = plain_metrics(eval_result)
        step = metrics["global_step"]
        if self.last.get("global_step") == step:
            return
        if metrics[MEAN_LOSS] is None or is_bad(metrics[MEAN_LOSS], 0.0):
            # The last update spoilt the weights; the next step's loss would say so too late for this checkpoint.
            raise BadLossError(step, metrics[MEAN_LOSS] or float("nan"), "evaluation")
        self.last = metrics
        best = self._record(step, metrics, seconds) if self._run.rank_id == 0 else False
        if step not in [entry["global_step"] for entry in self._evaluations]:
            self._evaluations = sorted(self._evaluations + [metrics], key=lambda entry: entry["global_step"])
        self._progress.note_evaluation(metrics, seconds)
        self._table.show(step, metrics, "best" if best else "")
        for line in collapse_warnings(metrics):
            self._table.note("warning: " + line)
        self.stopper.reason = self.stop_reason()
        if self.stopper.reason:
            self._table.note("early stopping: %s" % self.stopper.reason)

    def _record(self, step: int, metrics: Dict[str, Any], seconds: float) -> bool:
        config, tasks = self._run.model.config, self._run.model.tasks
        checkpoint = Checkpoint(config.model_dir, step)
        checkpoint.ensure_checksums()
        # A run that is done is evaluated again by the same command; that adds nothing to its history.
        if step not in [entry["global_step"] for entry in self._evaluations]:
            undefined = [name for name in tasks.main_scores() if metrics.get(name) is None]
            if undefined and not self._evaluations:
                self._table.note("warning: %s cannot be computed: the evaluation rows lack a class or a label; it is "
                                 "left "
                                 "out of means and of the best" % ", ".join(undefined))
            history.append(config.model_dir, history.EVALUATION, dict(metrics, time=time.time(), seconds=seconds))
        value, current = metrics[tasks.main_metric], checkpoints.read_best(config.model_dir)
        sign = -1.0 if tasks.is_loss(tasks.main_metric) else 1.0
        # What was best on other data says nothing of this.
        best = value is not None and (
            current is None or current.metric != tasks.main_metric or current.step <= self._run.numbers.data_start
            or sign * value > sign * current.value)
        if best:
            checkpoints.keep_best(config.model_dir, Best(step, tasks.main_metric, value))
        checkpoints.prune(config.model_dir, config.keep_checkpoint_max)
        return best


class _EvaluationClock(tf.compat.v1.train.SessionRunHook):
    def __init__(self, recorder: EvaluationRecorder):
        self._recorder = recorder

    def begin(self) -> None:
        self._recorder.evaluation_begins()


@contextlib.contextmanager
def _signals(runtime: Runtime) -> Iterator[List[Any]]:
    """Handles signals; gives the hooks for it."""
    hook = SignalHook(runtime.run.model.config.model_dir, runtime.run.rank_size, runtime.guard)
    with hook.handling():
        yield [hook]


def _evaluate(runtime: Runtime, recorder: EvaluationRecorder, step: int) -> None:
    path = Checkpoint(runtime.run.model.config.model_dir, step).path
    result = runtime.estimator.evaluate(runtime.eval_input_fn, steps=runtime.run.numbers.eval_steps,
                                        checkpoint_path=path, hooks=runtime.hooks([_EvaluationClock(recorder)]))
    recorder.export(runtime.estimator, None, path, result, True)
