"""What happens before a training starts, without TensorFlow: data, settings and step numbers are checked, the model
directory is made ready."""
import dataclasses
import os
import sys
import time
from typing import Any, Dict, List, Optional, Sequence

from estimator_app.config import Config
from estimator_app.model.definition import Model
from estimator_app.model.tasks import AUC_MEAN, MEAN_LOSS, TaskSet
from estimator_app.model_dir import checkpoints, directory, history
from estimator_app.model_dir.checkpoints import Best, Checkpoint
from estimator_app.training.steps import StepNumbers, step_numbers
from feature_specs.data_files import check_shards, verify_shards
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest, read_manifest


@dataclasses.dataclass(frozen=True)
class TrainRequest:
    """What ``train`` was asked for: settings and data, and the flags that are no settings."""

    model: Model
    fresh: bool = False
    verify_data: bool = False
    continue_on: bool = False
    warm_start_from: str = ""
    preset: str = ""  # its name, to be told
    phase: str = ""  # what this process does of a training that others planned; empty: plan and do all


@dataclasses.dataclass(frozen=True)
class Run:
    """A training that may begin: what is trained, and where it stands."""

    model: Model
    numbers: StepNumbers
    start: int  # global step of the checkpoint that training continues from; 0 for none
    owed: List[int]  # steps of checkpoints that lack their evaluation
    rank_id: int = 0
    rank_size: int = 1

    @property
    def config(self) -> Config:
        """The settings."""
        return self.model.config

    def stop_reason(self, evaluations: Sequence[Dict[str, Any]]) -> Optional[str]:
        """Returns why training ends early now, or None: a function of the evaluations of the whole run so far, in
        order, so that a resumed run stops where an unbroken one does. Those on other data do not count."""
        patience, metric = self.config.early_stopping_patience, _stopping_metric(self.model)
        entries = [entry for entry in evaluations if entry["global_step"] > self.numbers.data_start]
        best = history.best_of(entries, metric, self.model.tasks.is_loss(metric))
        since = len(entries) - 1 - entries.index(best) if best else 0
        if not best or not 0 < patience <= since:
            return None
        return "no new best %s in %d evaluations, best %.5f at step %d" % (
            metric, since, best[metric], best["global_step"])


def load_data(config: Config) -> Manifest:
    """Reads the manifest of the data and checks that the files are there; raises DataError, naming what is missing."""
    manifest = read_manifest(config.data_dir)
    for split in (TRAIN_SPLIT, TEST_SPLIT):
        if not manifest.split(split).rows:
            raise DataError("%s: split %r has no rows; prepare the data again" % (config.data_dir, split))
        check_shards(manifest, config.data_dir, split)
    return manifest


def prepare_run(request: TrainRequest, ranks: int) -> Run:
    """Makes the model directory ready, whose lock is held: checks that it fits, heals what is damaged.

    Raises UserError where it belongs to another model or other data, or is none that training wrote.
    """
    model, config = request.model, request.model.config
    _check_stopping_metric(model)
    if directory.holds(config.model_dir, config.data_dir):
        raise ConfigError("the data in %s lies in a part of the model directory that training writes and --fresh "
                          "moves; choose another --model_dir" % config.data_dir)
    verify_shards(model.manifest, config.data_dir, request.verify_data)
    directory.finish_move(config.model_dir)
    if request.fresh:
        _check_fresh(request)
        moved = directory.move_old_run(config.model_dir)
        if moved:
            sys.stdout.write("--fresh: the old run is now in %s, which is a model directory itself; exports and "
                             "predictions stay where they are\n" % moved)
    data_start = directory.check_resumable(config, model.manifest, ranks, request.continue_on)
    damaged = os.path.join(config.model_dir, checkpoints.DAMAGED_FOLDER)
    start, warnings = checkpoints.heal(config.model_dir, damaged, model.table_dims())
    warnings += filter(None, [history.repair(config.model_dir, start, damaged)])
    warnings += heal_best(model.tasks, config.model_dir, start, damaged)
    if request.warm_start_from and start:
        warnings.append("--warm_start_from has no effect: %s is trained already, to step %d"
                        % (config.model_dir, start))
    for line in warnings:
        sys.stdout.write("warning: %s\n" % line)
    sys.stdout.flush()
    return open_run(model, min(data_start, start), start, 0, ranks)


def _check_fresh(request: TrainRequest) -> None:
    """Refuses what would be refused after the old run has been moved: a contradiction, or a source without weights."""
    model_dir, source = request.model.config.model_dir, request.warm_start_from
    if request.continue_on:
        raise ConfigError("--fresh starts over and --continue_on goes on with the model in %s; give one of them"
                          % model_dir)
    if source:
        if os.path.realpath(source) == os.path.realpath(model_dir):
            raise ConfigError("--warm_start_from %s is the --model_dir itself; choose another --model_dir for the new "
                              "model" % source)
        directory.read_settings(source, {})
        checkpoints.resolve(source, "latest")


def _stopping_metric(model: Model) -> str:
    return model.config.early_stopping_metric or model.tasks.main_metric


def _check_stopping_metric(model: Model) -> None:
    """Refuses early stopping by a metric that no evaluation can have."""
    metric, rows = _stopping_metric(model), model.manifest.split(TEST_SPLIT)
    lacking = [name for name, count in rows.positives.items() if count in (0, rows.rows - rows.unknown_labels[name])]
    undefined = [task.metric(score) for name, task in model.tasks.tasks.items() if name in lacking
                 for score in task.scores if score not in task.losses]
    if sorted(lacking) == sorted(rows.positives):
        undefined.append(AUC_MEAN)
    if model.config.early_stopping_patience and metric in undefined:
        raise ConfigError("early stopping looks at %s, which is not defined on the evaluation rows: a class of %s is "
                          "missing there; choose another --early_stopping_metric, such as %s"
                          % (metric, ", ".join(lacking), MEAN_LOSS))


def announce(run: Run, preset: str) -> None:
    """Says what is about to be trained, in two lines."""
    config, numbers, manifest = run.config, run.numbers, run.model.manifest
    ranks = " on %d ranks" % run.rank_size if run.rank_size > 1 else ""
    sys.stdout.write("train: %s%s, %d rows, %d steps of %d examples%s (%d epoch%s%s), from step %d; evaluation: %d "
                     "rows every %d steps\n%s\n" % (
                         "preset %s, " % preset if preset else "", config.model, manifest.split(TRAIN_SPLIT).rows,
                         numbers.max_steps - numbers.data_start, config.batch_size * run.rank_size, ranks,
                         numbers.epochs, "" if numbers.epochs == 1 else "s",
                         "" if config.train_epoch else ", chosen from the data", run.start,
                         manifest.split(TEST_SPLIT).rows, numbers.save_steps, run.model.needs().description))
    sys.stdout.flush()


def begin_stage(run: Run) -> None:
    """Notes what is trained from here, and says where other data begins."""
    config, data_start = run.config, run.numbers.data_start
    changed = directory.changed_settings(config) if run.start else []
    if changed:
        sys.stdout.write("other settings from step %d on: %s\n" % (run.start, "; ".join(changed)))
    directory.record_stage(config, run.model.manifest, run.start, data_start, run.rank_size,
                           run.numbers.epochs)
    if run.start and run.start == data_start:
        entry = {"global_step": run.start, "data": run.model.manifest.identity()}
        # A start that was killed before its first checkpoint has noted it already.
        if not any(entry.items() <= known.items() for known in history.read(config.model_dir)):
            history.append(config.model_dir, history.DATA, dict(entry, time=time.time()))
        sys.stdout.write("continues on other data from step %d\n" % run.start)


def nothing_to_train(run: Run, evaluations: Sequence[Dict[str, Any]]) -> Optional[str]:
    """Says why a run has nothing left to train and what would change that; None where it has."""
    reason = run.stop_reason(evaluations)
    if reason is not None and run.start > run.numbers.data_start:
        return ("stopped early at step %d: %s; nothing to train; train on: --early_stopping_patience; start over: "
                "--fresh" % (run.start, reason))
    if run.start >= run.numbers.max_steps:
        asked = "of" if run.start == run.numbers.max_steps else "beyond the"
        return ("already at step %d %s %d: nothing to train; more epochs: --train_epoch; start over: --fresh"
                % (run.start, asked, run.numbers.max_steps))
    return None


def open_run(model: Model, data_start: int, start: int, rank_id: int, rank_size: int) -> Run:
    """Returns the run of one rank in a model directory that is ready."""
    numbers = step_numbers(model.config, model.manifest, data_start, rank_id, rank_size)
    recorded = {entry["global_step"] for entry in history.evaluations(model.config.model_dir)}
    owed = [step for step in checkpoints.steps(model.config.model_dir)
            if numbers.is_evaluated(step) and step not in recorded]
    return Run(model, numbers, start, owed, rank_id, rank_size)


def heal_best(tasks: TaskSet, model_dir: str, start: int, damaged: str) -> List[str]:
    """Makes ``best/`` hold the best evaluation whose checkpoint is whole; a damaged one goes to ``damaged``.

    Returns what was wrong, a line each. Training continues from the global step ``start``.
    """
    metric, sign = tasks.main_metric, -1.0 if tasks.is_loss(tasks.main_metric) else 1.0
    entries, found = history.evaluations_on_latest_data(model_dir), checkpoints.read_best(model_dir, contents=True)
    known = [Best(entry["global_step"], metric, entry[metric]) for entry in entries if entry.get(metric) is not None]
    # Where only its line in the history is lost, what is better than all that is known stays the best.
    if found is not None and found.metric == metric and found.step <= start and all(
            entry["global_step"] != found.step for entry in entries):
        known.append(found)
    ranked = sorted(known, key=lambda best: -sign * best.value)
    if not ranked or found == ranked[0]:
        return []
    folder, warnings = os.path.join(model_dir, checkpoints.BEST_FOLDER), []
    for step in checkpoints.steps(folder):
        wrong = Checkpoint(folder, step).problem(contents=True)
        if wrong:
            Checkpoint(folder, step).set_aside(os.path.join(damaged, checkpoints.BEST_FOLDER))
            warnings.append("the best checkpoint is not whole (%s); it is set aside in %s" % (wrong, damaged))
    for best in ranked:
        if best == found:
            return warnings
        for place, keep in ((folder, checkpoints.write_best), (model_dir, checkpoints.keep_best)):
            if Checkpoint(place, best.step).problem(contents=True) is None:
                keep(model_dir, best)
                return warnings + ["the best checkpoint is found again: step %d, %s %.5f"
                                   % (best.step, metric, best.value)]
    return warnings
