import json
import os

import numpy as np
import pytest

from estimator_app.model_dir import checkpoints
from feature_specs.errors import UserError
from rec_sdk_cpu.core import checksums, sparse_files


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
        assert json.load(stream) == {"format_version": 1, "step": 1, "metric": "auc_mean", "value": 0.5}


def test_a_newer_best_note_is_refused(tmp_path):
    make(str(tmp_path), 1)
    checkpoints.keep_best(str(tmp_path), 1, "auc_mean", 0.5)
    (tmp_path / "best" / "best.json").write_text('{"format_version": 2, "step": 1}')
    with pytest.raises(UserError, match="best.json has format version 2, newer than this program reads"):
        checkpoints.keep_best(str(tmp_path), 1, "auc_mean", 0.6)


def test_a_metric_that_is_no_number_is_never_the_best(tmp_path):
    make(str(tmp_path), 1)
    assert not checkpoints.keep_best(str(tmp_path), 1, "auc_mean", float("nan"))
    assert checkpoints.read_best(str(tmp_path)) is None


def test_prune_removes_what_kills_leave(tmp_path):
    directory = str(tmp_path)
    make(directory, 3)
    make(directory, 4)
    kept = set(os.listdir(directory))
    for name in ("model.ckpt-2.data-00000-of-00001", "model.ckpt-9.meta", "model.ckpt-2.checksums",
                 "model.ckpt-4.checksums.tmp", "args.json"):
        (tmp_path / name).write_text("x")
    for name in ("model.ckpt-4_temp_0123abcd", ".sparse-model.ckpt-3.deleted-7", "sparse-model.ckpt-7"):
        os.makedirs(os.path.join(directory, name, "part"))
    checkpoints.prune(directory, 2)
    assert set(os.listdir(directory)) == kept | {"args.json"}


def summed(directory, step):
    path = make(directory, step)
    checksums.write(path)
    return path


FILES = ["model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001", "sparse-model.ckpt-7/table/key/slice.data",
         "sparse-model.ckpt-7/table/key/slice.attribute", "sparse-model.ckpt-7/table/embedding/slice.data",
         "sparse-model.ckpt-7/table/embedding/slice.attribute"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_or_a_cut_in_any_file_is_found_and_named(tmp_path, name):
    directory = str(tmp_path)
    summed(directory, 6)
    summed(directory, 7)
    assert checkpoints.latest(directory, contents=True) == 7
    good = (tmp_path / name).read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        (tmp_path / name).write_bytes(bytes(bad))
        assert os.path.dirname(name.replace("model.ckpt-7.index", "")) in checkpoints.problem(directory, 7, True)
        assert checkpoints.latest(directory, contents=True) == 6
    for length in range(len(good)):
        (tmp_path / name).write_bytes(good[:length])
        assert checkpoints.latest(directory, contents=True) == 6
    (tmp_path / name).unlink()
    assert checkpoints.latest(directory, contents=True) == 6


def test_a_damaged_latest_is_passed_over_with_a_warning_and_asked_for_it_is_refused(tmp_path, capsys):
    directory = str(tmp_path)
    summed(directory, 6)
    path = summed(directory, 7)
    checkpoints.keep_best(directory, 7, "auc_mean", 0.5)
    os.remove(path + ".data-00000-of-00001")
    (tmp_path / "model.ckpt-7.data-00000-of-00001").write_text("step 8")
    assert checkpoints.resolve(directory, "latest").endswith("ckpt-6")
    assert "model.ckpt-7.data-00000-of-00001 is damaged" in capsys.readouterr().err
    with pytest.raises(UserError, match="step 7 is not whole: .*model.ckpt-7.data-00000-of-00001 is damaged"):
        checkpoints.resolve(directory, "7")
    assert checkpoints.resolve(directory, "best").endswith("best/model.ckpt-7")
    (tmp_path / "best" / "model.ckpt-7.data-00000-of-00001").write_text("step 8")
    with pytest.raises(UserError, match="is damaged"):
        checkpoints.resolve(directory, "best")


def test_a_checkpoint_without_checksums_is_accepted_and_gets_them(tmp_path):
    directory = str(tmp_path)
    make(directory, 7)
    assert checkpoints.latest(directory, contents=True) == 7
    checkpoints.ensure_checksums(directory, 7)
    (tmp_path / "model.ckpt-7.index").write_text("step 9")
    assert checkpoints.latest(directory, contents=True) is None


@pytest.mark.parametrize("text, message", [("{", "cannot be read"), ("[]", "cannot be read"), ("[" * 10 ** 5, "cannot"),
                                           ('{"format_version": 1, "crc32": {"a": 3}}', "cannot be read"),
                                           ('{"format_version": 1, "crc32": {"a\\u0000b": [1, 2]}}', "cannot be read"),
                                           ('{"format_version": 1, "crc32": {"\\ud800": [1, 2]}}', "cannot be read")])
def test_a_damaged_checksum_file_is_a_damaged_checkpoint(tmp_path, text, message):
    path = make(str(tmp_path), 7)
    with open(checksums.path_of(path), "w", encoding="utf-8") as stream:
        stream.write(text)
    assert message in checkpoints.problem(str(tmp_path), 7, contents=True)


def test_a_newer_checksum_file_is_refused_not_set_aside(tmp_path):
    path = make(str(tmp_path), 7)
    with open(checksums.path_of(path), "w", encoding="utf-8") as stream:
        json.dump({"format_version": 2, "crc32": {}}, stream)
    with pytest.raises(UserError, match="newer than this program reads"):
        checkpoints.latest(str(tmp_path), contents=True)


def test_set_aside_moves_every_file_and_replaces_an_earlier_one(tmp_path):
    directory = str(tmp_path)
    for _ in range(2):
        summed(directory, 7)
        folder = checkpoints.set_aside(directory, 7)
    assert os.listdir(directory) == ["damaged"]
    assert checkpoints.latest(folder, contents=True) == 7
