"""The ``train`` command: train_and_evaluate with an evaluation at every checkpoint and at the end."""
import contextlib
import sys
import time
from typing import Any, Dict, List

import tensorflow as tf

from estimator_app.model.metrics import collapse_warnings
from estimator_app.model.tasks import MEAN_LOSS
from estimator_app.model_dir import checkpoints, directory, history
from estimator_app.model_dir.checkpoints import Best, Checkpoint
from estimator_app.model_dir.lock import locked, phase_locked
from estimator_app.training import report
from estimator_app.training.evaluate import plain_metrics
from estimator_app.training.hooks import BadLossError, GridSaver, SignalHook, explained_errors
from estimator_app.training.progress import ProgressHook, tell, tell_evaluation
from estimator_app.training.run_start import (
    Run,
    TrainRequest,
    announce,
    begin_stage,
    nothing_to_train,
    open_run,
    prepare_run,
)
from estimator_app.training.runtime import Runtime
from estimator_app.training.steps import EVALUATE, TRAIN, parse_phase
from feature_specs import sdk
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT


def train(request: TrainRequest) -> Dict[str, Any]:
    """Trains a model, or resumes its training, in this process; with a phase, does that part of a planned training.

    Returns the metrics of the last evaluation, empty where nothing was evaluated; raises UserError where data, settings
    or model directory do not fit, or the loss is no number.
    """
    model, config = request.model, request.model.config
    rank_id, rank_size = sdk.get_rank_id(), sdk.get_rank_size()
    if request.phase:
        # The process that planned the phases has made the directory ready.
        with contextlib.nullcontext() if rank_id else phase_locked(config.model_dir):
            stages = directory.read_stages(config.model_dir)
            if stages and stages[-1].data.identity != model.manifest.identity():
                raise DataError("%s was prepared anew while it was in use; bring the data back and the same command "
                                "resumes" % config.data_dir)
            start = checkpoints.latest(config.model_dir) or 0
            run = open_run(model, stages[-1].data_start if stages else start, start, rank_id, rank_size)
            return _run(request, run)
    if rank_size > 1:
        raise ConfigError("this is rank %d of %d, started by another launcher: start them with train --ranks %d, which "
                          "plans what each process does" % (rank_id, rank_size, rank_size))
    with locked(config.model_dir), phase_locked(config.model_dir):
        run = prepare_run(request, 1)
        evaluations = history.evaluations(config.model_dir)
        done = nothing_to_train(run, evaluations)
        if not done or run.owed:
            return _run(request, run)
        sys.stdout.write(done + "\n")
        if not evaluations:
            return {}
        report.complete_report(config.model_dir, model.tasks)
        tell_evaluation(run, evaluations[-1])
        return evaluations[-1]


def _run(request: TrainRequest, run: Run) -> Dict[str, Any]:
    model_dir, phase = run.config.model_dir, parse_phase(request.phase, run.start, run.numbers)
    warm_start = None
    if request.warm_start_from and not run.start and phase.kind != EVALUATE:
        from estimator_app.training.warm_start import warm_start_settings
        warm_start = warm_start_settings(request.warm_start_from, run.model)
    with contextlib.closing(Runtime(run, phase, warm_start)) as runtime, explained_errors(run), \
            runtime.guard.explained_errors(TRAIN_SPLIT, TEST_SPLIT), \
            contextlib.closing(EvaluationRecorder(runtime)) as recorder:
        if phase.kind == TRAIN:
            signals = SignalHook(run, runtime.guard)
            with signals.handling():
                runtime.estimator.train(runtime.train_input_fn, runtime.training_hooks([recorder.progress, signals]),
                                        max_steps=phase.stop, saving_listeners=[runtime.guard])
            return {}
        if phase.kind == EVALUATE:
            recorder.evaluate(phase.stop)
        else:
            _train_and_evaluate(request, runtime, recorder)
        if run.rank_id == 0:
            report.write_report(model_dir, run.model.tasks)
            if not request.phase:
                sys.stdout.write(report.written(model_dir))
        return recorder.last


def _train_and_evaluate(request: TrainRequest, runtime: Runtime, recorder: "EvaluationRecorder") -> None:
    run = runtime.run
    if not request.phase:
        announce(run, request.preset)
    for step in run.owed:
        recorder.evaluate(step)
    # From this rank's own memory: the file is the first rank's, which may write to it only after we have read it.
    done = nothing_to_train(run, recorder.evaluations)
    if done:
        tell(run, done)
        return
    if not request.phase:
        begin_stage(run)
    began = time.time()
    signals = SignalHook(run, runtime.guard)
    with signals.handling():
        # A step's loss is looked at and noted before its checkpoint exists: a restart from there does not repeat it.
        hooks = [recorder.progress, GridSaver(run, runtime.guard), signals]
        tf.estimator.train_and_evaluate(
            runtime.estimator,
            tf.estimator.TrainSpec(runtime.train_input_fn, run.numbers.max_steps, runtime.training_hooks(hooks)),
            tf.estimator.EvalSpec(recorder.input_fn, steps=run.numbers.eval_steps, exporters=[recorder],
                                  hooks=runtime.hooks(), start_delay_secs=0, throttle_secs=0))
    tell(run, "trained %d steps in %.1f s, evaluations included"
         % (recorder.last["global_step"] - run.start, time.time() - began))


class EvaluationRecorder(tf.estimator.Exporter):
    """Called before every evaluation, for its input, and after it, as its exporter: table row, ``metrics.jsonl``, best
    checkpoint, old checkpoints, early stopping; ``last`` are the metrics of the last one, empty before the first."""

    name = "evaluation_recorder"

    def __init__(self, runtime: Runtime):
        self._runtime, self._run = runtime, runtime.run
        self.progress = ProgressHook(self._run)
        self.last: Dict[str, Any] = {}
        # {step: metrics}; on several ranks every one keeps them, since all must end at the same step.
        self._evaluations = {entry["global_step"]: entry
                             for entry in history.evaluations(self._run.config.model_dir)}
        self._started = time.time()

    def close(self) -> None:
        """Ends the line of progress."""
        self.progress.close()

    @property
    def evaluations(self) -> List[Dict[str, Any]]:
        """Metrics of all evaluations of the run so far, in order."""
        return [self._evaluations[step] for step in sorted(self._evaluations)]

    def evaluate(self, step: int) -> None:
        """Evaluates the checkpoint of a step and records the result."""
        path = Checkpoint(self._run.config.model_dir, step).path
        result = self._runtime.estimator.evaluate(
            self.input_fn, steps=self._run.numbers.eval_steps, checkpoint_path=path, hooks=self._runtime.hooks())
        self.export(self._runtime.estimator, None, path, result, True)

    def input_fn(self) -> Any:
        """Returns the dataset of an evaluation, and notes the time: from here on it does not count as training."""
        self._started = time.time()
        return self._runtime.eval_input_fn()

    def export(self, estimator: Any, export_path: Any, checkpoint_path: Any, eval_result: Dict[str, Any],
               is_the_final_export: bool) -> None:
        """Records an evaluation, ``eval_result``; the other arguments are not used."""
        seconds = time.time() - self._started
        self._runtime.guard.check()
        metrics = plain_metrics(eval_result)
        step = metrics["global_step"]
        if self.last.get("global_step") == step:
            return
        if metrics[MEAN_LOSS] is None:
            # The last update spoilt the weights; the next step's loss would say so too late for this checkpoint.
            raise BadLossError(step, float("nan"), "evaluation")
        with_heading, self.last = not self.last, metrics
        is_best = self._run.rank_id == 0 and self._record(step, metrics, seconds)
        self._evaluations.setdefault(step, metrics)
        self.progress.note_evaluation(metrics, seconds)
        tell_evaluation(self._run, metrics, "best" if is_best else "", with_heading)
        for line in collapse_warnings(metrics):
            tell(self._run, "warning: " + line)
        reason = self._run.stop_reason(self.evaluations)
        if reason:
            tell(self._run, "early stopping: %s" % reason)
        self.progress.stop_reason = reason

    def _record(self, step: int, metrics: Dict[str, Any], seconds: float) -> bool:
        """Does what one rank does for all; returns whether the evaluation is the best one."""
        config, tasks = self._run.config, self._run.model.tasks
        Checkpoint(config.model_dir, step).ensure_checksums()
        # A run that is done is evaluated again by the same command; that adds nothing to its history.
        if step not in self._evaluations:
            undefined = [name for name in tasks.main_scores() if metrics.get(name) is None]
            if undefined and not self._evaluations:
                tell(self._run, "warning: %s cannot be computed: the evaluation rows lack a class or a label; it is "
                                "left out of means and of the best" % ", ".join(undefined))
            history.append(config.model_dir, history.EVALUATION, dict(metrics, time=time.time(), seconds=seconds))
        metric, current = tasks.main_metric, checkpoints.read_best(config.model_dir)
        # What was best on other data says nothing of this.
        rivals = ([{metric: current.value}] if current and current.metric == metric
                  and current.step > self._run.numbers.data_start else [])
        is_best = history.best_of(rivals + [metrics], metric, tasks.is_loss(metric)) is metrics
        if is_best:
            checkpoints.keep_best(config.model_dir, Best(step, metric, metrics[metric]))
        # Savers know only what they wrote themselves, not the files of earlier runs.
        checkpoints.keep_only(config.model_dir, checkpoints.steps(config.model_dir)[-config.keep_checkpoint_max:])
        return is_best
