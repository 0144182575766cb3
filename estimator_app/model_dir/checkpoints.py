"""Checkpoints as files: which ones are whole, how many are kept, and the copy of the best one.

A checkpoint of step S is ``model.ckpt-S.{index,data-*,meta}`` and the SDK's folder ``sparse-model.ckpt-S``; it counts
only where both are there and whole.
"""
import glob
import json
import math
import os
import re
import shutil
import sys
from typing import Any, Dict, List, Optional

from feature_specs.errors import UserError
from feature_specs.files import replace_text
from rec_sdk_cpu.core import checksums, sparse_files

BASE_NAME = "model.ckpt"
BEST_FOLDER = "best"
BEST_FILE = "best.json"
BEST_FORMAT = 1
STATE_FILE = "checkpoint"
DAMAGED_FOLDER = "damaged"
# Everything of a checkpoint: TensorFlow's files and temporary folders, ours, the sparse folder and its hidden forms.
_CHECKPOINT_FILE = re.compile(r"\.?(sparse-)?model\.ckpt-(?P<step>\d+)(?P<rest>([._].*)?)\Z")
_UNFINISHED = ("_temp", ".data-00000-of-00001.tempstate", ".checksums.tmp")
_INDEX = re.compile(r"model\.ckpt-(\d+)\.index\Z")


def prefix(directory: str, step: int) -> str:
    """Returns the path of a step's checkpoint without file endings."""
    return os.path.join(directory, "%s-%d" % (BASE_NAME, step))


def steps(directory: str) -> List[int]:
    """Returns the steps that have an index file, ascending."""
    if not os.path.isdir(directory):
        return []
    found = (_INDEX.match(name) for name in os.listdir(directory))
    return sorted(int(match.group(1)) for match in found if match)


def steps_of_any_file(directory: str) -> List[int]:
    """Returns the steps of which there is any file or sparse folder, ascending."""
    found = (_CHECKPOINT_FILE.match(name) for name in os.listdir(directory))
    return sorted({int(match.group("step")) for match in found if match})


def problem(directory: str, step: int, contents: bool = False) -> Optional[str]:
    """Returns what is wrong with a step's checkpoint, naming the file, or None where it is whole.

    Args:
        directory: the directory.
        step: of the checkpoint.
        contents: reads the files and compares their checksums; otherwise only names and sizes are looked at.

    Raises:
        UserError: the checksum file is of a newer format.
    """
    path = prefix(directory, step)
    if not glob.glob(glob.escape(path) + ".data-*"):
        return "%s.data-* is missing" % path
    try:
        sparse_files.check(sparse_files.sparse_directory(path))
    except OSError as error:
        return str(error)
    try:
        return checksums.problem(path) if contents else None
    except checksums.NewerFormatError as error:
        raise UserError(str(error)) from error


def latest(directory: str, contents: bool = False) -> Optional[int]:
    """Returns the latest step whose checkpoint is whole, or None; ``contents`` as for :func:`problem`."""
    for step in reversed(steps(directory)):
        if problem(directory, step, contents) is None:
            return step
    return None


def ensure_checksums(directory: str, step: int) -> None:
    """Writes the checksum file of a checkpoint that has none, such as one of the SDK."""
    if not os.path.isfile(checksums.path_of(prefix(directory, step))):
        checksums.write(prefix(directory, step))


def write_state(directory: str, all_steps: List[int]) -> None:
    """Writes TensorFlow's ``checkpoint`` file atomically: the last step given is the latest checkpoint."""
    path = os.path.join(directory, STATE_FILE)
    names = ["%s-%d" % (BASE_NAME, step) for step in all_steps]
    lines = ['model_checkpoint_path: "%s"' % names[-1]] + ['all_model_checkpoint_paths: "%s"' % name for name in names]
    replace_text(path, "\n".join(lines) + "\n")


def delete(directory: str, step: int) -> None:
    """Removes a step's checkpoint: the announcing index file first, the sparse folder last."""
    path = prefix(directory, step)
    for name in [path + ".index"] + sorted(glob.glob(glob.escape(path) + ".*")):
        if os.path.exists(name):
            os.remove(name)
    shutil.rmtree(sparse_files.sparse_directory(path), ignore_errors=True)


def set_aside(directory: str, step: int, folder: str = "") -> str:
    """Moves a damaged checkpoint where nothing restores it and a person may look at it; returns that folder.

    Args:
        directory: the directory.
        step: of the checkpoint.
        folder: where it goes; default ``damaged`` in the directory.

    A checkpoint that cannot be read today may be one whose disk is away: it is not for this program to delete.
    """
    folder = folder or os.path.join(directory, DAMAGED_FOLDER)
    os.makedirs(folder, exist_ok=True)
    path = prefix(directory, step)
    sparse = sparse_files.sparse_directory(path)
    for name in [path + ".index"] + sorted(glob.glob(glob.escape(path) + ".*")) + [sparse]:
        target = os.path.join(folder, os.path.basename(name))
        if os.path.exists(name):
            if os.path.isdir(target):
                shutil.rmtree(target)
            os.replace(name, target)
    return folder


def prune(directory: str, keep: int) -> None:
    """Keeps the latest checkpoints and removes older ones and leftovers of interrupted writes.

    Savers know only what they wrote themselves, so after a restart they would keep the files of earlier runs for ever.
    """
    known = steps(directory)
    for step in known[:-keep]:
        delete(directory, step)
    remove_leftovers(directory, known[-keep:])


def remove_leftovers(directory: str, kept: List[int]) -> None:
    """Removes files of checkpoints that are not kept, and what interrupted writes and deletions left."""
    for path in glob.glob(os.path.join(glob.escape(directory), "graph.pbtxt.tmp*")):
        os.remove(path)
    for name in os.listdir(directory):
        match = _CHECKPOINT_FILE.match(name)
        if match and (int(match.group("step")) not in kept or match.group("rest").startswith(_UNFINISHED)
                      or name.startswith(".")):
            path = os.path.join(directory, name)
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.remove(path)


def keep_best(directory: str, step: int, metric: str, value: float) -> bool:
    """Copies a checkpoint to ``best/`` where its metric is higher than the best so far.

    Args:
        directory: the model directory.
        step: of the checkpoint.
        metric: name of the metric.
        value: its value.

    Returns:
        Whether it became the best one.
    """
    if not math.isfinite(value):
        return False
    folder = os.path.join(directory, BEST_FOLDER)
    current = read_best(directory)
    if current is not None and current["metric"] == metric and current["value"] >= value:
        return False
    os.makedirs(folder, exist_ok=True)
    source, target = prefix(directory, step), prefix(folder, step)
    sparse_target = sparse_files.sparse_directory(target)
    shutil.rmtree(sparse_target, ignore_errors=True)
    shutil.copytree(sparse_files.sparse_directory(source), sparse_target, copy_function=_link_or_copy)
    # The index file last: with it the copy counts as a checkpoint.
    for name in sorted(glob.glob(glob.escape(source) + ".*"), key=lambda name: name.endswith(".index")):
        copy = os.path.join(folder, os.path.basename(name))
        if os.path.exists(copy):
            os.remove(copy)
        _link_or_copy(name, copy)
    replace_text(os.path.join(folder, BEST_FILE), json.dumps(
        {"format_version": BEST_FORMAT, "step": step, "metric": metric, "value": value}) + "\n")
    write_state(folder, [step])
    for old in steps(folder):
        if old != step:
            delete(folder, old)
    remove_leftovers(folder, [step])
    return True


def read_best(directory: str) -> Optional[Dict[str, Any]]:
    """Returns {"step", "metric", "value"} of the best checkpoint, or None where there is none that is whole.

    Raises:
        UserError: the note is of a newer format.
    """
    folder = os.path.join(directory, BEST_FOLDER)
    path = os.path.join(folder, BEST_FILE)
    try:
        with open(path, encoding="utf-8") as stream:
            best = json.load(stream)
        if int(best.get("format_version", BEST_FORMAT)) > BEST_FORMAT:
            raise UserError("%s has format version %r, newer than this program reads (%d); update the program"
                            % (path, best["format_version"], BEST_FORMAT))
        found: Dict[str, Any] = {"step": int(best["step"]), "metric": str(best["metric"]),
                                 "value": float(best["value"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        # No best yet, or a damaged note: the next evaluation makes a new one.
        return None
    whole = problem(folder, found["step"]) is None and os.path.exists(prefix(folder, found["step"]) + ".index")
    return found if whole and math.isfinite(found["value"]) else None


def resolve(directory: str, choice: str) -> str:
    """Returns the checkpoint path for ``latest``, ``best`` or a step number; its contents are verified.

    A damaged latest checkpoint is passed over with a warning.

    Raises:
        UserError: there is no such checkpoint, or the one that was asked for is damaged.
    """
    if choice == "latest":
        return prefix(directory, _latest_verified(directory))
    if choice == "best":
        best = read_best(directory)
        if best is None:
            raise UserError("model directory %s holds no best checkpoint; use --checkpoint latest" % directory)
        directory, step = os.path.join(directory, BEST_FOLDER), best["step"]
    elif not choice.isdigit():
        raise UserError("checkpoint %r is not known; allowed: latest, best or a step number" % choice)
    else:
        step = int(choice)
    if step not in steps(directory):
        raise UserError("model directory %s has no checkpoint of step %s; it has %s"
                        % (directory, choice, ", ".join(map(str, steps(directory))) or "none"))
    wrong = problem(directory, step, contents=True)
    if wrong:
        raise UserError("the checkpoint of step %d is not whole: %s" % (step, wrong))
    return prefix(directory, step)


def _latest_verified(directory: str) -> int:
    for step in reversed(steps(directory)):
        wrong = problem(directory, step, contents=True)
        if wrong is None:
            return step
        sys.stderr.write("warning: the checkpoint of step %d is not whole (%s); the one before is used\n"
                         % (step, wrong))
    raise UserError("model directory %s holds no whole checkpoint; train first: bash run_estimator.sh train "
                    "--model_dir %s" % (directory, directory))


def step_of(path: str) -> int:
    """Returns the step of a checkpoint path."""
    return int(path.rpartition("-")[2])


def _link_or_copy(source: str, target: str, **_kwargs: Any) -> str:
    # Checkpoint files are never changed in place, so a hard link is a copy that costs nothing.
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
