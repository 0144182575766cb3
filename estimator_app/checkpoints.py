"""Checkpoints as files: which ones are whole, how many are kept, and the copy of the best one.

A checkpoint of step S is ``model.ckpt-S.{index,data-*,meta}`` and the SDK's folder ``sparse-model.ckpt-S``; it counts
only where both are there and whole.
"""
import glob
import json
import os
import re
import shutil
from typing import Any, Dict, List, Optional

from feature_specs.errors import UserError
from rec_sdk_cpu.core import sparse_files

BASE_NAME = "model.ckpt"
BEST_FOLDER = "best"
BEST_FILE = "best.json"
STATE_FILE = "checkpoint"
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


def problem(directory: str, step: int) -> Optional[str]:
    """Returns what is wrong with a step's checkpoint, or None where it is whole (sizes, not contents)."""
    path = prefix(directory, step)
    if not glob.glob(glob.escape(path) + ".data-*"):
        return "%s.data-* is missing" % path
    try:
        sparse_files.check(sparse_files.sparse_directory(path))
    except OSError as error:
        return str(error)
    return None


def latest(directory: str) -> Optional[int]:
    """Returns the latest step whose checkpoint is whole, or None."""
    for step in reversed(steps(directory)):
        if problem(directory, step) is None:
            return step
    return None


def write_state(directory: str, all_steps: List[int]) -> None:
    """Writes TensorFlow's ``checkpoint`` file atomically: the last step given is the latest checkpoint."""
    path = os.path.join(directory, STATE_FILE)
    names = ["%s-%d" % (BASE_NAME, step) for step in all_steps]
    lines = ['model_checkpoint_path: "%s"' % names[-1]] + ['all_model_checkpoint_paths: "%s"' % name for name in names]
    _write_text(path, "\n".join(lines) + "\n")


def delete(directory: str, step: int) -> None:
    """Removes a step's checkpoint: the announcing index file first, the sparse folder last."""
    path = prefix(directory, step)
    for name in [path + ".index"] + sorted(glob.glob(glob.escape(path) + ".*")):
        if os.path.exists(name):
            os.remove(name)
    shutil.rmtree(sparse_files.sparse_directory(path), ignore_errors=True)


def prune(directory: str, keep: int) -> None:
    """Keeps the latest checkpoints and removes older ones and leftovers of interrupted writes.

    Savers know only what they wrote themselves, so after a restart they would keep the files of earlier runs for ever.
    """
    known = steps(directory)
    for step in known[:-keep]:
        delete(directory, step)
    kept = {"sparse-%s-%d" % (BASE_NAME, step) for step in known[-keep:]}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        orphan = name.startswith("sparse-%s-" % BASE_NAME) and name not in kept
        if os.path.isdir(path) and (orphan or (name.startswith(".sparse-%s-" % BASE_NAME))):
            shutil.rmtree(path, ignore_errors=True)


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
    _write_text(os.path.join(folder, BEST_FILE), json.dumps({"step": step, "metric": metric, "value": value}) + "\n")
    write_state(folder, [step])
    for old in steps(folder):
        if old != step:
            delete(folder, old)
    return True


def read_best(directory: str) -> Optional[Dict[str, Any]]:
    """Returns {"step", "metric", "value"} of the best checkpoint, or None where there is none that is whole."""
    folder = os.path.join(directory, BEST_FOLDER)
    try:
        with open(os.path.join(folder, BEST_FILE), encoding="utf-8") as stream:
            best = json.load(stream)
        if problem(folder, int(best["step"])) is None and os.path.exists(prefix(folder, int(best["step"])) + ".index"):
            return {"step": int(best["step"]), "metric": str(best["metric"]), "value": float(best["value"])}
    except (OSError, ValueError, KeyError, TypeError):
        # No best yet, or a damaged note: the next evaluation makes a new one.
        return None
    return None


def resolve(directory: str, choice: str) -> str:
    """Returns the checkpoint path for ``latest``, ``best`` or a step number.

    Raises:
        UserError: there is no such checkpoint.
    """
    if choice == "latest":
        step = latest(directory)
        if step is None:
            raise UserError("model directory %s holds no whole checkpoint; train first: bash run_estimator.sh train "
                            "--model_dir %s" % (directory, directory))
        return prefix(directory, step)
    if choice == "best":
        best = read_best(directory)
        if best is None:
            raise UserError("model directory %s holds no best checkpoint; use --checkpoint latest" % directory)
        return prefix(os.path.join(directory, BEST_FOLDER), best["step"])
    if not choice.isdigit():
        raise UserError("checkpoint %r is not known; allowed: latest, best or a step number" % choice)
    if int(choice) not in steps(directory):
        raise UserError("model directory %s has no checkpoint of step %s; it has %s"
                        % (directory, choice, ", ".join(map(str, steps(directory))) or "none"))
    wrong = problem(directory, int(choice))
    if wrong:
        raise UserError("the checkpoint of step %s is not whole: %s" % (choice, wrong))
    return prefix(directory, int(choice))


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


def _write_text(path: str, text: str) -> None:
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
