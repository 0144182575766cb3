"""``--continue_on`` trains on with other data; ``--warm_start_from`` begins a new model with an old one's variables."""
import json
import os
import shutil
from unittest import mock

import numpy as np
import pytest

from estimator_app.model.tasks import make_tasks
from estimator_app.model_dir import checkpoints
from estimator_app.training import report
from feature_specs.manifest import read_manifest
from tests.estimator_app.training.test_resume import snapshot
from tests.support import kill_harness, runs

# Values that the first data does not have: users beyond 30, items beyond 12.
TOMORROW = runs.small_rows(96, 5, users=60, items=16)
ON = ("--data_dir", "data2", "--continue_on", "--train_epoch", "2", "--eval_interval", "5",
      "--learning_rate_schedule", "cosine")


@pytest.fixture
def tomorrow(trained):
    """The trained model and data of the next day, which continues the model's vocabularies."""
    runs.prepare_small(trained.root, train=TOMORROW, output="data2", flags=("--vocabulary_from", trained.model))
    return trained


@pytest.mark.long
def test_a_second_stage_counts_from_its_start_and_resumes_exactly(tomorrow, whole):
    before = runs.weights(tomorrow.model, 30)
    os.rename(tomorrow.model, str(tomorrow.root / "first"))
    for name in ("whole", "model"):
        shutil.copytree(str(tomorrow.root / "first"), str(tomorrow.root / name))
    done = runs.run(tomorrow.root, *(runs.TRAIN + kill_harness.KEEP + ON + ("--model_dir", "whole"))).ok()
    # 96 rows in batches of 16: 6 steps per epoch, 12 in the stage.
    assert "continues on other data from step 30" in done.out and "12 steps of 16 examples (2 epochs)" in done.out
    assert runs.evaluated_steps(tomorrow.root / "whole") == [10, 20, 30, 35, 40, 42]
    # The best is chosen among evaluations on the data of today, however well yesterday's rows were scored.
    found = {entry["global_step"]: entry["auc_mean"] for entry in runs.recorded(tomorrow.root / "whole", "eval")}
    best = checkpoints.read_best(str(tomorrow.root / "whole"), contents=True)
    assert best.value == max(found[step] for step in (35, 40, 42)) == found[best.step] and best.step > 30
    first, second = runs.stages(tomorrow.root / "whole")
    assert (second["from_step"], second["data_start"]) == (30, 30)
    assert second["data"]["identity"] == read_manifest(str(tomorrow.root / "data2")).identity()
    assert first == runs.stages(whole.model)[0]
    assert [[name for name, _ in stage["data"]["inputs"]] for stage in (first, second)] == [
        ["data.train.csv", "data.test.csv"], ["data2.train.csv", "data2.test.csv"]]
    tasks = make_tasks(read_manifest(str(tomorrow.root / "data2")))
    with mock.patch("matplotlib.axes.Axes.axvline") as line:
        report.write_report(str(tomorrow.root / "whole"), tasks)
    assert [call[0][0] for call in line.call_args_list] == [30] * 3  # in every figure
    text = (tomorrow.root / "whole" / "report.html").read_text(encoding="utf-8")
    told = text.index("after step 30: trained and evaluated on other data")
    assert text.index("<td>30</td>") < told < text.index("<td>35</td>") and text.count("on other data") == 1

    # Before its first step the tables are bit for bit what they were: killed right after the restore, then stopped.
    harness = kill_harness.Harness(tomorrow.root, ON, 1, 20.0)
    assert harness.kill_at("restored")
    runs.assert_same_weights(tomorrow.model, tomorrow.root / "first", 30)
    assert harness.kill_at("step", 8)
    assert checkpoints.latest(tomorrow.model) == 35
    # Rows of users that the new data lacks: no update touched them, nor their optimizer's states.
    after = runs.weights(tomorrow.model, 35)
    known = set(after["embeddings/keys"]) & set(before["embeddings/keys"])
    assert len(known) == len(before["embeddings/keys"]) < len(after["embeddings/keys"])
    harness.finish()


def test_data_of_the_first_stage_is_still_accepted_where_no_step_of_the_second_is_kept(tomorrow):
    harness = kill_harness.Harness(tomorrow.root, ON, 1, 20.0)
    assert harness.kill_at("settings written")
    assert "already at step 30 of 30" in tomorrow.here(*(runs.TRAIN + kill_harness.KEEP)).ok().out


@pytest.mark.long
def test_data_prepared_from_a_model_whose_next_stage_kept_no_step_is_taken(tomorrow):
    assert kill_harness.Harness(tomorrow.root, ON, 1, 20.0).kill_at("settings written")
    runs.prepare_small(tomorrow.root, train=runs.small_rows(96, 6, users=70), output="data3",
                       flags=("--vocabulary_from", tomorrow.model))
    done = tomorrow.command(*(runs.TRAIN + kill_harness.KEEP + ON + ("--data_dir", "data3"))).ok()
    assert "continues on other data from step 30" in done.out
    assert [stage["data"]["identity"] for stage in runs.stages(tomorrow.model)][1:] == [
        read_manifest(str(tomorrow.root / "data3")).identity()]


def test_a_new_model_takes_over_what_fits(tomorrow):
    source = snapshot(tomorrow.model)
    done = runs.run(tomorrow.root, *(runs.TRAIN + (
        "--data_dir", "data2", "--model_dir", "new", "--warm_start_from", "model", "--tower_layers", "4",
        "--train_epoch", "1", "--eval_interval", "6"))).ok()
    lines = {line.split()[0]: line for line in done.out.splitlines() if line.startswith("shared_bottom/")}
    taken = [name for name, line in lines.items() if line.endswith("  taken")]
    left = [name for name, line in lines.items() if "left: shape" in line]
    assert taken and left and sorted(taken + left) == sorted(lines)
    assert all("tower" in name for name in left)
    assert [line for line in done.out.splitlines() if line.startswith("table embeddings")][0].endswith("  taken")
    assert "%d of %d variables and tables of model are taken over, step 30" % (
        len(taken) + 1, len(lines) + 1) in done.out
    # The checkpoint of step 0 holds what was taken, bit for bit; the table has grown by training only.
    ours, theirs = runs.weights(tomorrow.root / "new", 0), runs.weights(tomorrow.model, 30)
    for name in taken + ["embeddings/keys", "embeddings/embedding"]:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert len(runs.weights(tomorrow.root / "new", 6)["embeddings/keys"]) > len(theirs["embeddings/keys"])
    assert snapshot(tomorrow.model) == source


@pytest.mark.long
def test_a_table_whose_values_have_other_indexes_is_left(trained):
    runs.prepare_small(trained.root, train=TOMORROW, output="data3")
    done = runs.run(trained.root, *(runs.TRAIN + (
        "--data_dir", "data3", "--model_dir", "new", "--warm_start_from", "model", "--train_epoch", "1"))).ok()
    line = [line for line in done.out.splitlines() if line.startswith("table embeddings")][0]
    assert "left: the vocabulary of item differs" in line


def test_a_source_without_a_model_is_one_line(fresh):
    runs.run(fresh.root, *(runs.TRAIN + ("--warm_start_from", "absent"))).refused(
        "absent does not exist and holds no trained model")


@pytest.mark.long
def test_tomorrows_files_may_be_written_in_another_way(tomorrow):
    yaml = runs.SMALL_YAML.replace("{format: csv, header: true}", '{format: csv, header: true, separator: ";"}')
    for name in ("data2.train.csv", "data2.test.csv"):
        text = (tomorrow.root / name).read_text().replace(",", ";")
        (tomorrow.root / ("semicolons." + name)).write_text(text)
    (tomorrow.root / "semicolons.yaml").write_text(yaml)
    runs.run_prepare("--dataset", tomorrow.root / "semicolons.yaml", "--train_data_path",
                     tomorrow.root / "semicolons.data2.train.csv", "--test_data_path",
                     tomorrow.root / "semicolons.data2.test.csv", "--vocabulary_from", tomorrow.model, "--output_path",
                     tomorrow.root / "data3", "--num_shards", "2")
    tomorrow.command("eval", "--model_dir", "model", "--data_dir", "data3").ok()
    assert "continues on other data from step 30" in tomorrow.command(
        *(runs.TRAIN + kill_harness.KEEP + ON + ("--data_dir", "data3"))).ok().out


def test_a_dataset_that_means_something_else_is_told_by_prepare_and_refused_by_train(tomorrow, capsys):
    (tomorrow.root / "other.yaml").write_text(runs.SMALL_YAML.replace("item: {type: categorical}",
                                                                      "item: {type: categorical, min_count: 3}"))
    done = runs.run_here(tomorrow.root, "prepare", "--dataset", "other.yaml", "--train_data_path", "data2.train.csv",
                         "--test_data_path", "data2.test.csv", "--vocabulary_from", "model", "--output_path", "data3")
    assert "warning: the dataset is not that of model (feature item: min_count: 3 instead of 1)" in done.ok().out
    tomorrow.here(*(runs.TRAIN + kill_harness.KEEP + ON + ("--data_dir", "data3"))).refused(
        "feature item: min_count: 3 instead of 1", "the model's own dataset (without --dataset)", "--warm_start_from")


def test_a_start_that_trained_nothing_leaves_no_settings_behind(trained):
    """Its stage is noted when a step is about to be trained; eval takes what the weights were trained with."""
    path = os.path.join(trained.model, "args.json")
    with open(path) as stream:
        data = json.load(stream)
    failed = dict(data["stages"][-1], from_step=30, config=dict(data["stages"][-1]["config"], table_capacity=1))
    with open(path, "w") as stream:
        json.dump(dict(data, stages=data["stages"] + [failed]), stream)
    trained.command("eval", "--model_dir", "model").ok()
