"""What follows a bad loss: which checkpoints are still good, and which batches are left out from now on.

The batches that are left out stand in the model directory, so that a run that goes on later leaves them out as well.
Each of them shortens the data by one batch; the steps stay the same in number, and the last ones read on in one more
pass over the data (``input_fn/plan.py``).
"""
import json
import os
import time
from typing import Any, Dict, List, TextIO

import numpy as np
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.directory import SKIPPED_BATCHES_FILE
from estimator_app.training.loss_guard import BadLossError
from feature_specs.errors import UserError
from feature_specs.files import replace_text
from input_fn.plan import batch_of_step
from rec_sdk_cpu.core import sparse_files

FORMAT_VERSION = 1


class TrainAgainError(Exception):
    """Training went back to the last good checkpoint; a new process goes on, since the SDK starts once in a process."""


def skipped_batches(model_dir: str) -> List[int]:
    """Returns the batches that training leaves out, ascending, counted from the first one of epoch 0.

    Raises:
        UserError: the file cannot be read.
    """
    return sorted({batch for entry in _entries(model_dir) for batch in entry["batches"]})


def after_bad_loss(config: Config, error: BadLossError, stream: TextIO, may_restore: bool = True) -> None:
    """Removes checkpoints that the bad step spoilt and, where asked for, notes the batch to leave out.

    Args:
        config: settings.
        error: what happened.
        stream: where warnings go.
        may_restore: False where training cannot go on in this process.

    Raises:
        UserError: training stops here: it is asked to, or it has gone back often enough.
    """
    good = _remove_spoilt(config.model_dir, error.step, stream)
    place = "the last good checkpoint is of step %d" % good if good else "there is no checkpoint yet"
    advice = "lower --learning_rate and --sparse_learning_rate, or look for extreme values in the data"
    if config.on_nan == "stop" or not may_restore:
        raise UserError("%s; %s. The same command goes on from there: %s, or leave the batch out with --on_nan restore"
                        % (error, place, advice)) from error
    entries = _entries(config.model_dir)
    if len(entries) >= config.max_rollbacks:
        raise UserError("%s; %s. Training has gone back %d times, more are not allowed (--max_rollbacks): %s"
                        % (error, place, len(entries), advice)) from error
    # A loss that stays bad with another batch was spoilt by an update before: leave the batches before out, too.
    again = sum(entry["step"] == error.step for entry in entries)
    skipped = skipped_batches(config.model_dir)
    batches = [batch_of_step(step, skipped) for step in range(max(good, error.step - 1 - again), error.step)]
    entry = {"step": error.step, "batches": batches, "restored_step": good}
    _write(config.model_dir, entries + [entry])
    history.cut_after(config.model_dir, good)
    history.append(config.model_dir, history.ROLLBACK, {
        "global_step": good, "time": time.time(), "bad_step": error.step, "skipped_batches": batches})
    stream.write("warning: %s; training goes back to %s and leaves batch %s out (%d of %d times)\n" % (
        error, "step %d" % good if good else "the start", ", ".join(map(str, batches)), len(entries) + 1,
        config.max_rollbacks))
    stream.flush()


def _remove_spoilt(model_dir: str, bad_step: int, stream: TextIO) -> int:
    """Deletes the latest checkpoints while they are of the bad step or not finite; returns the latest good step."""
    for step in reversed(checkpoints.steps(model_dir)):
        wrong = "it was saved after the bad step" if step >= bad_step else _not_finite(checkpoints.prefix(model_dir,
                                                                                                          step))
        if not wrong:
            return step
        stream.write("warning: the checkpoint of step %d is removed: %s\n" % (step, wrong))
        checkpoints.delete(model_dir, step)
    return 0


def _not_finite(path: str) -> str:
    """Returns which variable of a checkpoint holds values that are not finite, or nothing."""
    reader = tf.train.load_checkpoint(path)
    for name, kind in sorted(reader.get_variable_to_dtype_map().items()):
        if kind.is_floating and not np.isfinite(reader.get_tensor(name)).all():
            return "variable %s is not finite" % name
    directory = sparse_files.sparse_directory(path)
    for table in sparse_files.tables(directory):
        for state in sparse_files.states(directory, table):
            if not np.isfinite(sparse_files.open_rows(directory, table, state)).all():
                return "%s of table %s is not finite" % (state, table)
    return ""


def _entries(model_dir: str) -> List[Dict[str, Any]]:
    path = os.path.join(model_dir, SKIPPED_BATCHES_FILE)
    if not os.path.isfile(path):
        return []
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
        if data["format_version"] > FORMAT_VERSION:
            raise UserError("%s has format version %r, newer than this program reads (%d); update the program"
                            % (path, data["format_version"], FORMAT_VERSION))
        entries: List[Dict[str, Any]] = [
            {"step": int(entry["step"]), "batches": [int(batch) for batch in entry["batches"]],
             "restored_step": int(entry["restored_step"])} for entry in data["rollbacks"]]
        if any(batch < 0 for entry in entries for batch in entry["batches"]):
            raise ValueError("a negative batch")
        return entries
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UserError("%s cannot be read (%s); it says which batches training leaves out: start over with --fresh"
                        % (path, error)) from error


def _write(model_dir: str, entries: List[Dict[str, Any]]) -> None:
    text = json.dumps({"format_version": FORMAT_VERSION, "rollbacks": entries}, indent=1) + "\n"
    replace_text(os.path.join(model_dir, SKIPPED_BATCHES_FILE), text)
