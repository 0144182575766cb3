"""Signals, kills and locks, with real processes."""
import os
import random
import signal
import time

import numpy as np
import pytest

from estimator_app.model_dir import checkpoints, history
from tests.estimator_app.cli_runner import run_app, start_app
from tests.estimator_app.training.test_training import FLAGS, weights
from tests.small_data import write_data

COMMAND = ["train", "--data_dir", "data", "--model_dir", "model"] + FLAGS + [
    "--train_epoch", "40", "--eval_interval", "200"]
STEPS = 40 * 31


def start(root, command=tuple(COMMAND)):
    return start_app(*command, cwd=root)


def wait_for_step(model, step, process, seconds=120):
    """Waits until the run has reported a step."""
    end = time.time() + seconds
    while time.time() < end and process.poll() is None:
        if any(entry["global_step"] >= step for entry in history.read(str(model))):
            return
        time.sleep(0.02)
    raise AssertionError("step %d was not reached: %s" % (step, process.communicate()[0]))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    write_data(str(root / "data"), train_rows=500, test_rows=150)
    run_app(*COMMAND, cwd=root)
    return weights(root / "model", STEPS)


def assert_same(root, expected):
    ours = weights(root / "model", STEPS)
    assert sorted(ours) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_saves_and_the_next_run_ends_as_if_nothing_had_happened(tmp_path, uninterrupted, number, status):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    process = start(tmp_path)
    wait_for_step(tmp_path / "model", 50, process)
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == status, output
    step = checkpoints.latest(str(tmp_path / "model"))
    assert step >= 50 and "stopped by %s at step %d" % (number.name, step) in output
    assert "from step %d" % step in run_app(*COMMAND, cwd=tmp_path).stdout
    assert_same(tmp_path, uninterrupted)


def test_usr1_saves_and_goes_on(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    process = start(tmp_path)
    wait_for_step(tmp_path / "model", 30, process)
    process.send_signal(signal.SIGUSR1)
    end = time.time() + 60
    while not any(step % 200 for step in checkpoints.steps(str(tmp_path / "model"))):
        assert time.time() < end and process.poll() is None
        time.sleep(0.02)
    assert process.poll() is None
    process.kill()
    process.communicate()


def test_a_second_process_in_the_same_directory_is_refused(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    process = start(tmp_path)
    try:
        wait_for_step(tmp_path / "model", 10, process)
        second = run_app(*COMMAND, cwd=tmp_path, check=False)
        assert second.returncode == 1 and "is in use by process %d on host" % process.pid in second.stderr
    finally:
        process.kill()
        process.communicate()
    # The kernel drops the lock with the process: a killed run leaves none.
    assert run_app("eval", "--model_dir", "model", cwd=tmp_path).returncode == 0


@pytest.mark.long
@pytest.mark.timeout(0)
def test_kills_at_random_moments_change_nothing(tmp_path, uninterrupted):
    """SIGKILL again and again; KILLS and KILL_SEED are the number and the seed."""
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    moments = random.Random(int(os.environ.get("KILL_SEED", "1")))
    for number in range(int(os.environ.get("KILLS", "50"))):
        process = start(tmp_path)
        if moments.random() < 0.3:
            # While it starts, on a machine of any speed.
            time.sleep(moments.uniform(0.5, 6.0))
        else:
            before = len(history.read(str(tmp_path / "model")))
            while process.poll() is None and len(history.read(str(tmp_path / "model"))) <= before:
                time.sleep(0.02)
            time.sleep(moments.uniform(0.0, 3.0))
        process.kill()
        process.communicate()
        print("kill %d, exit status %s, latest checkpoint %s" % (
            number + 1, process.returncode, checkpoints.latest(str(tmp_path / "model"))), flush=True)
        # Killed or done, never refused and never failed.
        assert process.returncode in (0, -signal.SIGKILL)
        if process.returncode == 0 or checkpoints.latest(str(tmp_path / "model")) == STEPS:
            assert_same(tmp_path, uninterrupted)
            run_app(*COMMAND, "--fresh", "--train_epoch", "1", cwd=tmp_path)
    run_app(*COMMAND, "--fresh" if checkpoints.latest(str(tmp_path / "model")) is None else "--debug", cwd=tmp_path)
    assert_same(tmp_path, uninterrupted)
