"""SIGKILL in the commands beside ``train``: the old or the new state is there, and the same command completes it."""
import os
import signal

import pytest

from estimator_app.model_dir import checkpoints
from feature_specs.manifest import read_manifest
from tests.estimator_app.training.test_resume import snapshot
from tests.support import runs
from tests.support.rows import read_bytes

pytestmark = pytest.mark.long


def killed(place, point, nth, *command):
    done = runs.Started(place.root, command, point=(point, nth)).kill_or_end()
    assert done.status == -signal.SIGKILL, "%s was not reached\n%s\n%s" % (point, done.out, done.err)


@pytest.mark.parametrize("point", ["preparation written, not in place", "preparation in place"])
def test_prepare(fresh, whole, point):
    old = read_manifest(fresh.data).identity()
    runs.write_rows(str(fresh.root / "new.csv"), runs.small_rows(200, 9))
    command = ("prepare", "--dataset", os.path.join(str(whole.root), "small.yaml"), "--train_data_path", "new.csv",
               "--test_data_path", "new.csv", "--output_path", "data")
    killed(fresh, point, 1, *command)
    assert (read_manifest(fresh.data).identity() == old) == ("not" in point)
    fresh.command(*command).ok()
    assert read_manifest(fresh.data).split("train").rows == 200
    # What the killed one left beside the directory is gone.
    assert [name for name in os.listdir(str(fresh.root)) if ".partial-" in name or ".replaced-" in name] == []


def test_export(trained):
    before = snapshot(trained.model)
    killed(trained, "export written, not in place", 1, "export", "--model_dir", "model")
    export = os.path.join(trained.model, "export")
    assert [name for name in os.listdir(export) if not name.startswith(".")] == []
    trained.command("export", "--model_dir", "model", seconds=300).ok()
    assert os.listdir(export) == ["1"]
    assert {path: value for path, value in snapshot(trained.model).items() if not path.startswith(export)} == before


def test_predict(trained):
    runs.write_rows(str(trained.root / "new.csv"), runs.small_rows(50, 9))
    output = str(trained.root / "p.csv")
    with open(output, "w") as stream:
        stream.write("mine")
    command = ("predict", "--model_dir", "model", "--input", "new.csv", "--output", "p.csv")
    killed(trained, "predictions written, not in place", 1, *command)
    assert read_bytes(output) == b"mine"
    trained.command(*command).ok()
    assert read_bytes(output).count(b"\n") == 51


@pytest.mark.parametrize("nth", [1, 6])
def test_fresh(trained, nth):
    command = runs.TRAIN + ("--train_epoch", "1", "--keep_checkpoint_max", "2")
    killed(trained, "old run half moved", nth, *(command + ("--fresh",)))
    done = trained.command(*command).ok()
    assert "from step 0;" in done.out
    assert checkpoints.latest(os.path.join(trained.model, "old-run-1"), contents=True) == 30
    assert runs.evaluated_steps(os.path.join(trained.model, "old-run-1")) == [10, 20, 30]
    assert runs.evaluated_steps(trained.model) == [10]
