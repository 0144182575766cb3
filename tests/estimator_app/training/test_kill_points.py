"""SIGKILL at each named point of a run; the same command goes on and ends with the same bits."""
import os
import signal
import subprocess
import sys

import pytest

from estimator_app.model_dir import checkpoints, history
from tests.estimator_app.cli_runner import PROJECT, run_app
from tests.estimator_app.training.kill_points import POINTS
from tests.estimator_app.training.test_faults import assert_same_weights
from tests.estimator_app.training.test_training import FLAGS
from tests.small_data import write_data

COMMAND = ["train", "--data_dir", "data", "--model_dir", "model"] + FLAGS + [
    "--train_epoch", "12", "--eval_interval", "40", "--keep_checkpoint_max", "2"]
STEPS = 12 * 31
EXPORT = "export written, not in place"
# The nth call that dies, where the first one is not the interesting one.
NTH = {"step": 13, "slice half written": 12, "best half copied": 4, "old checkpoint half deleted": 2,
       "slices written, no rename": 2, "slices in place, no dense files": 2, "dense files in place, no checksums": 2,
       "checkpoint done": 2}
QUICK = ["step", "slice half written", "slices in place, no dense files", "evaluation over, not recorded",
         "best half copied", "old checkpoint half deleted"]


def killed(root, point, *command):
    environment = dict(os.environ, PYTHONPATH=PROJECT, TF_CPP_MIN_LOG_LEVEL="2",
                       PYTHONWARNINGS="ignore::FutureWarning")
    done = subprocess.run(
        [sys.executable, "-m", "tests.estimator_app.training.kill_points",
         point, str(NTH.get(point, 1))] + list(command),
        cwd=str(root), env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL and "killed at: " + point in done.stdout, (
        "%s was not reached\n%s\n%s" % (point, done.stdout, done.stderr))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    write_data(str(root / "data"), train_rows=500, test_rows=150)
    run_app(*COMMAND, cwd=root)
    return root


def check_kills(root, whole, points):
    """Dies at one point after the other in one model directory, each start going on where the last one died."""
    os.symlink(str(whole / "data"), str(root / "data"))
    for point in points:
        killed(root, point, *COMMAND)
    run_app(*COMMAND, cwd=root)
    assert_same_weights(root / "model", whole / "model", STEPS)
    model = str(root / "model")
    recorded = [(entry["kind"], entry["global_step"]) for entry in history.read(model)]
    evaluations = [step for kind, step in recorded if kind == "eval"]
    assert evaluations == sorted(set(evaluations)) and evaluations[-1] == STEPS
    assert len(recorded) == len(set(recorded))
    # Nothing half-written stays, and the best checkpoint is the one of an uninterrupted run, or a better one.
    assert {name for name in os.listdir(model) if "ckpt" in name} == {
        name for name in os.listdir(str(whole / "model")) if "ckpt" in name}
    assert checkpoints.resolve(model, "best")


def test_named_points(tmp_path, whole):
    check_kills(tmp_path, whole, QUICK)


@pytest.mark.long
@pytest.mark.parametrize("point", [point for point in POINTS if point not in QUICK + [EXPORT]])
def test_each_other_point(tmp_path, whole, point):
    check_kills(tmp_path, whole, ["slice half written", point])


def test_an_export_that_dies_leaves_no_version(whole):
    killed(whole, EXPORT, "export", "--model_dir", "model")
    assert [name for name in os.listdir(str(whole / "model" / "export")) if not name.startswith(".")] == []
    run_app("export", "--model_dir", "model", cwd=whole)
    # What the killed one left is gone too.
    assert os.listdir(str(whole / "model" / "export")) == ["1"]
