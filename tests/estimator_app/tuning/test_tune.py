"""The search over settings: real trials, interruptions, pruning, and what is refused."""
import json
import os
import shutil
import signal

import numpy as np
import optuna
import pytest

from estimator_app.config import Config, read_preset
from estimator_app.tuning import search_space, tune
from estimator_app.tuning.trial import TrialFailedError
from feature_specs.errors import ConfigError
from feature_specs.manifest import read_manifest
from feature_specs.records import LABEL, PADDING_LABEL
from tests.support import runs
from tests.support.rows import read_rows

SPACE = {"learning_rate": {"low": 0.001, "high": 0.05, "log": True}, "expert_num": {"choices": [1, 2]}}
FLAGS = ("--data_dir", "data", "--train_data_path", "data.train.csv", "--output_path", "study", "--space",
         "space.json", "--expert_layers", "4", "--tower_layers", "3", "--embedding_dim", "3", "--train_epoch", "1",
         "--dense_bins", "0", "--threads", "1", "--batch_size", "64", "--expert_num", "1")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tune")
    runs.prepare_small(root)
    (root / "space.json").write_text(json.dumps(SPACE))
    return root


@pytest.fixture
def played(root, monkeypatch):
    """Trainings that are played back: values per trial, one per evaluation; text fails."""
    def play(values):
        calls = []

        def trained(preset, data_dir, model_dir, steps, stop, check):
            check()
            found = values[len(calls) % len(values)]
            with open(preset, encoding="utf-8") as stream:
                calls.append(json.load(stream))
            if isinstance(found, str):
                raise TrialFailedError(found)
            seen = []
            for number, value in enumerate(found, 1):
                seen.append({"global_step": number, "auc_mean": value, "kind": "eval"})
                if stop(seen[-1]):
                    break
            return seen

        monkeypatch.setattr(tune, "run_training", trained)
        return calls

    yield play
    shutil.rmtree(str(root / "study"), ignore_errors=True)


def test_the_best_trial_becomes_the_preset_and_the_study_continues(root, played):
    calls = played([[0.6], [0.8], [0.7], [0.9]])
    done = runs.run_here(root, "tune", "--trials", 3, *FLAGS).ok()
    preset = json.loads((root / "study" / "best_preset.json").read_text())
    assert preset["learning_rate"] == pytest.approx(calls[1]["learning_rate"])
    assert "auc_mean 0.80000" in preset["_comment"] and preset["expert_layers"] == [4]
    # The first trial is the preset itself; a flag holds its field fixed.
    assert calls[0]["learning_rate"] == Config(**read_preset("default", has_rare_values=True)).learning_rate
    assert {call["expert_num"] for call in calls} == {1} and done.out.count("trial ") >= 3
    again = runs.run_here(root, "tune", "--trials", 4, *FLAGS).ok()
    assert len(calls) == 4 and "best of 4 trials" in again.out
    assert "trial 0 (as the preset): auc_mean 0.60000" in done.out and "as the preset" not in again.out
    assert json.loads((root / "study" / "best_preset.json").read_text())["learning_rate"] == pytest.approx(
        calls[3]["learning_rate"])


def test_hopeless_trials_are_stopped_and_never_win(root, played):
    played([[0.91, 0.92, 0.93]] * 5 + [[0.51, 0.52, 0.53]])
    done = runs.run_here(root, "tune", "--trials", 6, *(FLAGS + ("--train_epoch", "3"))).ok()
    lines = [line for line in done.out.splitlines() if line.startswith("trial ")]
    assert [": stopped early, after evaluation" in line for line in lines] == [False] * 5 + [True]
    assert "best of 6 trials (1 stopped early)" in done.out


def test_failing_and_undefined_trials_end_the_search(root, played):
    played(["exit status 1: error: no space left"])
    runs.run_here(root, "tune", "--trials", 4, *FLAGS).refused("3 trials in a row failed", "no space left")
    shutil.rmtree(str(root / "study"))
    played([[None]])
    runs.run_here(root, "tune", "--trials", 4, *FLAGS).refused("auc_mean is not defined on the validation rows")


def test_the_help_tells_which_fields_are_searched(root):
    text = " ".join(runs.run_here(root, "tune", "--space", "space.json", "--help").ok().out.split())
    assert text.count("(default: searched unless given)") == len(SPACE)
    assert "[experts] (default: searched unless given)" in text
    text = " ".join(runs.run_here(root, "tune", "--data_dir", "data", "--help").ok().out.split())
    assert "(default: ple)" in text and "(default: concat)" in text and "not used [path] (default: data)" in text
    text = " ".join(runs.run_here(root, "tune", "--help").ok().out.split())
    assert "(default: mmoe)" in text and "(default: data/sample)" in text


REFUSED = (
    (("--trials", "0"), "--trials 0 is out of range"), (("--metric", "accuracy"), "choose from auc_mean"),
    (("--expert_layers", "5"), "was started with, these differ: settings"), (("--splits", "2"), "these differ: splits"),
    (("--learning_rate", "0.1"), "flags fix every field"), (("--space", "absent.json"), "cannot be read"),
    (("--train_data_path", "absent"), "absent"), (("--data_dir", "absent"), "data directory absent does not exist"),
    (("--train_data_path", "data.test.csv"), "data.test.csv is not among the files that data was prepared from "
                                             "(data.train.csv)"),
    (("--train_data_path", "data.train.csv", "data.test.csv"), "data.test.csv is not among"),
    (("--train_data_path", "changed/data.train.csv"), "changed/data.train.csv is not the file that data was prepared"),
    (("--train_data_path", "data.train.csv", "other/data.train.csv"), "other/data.train.csv is not the file that data"),
)


def test_what_is_refused_is_one_line(root, played):
    played([[0.6]])
    runs.run_here(root, "tune", "--trials", 1, *FLAGS).ok()
    for folder, more in (("changed", "u1,i1,0.5,1\n"), ("other", "")):
        os.makedirs(str(root / folder), exist_ok=True)
        (root / folder / "data.train.csv").write_text((root / "data.train.csv").read_text() + more)
    for flags, words in REFUSED:
        runs.run_here(root, "tune", "--trials", 1, *(FLAGS + flags)).refused(words)
    without = tuple(flag for flag in FLAGS if flag not in ("--train_data_path", "data.train.csv"))
    runs.run_here(root, "tune", "--trials", 1, *without).refused(
        "tune needs --train_data_path: the files that data was prepared from (data.train.csv)")


def xs(directory, split):
    return [row["dense_feature"][0] for row in read_rows(directory, split, read_manifest(
        str(directory)).line_per_sample) if row[LABEL][0] != PADDING_LABEL]


@pytest.mark.parametrize("split", [
    ("--split", "0.3"), ("--split", "0.3", "--seed", str(tune._SPLIT_SEED)), ("--split", "0.3", "--split_by", "user"),
    ("--split", "0.3", "--split_by_time", "x")])
def test_rows_that_the_data_holds_back_are_not_seen(root, played, split):
    played([[0.6]])
    text = (root / "data.train.csv").read_text() + "u1,i1\n"  # with a row that the data leaves out
    (root / "log.csv").write_text(text)
    runs.run_prepare("--dataset", root / "small.yaml", "--train_data_path", root / "log.csv", *split, "--output_path",
                     root / "held", "--max_bad_rows", 1)
    flags = FLAGS + ("--data_dir", "held", "--train_data_path", "log.csv")
    done = runs.run_here(root, "tune", "--trials", 1, *flags).ok()
    assert "train --preset study/best_preset.json --data_dir held --model_dir DIR" in done.out
    (folder,) = (root / "study" / "data").iterdir()
    train, validation, held = xs(folder, "train"), xs(folder, "test"), xs(root / "held", "test")
    assert sorted(train + validation) == sorted(xs(root / "held", "train")) and len(train) > len(validation) > 5
    assert sorted(train + validation + held) == sorted(
        float(np.float32(line.split(",")[2])) for line in text.splitlines()[1:-1])
    assert read_manifest(str(folder)).row_split.by_column == ("user" if "user" in split else "")
    if "x" in split:
        assert max(train) < min(validation) and max(validation) < min(held)
        runs.run_here(root, "tune", "--trials", 1, *flags, "--splits", 2).refused(
            "--splits 2: held was split by time")
    runs.run_prepare("--dataset", root / "small.yaml", "--train_data_path", root / "log.csv", "--split", "0.4",
                     "--output_path", root / "held", "--max_bad_rows", 1)
    runs.run_here(root, "tune", "--trials", 2, *flags).refused("was started with, these differ: test rows")


def test_a_sample_needs_no_files(root, played):
    played([[0.6]])
    runs.run_prepare("--sample", "shop", "--sample_train_rows", 400, "--sample_test_rows", 100, "--output_path",
                     root / "shop")
    without = tuple(flag for flag in FLAGS if flag not in ("--train_data_path", "data.train.csv"))
    runs.run_here(root, "tune", "--trials", 1, *without, "--data_dir", "shop").ok()
    (folder,) = (root / "study" / "data").iterdir()
    splits = read_manifest(str(folder)).splits
    assert splits["train"].rows + splits["test"].rows == 400


def test_a_study_from_before_a_setting_goes_on(root, played):
    played([[0.6]])
    runs.run_here(root, "tune", "--trials", 1, *FLAGS).ok()
    storage = "sqlite:///" + str(root / "study" / tune.STUDY_FILE)
    study = optuna.load_study(study_name=tune._STUDY_NAME, storage=storage)
    settings = study.user_attrs[tune._SETTINGS]
    del settings["base"]["field_dropout"]
    study.set_user_attr(tune._SETTINGS, settings)
    runs.run_here(root, "tune", "--trials", 2, *FLAGS).ok()
    del settings["base"]["expert_layers"]  # which is not at its default here
    study.set_user_attr(tune._SETTINGS, settings)
    runs.run_here(root, "tune", "--trials", 2, *FLAGS).refused("was started with, these differ: settings")


def test_another_dataset_is_refused(root, played):
    played([[0.6]])
    changed = runs.SMALL_YAML.replace("  x: {type: numeric}\n", "")
    assert changed != runs.SMALL_YAML
    try:
        runs.run_here(root, "tune", "--trials", 1, *FLAGS).ok()
        runs.prepare_small(root, yaml="# A comment changes nothing.\n" + runs.SMALL_YAML)
        runs.run_here(root, "tune", "--trials", 2, *FLAGS).ok()
        runs.prepare_small(root, yaml=changed)
        runs.run_here(root, "tune", "--trials", 3, *FLAGS).refused("these differ: dataset")
        # Without the study nothing of the old definition is trained.
        shutil.rmtree(str(root / "study" / "trials"))
        os.remove(str(root / "study" / "study.db"))
        os.remove(str(root / "study" / "best_preset.json"))
        runs.run_here(root, "tune", "--trials", 1, *FLAGS).ok()
        assert len(os.listdir(str(root / "study" / "data"))) == 2
    finally:
        runs.prepare_small(root)


@pytest.mark.parametrize("place", ["trials/0000", "trials/0001/deep", "trials/0002"])
def test_what_a_trial_did_not_write_stays(root, played, place):
    calls = played([[0.6]])
    mine = root / "study" / place / "user.txt"
    os.makedirs(str(mine.parent))
    mine.write_text("mine")
    refused = runs.run_here(root, "tune", "--trials", 2, *FLAGS)
    if place.endswith("2"):
        # Only when the search comes there.
        refused.ok()
        refused = runs.run_here(root, "tune", "--trials", 3, *FLAGS)
    refused.refused("%s is there, but no trial of this study wrote it" % place[:11], "choose another --output_path")
    assert mine.read_text() == "mine" and len(calls) == (2 if place.endswith("2") else 0)
    shutil.rmtree(str(root / "study" / place[:11]))
    runs.run_here(root, "tune", "--trials", 3, *FLAGS).ok()


def test_results_whose_study_is_gone_stay(root, played):
    played([[0.6]])
    runs.run_here(root, "tune", "--trials", 1, *FLAGS).ok()
    os.remove(str(root / "study" / "study.db"))
    for _ in range(2):
        runs.run_here(root, "tune", "--trials", 1, *FLAGS).refused("best_preset.json is there, but the study in study "
                                                                   "has no trial that ended: it is not replaced")
    os.remove(str(root / "study" / "best_preset.json"))
    for _ in range(2):
        runs.run_here(root, "tune", "--trials", 1, *FLAGS).refused("trials/0000 is there, but no trial")
    assert (root / "study" / "trials" / "0000" / "preset.json").exists()


def test_of_a_trial_that_was_cut_off_only_its_own_files_are_removed(root, played, monkeypatch):
    played([[0.6]])
    folder = root / "study" / "trials" / "0000"

    def stopped(*_arguments):
        (folder / "split0").mkdir()
        raise OSError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(tune, "run_training", stopped)
        assert runs.run_here(root, "tune", "--trials", 1, *FLAGS).status
    (folder / "user.txt").write_text("mine")
    done = runs.run_here(root, "tune", "--trials", 1, *FLAGS).ok()
    assert "trial 0 was cut off; its settings come again as trial 1\ntrial 1 (as the preset): auc_mean" in done.out
    assert os.listdir(str(folder)) == ["user.txt"] and (root / "study" / "trials" / "0001").is_dir()


def test_a_damaged_study_is_one_line(root, played):
    os.makedirs(str(root / "study"))
    (root / "study" / "study.db").write_bytes(b"no database" * 100)
    runs.run_here(root, "tune", "--trials", 1, *FLAGS).refused("cannot be used")


@pytest.mark.parametrize("space, words", [
    ({"batch": {"choices": [1]}}, "field cannot be searched"),
    ({"model_dir": {"choices": ["x"]}}, "field cannot be searched"),
    ({"batch_size": {"choices": [64, 0]}}, "batch_size 0 is out of range"),
    ({"batch_size": {"low": 1.5, "high": 3}}, "does not fit a field of type int"),
    ({"model": {"low": 1, "high": 3}}, "does not fit a field of type str"),
    ({"learning_rate": {"low": 0.1, "high": 0.01}}, "is not understood"),
    ({"expert_dropout": {"low": 0, "high": 0.5, "log": True}}, "is not understood"),
    ({"train_epoch": {"low": 1, "high": float("inf")}}, "is not understood"),
    ({"learning_rate": {"choices": []}}, "is not understood"), ({"learning_rate": 3}, "is not understood"),
    ({}, "is empty"), ([], "an object of fields"),
])
def test_wrong_spaces(tmp_path, space, words):
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space))
    with pytest.raises(ConfigError, match=words):
        search_space.read_space(str(path), Config())


@pytest.mark.parametrize("preset, rare", [("default", False), ("default", True), ("census", False)])
def test_the_space_that_comes_with_the_program_holds_the_presets(preset, rare):
    base = Config(**read_preset(preset, has_rare_values=rare))
    read = search_space.read_space(search_space.DEFAULT_FILE, base)
    space = search_space.with_values(read, base)
    assert list(space) == list(read) and len(space) >= 10
    assert [name for name, item in space.items() if not search_space.contains(item, getattr(base, name))] == []


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_stopped_repeats_the_trial(root, played, number):
    del played
    try:
        process = runs.Started(root, ("tune", "--trials", "2") + FLAGS)
        preset = root / "study" / "trials" / "0001" / "preset.json"
        process.wait_for(preset.exists, 300)
        interrupted = json.loads(preset.read_text())
        process.send(number)
        done = process.done()
        assert done.status == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        if number == signal.SIGTERM:
            assert "stopped in trial 1; the same command" in done.out
        done = runs.run(root, "tune", "--trials", "2", *FLAGS, seconds=600).ok()
        assert "best of 2 trials" in done.out
        assert json.loads((root / "study" / "trials" / "0002" / "preset.json").read_text()) == interrupted
        metrics = [json.loads(line) for line in (
            root / "study" / "trials" / "0002" / "split0_metrics.jsonl").read_text().splitlines()]
        # About a fifth of the 160 training rows is evaluated, and nothing of the test file.
        (examples,) = {entry["examples"] for entry in metrics if entry.get("kind") == "eval"}
        assert 24 <= examples <= 40
    finally:
        shutil.rmtree(str(root / "study"), ignore_errors=True)
