"""The ``tune`` command: a resumable search over the preset's fields, judged on training rows only.

Optuna proposes settings (TPE) and stops hopeless trials early (median of the evaluations so far). Everything that the
search knows is in ``study.db``, so the same command goes on after any interruption.
"""
import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import shlex
import shutil
import sys
import warnings
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from estimator_app import config as config_module
from estimator_app.config import Config
from estimator_app.model.definition import make_model
from estimator_app.model.networks import NETWORKS
from estimator_app.model_dir.history import METRICS_FILE
from estimator_app.model_dir.lock import locked
from estimator_app.signals import handled
from estimator_app.training.steps import step_numbers
from estimator_app.tuning import search_space
from estimator_app.tuning.trial import NOT_OURS, TrialFailedError, check_empty, remove_trial, run_training
from feature_specs.errors import ConfigError, UserError
from feature_specs.files import replace_text, sha256_of_file
from feature_specs.manifest import FILE_NAME, TRAIN_SPLIT, Manifest, read_manifest
from preprocessing.output_directory import RAW_FOLDER
from preprocessing.pipeline import Preparation, prepare
from preprocessing.reading.readers import Reading, find_inputs

STUDY_FILE, PRESET_FILE = "study.db", "best_preset.json"
_STUDY_NAME, _SETTINGS = "tune", "settings"
_STARTUP_TRIALS, _SHOWN_TRIALS, _FAILURES_IN_A_ROW = 5, 5, 3
# The first evaluation says too little to end a trial.
_FREE_EVALUATIONS = 1
_VALIDATION_SHARE, _SPLIT_SEED = 0.2, 1000
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def add_arguments(parser: argparse.ArgumentParser, data_dir: str, name: str, preset: Mapping[str, Any],
                  space: str) -> None:
    """Adds the flags of the command; those of ``train`` hold a setting fixed.

    ``data_dir`` and ``space`` are the flags of that name or their defaults, ``name`` and ``preset`` are the preset that
    goes with them, whose values the help shows.
    """
    parser.add_argument("--trials", type=int, required=True, metavar="N",
                        help="trials of the study, including those of earlier runs [trials] (required)")
    parser.add_argument("--data_dir", default=data_dir, metavar="DIR",
                        help="prepared data to find settings for; its test rows are not used [path] (default: %s)"
                             % data_dir)
    parser.add_argument("--train_data_path", nargs="+", metavar="FILE",
                        help="the files that prepare had as --train_data_path; a fifth of the training rows is set "
                             "aside for validation [paths] (default: where the data is a sample, its training file)")
    parser.add_argument("--output_path", default="runs/tune", metavar="DIR",
                        help="the study, its data and the best preset; an existing study is continued [path] (default: "
                             "runs/tune)")
    parser.add_argument("--space", default=search_space.DEFAULT_FILE, metavar="FILE",
                        help="fields and their ranges [path] (default: the file that comes with the program)")
    parser.add_argument("--metric", default="", metavar="NAME",
                        help="metric that ranks the trials: auc_mean, mean_loss, or a score of a task such as "
                             "auc_income (default: auc_mean where a task has an AUC, else mean_loss)")
    parser.add_argument("--splits", type=int, default=1, metavar="N",
                        help="random validation splits; every trial trains on each, its value is the mean "
                             "[splits] (default: 1)")
    config_module.add_preset_argument(parser, name)
    base = config_module.from_arguments({}, preset, os.environ)
    searched = search_space.read_entries(space or search_space.DEFAULT_FILE)
    shown: Any = argparse.Namespace(**{**vars(base), **dict.fromkeys(searched, "searched unless given")})
    config_module.add_arguments(parser, shown, [name for name in vars(base) if name not in search_space.NOT_SEARCHED],
                                {"model": sorted(NETWORKS)})


def run(parsed: argparse.Namespace) -> int:
    """Runs trials until the study has as many as the flags ask for, and writes the best preset.

    Returns the exit status: 0, or 128 plus the number of the signal that stopped the search. Raises UserError where
    flags, space, data or study do not fit.
    """
    for name in ("trials", "splits"):
        if getattr(parsed, name) < 1:
            raise ConfigError("--%s %d is out of range; allowed: 1 and more" % (name, getattr(parsed, name)))
    base = config_module.from_arguments(vars(parsed), parsed.chosen_preset, os.environ)
    space, fixed = search_space.read_space(parsed.space, base), _fixed(parsed)
    space = {name: item for name, item in space.items() if name not in fixed}
    if not space:
        raise ConfigError("flags fix every field of the search space (%s); leave one out" % ", ".join(fixed))
    if os.path.isfile(os.path.join(parsed.output_path, FILE_NAME)):
        raise ConfigError("--output_path %s holds prepared data; choose another" % parsed.output_path)
    if os.path.lexists(parsed.output_path) and not os.path.isdir(parsed.output_path):
        raise ConfigError("--output_path %s is not a directory; choose another" % parsed.output_path)
    manifest = read_manifest(parsed.data_dir)
    if manifest.row_split.by_time and parsed.splits > 1:
        raise ConfigError("--splits %d: %s was split by time, and so are its training rows, which gives one split; "
                          "leave --splits out" % (parsed.splits, parsed.data_dir))
    paths = _training_files(parsed, manifest)
    with locked(parsed.output_path, "tuning directory", "--output_path"):
        described = manifest.to_dict()
        digests = {what: _digest(json.dumps(described[key], sort_keys=True)) for what, key in (
            ("dataset", "dataset"), ("test rows", "row_split"))}
        digests["training files"] = _digest("".join(item.sha256 for item in manifest.split(TRAIN_SPLIT).inputs))
        data = _prepared_splits(parsed, paths, manifest, _digest("".join(digests.values())))
        with _optuna_errors(parsed.output_path):
            return Search(parsed, base, space, data, digests).run(parsed.trials)


class Search:
    """A study and how its trials are run."""

    def __init__(self, parsed: argparse.Namespace, base: Config, space: Dict[str, BaseDistribution],
                 data: Sequence[str], digests: Mapping[str, str]):
        """Opens or makes the study.

        ``base`` has the settings that trials start from: the preset's, and those that flags fix. ``data`` is the
        prepared data of each validation split, ``digests`` is {what must not change: its hash}.
        """
        self._directory, self._data, self._fixed = parsed.output_path, data, _fixed(parsed)
        self._data_dir, self._preset, self._base = parsed.data_dir, parsed.chosen_preset, base
        if parsed.space == search_space.DEFAULT_FILE:
            space = search_space.with_values(space, base)
        tasks = make_model(base, read_manifest(data[0])).tasks
        tasks.check_selectable("--metric", parsed.metric)
        self._space, self._metric = space, parsed.metric or tasks.main_metric
        self._lower_is_better = tasks.is_loss(self._metric)
        self._received: List[int] = []
        self._study = optuna.create_study(
            storage="sqlite:///" + os.path.join(os.path.abspath(self._directory), STUDY_FILE), study_name=_STUDY_NAME,
            direction="minimize" if self._lower_is_better else "maximize", load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(_STARTUP_TRIALS, n_warmup_steps=_FREE_EVALUATIONS + 1))
        # Another seed at every start: the same one would propose the same settings again.
        self._study.sampler = optuna.samplers.TPESampler(
            seed=base.seed + len(self._study.trials), n_startup_trials=_STARTUP_TRIALS)
        settings = {"base": _settings_of(base), "metric": self._metric, "splits": parsed.splits, **digests,
                    "space": {name: distribution_to_json(item) for name, item in space.items()}}
        if _SETTINGS not in self._study.user_attrs:
            self._study.set_user_attr(_SETTINGS, settings)
        known = dict(self._study.user_attrs[_SETTINGS])
        # A setting that came later had its default.
        known["base"] = {**_settings_of(Config()), **known["base"]}
        differing = [name for name in sorted(settings) if known.get(name) != settings[name]]
        if differing:
            raise ConfigError("of what the study in %s was started with, these differ: %s; use the same flags and "
                              "files, or another --output_path" % (
                                  self._directory, ", ".join("settings" if name == "base" else name
                                                             for name in differing)))

    def run(self, trials: int) -> int:
        """Runs trials until the study has ``trials`` that ended; returns the exit status."""
        # Refused before time is spent on trials: what this study did not write.
        preset = os.path.join(self._directory, PRESET_FILE)
        if not self._trials(*_ENDED) and os.path.lexists(preset):
            raise UserError(NOT_OURS % (preset, "the study in %s has no trial that ended" % self._directory))
        for number in range(self._next_number(), trials):
            check_empty(self._trial_directory(number))
        self._repeat_interrupted()
        failures = 0
        # A signal raises nothing by itself: an exception while a process is being started would lose that process.
        with handled(self._received.append):
            while len(self._trials(*_ENDED)) < trials:
                try:
                    trial = self._run_trial()
                    self._check_signals()
                except KeyboardInterrupt:
                    sys.stdout.write("stopped in trial %d; the same command continues the study\n"
                                     % (len(self._study.trials) - 1))
                    return 128 + self._received[0]
                failures = failures + 1 if trial.state == TrialState.FAIL else 0
                if failures == _FAILURES_IN_A_ROW:
                    raise UserError("%d trials in a row failed, the last one with: %s; see %s" % (
                        failures, trial.user_attrs["error"], self._trial_directory(trial.number)))
        self._summary()
        return 0

    def _trials(self, *states: TrialState) -> List[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states)

    def _repeat_interrupted(self) -> None:
        """Makes the settings of a trial that a stop cut off the next ones; a new study begins with the preset's."""
        for trial in self._trials(TrialState.RUNNING):
            remove_trial(self._trial_directory(trial.number))
            optuna.storages.RetryFailedTrialCallback()(self._study, trial)
            self._study.tell(trial.number, state=TrialState.FAIL)
            sys.stdout.write("trial %d was cut off; its settings come again as trial %d\n" % (
                trial.number, self._next_number()))
        if self._study.trials:
            return
        values = {name: getattr(self._base, name) for name in self._space}
        outside = [name for name, item in self._space.items() if not search_space.contains(item, values[name])]
        if outside:
            sys.stdout.write("the search space leaves out the preset's own values of %s: the preset itself is not "
                             "among the trials\n" % ", ".join(outside))
        else:
            self._study.enqueue_trial(values)

    def _next_number(self) -> int:
        """Returns the number of the trial that the study gives out next: the first that waits, or a new one."""
        waiting = self._trials(TrialState.WAITING)
        return waiting[0].number if waiting else len(self._study.trials)

    def _run_trial(self) -> FrozenTrial:
        """Runs the next trial, tells the study and the user how it ended, and returns it."""
        directory = self._trial_directory(self._next_number())
        # Before the study knows the trial: so what is there of a trial that it knows as running was made for it.
        check_empty(directory)
        os.makedirs(directory, exist_ok=True)
        trial = self._study.ask(self._space)
        ended: Any
        try:
            config = self._base.replace(**trial.params)
            _write_json(os.path.join(directory, "preset.json"), _settings_of(config))
            values = [self._train(trial, config, directory, number) for number in range(len(self._data))]
            ended = self._study.tell(trial, sum(values) / len(values))
            result = "%s %.5f" % (self._metric, ended.value)
        except optuna.TrialPruned:
            ended = self._study.tell(trial, state=TrialState.PRUNED)
            result = "stopped early, after evaluation %s" % ended.last_step
        except (TrialFailedError, ConfigError) as error:
            trial.set_user_attr("error", str(error))
            ended = self._study.tell(trial, state=TrialState.FAIL)
            result = "failed (%s)" % error
        is_preset = all(getattr(self._base, name) == value for name, value in trial.params.items())
        sys.stdout.write("trial %d%s: %s, %.1f s: %s\n" % (
            ended.number, " (as the preset)" if is_preset else "", result, ended.duration.total_seconds(),
            _settings_text(ended.params)))
        sys.stdout.flush()
        return ended

    def _train(self, trial: optuna.Trial, config: Config, directory: str, number: int) -> float:
        """Trains on one split and returns the metric of the last checkpoint; the first split decides on pruning."""
        model_dir = os.path.join(directory, "split%d" % number)
        max_steps = step_numbers(config, read_manifest(self._data[number]), 0, 0, 1).max_steps
        count = itertools.count(1)

        def report(metrics: Dict[str, Any]) -> None:
            if number == 0:
                trial.report(_value(metrics, self._metric), next(count))
                # At the last evaluation there is nothing left to save.
                if metrics["global_step"] < max_steps and trial.should_prune():
                    raise optuna.TrialPruned()

        try:
            evaluations = run_training(os.path.join(directory, "preset.json"), self._data[number], model_dir,
                                       max_steps, report, self._check_signals)
        finally:
            # Checkpoints of trials are of no use later; what they measured is.
            with contextlib.suppress(FileNotFoundError):
                os.replace(os.path.join(model_dir, METRICS_FILE),
                           os.path.join(directory, "split%d_%s" % (number, METRICS_FILE)))
            shutil.rmtree(model_dir, ignore_errors=True)
        if not evaluations:
            raise TrialFailedError("the training made no evaluation")
        return _value(evaluations[-1], self._metric)

    def _check_signals(self) -> None:
        if self._received:
            raise KeyboardInterrupt

    def _summary(self) -> None:
        complete, ended = self._trials(TrialState.COMPLETE), len(self._trials(*_ENDED))
        if not complete:
            raise UserError("no trial of the study in %s was completed; raise --trials" % self._directory)
        ordered: List[Any] = sorted(complete, key=lambda trial: trial.value, reverse=not self._lower_is_better)
        best = ordered[0]
        sys.stdout.write("best of %d trials (%d stopped early), by %s on validation rows (a part of the training "
                         "rows), last checkpoint:\n" % (ended, ended - len(complete), self._metric))
        for trial in ordered[:_SHOWN_TRIALS]:
            sys.stdout.write("  trial %4d  %.5f  %s\n" % (trial.number, trial.value, _settings_text(trial.params)))
        path = os.path.join(self._directory, PRESET_FILE)
        comment = "Found by tune: trial %d of %d, %s %.5f on validation rows (splits: %d)." % (
            best.number, ended, self._metric, best.value, len(self._data))
        _write_json(path, {"_comment": comment, **self._preset, **self._fixed, **best.params})
        sys.stdout.write("written: %s; then: bash run_estimator.sh train --preset %s --data_dir %s --model_dir DIR\n"
                         % (path, shlex.quote(path), shlex.quote(self._data_dir)))

    def _trial_directory(self, number: int) -> str:
        return os.path.join(self._directory, "trials", "%04d" % number)


def _value(metrics: Dict[str, Any], metric: str) -> float:
    """Returns a metric of an evaluation; raises TrialFailedError where it is not defined."""
    if metrics.get(metric) is None:
        raise TrialFailedError("%s is not defined on the validation rows: a class is missing" % metric)
    return float(metrics[metric])


def _settings_of(config: Config) -> Dict[str, Any]:
    return {name: value for name, value in config.to_dict().items() if name not in search_space.NOT_SEARCHED}


def _fixed(parsed: argparse.Namespace) -> Dict[str, Any]:
    """Returns the settings that flags hold fixed."""
    return {name: value for name, value in vars(parsed).items()
            if name in Config.__dataclass_fields__ and name not in search_space.NOT_SEARCHED}


def _settings_text(settings: Dict[str, Any]) -> str:
    return " ".join("%s=%s" % (name, "%.4g" % value if isinstance(value, float) else value)
                    for name, value in sorted(settings.items()))


def _training_files(parsed: argparse.Namespace, manifest: Manifest) -> List[str]:
    """Returns the raw files of the training rows; raises ConfigError where they are not those that were prepared."""
    lacking = [(item.name, item.sha256) for item in manifest.split(TRAIN_SPLIT).inputs]
    names = [name for name, _ in lacking]
    paths = find_inputs(parsed.train_data_path) if parsed.train_data_path else [
        os.path.join(parsed.data_dir, RAW_FOLDER, name) for name in names]
    if not parsed.train_data_path and not all(map(os.path.isfile, paths)):
        raise ConfigError("tune needs --train_data_path: the files that %s was prepared from (%s)"
                          % (parsed.data_dir, ", ".join(names)))
    for path in paths:
        found = os.path.basename(path), sha256_of_file(path)
        if found[0] not in names:
            raise ConfigError("--train_data_path: %s is not among the files that %s was prepared from (%s); give those"
                              % (path, parsed.data_dir, ", ".join(names)))
        if found not in lacking:
            raise ConfigError("%s is not the file that %s was prepared from: it has another SHA-256; prepare the data "
                              "again, or give the file of that time" % (path, parsed.data_dir))
        lacking.remove(found)
    if lacking:
        raise ConfigError("--train_data_path lacks files that %s was prepared from: %s; give them too"
                          % (parsed.data_dir, ", ".join(name for name, _ in lacking)))
    return paths


def _prepared_splits(parsed: argparse.Namespace, paths: Sequence[str], manifest: Manifest, digest: str) -> List[str]:
    """Prepares the data of each validation split, once per digest of what it is made of; returns the directories."""
    found = [os.path.join(parsed.output_path, "data", "%s-split%d" % (digest[:12], number))
             for number in range(parsed.splits)]
    # Another seed than that of the test rows, which would choose among the same rows.
    seeds = [seed for seed in range(_SPLIT_SEED, _SPLIT_SEED + parsed.splits + 1) if seed != manifest.row_split.seed]
    # As many bad rows as the data has.
    reading = Reading(max_bad_rows=sum(manifest.split(TRAIN_SPLIT).bad_rows.values()), num_workers=0)
    for seed, path in zip(seeds, found):
        if not os.path.isfile(os.path.join(path, FILE_NAME)):
            # By the same rule as the test rows, so that validation says what the test will.
            split = dataclasses.replace(manifest.row_split, share=_VALIDATION_SHARE, seed=seed)
            prepare(Preparation(manifest.dataset, tuple(paths), (), path, split, manifest.row_split, seed=seed,
                                reading=reading))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_json(path: str, values: Dict[str, Any]) -> None:
    replace_text(path, json.dumps(values, indent=1) + "\n")


@contextlib.contextmanager
def _optuna_errors(directory: str) -> Iterator[None]:
    """Makes Optuna quiet, and a UserError of one line of its errors about the study."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError("the study in %s cannot be used (%s); choose another --output_path"
                        % (os.path.join(directory, STUDY_FILE), text)) from error
