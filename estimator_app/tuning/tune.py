"""The ``tune`` command: a resumable search over the preset's fields, judged on rows of the training file only.

Optuna proposes settings (TPE) and stops hopeless trials early (median of the evaluations so far). Everything that the
search knows is in ``study.db``, so the same command goes on after any interruption.
"""
import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
import warnings
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, TextIO

from estimator_app import config as config_module
from estimator_app.config import DEFAULT_PRESET, Config
from estimator_app.model.definition import make_model
from estimator_app.model.networks import NETWORKS
from estimator_app.model.tasks import TaskSet
from estimator_app.model_dir.lock import locked
from estimator_app.training.steps import step_numbers
from estimator_app.tuning import search_space
from estimator_app.tuning.trial import LOG_FILE, TrialFailedError, run_training
from feature_specs.dataset_file import DatasetFile, load_dataset
from feature_specs.errors import ConfigError, UserError
from feature_specs.files import replace_text, sha256_of_file
from feature_specs.manifest import FILE_NAME, read_manifest
from preprocessing.pipeline import Preparation, RowSplit, prepare
from preprocessing.readers import Reading, find_inputs

STUDY_FILE, PRESET_FILE = "study.db", "best_preset.json"
SAMPLERS, PRUNERS = ("tpe", "random"), ("median", "none")
_STUDY_NAME, _SETTINGS = "tune", "settings"
_STARTUP_TRIALS, _SHOWN_TRIALS, _FAILURES_IN_A_ROW = 5, 5, 3
# The first evaluation says too little to end a trial.
_FREE_EVALUATIONS = 1
_VALIDATION_SHARE, _SPLIT_SEED = 0.2, 1000
_NOT_OURS = "%s is there, but %s: it is not replaced; move it away, or choose another --output_path"
# What a trial writes in its directory.
_TRIAL_FILES = re.compile(r"(preset\.json(\.tmp)?|%s|split\d+(_metrics\.jsonl)?)\Z" % re.escape(LOG_FILE))
_SAMPLE = os.path.join("data", "sample", "raw")


def add_arguments(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """Adds the flags of the command; those of ``train`` hold a setting fixed.

    Args:
        parser: of the command.
        arguments: the command line, whose preset the help shows.
    """
    words = list(arguments)
    dataset = words[words.index("--dataset") + 1] if "--dataset" in words[:-1] else "census"
    preset = words[words.index("--preset") + 1] if "--preset" in words[:-1] else _preset_of(dataset)
    parser.add_argument("--trials", type=int, required=True, metavar="N",
                        help="trials of the study, those of earlier runs included [trials] (required)")
    parser.add_argument("--dataset", default="census", metavar="NAME|FILE",
                        help="definition of the data: census, shop, or a YAML file (default: census)")
    parser.add_argument("--train_data_path", nargs="+", metavar="FILE",
                        help="training files; validation rows are set aside from them [paths] (default: the sample's "
                             "training file)")
    parser.add_argument("--output_path", default="runs/tune", metavar="DIR",
                        help="the study, its data and the best preset; an existing study goes on [path] (default: "
                             "runs/tune)")
    parser.add_argument("--space", default=search_space.DEFAULT_FILE, metavar="FILE",
                        help="what is searched [path] (default: the file that comes with the program)")
    parser.add_argument("--metric", default="", metavar="NAME",
                        help="what a trial is judged by: auc_mean, mean_loss, or a score of a task such as auc_income "
                             "(default: auc_mean where a task has an AUC, else mean_loss)")
    parser.add_argument("--splits", type=int, default=1, metavar="N",
                        help="random validation splits that every trial is trained on; its value is their mean "
                             "[splits] (default: 1)")
    parser.add_argument("--sampler", default=SAMPLERS[0], choices=SAMPLERS, metavar="|".join(SAMPLERS),
                        help="how settings are proposed (default: tpe)")
    parser.add_argument("--pruner", default=PRUNERS[0], choices=PRUNERS, metavar="|".join(PRUNERS),
                        help="median: end a trial whose evaluation is below the median of earlier trials at the same "
                             "evaluation (default: median)")
    config_module.add_preset_argument(parser, preset)
    config_module.add_arguments(parser, config_module.from_arguments({}, preset, os.environ),
                                [name for name in Config.__dataclass_fields__ if name not in search_space.NOT_SEARCHED],
                                {"model": sorted(NETWORKS)})


def run(parsed: argparse.Namespace, stream: Optional[TextIO] = None) -> int:
    """Runs trials until the study has as many as asked for, and writes the best preset.

    Args:
        parsed: flags of :func:`add_arguments`.
        stream: where results go, default standard output.

    Returns:
        The exit status: 0, or 128 plus the number of the signal that stopped the search.

    Raises:
        UserError: flags, space, data or study do not fit.
    """
    for name in ("trials", "splits"):
        if getattr(parsed, name) < 1:
            raise ConfigError("--%s %d is out of range; allowed: 1 and more" % (name, getattr(parsed, name)))
    parsed.preset = parsed.preset or _preset_of(parsed.dataset)
    base = config_module.from_arguments(vars(parsed), parsed.preset, os.environ)
    fixed = [name for name in Config.__dataclass_fields__ if name in vars(parsed)]
    space = [item for item in search_space.read_space(parsed.space, base) if item.name not in fixed]
    if not space:
        raise ConfigError("flags fix every field of the search space (%s); leave one out" % ", ".join(fixed))
    if os.path.isfile(os.path.join(parsed.output_path, FILE_NAME)):
        raise ConfigError("--output_path %s holds prepared data; choose another" % parsed.output_path)
    if os.path.lexists(parsed.output_path) and not os.path.isdir(parsed.output_path):
        raise ConfigError("--output_path %s is not a directory; choose another" % parsed.output_path)
    paths = find_inputs(parsed.train_data_path or [_sample_text()])
    with locked(parsed.output_path, "tuning directory", "--output_path"):
        digest = hashlib.sha256("".join(map(sha256_of_file, paths)).encode()).hexdigest()
        dataset = load_dataset(parsed.dataset)
        definition = hashlib.sha256(json.dumps(dataset.definition.to_dict(), sort_keys=True).encode()).hexdigest()
        data = _prepared_splits(parsed, paths, dataset, hashlib.sha256((digest + definition).encode()).hexdigest())
        tasks = make_model(base, read_manifest(data[0])).tasks
        tasks.check_selectable("--metric", parsed.metric)
        with _optuna_errors(parsed.output_path):
            return Search(parsed, base, space, data, tasks, {"training files": digest, "dataset file": definition},
                          stream or sys.stdout).run(parsed.trials)


class Search:
    """A study and how its trials are run."""

    def __init__(self, parsed: argparse.Namespace, base: Config, space: List[search_space.Dimension],
                 data: Sequence[str], tasks: TaskSet, digests: Mapping[str, str], stream: TextIO):
        """Opens or makes the study.

        Args:
            parsed: flags of the command.
            base: the settings that trials start from.
            space: what is searched.
            data: prepared data of each validation split.
            tasks: of the dataset.
            digests: {what must not change: its hash}.
            stream: where results go.
        """
        import optuna
        self._optuna = optuna
        self._directory, self._metric, self._data = parsed.output_path, parsed.metric or tasks.main_metric, data
        self._lower_is_better = tasks.is_loss(self._metric)
        self._base, self._space, self._stream = base, space, stream
        self._received: List[int] = []
        self._values = dict(config_module.read_preset(parsed.preset))
        self._values.update((name, value) for name, value in vars(parsed).items()
                            if name in Config.__dataclass_fields__)
        storage = "sqlite:///" + os.path.join(os.path.abspath(parsed.output_path), STUDY_FILE)
        direction = "minimize" if self._lower_is_better else "maximize"
        self._study = optuna.create_study(storage=storage, study_name=_STUDY_NAME, direction=direction,
                                          load_if_exists=True, pruner=self._pruner(parsed.pruner))
        self._check_settings({
            "base": {name: value for name, value in base.to_dict().items() if name not in search_space.NOT_SEARCHED},
            "space": search_space.describe(space), "metric": self._metric, "splits": parsed.splits, **digests})
        # Another seed at every start: the same one would propose the same settings again.
        seed = base.seed + len(self._study.trials)
        samplers = optuna.samplers
        self._study.sampler = (samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP_TRIALS)
                               if parsed.sampler == "tpe" else samplers.RandomSampler(seed=seed))

    def run(self, trials: int) -> int:
        """Runs trials until the study has ``trials`` that ended; returns the exit status."""
        self._check_free(trials)
        self._repeat_interrupted()
        failures = 0
        while len(self._ended()) < trials:
            with _noted_signals() as self._received:
                try:
                    failures = 0 if self._run_trial() else failures + 1
                    self._check_signals()
                except KeyboardInterrupt:
                    self._stream.write("stopped in trial %d; the same command goes on with the study\n"
                                       % (len(self._study.trials) - 1))
                    return 128 + self._received[0]
            if failures == _FAILURES_IN_A_ROW:
                last = self._study.trials[-1]
                raise UserError("%d trials in a row failed, the last one with: %s; see %s"
                                % (failures, last.user_attrs.get("error"), self._trial_directory(last.number)))
        self._summary()
        return 0

    def _ended(self) -> List[Any]:
        states = self._optuna.trial.TrialState
        return self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))

    def _repeat_interrupted(self) -> None:
        """Makes the settings of a trial that a stop cut off the next ones; a new study begins with the preset's."""
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._study.tell(trial.number, state=states.FAIL)
            # A trial that was stopped before it drew its values has them only where they were given.
            values = trial.params or trial.system_attrs.get("fixed_params")
            if values:
                self._study.enqueue_trial(values)
            _remove_trial(self._trial_directory(trial.number))
        if self._study.get_trials(deepcopy=False):
            return
        values = {item.name: getattr(self._base, item.name) for item in self._space}
        outside = [item.name for item in self._space if not item.contains(values[item.name])]
        if outside:
            self._stream.write("the search space leaves out the preset's own values of %s: the preset itself is not "
                               "among the trials\n" % ", ".join(outside))
        else:
            self._study.enqueue_trial(values)

    def _next_number(self) -> int:
        """Returns the number of the trial that the study gives out next: the first that waits, or a new one."""
        waiting = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,))
        return waiting[0].number if waiting else len(self._study.trials)

    def _check_free(self, trials: int) -> None:
        """Refuses a directory that holds what this study did not write, before time is spent on trials.

        Raises:
            UserError: names it.
        """
        preset = os.path.join(self._directory, PRESET_FILE)
        if not self._ended() and os.path.lexists(preset):
            raise UserError(_NOT_OURS % (preset, "the study in %s has no trial that ended" % self._directory))
        for number in range(self._next_number(), trials):
            _check_empty(self._trial_directory(number))

    def _run_trial(self) -> bool:
        """Runs the next trial and tells the study; returns False where its training failed."""
        states = self._optuna.trial.TrialState
        directory = self._trial_directory(self._next_number())
        # Before the study knows the trial: so what is there of a trial that it knows as running was made for it.
        _check_empty(directory)
        os.makedirs(directory, exist_ok=True)
        trial = self._study.ask()
        changes = {item.name: item.suggest(trial) for item in self._space}
        started = time.time()
        try:
            config = self._base.replace(**changes)
            values = [self._train(trial, config, directory, number) for number in range(len(self._data))]
        except self._optuna.TrialPruned:
            self._study.tell(trial, state=states.PRUNED)
            self._note(trial, "pruned after evaluation %s" % self._study.trials[-1].last_step, started, changes)
        except (TrialFailedError, ConfigError) as error:
            trial.set_user_attr("error", str(error))
            self._study.tell(trial, state=states.FAIL)
            self._note(trial, "failed (%s)" % error, started, changes)
            return False
        else:
            value = sum(values) / len(values)
            trial.set_user_attr("seconds", round(time.time() - started, 1))
            self._study.tell(trial, value)
            self._note(trial, "%s %.5f" % (self._metric, value), started, changes)
        return True

    def _train(self, trial: Any, config: Config, directory: str, number: int) -> float:
        """Trains on one split and returns the metric of the last checkpoint; the first split decides on pruning."""
        preset = os.path.join(directory, "preset.json")
        _write_json(preset, {name: value for name, value in config.to_dict().items()
                             if name not in search_space.NOT_SEARCHED})
        model_dir = os.path.join(directory, "split%d" % number)
        max_steps = step_numbers(config, read_manifest(self._data[number]), 0, 0, 1).max_steps
        evaluations, pruned = 0, False

        def should_stop(metrics: Dict[str, Any]) -> bool:
            nonlocal evaluations, pruned
            evaluations += 1
            trial.report(_value(metrics, self._metric), evaluations)
            # At the last evaluation there is nothing left to save.
            pruned = metrics["global_step"] < max_steps and trial.should_prune()
            return pruned

        found = run_training(preset, self._data[number], model_dir, should_stop if number == 0 else _never,
                             self._check_signals)
        # Checkpoints of trials are of no use later; what they measured is.
        metrics_file = os.path.join(model_dir, "metrics.jsonl")
        if os.path.exists(metrics_file):
            os.replace(metrics_file, os.path.join(directory, "split%d_metrics.jsonl" % number))
        shutil.rmtree(model_dir, ignore_errors=True)
        if not found:
            raise TrialFailedError("the training made no evaluation")
        if pruned:
            raise self._optuna.TrialPruned()
        return _value(found[-1], self._metric)

    def _check_signals(self) -> None:
        if self._received:
            raise KeyboardInterrupt

    def _note(self, trial: Any, result: str, started: float, changes: Dict[str, Any]) -> None:
        self._stream.write("trial %d: %s, %.1f s: %s\n" % (trial.number, result, time.time() - started,
                                                         _settings_text(changes)))
        self._stream.flush()

    def _summary(self) -> None:
        complete: List[Any] = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.COMPLETE,))
        if not complete:
            raise UserError("no trial of the study in %s was completed; raise --trials" % self._directory)
        ordered = sorted(complete, key=lambda trial: trial.value, reverse=not self._lower_is_better)
        self._stream.write("best of %d trials (%d pruned), by %s on validation rows, last checkpoint:\n"
                           % (len(self._ended()), len(self._ended()) - len(complete), self._metric))
        for trial in ordered[:_SHOWN_TRIALS]:
            self._stream.write("  trial %4d  %.5f  %s\n" % (trial.number, trial.value, _settings_text(trial.params)))
        best = ordered[0]
        path = os.path.join(self._directory, PRESET_FILE)
        values = dict(self._values, **best.params)
        comment = "Found by tune: trial %d of %d, %s %.5f on validation rows (splits: %d)." % (
            best.number, len(self._ended()), self._metric, best.value, len(self._data))
        _write_json(path, dict({"_comment": comment}, **values))
        self._stream.write("written: %s; train --preset %s\n" % (path, path))

    def _trial_directory(self, number: int) -> str:
        return os.path.join(self._directory, "trials", "%04d" % number)

    def _check_settings(self, settings: Dict[str, Any]) -> None:
        found = self._study.user_attrs.get(_SETTINGS)
        if found is None:
            self._study.set_user_attr(_SETTINGS, settings)
            return
        differing = [name for name in sorted(settings) if found.get(name) != json.loads(json.dumps(settings[name]))]
        if differing:
            raise ConfigError("the study in %s was started with another %s; use the same flags and files, or another "
                              "--output_path" % (self._directory, " and another ".join(differing)))

    def _pruner(self, name: str) -> Any:
        if name == "none":
            return self._optuna.pruners.NopPruner()
        return self._optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS,
                                                  n_warmup_steps=_FREE_EVALUATIONS + 1)


def _check_empty(directory: str) -> None:
    """Refuses the directory of a trial to come where something is in its place.

    Raises:
        UserError: names it.
    """
    if os.path.lexists(directory) and not (os.path.isdir(directory) and not os.listdir(directory)):
        raise UserError(_NOT_OURS % (directory, "no trial of this study wrote it"))


def _remove_trial(directory: str) -> None:
    """Removes what a trial that was cut off wrote; other files that lie beside it stay, and the directory with them."""
    if not os.path.isdir(directory) or os.path.islink(directory):
        return
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if not _TRIAL_FILES.match(name) or os.path.islink(path):
            continue
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.remove(path)
    if not os.listdir(directory):
        os.rmdir(directory)


def _value(metrics: Dict[str, Any], metric: str) -> float:
    """Returns a metric of an evaluation.

    Raises:
        TrialFailedError: it is not defined on the validation rows.
    """
    if metrics.get(metric) is None:
        raise TrialFailedError("%s is not defined on the validation rows: a class is missing" % metric)
    return float(metrics[metric])


def _never(metrics: Dict[str, Any]) -> bool:
    del metrics
    return False


def _settings_text(settings: Dict[str, Any]) -> str:
    return " ".join("%s=%s" % (name, "%.4g" % value if isinstance(value, float) else value)
                    for name, value in sorted(settings.items()))


def _prepared_splits(parsed: argparse.Namespace, paths: Sequence[str], dataset: DatasetFile, digest: str
                     ) -> List[str]:
    """Prepares the data of each validation split, once per digest of what it is made of; returns the directories."""
    found = []
    for number in range(parsed.splits):
        path = os.path.join(parsed.output_path, "data", "%s-split%d" % (digest[:12], number))
        found.append(path)
        if not os.path.isfile(os.path.join(path, FILE_NAME)):
            prepare(Preparation(dataset.definition, tuple(paths), (), path, RowSplit(_VALIDATION_SHARE),
                                seed=_SPLIT_SEED + number, reading=Reading(num_workers=0, places=dataset.places)))
    return found


def _preset_of(dataset: str) -> str:
    return load_dataset(dataset).definition.preset or DEFAULT_PRESET


def _sample_text() -> str:
    """Returns the raw training file of the sample data set."""
    names = sorted(name for name in os.listdir(_SAMPLE) if "test" not in name) if os.path.isdir(_SAMPLE) else []
    if not names:
        raise ConfigError("tune needs --train_data_path FILE; the sample data set is made by: bash run_estimator.sh "
                          "train")
    return os.path.join(_SAMPLE, names[0])


def _write_json(path: str, values: Dict[str, Any]) -> None:
    replace_text(path, json.dumps(values, indent=1) + "\n")


@contextlib.contextmanager
def _noted_signals() -> Iterator[List[int]]:
    """Gives the list in which SIGTERM, SIGINT and SIGHUP are noted inside the context.

    They raise nothing by themselves: an exception while a process is being started would lose that process.
    """
    received: List[int] = []
    previous = {number: signal.signal(number, lambda number, _frame: received.append(number))
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
                if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _optuna_errors(directory: str) -> Iterator[None]:
    """Makes Optuna quiet and its errors about the study one line.

    Raises:
        UserError: the study cannot be read or written.
    """
    try:
        import optuna
        import sqlalchemy
    except ImportError as error:
        raise UserError("tune needs the package optuna (%s); install requirements.txt: bash run_estimator.sh setup"
                        % error) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError("the study in %s cannot be used (%s); choose another --output_path"
                        % (os.path.join(directory, STUDY_FILE), text)) from error
