"""A model directory: what it was trained with, and whether a run may go on in it."""
import json
import os
import shutil
from typing import Any, Dict, List, Mapping, Tuple

from estimator_app.config import Config, from_mapping
from estimator_app.model_dir import checkpoints
from estimator_app.model_dir.lock import LOCK_FILE
from feature_specs import manifest as manifest_module
from feature_specs.dataset import differences
from feature_specs.errors import ConfigError, DataError, UserError
from feature_specs.files import replace_text
from feature_specs.manifest import Manifest

SETTINGS_FILE = "args.json"
METRICS_FILE = "metrics.jsonl"
REPORT_FILE = "report.html"
BEST_STEPS_FILE = "best_steps.json"
READABLE_DATA_FOLDER = "readable_data"
# Marks a converted checkpoint for which the old ones have not yet moved out.
OLD_STILL_THERE = "old_checkpoints_are_still_there"
PARTIAL_RESTORE_FOLDER, REPLACED_FOLDER = "partial_restore", "before_partial_restore"
SKIPPED_BATCHES_FILE = "skipped_batches.json"
FORMAT_VERSION = 1

# What decides the variables of a model and the meaning of its inputs.
MODEL_FIELDS = ("model", "expert_num", "expert_size", "tower_size", "task_expert_num",
                "network_num", "reference_init", "dense_transform", "dense_bins",
                "drop_dense")
# What decides which rows a step reads; a run that goes on must read on where it stopped.
ORDER_FIELDS = ("batch_size", "seed", "shuffle_rows", "window_rows")


class OtherModelError(ConfigError):
    """The model directory holds a network of another shape, trained on the same data in the same order."""


def write_settings(config: Config, manifest: Manifest) -> None:
    """Notes in the model directory what it is trained with: settings and manifest."""
    os.makedirs(config.model_dir, exist_ok=True)
    path = os.path.join(config.model_dir, SETTINGS_FILE)
    replace_text(path, json.dumps({"format_version": FORMAT_VERSION, "config": config.to_dict()}, indent=1,
                                  sort_keys=True) + "\n")
    manifest_module.write_manifest(manifest, config.model_dir)


def read_settings(model_dir: str, overrides: Mapping[str, Any]) -> Tuple[Config, Manifest]:
    """Reads what a model was trained with.

    Args:
        model_dir: a directory that training wrote.
        overrides: {field: value} that replace settings; ``model_dir`` is always the given one.

    Raises:
        UserError: the directory does not hold a trained model.
        ConfigError: an override is not allowed.
    """
    path = os.path.join(model_dir, SETTINGS_FILE)
    if not os.path.isfile(path):
        raise UserError("%s does not exist: model directory %s holds no trained model; train first: "
                        "bash run_estimator.sh train --model_dir %s" % (path, model_dir, model_dir))
    values = _read_config(path)
    values.update(overrides)
    values["model_dir"] = model_dir
    return Config(**values), manifest_module.read_manifest(model_dir)


def check_resumable(config: Config, manifest: Manifest) -> None:
    """Refuses to go on in a directory whose model is another one, or that read its data in another order.

    Raises:
        OtherModelError: the network is another one; the message lists field, found and expected value.
        ConfigError: other settings differ; likewise.
        DataError: the data differs.
    """
    path = os.path.join(config.model_dir, SETTINGS_FILE)
    if not os.path.isfile(path):
        if checkpoints.steps(config.model_dir):
            raise ConfigError("%s has checkpoints, but no %s that says what they are; choose another --model_dir or "
                              "start over with --fresh" % (config.model_dir, SETTINGS_FILE))
        return
    found = Config(**_read_config(path))
    lines = ["%s: found %s, expected %s" % (name, getattr(found, name), getattr(config, name))
             for name in MODEL_FIELDS + ORDER_FIELDS if getattr(found, name) != getattr(config, name)]
    if lines:
        same_order = all(getattr(found, name) == getattr(config, name) for name in ORDER_FIELDS)
        kind = OtherModelError if same_order and checkpoints.latest(config.model_dir) is not None else ConfigError
        raise kind("model directory %s was trained with other settings (%s); choose another --model_dir, the "
                   "same settings, or start over with --fresh" % (config.model_dir, "; ".join(lines)))
    check_same_data(manifest_module.read_manifest(config.model_dir), manifest, config)


def check_same_data(trained: Manifest, given: Manifest, config: Config) -> None:
    """Refuses data that was not encoded as the model's training data was.

    Raises:
        DataError: naming the field that differs.
    """
    lines: List[str] = list(differences(given.dataset, trained.dataset))
    if not lines and given.encoding_fingerprint() != trained.encoding_fingerprint():
        lines += ["vocabulary of %s" % column for column in trained.dataset.sparse_columns
                  if given.vocabularies[column] != trained.vocabularies[column]]
        lines += ["statistics of %s" % column for column in trained.dataset.dense_columns
                  if given.dense_statistics[column] != trained.dense_statistics[column]]
    if lines:
        raise DataError("%s does not fit the model in %s, which was trained on data with another %s; use that data, or "
                        "another --model_dir" % (os.path.join(config.data_dir, manifest_module.FILE_NAME),
                                                 config.model_dir, "; ".join(lines[:3])))


def finish_partial_restore(model_dir: str) -> None:
    """Puts a converted checkpoint that is ready in place of the old ones; does nothing where there is none.

    May be interrupted and called again: the old checkpoints move out as long as the marker is there, then the new one
    moves in, its index file and the settings last.
    """
    staged = os.path.join(model_dir, PARTIAL_RESTORE_FOLDER)
    if not os.path.isdir(staged):
        return
    replaced = os.path.join(model_dir, REPLACED_FOLDER)
    os.makedirs(replaced, exist_ok=True)
    if os.path.exists(os.path.join(staged, OLD_STILL_THERE)):
        for step in checkpoints.steps_of_any_file(model_dir):
            checkpoints.set_aside(model_dir, step, replaced)
        best = os.path.join(model_dir, checkpoints.BEST_FOLDER)
        if os.path.isdir(best):
            shutil.rmtree(os.path.join(replaced, checkpoints.BEST_FOLDER), ignore_errors=True)
            os.rename(best, os.path.join(replaced, checkpoints.BEST_FOLDER))
        os.remove(os.path.join(staged, OLD_STILL_THERE))
    settings = (manifest_module.FILE_NAME, SETTINGS_FILE)
    names = [name for name in sorted(os.listdir(staged)) if name not in settings]
    for name in sorted(names, key=lambda name: name.endswith(".index")):
        target = os.path.join(model_dir, name)
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.replace(os.path.join(staged, name), target)
    for name in settings:
        if os.path.exists(os.path.join(staged, name)):
            if name == SETTINGS_FILE and os.path.exists(os.path.join(model_dir, name)):
                os.replace(os.path.join(model_dir, name), os.path.join(replaced, name))
            os.replace(os.path.join(staged, name), os.path.join(model_dir, name))
    shutil.rmtree(staged)


def contents_to_delete(model_dir: str) -> List[str]:
    """Returns what a fresh start would delete: only what training writes, sorted paths.

    Raises:
        UserError: the directory is not one that training wrote.
    """
    if not os.path.isdir(model_dir) or not set(os.listdir(model_dir)) - {LOCK_FILE}:
        return []
    if not os.path.isfile(os.path.join(model_dir, SETTINGS_FILE)) and not checkpoints.steps(model_dir):
        raise UserError("--fresh: %s does not look like a model directory (no %s, no checkpoint); nothing is deleted, "
                        "choose another --model_dir" % (model_dir, SETTINGS_FILE))
    return sorted(os.path.join(model_dir, name) for name in os.listdir(model_dir) if _is_ours(name))


def delete_contents(paths: List[str]) -> None:
    """Deletes what :func:`contents_to_delete` listed."""
    for path in paths:
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def _is_ours(name: str) -> bool:
    names = (SETTINGS_FILE, METRICS_FILE, REPORT_FILE, BEST_STEPS_FILE, manifest_module.FILE_NAME,
             checkpoints.STATE_FILE, checkpoints.BEST_FOLDER, checkpoints.DAMAGED_FOLDER, "eval", "graph.pbtxt",
             "predictions.csv", "predictions.jsonl", "export", "ssd_data", READABLE_DATA_FOLDER, SKIPPED_BATCHES_FILE,
             PARTIAL_RESTORE_FOLDER, PARTIAL_RESTORE_FOLDER + ".tmp", REPLACED_FOLDER)
    starts = (checkpoints.BASE_NAME + "-", "sparse-%s-" % checkpoints.BASE_NAME, "events.out.tfevents.",
              ".sparse-%s-" % checkpoints.BASE_NAME, "eval_")
    return name in names or name.startswith(starts)


def _read_config(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        version, values = data["format_version"], data["config"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("%s cannot be read (%s); train again with --fresh" % (path, error)) from error
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise UserError("%s has format version %r%s; this program reads version %d%s" % (
            path, version, ", which is newer" if newer else "", FORMAT_VERSION, "; update it" if newer else ""))
    return from_mapping(values, path)
