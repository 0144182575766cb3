"""A model directory: what its weights were trained with, stage by stage, and whether a run may continue in it."""
import contextlib
import dataclasses
import glob
import json
import os
import platform
import subprocess
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

from estimator_app import __version__
from estimator_app.config import NPU, Config, from_mapping
from estimator_app.model_dir import checkpoints
from estimator_app.model_dir.history import METRICS_FILE
from feature_specs.checks import build, check_path_text, shown
from feature_specs.data_files import copy_data
from feature_specs.dataset import REGRESSION, differences
from feature_specs.errors import ConfigError, DataError, UserError
from feature_specs.files import PROJECT, replace_text
from feature_specs.manifest import FILE_NAME, MODEL_DATA_FOLDER, TEST_SPLIT, TRAIN_SPLIT, Manifest, read_manifest

SETTINGS_FILE = "args.json"
REPORT_FILE = "report.html"
OLD_RUN = "old-run-%s"
# Ends the name of an old run whose move is under way.
_MOVING = ".moving"
FORMAT_VERSION = 4

# What decides the variables of a model and the meaning of its inputs.
MODEL_FIELDS = ("model", "input_layer", "embedding_dim", "expert_num", "expert_layers", "tower_layers",
                "task_expert_num", "batch_norm", "reference_init",
                "dense_transform", "dense_bins", "drop_dense")
# What a run may change on its way.
TRAINING_FIELDS = ("learning_rate", "sparse_learning_rate", "learning_rate_schedule", "sparse_learning_rate_schedule",
                   "expert_dropout", "field_dropout", "embedding_l2", "task_weights")
# What decides which rows a step reads; a run that is resumed must read on where it stopped.
ORDER_FIELDS = ("seed", "shuffle_rows", "window_rows")
_LONGEST_PATH = 1024 - 128
# TensorFlow takes these for patterns where it looks for checkpoints.
_PATTERN_CHARACTERS = "[]*?\\"


@dataclasses.dataclass(frozen=True)
class DataNote:
    """Which data was trained on; identity and encoding are those of its :class:`Manifest`."""

    directory: str  # absolute
    identity: str
    encoding: str
    inputs: Tuple[Tuple[str, ...], ...]  # name and SHA-256 of the files that it was prepared from
    train_rows: int
    test_rows: int

    def __post_init__(self) -> None:
        check_path_text("directory", self.directory)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stretch of steps that were trained with the same settings on the same data."""

    from_step: int  # global step at which it begins
    data_start: int  # global step at which training on this data began; epochs and schedules are counted from there
    config: Mapping[str, Any]  # settings, {field: value}
    data: DataNote
    ranks: int
    epochs: int  # passes over the data, also where the settings leave their number to the data (train_epoch 0)
    versions: Mapping[str, str]  # of the program and its packages

    def to_config(self, model_dir: str, **overrides: Any) -> Config:
        """Returns the settings for a directory that may have moved; ConfigError: one is unknown or not allowed."""
        values = from_mapping(self.config, os.path.join(model_dir, SETTINGS_FILE))
        return Config(**dict(values, **overrides, model_dir=model_dir))


def check_path(model_dir: str, device: str) -> str:
    """Returns the model directory to use, with symbolic links resolved; ConfigError where checkpoints could not be
    saved or found again under that path."""
    if os.path.lexists(model_dir) and not os.path.isdir(model_dir):
        raise ConfigError("model_dir %s is not a directory; choose another --model_dir" % model_dir)
    _check_no_data(model_dir)
    real = os.path.realpath(model_dir)
    odd = sorted({character for character in real if character in _PATTERN_CHARACTERS or ord(character) < 32})
    if odd:
        raise ConfigError("model_dir %r: TensorFlow does not find checkpoints again below a path with %s; choose "
                          "another --model_dir" % (model_dir, " ".join(map(repr, odd))))
    if len(real) > _LONGEST_PATH:
        raise ConfigError("model_dir has %d characters, the SDK saves no tables beyond %d; choose a shorter --model_dir"
                          % (len(real), _LONGEST_PATH))
    has_link = real != os.path.abspath(model_dir)
    if has_link and device == NPU:
        raise ConfigError("model_dir %s leads through a symbolic link, where the SDK saves no tables; use %s"
                          % (model_dir, real))
    return real if has_link else model_dir


def _check_no_data(model_dir: str) -> None:
    if os.path.isfile(os.path.join(model_dir, FILE_NAME)):
        raise ConfigError("model_dir %s holds prepared data; give that as --data_dir, and another --model_dir"
                          % model_dir)


def read_stages(model_dir: str) -> List[Stage]:
    """Returns the stages of a model directory; none without settings, UserError: damaged or of another version."""
    path = os.path.join(model_dir, SETTINGS_FILE)
    if not os.path.isfile(path):
        return []
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        version = data["format_version"]
        if version != FORMAT_VERSION:
            raise UserError("%s has format version %r; this program reads version %d; train again in another "
                            "--model_dir" % (path, version, FORMAT_VERSION))
        return list(build(Tuple[Stage, ...], data["stages"], "stages"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise UserError("%s cannot be read (%s); put a sound copy in its place: the other files of the directory are "
                        "untouched" % (path, error)) from error


def read_settings(model_dir: str, overrides: Mapping[str, Any]) -> Tuple[Config, Manifest]:
    """Reads what a model was trained with; ``overrides`` {field: value} replace settings; UserError without a model."""
    if not model_dir:
        raise ConfigError("--model_dir is empty; give a model directory, or look whether a variable is unset")
    path = os.path.join(model_dir, SETTINGS_FILE)
    stages = read_stages(model_dir)
    if not stages:
        _check_no_data(model_dir)
        what = "%s does not exist: model directory %s holds no trained model" % (path, model_dir) if os.path.isdir(
            model_dir) else "model directory %s does not exist and holds no trained model" % model_dir
        raise UserError("%s; train first: bash run_estimator.sh train --data_dir DATA "
                        "--model_dir %s" % (what, model_dir))
    last = _trained(stages, checkpoints.latest(model_dir))[-1]
    config = last.to_config(model_dir, **overrides)
    if "data_dir" not in overrides and not os.path.isfile(os.path.join(config.data_dir, FILE_NAME)):
        # A relative path means nothing in another working directory.
        config = config.replace(data_dir=last.data.directory)
    return config, read_data(model_dir)


def _trained(stages: List[Stage], step: Optional[int]) -> List[Stage]:
    """Leaves out what was begun and has not trained a step that the latest checkpoint holds; the first stage counts."""
    return stages[:1] + [stage for stage in stages[1:] if stage.from_step < (step or 0)]


def read_data(model_dir: str) -> Manifest:
    """Reads the manifest of the data that a model was trained on last: the model's own copy; DataError without one."""
    folder = os.path.join(model_dir, MODEL_DATA_FOLDER)
    try:
        return read_manifest(folder)
    except DataError as error:
        raise DataError("%s cannot be used (%s); copy %s of the data that the model was trained on to its place"
                        % (os.path.join(folder, FILE_NAME), error, FILE_NAME)) from error


def check_resumable(config: Config, manifest: Manifest, ranks: int, continue_on: bool) -> int:
    """Refuses to continue in a directory whose model is another one (ConfigError: field, found and expected value), or
    that read other data (DataError) or in another order.

    With ``continue_on`` other data may follow, which was prepared with the model's vocabularies. Returns the global
    step at which training on this data began or begins.
    """
    model_dir, step, begun = config.model_dir, checkpoints.latest(config.model_dir), read_stages(config.model_dir)
    stages = _trained(begun, step)
    if not stages:
        if checkpoints.steps(model_dir):
            raise ConfigError("%s has checkpoints, but no %s that says what they are; choose another --model_dir"
                              % (model_dir, SETTINGS_FILE))
        if continue_on:
            raise ConfigError("--continue_on: %s holds no trained model to continue with; train the first data "
                              "without it" % model_dir)
        return 0
    last = stages[-1]
    found = last.to_config(model_dir)
    same_data = manifest.identity() == last.data.identity
    if not same_data and step:  # first: another dataset has another preset, too
        _check_continuation(manifest, config, begun[len(stages) - 1:], continue_on)
    # Only one model has experts of tasks: for others the field means nothing.
    fields = tuple(name for name in MODEL_FIELDS if name != "task_expert_num" or config.model == "ple")
    resumes = same_data and step
    for names, ways in (
            (fields, "choose another --model_dir (--warm_start_from %s takes over what fits), use the same settings "
                     "and --preset, or start over with --fresh" % model_dir),
            (ORDER_FIELDS if resumes else (), "use the same settings, choose another --model_dir, or start over with "
                                              "--fresh")):
        lines = ["%s: found %s, expected %s" % (name, shown(getattr(found, name)), shown(getattr(config, name)))
                 for name in names if getattr(found, name) != getattr(config, name)]
        if lines:
            raise ConfigError("model directory %s was trained with other settings (%s); %s"
                              % (model_dir, "; ".join(lines), ways))
    if resumes and config.batch_size * ranks != found.batch_size * last.ranks:
        raise ConfigError(_other_batch(config, found, ranks, last.ranks))
    return last.data_start if same_data else step or 0


def _check_continuation(manifest: Manifest, config: Config, stages: List[Stage], continue_on: bool) -> None:
    """Refuses (DataError) other data than a model was trained on, unless it continues the data of one of its stages
    and this was asked for."""
    model_dir, trained_on = config.model_dir, read_data(config.model_dir)
    if not continue_on:
        raise DataError("%s is not the data that the model in %s was trained on (%s); train on that data, in another "
                        "--model_dir, or, where this data was prepared with --vocabulary_from %s, with --continue_on"
                        % (config.data_dir, model_dir, _data_difference(trained_on, manifest), model_dir))
    check_same_encoding(trained_on, manifest, config, may_grow=True)
    # The vocabularies of data that was begun with hold those of the data before it.
    if manifest.continues not in [stage.data.identity for stage in stages]:
        raise DataError("%s does not continue the data of the model in %s: prepare it with --vocabulary_from %s"
                        % (config.data_dir, model_dir, model_dir))


def record_stage(config: Config, manifest: Manifest, from_step: int, data_start: int, ranks: int,
                 epochs: int) -> None:
    """Notes settings, data and versions of what is trained from a step on; called when one is about to be trained, so
    that the notes always tell what the weights were trained with."""
    os.makedirs(config.model_dir, exist_ok=True)
    inputs = dict.fromkeys((item.name, item.sha256) for split in manifest.splits.values() for item in split.inputs)
    data = DataNote(os.path.abspath(config.data_dir), manifest.identity(), manifest.encoding_fingerprint(),
                    tuple(inputs), manifest.split(TRAIN_SPLIT).rows, manifest.split(TEST_SPLIT).rows)
    stage = Stage(from_step, data_start, config.to_dict(), data, ranks, epochs, versions())
    stages = [item for item in read_stages(config.model_dir) if item.from_step < from_step]
    if not stages or dataclasses.replace(stages[-1], from_step=from_step) != stage:
        stages.append(stage)
    copy_data(manifest, config.data_dir, os.path.join(config.model_dir, MODEL_DATA_FOLDER))
    replace_text(os.path.join(config.model_dir, SETTINGS_FILE), json.dumps(
        {"format_version": FORMAT_VERSION, "stages": [dataclasses.asdict(item) for item in stages]}, indent=1,
        sort_keys=True) + "\n")


def changed_settings(config: Config) -> List[str]:
    """Returns what trains the weights otherwise than the last stage did, a text per setting."""
    stages = read_stages(config.model_dir)
    before = stages[-1].to_config(config.model_dir) if stages else config
    return ["%s %s instead of %s" % (name, shown(getattr(config, name)), shown(getattr(before, name)))
            for name in TRAINING_FIELDS if getattr(config, name) != getattr(before, name)]


def check_same_encoding(trained: Manifest, given: Manifest, config: Config, may_grow: bool = False) -> None:
    """Refuses (DataError) data in ``config.data_dir`` whose keys and numbers mean something else than those that were
    trained; with ``may_grow`` data that continues the model's may have more values at the end of its vocabularies."""
    # How files are written says nothing about the rows that came out of them.
    lines = differences(given.dataset, trained.dataset, files=False)
    another_dataset = bool(lines)
    # Prepared with --vocabulary_from the model: its values keep their indexes, new ones follow.
    grown = may_grow and given.continues == trained.identity()
    for name, ours in trained.vocabularies.items():
        theirs = given.vocabularies.get(name)
        if theirs is None or (ours.number, ours.encoding) != (theirs.number, theirs.encoding) or (
                ours.path and theirs.sha256 != ours.sha256 and not grown):
            lines.append("another vocabulary of %s" % name)
    lines += ["other statistics of %s" % name for name, item in trained.dense_statistics.items()
              if given.dense_statistics.get(name) != item]
    lines += ["other label statistics of %s" % name for name, item in trained.label_statistics.items()
              if trained.dataset.task(name).kind == REGRESSION and given.label_statistics.get(name) != item]
    if lines:
        more = ("; and %d more" % (len(lines) - 3)) if lines[3:] else ""
        ways = (" and the model's own dataset (without --dataset), or train a new model with --warm_start_from %s"
                % config.model_dir) if another_dataset else ""
        raise DataError("%s does not fit the data that the model in %s was trained on: %s%s; prepare it with "
                        "--vocabulary_from %s%s" % (os.path.join(config.data_dir, FILE_NAME), config.model_dir,
                                                    "; ".join(lines[:3]), more, config.model_dir, ways))


def move_old_run(model_dir: str) -> Optional[str]:
    """Moves what training wrote into a folder of its own inside the directory; returns it, or None without a run.

    What users made (exports, predictions) stays. UserError: the directory is not one that training wrote.
    """
    names = os.listdir(model_dir) if os.path.isdir(model_dir) else []
    others = [name for name in names if not name.startswith((".", OLD_RUN % ""))]
    if others and SETTINGS_FILE not in names and not checkpoints.steps(model_dir):
        raise UserError("--fresh: %s does not look like a model directory (no %s, no checkpoint); choose another "
                        "--model_dir" % (model_dir, SETTINGS_FILE))
    if not any(map(_is_ours, names)):
        return None
    number = 1
    while os.path.exists(os.path.join(model_dir, OLD_RUN % number)):
        number += 1
    target = os.path.join(model_dir, OLD_RUN % number)
    os.mkdir(target + _MOVING)
    finish_move(model_dir)
    return target


def finish_move(model_dir: str) -> None:
    """Completes what an interrupted :func:`move_old_run` left: an old run must not be half in its place."""
    for moving in glob.glob(os.path.join(glob.escape(model_dir), OLD_RUN % "*" + _MOVING)):
        for name in filter(_is_ours, os.listdir(model_dir)):
            os.rename(os.path.join(model_dir, name), os.path.join(moving, name))
        os.rename(moving, moving[:-len(_MOVING)])


def versions() -> Dict[str, str]:
    """Returns the versions of the program and of the packages that training depends on; none of them is imported."""
    found = {"estimator_app": _code_version(), "python": platform.python_version()}
    for name in ("tensorflow", "numpy", "pandas", "pyarrow", "horovod", "mx_rec", "npu_bridge"):
        installed = [path for folder in sys.path for path in glob.glob(os.path.join(
            glob.escape(folder or "."), "%s-*.dist-info" % name))]
        if installed:
            found[name] = os.path.basename(installed[0])[len(name) + 1:-len(".dist-info")]
    return found


def _code_version() -> str:
    """Returns ``git describe`` of a checkout, else the package's version."""
    if os.path.exists(os.path.join(PROJECT, ".git")):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(["git", "-C", PROJECT, "describe", "--always", "--dirty", "--tags"],
                                  capture_output=True, text=True, timeout=10, check=True)
            return "%s (%s)" % (__version__, done.stdout.strip())
    return __version__


def _other_batch(config: Config, found: Config, ranks: int, ranks_before: int) -> str:
    rows = found.batch_size * ranks_before
    way = ("use --batch_size %d, another --model_dir, or --fresh to start over" % found.batch_size
           if ranks == ranks_before else "use --batch_size %d, or --ranks %d with --batch_size %d" % (
        rows // ranks, ranks_before, found.batch_size) if rows % ranks == 0 else
        "%d rows are not a multiple of %d ranks: use --ranks %d with --batch_size %d, or a number of ranks that "
        "divides them" % (rows, ranks, ranks_before, found.batch_size))
    return ("model directory %s was trained with %d rows a step (ranks: %d, batch_size %d); ranks: %d, batch_size %d "
            "would give steps and epochs another meaning; %s" % (
                config.model_dir, rows, ranks_before, found.batch_size, ranks, config.batch_size, way))


def _data_difference(trained: Manifest, given: Manifest) -> str:
    found = list(differences(given.dataset, trained.dataset))
    if given.encoding_fingerprint() != trained.encoding_fingerprint():
        found.append("another vocabulary or other statistics")
    found += ["%s %s instead of %s" % (name, getattr(given, name), getattr(trained, name))
              for name in ("line_per_sample", "seed") if getattr(given, name) != getattr(trained, name)]
    for name, split in trained.splits.items():
        other = given.splits.get(name)
        if other is None or other.rows != split.rows:
            found.append("%s rows %s instead of %d" % (name, other and other.rows, split.rows))
        elif [shard.sha256 for shard in other.shards] != [shard.sha256 for shard in split.shards]:
            found.append("other contents of the %s files" % name)
    return "; ".join(found[:3])


def _is_ours(name: str) -> bool:
    names = (SETTINGS_FILE, METRICS_FILE, REPORT_FILE, MODEL_DATA_FOLDER, checkpoints.STATE_FILE,
             checkpoints.BEST_FOLDER, checkpoints.DAMAGED_FOLDER, "eval", "graph.pbtxt", "ssd_data")
    return name in names or name.startswith("events.out.tfevents.") or checkpoints.is_file_of_one(name)


def holds(model_dir: str, path: str) -> bool:
    """Whether a path lies in a part of the model directory that training writes, and that ``--fresh`` moves."""
    inside = os.path.relpath(os.path.realpath(path), os.path.realpath(model_dir)).split(os.sep)
    return inside[0] != os.pardir and _is_ours(inside[0])
