"""The real ``tune`` command on a small made-up census file, and its parts."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from estimator_app.cli import main
from estimator_app.config import Config
from estimator_app.training import search_space
from estimator_app.training import tune as tuning
from estimator_app.training.tune_trial import TrialFailedError
from feature_specs.errors import ConfigError
from preprocessing.sample_data import write_sample
from tests.estimator_app.cli_runner import PROJECT, run_app

SPACE = {"learning_rate": {"low": 0.001, "high": 0.05, "log": True}, "expert_num": {"choices": [2, 3]},
         "train_epoch": {"low": 1, "high": 2}}
FLAGS = ("--train_data_path raw/census-income.data.gz --output_path study --space space.json --preset plain "
         "--expert_num 2 --expert_size 4 --tower_size 4 --train_epoch 2 --threads 1").split()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tune")
    (root / "raw").mkdir()
    write_sample(str(root / "raw"), 1500, 10)
    (root / "space.json").write_text(json.dumps(SPACE))
    return root


@pytest.fixture(scope="module")
def tuned(root):
    return run_app("tune", "--trials", 2, *FLAGS, cwd=root)


def split_of(root):
    (path,) = (root / "study" / "data").glob("*-split0")
    return path


def test_trials_end_in_a_preset_that_train_takes(root, tuned):
    lines = tuned.stdout.splitlines()
    assert [line.split(",")[0].rpartition(" ")[0] for line in lines[:2]] == ["trial 0: auc_mean", "trial 1: auc_mean"]
    preset = json.loads((root / "study" / "best_preset.json").read_text())
    values = [float(line.split("auc_mean ")[1].split(",")[0]) for line in lines[:2]]
    assert "auc_mean %.5f" % max(values) in preset["_comment"]
    assert preset["expert_size"] == 4 and 0.001 <= preset["learning_rate"] <= 0.05
    # A flag holds its field fixed; only the learning rate was left to search.
    assert preset["expert_num"] == 2 and preset["train_epoch"] == 2
    assert sorted(lines[1].split(": ")[-1].split("=")[::2]) == ["learning_rate"]
    # The first trial is the preset itself.
    assert "learning_rate=0.001" in lines[0]
    metrics = [json.loads(line) for line in (root / "study/trials/0000/split0_metrics.jsonl").read_text().splitlines()]
    evaluations = [entry for entry in metrics if entry.get("kind") == "eval"]
    # A fifth of the training file is evaluated, and nothing of the test file.
    assert [entry["examples"] for entry in evaluations] == [300, 300]
    assert values[0] == pytest.approx(evaluations[-1]["auc_mean"], abs=1e-5)
    assert not (root / "study/trials/0000/split0").exists()
    done = run_app("train", "--preset", "study/best_preset.json", "--data_dir", split_of(root), "--model_dir",
                   "model", "--threads", 1, cwd=root)
    assert "trained" in done.stdout
    args = json.loads((root / "model" / "args.json").read_text())["config"]
    assert args["learning_rate"] == preset["learning_rate"]
    if values[1] > values[0]:
        assert args["learning_rate"] != 0.001


def test_a_study_goes_on_where_it_was_stopped(root, tuned):
    shown = run_app("tune", "--trials", 2, *FLAGS, cwd=root).stdout
    assert "trial 1:" not in shown and "best of 2 trials" in shown
    env = dict(os.environ, PYTHONPATH=PROJECT, TF_CPP_MIN_LOG_LEVEL="2")
    with open(str(root / "stopped.log"), "w") as log:
        child = subprocess.Popen([sys.executable, "-m", "estimator_app", "tune", "--trials", "3"] + FLAGS,
                                 cwd=str(root), env=env, stdout=log)
        while not (root / "study/trials/0002/preset.json").exists():
            assert child.poll() is None
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 128 + signal.SIGTERM
    assert (root / "stopped.log").read_text().startswith("stopped in trial 2")
    interrupted = json.loads((root / "study/trials/0002/preset.json").read_text())
    shown = run_app("tune", "--trials", 3, *FLAGS, cwd=root).stdout.splitlines()
    # The interrupted settings come back, as a trial of their own.
    assert shown[0].startswith("trial 3: auc_mean") and "best of 3 trials" in shown[1]
    repeated = json.loads((root / "study/trials/0003/preset.json").read_text())
    assert repeated == interrupted and not (root / "study/trials/0002").exists()


@pytest.mark.parametrize("flags, words", [
    (["--trials", "0"], "--trials 0 is out of range"),
    (["--metric", "accuracy"], "--metric accuracy is not known; choose from auc_mean"),
    (["--expert_size", "5"], "was started with another base"),
    (["--splits", "2"], "was started with another splits"),
    (["--learning_rate", "0.1"], "flags fix every field"),
    (["--space", "absent.json"], "search space absent.json cannot be read"),
    (["--train_data_path", "absent"], "training text absent cannot be read"),
])
def test_what_is_refused_is_one_line(root, tuned, flags, words):
    done = run_app("tune", "--trials", 2, *FLAGS, *flags, cwd=root, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr


def test_a_damaged_study_is_one_line(root):
    (root / "broken").mkdir()
    (root / "broken" / "study.db").write_bytes(b"no database" * 100)
    done = run_app("tune", "--trials", 1, *FLAGS, "--output_path", "broken", cwd=root, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "cannot be used" in done.stderr


def test_failing_trials_end_the_search(root, tuned, monkeypatch, capsys):
    def failing(preset, data_dir, model_dir, stop, check):
        raise TrialFailedError("exit status 1: error: no space left")

    monkeypatch.setattr(tuning, "run_training", failing)
    monkeypatch.chdir(root)
    (root / "high.json").write_text(json.dumps({"learning_rate": {"low": 1.0, "high": 10.0}}))
    shutil.copytree("study/data", "failing/data")
    assert main(["tune", "--trials", "4"] + FLAGS + ["--output_path", "failing", "--space", "high.json"]) == 1
    shown = capsys.readouterr()
    assert shown.err == ("error: 3 trials in a row failed, the last one with: exit status 1: error: no space left; see "
                         "failing/trials/0002\n")
    assert "leaves out the preset's own values of learning_rate" in shown.out


def test_hopeless_trials_are_pruned_and_never_win(root, tuned, monkeypatch, capsys):
    """Trainings that are played back: the sixth and later ones are bad from the first evaluation on."""
    calls = []

    def played(preset, data_dir, model_dir, stop, check):
        good = len(calls) < 5
        calls.append(preset)
        seen = []
        for number in range(1, 5):
            seen.append({"global_step": 4 * number, "auc_mean": (0.9 if good else 0.5) + 0.01 * number})
            if stop(seen[-1]):
                break
        return seen

    monkeypatch.setattr(tuning, "run_training", played)
    monkeypatch.chdir(root)
    shutil.copytree("study/data", "pruned/data")
    assert main(["tune", "--trials", "7"] + FLAGS + ["--output_path", "pruned", "--batch_size", "300",
                                                     "--train_epoch", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [": pruned after evaluation 2" in line for line in lines[:7]] == [False] * 5 + [True] * 2
    assert lines[7].startswith("best of 7 trials (2 pruned)") and "0.94000" in lines[8]


@pytest.mark.parametrize("space, words", [
    ({"batch": {"choices": [1]}}, "no field that can be searched"),
    ({"model_dir": {"choices": ["x"]}}, "no field that can be searched"),
    ({"batch_size": {"choices": [64, 0]}}, "batch_size 0 is out of range"),
    ({"batch_size": {"low": 1.5, "high": 3}}, "does not fit a field of type int"),
    ({"model": {"low": 1, "high": 3}}, "does not fit a field of type str"),
    ({"learning_rate": {"low": 0.1, "high": 0.01}}, "is not understood"),
    ({"expert_dropout": {"low": 0, "high": 0.5, "log": True}}, "is not understood"),
    ({"learning_rate": {"choices": []}}, "is not understood"),
    ({"learning_rate": 3}, "is not understood"),
    ({}, "is empty"), ([], "an object of fields"),
])
def test_wrong_spaces(tmp_path, space, words):
    path = tmp_path / "space.json"
    path.write_text(json.dumps(space))
    with pytest.raises(ConfigError, match=words):
        search_space.read_space(str(path), Config())


def test_the_default_space_holds_the_default_preset():
    from estimator_app.config import read_preset
    base = Config(**read_preset("default"))
    space = search_space.read_space(search_space.DEFAULT_FILE, base)
    assert [item.name for item in space if not item.contains(getattr(base, item.name))] == []
