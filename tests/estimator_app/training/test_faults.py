"""Damaged data and losses that are no numbers, through the real commands."""
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir.directory import OLD_STILL_THERE, finish_partial_restore
from estimator_app.training.rollback import skipped_batches
from input_fn.record_file import frames
from rec_sdk_cpu.core import sparse_files
from tests.estimator_app.model_dir.test_checkpoints import make
from tests.estimator_app.training.test_training import train, weights
from tests.input_fn.test_substitutes import flip
from tests.small_data import write_data

STEPS = 6 * 31


def one_line_error(done, *parts):
    """Besides the progress lines there is one line, the error."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("step ")]
    assert done.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: "), done.stdout + done.stderr
    for part in parts:
        assert part in lines[0], lines[0]


def damage_records(root, places):
    """Flips a bit in the data of records (split, shard, record)."""
    for split, shard, record in places:
        path = str(root / "data" / split / ("part-%05d-of-00003.tfrecord" % shard))
        flip(path, frames(path, 0)[record][0] + 14)


def entries(root, kind):
    return [entry for entry in history.read(str(root / "model")) if entry["kind"] == kind]


def assert_same_weights(left, right, step):
    ours, theirs = weights(left, step), weights(right, step)
    assert sorted(ours) == sorted(theirs)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_damaged_records_are_left_out_up_to_a_bound_and_resume_stays_exact(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    damage_records(tmp_path, [("train", 1, 5), ("test", 0, 3)])
    cut = tmp_path / "data" / "train" / "part-00002-of-00003.tfrecord"
    with open(str(cut), "r+b") as stream:
        stream.truncate(frames(str(cut), 0)[-1][0] + 5)
    one_line_error(train(tmp_path, check=False), "part-00002-of-00003.tfrecord has", "the manifest says")
    one_line_error(train(tmp_path, "--max_corrupt_records", "2", check=False),
                   "part-00000-of-00003.tfrecord, record 3: damaged", "3 records are damaged, --max_corrupt_records "
                   "allows 2")
    assert checkpoints.latest(str(tmp_path / "model")) is None
    done = train(tmp_path, "--max_corrupt_records", "3")
    for line in ("train/part-00001-of-00003.tfrecord, record 5: damaged",
                 "train/part-00002-of-00003.tfrecord, record 40: damaged",
                 "test/part-00000-of-00003.tfrecord, record 3: damaged"):
        assert done.stdout.count("warning: left out: data/" + line) == 1
    assert "3 damaged records were left out" in done.stdout.splitlines()[-1]
    assert "trained 186 steps" in done.stdout
    assert [entry["corrupt_records"] for entry in entries(tmp_path, "corrupt_records")] == [3]
    # A record of four evaluation rows is gone: they are not counted, and no other row stands for them.
    assert {entry["examples"] for entry in entries(tmp_path, "eval")} == {146}
    os.rename(str(tmp_path / "model"), str(tmp_path / "whole"))
    train(tmp_path, "--max_corrupt_records", "3", "--train_epoch", "3")
    assert "from step 93" in train(tmp_path, "--max_corrupt_records", "3").stdout
    assert_same_weights(tmp_path / "model", tmp_path / "whole", STEPS)


def poison(root, first, count):
    """Gives training rows dense values that are finite, and whose products with weights are not."""
    path = str(root / "data" / "train" / "part-00000-of-00001.tfrecord")
    records = list(tf.compat.v1.io.tf_record_iterator(path))
    with tf.io.TFRecordWriter(path) as writer:
        for number, record in enumerate(records):
            example = tf.train.Example.FromString(record)
            if first <= number < first + count:
                example.features.feature["dense_feature"].float_list.value[:] = [
                    3.4e38 * (-1) ** number, 3.4e38 * (-1) ** (number // 2)]
            writer.write(example.SerializeToString())
    assert os.path.getsize(path) == json.loads((root / "data" / "manifest.json").read_text())[
        "splits"]["train"]["shards"][0]["size"]


def test_a_loss_that_is_no_number_stops_or_goes_back_and_leaves_the_batch_out(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150, line_per_sample=1, shards=1)
    # In the order of the files batch 17 of each epoch of 31 batches makes the loss no number.
    poison(tmp_path, 17 * 16, 16)
    flags = ("--dense_transform", "none", "--train_epoch", "2", "--eval_interval", "15", "--shuffle_rows", "0")
    model = tmp_path / "model"
    done = train(tmp_path, *flags, check=False)
    one_line_error(done, "loss at step 18 is", "the last good checkpoint is of step 15", "--on_nan restore")
    assert checkpoints.latest(str(model)) == 15 and skipped_batches(str(model)) == []
    assert all(np.isfinite(value).all() for value in weights(model, 15).values())

    done = train(tmp_path, *flags, "--on_nan", "restore", "--max_rollbacks", "1", check=False)
    assert "goes back to step 15 and leaves batch 17 out (1 of 1 times)" in done.stdout
    # Batch 17 is gone, so the bad batch of the second epoch, 31 + 17, is read one step earlier.
    one_line_error(done, "loss at step 48 is", "the last good checkpoint is of step 45",
                   "Training has gone back 1 times, more are not allowed (--max_rollbacks)")

    done = train(tmp_path, *flags, "--on_nan", "restore")
    assert "goes back to step 45 and leaves batch 48 out (2 of 3 times)" in done.stdout
    assert checkpoints.latest(str(model)) == 62 and skipped_batches(str(model)) == [17, 48]
    assert all(np.isfinite(value).all() for value in weights(model, 62).values())
    assert [entry["skipped_batches"] for entry in entries(tmp_path, "rollback")] == [[17], [48]]

    # A later resume leaves them out as well, and ends with the same weights.
    shutil.copytree(str(model), str(tmp_path / "whole"))
    for step in checkpoints.steps(str(model)):
        if step > 15:
            checkpoints.delete(str(model), step)
    again = train(tmp_path, *flags)
    assert "from step 15" in again.stdout and "goes back" not in again.stdout
    assert_same_weights(model, tmp_path / "whole", 62)


def test_an_exploding_loss_stops(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    done = train(tmp_path, "--learning_rate", "10", "--sparse_learning_rate", "10", "--max_loss", "50",
                 "--eval_interval", "10", check=False)
    one_line_error(done, "the training loss at step ")


def test_restore_is_refused_where_training_is_several_processes(tmp_path):
    write_data(str(tmp_path / "data"))
    one_line_error(train(tmp_path, "--on_nan", "restore", "--eval_mode", "alternate", check=False),
                   "does not go with --eval_mode alternate")


def test_partial_restore_takes_over_what_fits(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    train(tmp_path, "--train_epoch", "1")
    model = tmp_path / "model"
    old = weights(model, 31)
    other = ("--tower_size", "5", "--train_epoch", "1")
    refused = train(tmp_path, *other, check=False)
    one_line_error(refused, "tower_size: found 4, expected 5", "--partial_restore")
    line = [line.split() for line in refused.stdout.splitlines() if line.startswith("mmoe/tower_buy/hidden/kernel ")]
    assert line == [["mmoe/tower_buy/hidden/kernel", "[1,", "4,", "4]", "[1,", "4,", "5]", "initialised"]]
    assert_same_weights_as(model, old)

    done = train(tmp_path, *other, "--partial_restore")
    assert "already at step 31 of 31" in done.stdout and "variables and tables fit" in done.stdout
    new = weights(model, 31)
    assert new["mmoe/tower_buy/hidden/kernel"].shape == (1, 4, 5)
    same = [name for name in old if old[name].shape == new[name].shape]
    assert "mmoe/first_layer/kernel/Adam" in same and "small_table/embedding" in same and "global_step" in same
    for name in same:
        np.testing.assert_array_equal(new[name], old[name], err_msg=name)
    assert_same_weights_as(model / "before_partial_restore", old)


@pytest.mark.long
def test_a_converted_network_trains_and_another_table_width_begins_with_an_empty_table(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    model = tmp_path / "model"
    train(tmp_path, "--train_epoch", "1")
    train(tmp_path, "--tower_size", "5", "--train_epoch", "1", "--partial_restore")
    assert "from step 31" in train(tmp_path, "--tower_size", "5", "--train_epoch", "2").stdout
    wider = train(tmp_path, "--tower_size", "5", "--expert_num", "4", "--train_epoch", "3", "--partial_restore")
    assert "table small_table" in wider.stdout and "from step 62" in wider.stdout
    assert weights(model, 93)["small_table/embedding"].shape[1] == 4 * 4 + 3 * 4


def assert_same_weights_as(model, expected):
    found = weights(model, 31)
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("moved", range(10))
def test_an_interrupted_take_over_is_completed(tmp_path, moved, monkeypatch):
    """Stops after each move of a file and calls again."""
    model = tmp_path / "model"
    make(str(model), 3)
    (model / "args.json").write_text("old")
    staged = model / "partial_restore"
    make(str(staged), 3, keys=(1, 2, 4))
    (staged / "args.json").write_text("new")
    (staged / "manifest.json").write_text("new")
    (staged / OLD_STILL_THERE).write_text("")
    calls, replace = [], os.replace

    def failing(source, target):
        calls.append(target)
        if len(calls) > moved:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(KeyboardInterrupt):
        finish_partial_restore(str(model))
    monkeypatch.undo()
    finish_partial_restore(str(model))
    assert checkpoints.latest(str(model)) == 3 and not staged.exists()
    folder = sparse_files.sparse_directory(checkpoints.prefix(str(model), 3))
    assert sparse_files.read_keys(folder, "table").tolist() == [1, 2, 4]
    assert (model / "args.json").read_text() == "new"
    old = sparse_files.sparse_directory(checkpoints.prefix(str(model / "before_partial_restore"), 3))
    assert sparse_files.read_keys(old, "table").tolist() == [3, 5]
    assert (model / "before_partial_restore" / "args.json").read_text() == "old"
