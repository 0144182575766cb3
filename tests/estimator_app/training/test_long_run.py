"""A long training in one process: memory, open files, threads and the model directory stay bounded."""
import os
import time

import pytest

from estimator_app.model_dir import checkpoints, history
from tests.estimator_app.training.test_interruption import start
from tests.estimator_app.training.test_training import FLAGS
from tests.small_data import write_data

EVALUATIONS = 20
WARM_UP = 10
STEPS_PER_EPOCH = 31
KEEP = 3


def state_of(pid):
    """Returns resident memory [KiB], open file descriptors and threads of a process."""
    with open("/proc/%d/status" % pid, encoding="utf-8") as stream:
        lines = dict(line.split(":", 1) for line in stream)
    return (int(lines["VmRSS"].split()[0]), len(os.listdir("/proc/%d/fd" % pid)), int(lines["Threads"]))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_twenty_evaluations_leave_nothing_behind(tmp_path):
    """LONG_STEPS is the number of steps; 100000 takes some ten minutes."""
    write_data(str(tmp_path / "data"), train_rows=500, test_rows=150)
    epochs = -(-int(os.environ.get("LONG_STEPS", "6000")) // STEPS_PER_EPOCH)
    steps = epochs * STEPS_PER_EPOCH
    interval = steps // EVALUATIONS
    command = ["train", "--data_dir", "data", "--model_dir", "model"] + FLAGS + [
        "--train_epoch", str(epochs), "--eval_interval", str(interval), "--keep_checkpoint_max", str(KEEP),
        "--log_interval", str(interval // 2)]
    # The output goes to a file: nobody reads a pipe here while the run goes on.
    process = start(tmp_path, command)
    states, sizes = [], []
    try:
        while process.poll() is None:
            done = sum(entry["kind"] == "eval" for entry in history.read(str(tmp_path / "model")))
            if done > len(states):
                # A moment after the evaluation: the next training steps run.
                time.sleep(0.3)
                if process.poll() is None:
                    states.append(state_of(process.pid))
                    sizes.append(len(checkpoints.steps(str(tmp_path / "model"))))
            time.sleep(0.05)
        output = process.communicate()[0]
    finally:
        process.kill()
    assert process.returncode == 0, output
    print("%d steps; after evaluations: (RSS KiB, descriptors, threads) = %s" % (steps, states))
    assert len(states) >= EVALUATIONS - 2
    # The last evaluation is followed by the report, which is not part of the training.
    memory, descriptors, threads = zip(*states[WARM_UP:EVALUATIONS])
    assert max(memory) <= 1.02 * memory[0], memory
    # A sample may fall into an evaluation, which has files and threads of its own.
    assert min(descriptors[-4:]) <= min(descriptors[:4]) and min(threads[-4:]) <= min(threads[:4])
    assert max(sizes) <= KEEP + 1
