import json
import os

import numpy as np
import pytest

from estimator_app import checkpoints
from feature_specs.errors import UserError
from rec_sdk_cpu.core import sparse_files


def make(directory, step, keys=(3, 5), sparse=True):
    os.makedirs(directory, exist_ok=True)
    path = checkpoints.prefix(directory, step)
    for ending in (".index", ".data-00000-of-00001", ".meta"):
        with open(path + ending, "w", encoding="utf-8") as stream:
            stream.write("step %d" % step)
    if sparse:
        with sparse_files.FolderWriter(sparse_files.sparse_directory(path)) as writer:
            writer.write_keys("table", np.array(keys, np.int64))
            writer.write_rows("table", "embedding", 2, [np.full((len(keys), 2), step, np.float32)])
    return path


def test_latest_is_the_latest_whole_one(tmp_path):
    directory = str(tmp_path)
    make(directory, 9)
    make(directory, 10)
    make(directory, 100, sparse=False)
    assert checkpoints.steps(directory) == [9, 10, 100]
    assert checkpoints.latest(directory) == 10
    assert "does not exist" in checkpoints.problem(directory, 100)


def test_a_cut_off_slice_makes_a_checkpoint_incomplete(tmp_path):
    path = make(str(tmp_path), 7)
    data = os.path.join(sparse_files.sparse_directory(path), "table", "embedding", "slice.data")
    with open(data, "r+b") as stream:
        stream.truncate(9)
    assert checkpoints.latest(str(tmp_path)) is None
    assert "has 9 bytes, its attribute file says 16" in checkpoints.problem(str(tmp_path), 7)


def test_prune_keeps_the_latest_and_removes_leftovers(tmp_path):
    directory = str(tmp_path)
    for step in (1, 2, 3, 4):
        make(directory, step)
    os.makedirs(os.path.join(directory, ".sparse-model.ckpt-5.partial-1", "table"))
    os.makedirs(os.path.join(directory, "sparse-model.ckpt-6"))
    checkpoints.prune(directory, 2)
    assert checkpoints.steps(directory) == [3, 4]
    assert sorted(name for name in os.listdir(directory) if "sparse" in name) == [
        "sparse-model.ckpt-3", "sparse-model.ckpt-4"]


def test_best_is_copied_out_of_the_savers_reach(tmp_path):
    directory = str(tmp_path)
    for step in (1, 2, 3):
        make(directory, step)
    assert checkpoints.keep_best(directory, 1, "auc_mean", 0.7)
    assert checkpoints.keep_best(directory, 2, "auc_mean", 0.9)
    assert not checkpoints.keep_best(directory, 3, "auc_mean", 0.9)
    checkpoints.prune(directory, 1)
    assert checkpoints.read_best(directory) == {"step": 2, "metric": "auc_mean", "value": 0.9}
    best = checkpoints.resolve(directory, "best")
    assert checkpoints.step_of(best) == 2 and checkpoints.steps(os.path.dirname(best)) == [2]
    keys, rows = sparse_files.read_table(sparse_files.sparse_directory(best), "table")
    assert keys.tolist() == [3, 5] and (np.asarray(rows) == 2).all()


def test_a_damaged_best_note_does_not_stop_training(tmp_path):
    directory = str(tmp_path)
    make(directory, 1)
    checkpoints.keep_best(directory, 1, "auc_mean", 0.7)
    with open(os.path.join(directory, "best", "best.json"), "w", encoding="utf-8") as stream:
        stream.write("{")
    assert checkpoints.read_best(directory) is None
    assert checkpoints.keep_best(directory, 1, "auc_mean", 0.6)


@pytest.mark.parametrize("choice, message", [
    ("latest", "holds no whole checkpoint; train first"), ("best", "holds no best checkpoint"),
    ("7", "has no checkpoint of step 7; it has none"), ("newest", "'newest' is not known; allowed: latest, best")])
def test_missing_checkpoints(tmp_path, choice, message):
    with pytest.raises(UserError, match=message):
        checkpoints.resolve(str(tmp_path), choice)


def test_resolve(tmp_path):
    directory = str(tmp_path)
    make(directory, 4)
    make(directory, 5)
    assert checkpoints.resolve(directory, "latest").endswith("model.ckpt-5")
    assert checkpoints.resolve(directory, "4").endswith("model.ckpt-4")


def test_state_file_is_what_tensorflow_reads(tmp_path):
    import tensorflow as tf
    directory = str(tmp_path)
    for step in (3, 4):
        make(directory, step)
    checkpoints.write_state(directory, [3, 4])
    assert tf.train.latest_checkpoint(directory) == checkpoints.prefix(directory, 4)
    state = tf.train.get_checkpoint_state(directory)
    assert [checkpoints.step_of(path) for path in state.all_model_checkpoint_paths] == [3, 4]


def test_best_file_is_json(tmp_path):
    make(str(tmp_path), 1)
    checkpoints.keep_best(str(tmp_path), 1, "auc_mean", 0.5)
    with open(str(tmp_path / "best" / "best.json"), encoding="utf-8") as stream:
        assert json.load(stream) == {"step": 1, "metric": "auc_mean", "value": 0.5}
