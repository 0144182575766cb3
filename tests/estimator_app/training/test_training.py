"""End to end through the real commands on a small data set with three tasks."""
import glob
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from estimator_app.model_dir import checkpoints, history
from estimator_app.serving.export import _graph_expected, read_model
from rec_sdk_cpu.core import sparse_files
from tests.estimator_app.cli_runner import run_app
from tests.small_data import TASKS, write_data

# The plain preset builds a small graph. Dropout stays in: a resumed run must drop what an uninterrupted one drops.
FLAGS = ["--preset", "plain", "--expert_dropout", "0.2", "--batch_size", "16", "--train_epoch", "6",
         "--eval_batch_size", "32", "--learning_rate", "0.02", "--sparse_learning_rate", "0.02", "--expert_num", "3",
         "--expert_size", "4", "--tower_size", "4", "--threads", "1", "--log_interval", "10"]


def train(root, *flags, **arguments):
    return run_app("train", "--data_dir", "data", "--model_dir", "model", *(FLAGS + list(flags)), cwd=root, **arguments)


def weights(model_dir, step):
    """All dense variables and, by key, all rows of a checkpoint."""
    path = checkpoints.prefix(str(model_dir), step)
    reader = tf.train.load_checkpoint(path)
    values = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    directory = sparse_files.sparse_directory(path)
    for table in sparse_files.tables(directory):
        keys = sparse_files.read_keys(directory, table)
        order = np.argsort(keys)
        values[table + "/keys"] = keys[order]
        for state in sparse_files.states(directory, table):
            values[table + "/" + state] = np.array(sparse_files.open_rows(directory, table, state))[order]
    return values


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    write_data(str(root / "data"), train_rows=500, test_rows=150)
    return root, train(root)


def test_a_run_leaves_what_it_promises(trained):
    root, done = trained
    model = root / "model"
    steps = 6 * (500 // 16)
    assert checkpoints.latest(str(model)) == steps
    assert len(checkpoints.steps(str(model))) == 5
    for name in ("args.json", "manifest.json", "metrics.jsonl", "report.html", "best/best.json"):
        assert (model / name).exists(), name
    assert glob.glob(str(model / "events*")) and glob.glob(str(model / "eval" / "events*"))
    heading, *rows = (line for line in done.stdout.splitlines() if "auc_" in line or line.strip()[:1].isdigit())
    assert all("auc_" + task in heading for task in TASKS)
    assert [int(row.split()[0]) for row in rows] == [31 * epoch for epoch in range(1, 7)]
    assert "examples/s" in done.stderr


def test_the_model_learns_and_its_experts_differ(trained):
    root, _ = trained
    evaluations = [entry for entry in history.read(str(root / "model")) if entry["kind"] == "eval"]
    assert evaluations[-1]["auc_mean"] > 0.8
    assert evaluations[-1]["mean_loss"] < evaluations[0]["mean_loss"]
    values = weights(root / "model", 186)
    experts = values["small_table/embedding"][:, :12].reshape(-1, 3, 4)
    spread = np.abs(experts - experts.mean(axis=1, keepdims=True)).mean()
    assert spread > 0.1 * np.abs(experts).mean()


def test_reference_initialisation_keeps_the_experts_identical(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=200, test_rows=50)
    train(tmp_path, "--reference_init", "true", "--expert_dropout", "0", "--train_epoch", "2")
    values = weights(tmp_path / "model", 24)
    experts = values["small_table/embedding"][:, :12].reshape(-1, 12)
    np.testing.assert_allclose(experts, np.repeat(experts[:, :1], 12, axis=1), atol=1e-5)


def test_eval_prints_json_that_agrees_with_the_last_evaluation(trained):
    root, _ = trained
    done = run_app("eval", "--model_dir", "model", cwd=root)
    result = json.loads(done.stdout.splitlines()[-1])
    names = [name + task for name in ("auc_", "pr_auc_", "log_loss_", "calibration_") for task in TASKS]
    assert list(result) == ["global_step", "examples", "loss"] + names + ["reliability_" + task for task in TASKS]
    last = [entry for entry in history.read(str(root / "model")) if entry["kind"] == "eval"][-1]
    assert result["global_step"] == last["global_step"] and result["examples"] == 150
    for name in names:
        assert result[name] == pytest.approx(last[name], abs=1e-6)
    for task in TASKS:
        assert sum(result["reliability_" + task]["rows"]) == 150
        np.testing.assert_allclose(list(result["reliability_" + task].values()), last["reliability_" + task], atol=1e-6)
    assert result["loss"] == pytest.approx(last["mean_loss"], abs=1e-6)
    best = json.loads(run_app("eval", "--model_dir", "model", "--checkpoint", "best", cwd=root).stdout.splitlines()[-1])
    assert best["global_step"] == checkpoints.read_best(str(root / "model"))["step"]


def test_weighted_scores_use_the_raw_column(trained):
    root, _ = trained
    done = run_app("eval", "--model_dir", "model", "--eval_weight_column", "x", cwd=root)
    found = json.loads(done.stdout.splitlines()[-1])
    plain = json.loads(run_app("eval", "--model_dir", "model", cwd=root).stdout.splitlines()[-1])
    assert {name: found[name] for name in plain} == plain
    # An independent way to the same numbers: scores of the NumPy forward pass, and the column as it was written.
    _, arrays = write_data(str(root / "again"), train_rows=500, test_rows=150)
    ids, dense, labels = arrays["test"]
    scores = _graph_expected(read_model(str(root / "model"), "latest"), ids, dense)
    for number, task in enumerate(TASKS):
        oracle = {"weighted_auc_": roc_auc_score, "weighted_pr_auc_": average_precision_score,
                  "weighted_log_loss_": lambda label, score, **kw: log_loss(label, np.float64(score), **kw)}
        for name, function in oracle.items():
            assert found[name + task] == pytest.approx(
                function(labels[:, number], scores[task], sample_weight=dense[:, 0]), abs=1e-5)
        predicted, observed = (np.average(item, weights=dense[:, 0]) for item in (scores[task], labels[:, number]))
        assert found["weighted_calibration_" + task] == pytest.approx(predicted / observed, abs=1e-5)
    done = run_app("eval", "--model_dir", "model", "--eval_weight_column", "weight", cwd=root, check=False)
    assert done.returncode == 1 and "weight is no dense column of the data; it has x, y" in done.stderr
    done = run_app("eval", "--model_dir", "model", "--eval_weight_column", "y", cwd=root, check=False)
    assert done.returncode == 1 and "eval_weight_column y has negative values" in done.stderr


@pytest.mark.long
def test_a_second_run_has_nothing_to_do_and_more_epochs_go_on(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(str(trained[0]), str(root))
    assert "already at step 186 of 186" in train(root).stdout
    done = train(root, "--train_epoch", "7")
    assert "from step 186" in done.stdout and checkpoints.latest(str(root / "model")) == 217
    # Files of the first run are counted too: no more than keep_checkpoint_max stay.
    assert checkpoints.steps(str(root / "model")) == [93, 124, 155, 186, 217]


def test_a_resumed_run_equals_an_uninterrupted_one(trained, tmp_path):
    whole, _ = trained
    shutil.copytree(str(whole / "data"), str(tmp_path / "data"))
    train(tmp_path)
    model = str(tmp_path / "model")
    for step in checkpoints.steps(model):
        if step > 93:
            checkpoints.delete(model, step)
    assert "from step 93" in train(tmp_path).stdout
    ours, theirs = weights(model, 186), weights(whole / "model", 186)
    assert sorted(ours) == sorted(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    lines = [(entry["kind"], entry["global_step"]) for entry in history.read(model)]
    assert len(lines) == len(set(lines))


def test_graph_modification_and_several_lookups_train_the_same_model(trained, tmp_path):
    shutil.copytree(str(trained[0] / "data"), str(tmp_path / "data"))
    expected = weights(trained[0] / "model", 186)
    train(tmp_path, "--use_modify_graph", "true")
    ours = weights(tmp_path / "model", 186)
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-6, err_msg=name)
    shutil.rmtree(str(tmp_path / "model"))
    done = train(tmp_path, "--use_multi_lookup", "true", "--use_dynamic", "false")
    assert "trained 186 steps" in done.stdout


@pytest.mark.parametrize("flags, message", [
    (["--expert_num", "4"], "was trained with other settings (expert_num: found 3, expected 4)"),
    (["--batch_size", "8"], "batch_size: found 16, expected 8"),
])
def test_another_configuration_is_refused(trained, flags, message):
    done = train(trained[0], *flags, check=False)
    assert done.returncode == 1 and message in done.stderr and "--fresh" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_other_data_is_refused(trained, tmp_path):
    shutil.copytree(str(trained[0]), str(tmp_path / "run"))
    shutil.rmtree(str(tmp_path / "run" / "data"))
    write_data(str(tmp_path / "run" / "data"), train_rows=500, test_rows=150, seed=9)
    done = train(tmp_path / "run", check=False)
    assert done.returncode == 1 and "another statistics of x" in done.stderr and "manifest.json" in done.stderr


def test_fresh_says_what_it_deletes_and_starts_over(trained, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(str(trained[0]), str(root))
    (root / "model" / "notes.txt").write_text("mine")
    done = train(root, "--fresh", "--expert_num", "2", "--train_epoch", "1")
    assert "--fresh: deleting" in done.stdout and "model.ckpt-186.index" in done.stdout
    assert "from step 0" in done.stdout and checkpoints.steps(str(root / "model"))[-1] == 31
    assert (root / "model" / "notes.txt").read_text() == "mine"


def test_fresh_does_not_touch_a_directory_that_is_no_model(trained, tmp_path):
    shutil.copytree(str(trained[0] / "data"), str(tmp_path / "data"))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("mine")
    done = train(tmp_path, "--fresh", check=False)
    assert done.returncode == 1 and "does not look like a model directory" in done.stderr
    assert (tmp_path / "model" / "thesis.txt").exists()


def test_fresh_in_a_new_directory_just_trains(trained, tmp_path):
    shutil.copytree(str(trained[0] / "data"), str(tmp_path / "data"))
    assert "from step 0" in train(tmp_path, "--fresh", "--train_epoch", "1").stdout


def one_line_error(done, *parts):
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr


def test_missing_and_empty_data_directories(tmp_path):
    one_line_error(train(tmp_path, check=False), "data directory data does not exist", "run_estimator.sh prepare")
    (tmp_path / "data").mkdir()
    one_line_error(train(tmp_path, check=False), "data/manifest.json does not exist")


@pytest.mark.parametrize("damage, parts", [
    (lambda data: os.remove(str(data / "train" / "part-00001-of-00003.tfrecord")),
     ("part-00001-of-00003.tfrecord is missing",)),
    (lambda data: (data / "test" / "part-00000-of-00003.tfrecord").write_bytes(b""), ("has 0 bytes",)),
    (lambda data: (data / "manifest.json").write_text('{"format_version": 99}'), ("version 99 is newer",)),
    (lambda data: (data / "manifest.json").write_text("{"), ("manifest.json cannot be read",)),
])
def test_damaged_data_directories(tmp_path, damage, parts):
    write_data(str(tmp_path / "data"))
    damage(tmp_path / "data")
    one_line_error(train(tmp_path, check=False), *parts)


def test_a_corrupt_record_is_named(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=400)
    path = tmp_path / "data" / "train" / "part-00001-of-00003.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    one_line_error(train(tmp_path, check=False), str(path.name), "record ")


def test_eval_without_a_model(tmp_path):
    one_line_error(run_app("eval", "--model_dir", "nothing", cwd=tmp_path, check=False), "nothing", "train first")


@pytest.mark.parametrize("key, value, message", [
    ("label", 2, "label 2 is neither 0 nor 1"), ("sparse_feature", 18, "id 18 is not among the manifest's 18 ids"),
    ("sparse_feature", -5, "id -5 is not among"), ("dense_feature", float("nan"), "a number is nan")])
def test_rows_that_no_preparation_writes_are_refused(tmp_path, key, value, message):
    write_data(str(tmp_path / "data"), train_rows=60, line_per_sample=1, shards=1)
    path = str(tmp_path / "data" / "train" / "part-00000-of-00001.tfrecord")
    records = list(tf.compat.v1.io.tf_record_iterator(path))
    with tf.io.TFRecordWriter(path) as writer:
        for number, record in enumerate(records):
            example = tf.train.Example.FromString(record)
            if number == 7:
                feature = example.features.feature[key]
                (feature.float_list if key == "dense_feature" else feature.int64_list).value[0] = value
            writer.write(example.SerializeToString())
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["size"] = os.path.getsize(path)
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    one_line_error(train(tmp_path, check=False), "part-00000-of-00001.tfrecord, record 7", message)


@pytest.mark.long
def test_alternating_training_gives_the_same_model(trained, tmp_path):
    shutil.copytree(str(trained[0] / "data"), str(tmp_path / "data"))
    done = train(tmp_path, "--eval_mode", "alternate", "--eval_interval", "93")
    assert [line.split()[0] for line in done.stdout.splitlines() if line.strip()[:1].isdigit()] == ["93", "186"]
    ours, theirs = weights(tmp_path / "model", 186), weights(trained[0] / "model", 186)
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


def test_flags_of_the_launch_are_refused_on_a_cpu(tmp_path):
    one_line_error(train(tmp_path, "--so_path", "x", check=False), "--so_path is for the launch on NPUs")
