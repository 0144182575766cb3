"""Bad losses, damaged records, storage that fails, a reader beside a training: injected for real, one line each."""
import contextlib
import os
import resource
import subprocess

import numpy as np
import pytest

from estimator_app.model_dir import checkpoints
from estimator_app.model_dir.checkpoints import Checkpoint
from feature_specs.manifest import read_manifest
from tests.estimator_app.training.test_run_start import damage
from tests.support import runs
from tests.support.rows import record_offsets


def test_a_loss_above_the_bound_stops_and_names_the_step(fresh):
    line = fresh.train("--learning_rate", "10", "--sparse_learning_rate", "10", "--max_loss", "0.75").refused(
        "the training loss at step ", "--learning_rate", "the same command")
    assert "checkpoint" in line and not runs.evaluated_steps(fresh.model)


@pytest.mark.long
def test_a_checkpoint_that_a_bad_step_spoilt_is_set_aside(fresh, whole):
    """The update of step 20 writes weights that are no numbers; only the evaluation of its checkpoint can tell."""
    started = fresh.start(point=("spoil", 20))
    done = started.done()
    line = done.refused("the evaluation loss at step 20 is nan", "the last good checkpoint is of step 10")
    assert "the same command resumes" in line and "the checkpoint of step 20 is set aside" in done.out
    assert checkpoints.steps(fresh.model) == [10] or checkpoints.latest(fresh.model) == 10
    spoilt = os.path.join(fresh.model, "damaged")
    assert not all(np.isfinite(value).all() for value in runs.weights(spoilt, 20).values())
    fresh.train().ok()
    runs.assert_same_weights(fresh.model, whole.model, 30)
    assert runs.recorded(fresh.model) == runs.recorded(whole.model)


def test_a_damaged_record_is_named(fresh):
    shard = read_manifest(fresh.data).split("train").shards[1].path
    path = os.path.join(fresh.data, shard)
    # Verified before, so that the reading finds it, as where a disk rots under a running training.
    status = os.stat(path)
    runs.run(fresh.root, *(runs.TRAIN + ("--train_epoch", "1", "--model_dir", "first"))).ok()
    damage(path, record_offsets(path)[3] + 14)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    fresh.train().refused("%s, record 3" % os.path.join("data", shard), "prepare the data again")


def test_a_shard_that_is_missing_or_cut_is_named(fresh):
    path = os.path.join(fresh.data, read_manifest(fresh.data).split("test").shards[0].path)
    with open(path, "r+b") as stream:
        stream.truncate(10)
    fresh.here(*runs.TRAIN).refused("has 10 bytes, the manifest says")
    os.remove(path)
    fresh.here(*runs.TRAIN).refused("is missing; prepare the data again")


@pytest.mark.long
def test_files_that_may_not_grow(fresh, whole):
    process = fresh.start()
    process.wait_for(lambda: checkpoints.latest(fresh.model) == 10)
    # Less than the graph of a checkpoint, more than the output of the command.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20000, 20000))
    process.done().refused("model/", "File too large", "the last good checkpoint is of step")
    fresh.train().ok()
    runs.assert_same_weights(fresh.model, whole.model, 30)
    assert runs.recorded(fresh.model, "eval") == runs.recorded(whole.model, "eval")


@contextlib.contextmanager
def small_disk(path):
    """A tmpfs of 3 MiB, or a skip where mounting is not allowed."""
    os.makedirs(str(path))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs is not allowed here: %s" % done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.long
def test_a_full_disk(fresh, whole):
    with small_disk(fresh.model):
        process = fresh.start()
        process.wait_for(lambda: checkpoints.latest(fresh.model) == 10)
        filler = os.path.join(fresh.model, "filler")
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(1 << 12))
        process.done().refused("model/", "No space left on device", "the last good checkpoint is of step")
        os.remove(filler)
        fresh.train().ok()
        runs.assert_same_weights(fresh.model, whole.model, 30)
        assert runs.recorded(fresh.model, "eval") == runs.recorded(whole.model, "eval")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_slices_of_another_user_are_one_line(trained):
    for folder, _, names in os.walk(Checkpoint(trained.model, 30).tables):
        for name in names:
            os.chown(os.path.join(folder, name), 12345, 12345)
    # The SDK trusts what belongs to root's own group only; a user who is not root in no group of it.
    trained.command("eval", "--model_dir", "model").refused("belongs to another user and group")
    trained.train("--train_epoch", "4").refused("belongs to another user and group")


@pytest.mark.long
def test_eval_beside_a_training_that_keeps_one_checkpoint(fresh):
    process = fresh.start("--train_epoch", "40", "--eval_interval", "2", "--keep_checkpoint_max", "1")
    process.wait_for(lambda: runs.evaluated_steps(fresh.model))
    for _ in range(3):
        done = fresh.command("eval", "--model_dir", "model").ok()
        assert '"global_step"' in done.out
    assert process.is_alive()
    process.kill()


@pytest.mark.long
def test_rows_whose_labels_are_all_one_leave_auc_undefined(tmp_path):
    """null in files, n/a in the table, never 0 and never the best; one warning."""
    runs.prepare_small(tmp_path, test=[row[:3] + ["1"] for row in runs.small_rows(40, 2)])
    done = runs.run(tmp_path, *(runs.TRAIN + ("--train_epoch", "2"))).ok()
    entries = runs.recorded(tmp_path / "model", "eval")
    assert [entry["auc_click"] for entry in entries] == [None, None] == [entry["auc_mean"] for entry in entries]
    assert all(entry["mean_loss"] > 0 for entry in entries)
    assert done.out.count("n/a") == 2 and " 0.00000" not in done.out
    assert done.out.count("warning: auc_click cannot be computed") == 1
    assert checkpoints.read_best(str(tmp_path / "model")) is None and "best" not in os.listdir(str(tmp_path / "model"))
    with open(str(tmp_path / "model" / "report.html")) as stream:
        assert "n/a" in stream.read()
    result = runs.run(tmp_path, "eval", "--model_dir", "model").ok().out
    assert '"auc_click": null' in result and "NaN" not in result


def other_data(root, output="data"):
    return runs.prepare_small(root, train=runs.contradicting_rows(160, 1), output=output)


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("--eval_mode", "alternate")])
def test_data_prepared_anew_under_a_training_stops_it(fresh, flags):
    """The files are opened by name in every epoch: other rows would be trained and judged without a word."""
    fixed = ("--learning_rate_schedule", "fixed", "--sparse_learning_rate_schedule", "fixed") + flags
    other_data(fresh.root, "other")
    process = fresh.start("--train_epoch", "4000", *fixed)
    process.wait_for(lambda: 10 in runs.evaluated_steps(fresh.model))
    # As prepare does it: one directory takes the place of the other, and no process finds none.
    os.rename(str(fresh.root / "data"), str(fresh.root / "kept"))
    os.rename(str(fresh.root / "other"), str(fresh.root / "data"))
    line = process.done().refused("while it was in use", "same command resumes")
    assert "data" in line
    last = checkpoints.latest(fresh.model)
    os.rename(str(fresh.root / "data"), str(fresh.root / "other"))
    os.rename(str(fresh.root / "kept"), str(fresh.root / "data"))
    # Nothing of the other rows has come into a checkpoint or the history: as if it had been stopped before.
    steps = last + 10
    flags = fixed + ("--train_epoch", str(steps // 10))
    fresh.train(*flags).ok()
    runs.run(fresh.root, *(runs.TRAIN + ("--model_dir", "again") + flags)).ok()
    runs.assert_same_weights(fresh.model, str(fresh.root / "again"), steps)
    assert runs.recorded(fresh.model, "eval") == runs.recorded(fresh.root / "again", "eval")


def test_a_stop_saves_nothing_of_replaced_data(fresh):
    process = fresh.start("--eval_interval", "100000", "--train_epoch", "100000")
    process.wait_for(lambda: checkpoints.latest(fresh.model) == 0)
    other_data(fresh.root)
    process.send(15)
    process.done().refused("was replaced or changed while it was in use; there is no checkpoint yet")
    assert checkpoints.steps(fresh.model) == [0]


@pytest.mark.parametrize("name", ["checkpoint", "metrics.jsonl", pytest.param("report.html", marks=pytest.mark.long),
                                  "best/best.json"])
def test_a_directory_in_the_place_of_a_file_is_named(trained, name):
    path = os.path.join(trained.model, name)
    os.remove(path)
    os.makedirs(os.path.join(path, "inside"))
    line = trained.train("--train_epoch", "4").refused("%s: a directory stands in the place of a file; move it away"
                                                       % os.path.join("model", name))
    assert ".tmp" not in line and os.path.isdir(os.path.join(path, "inside"))
