"""Storage that fails, injected for real: limits of the kernel, a small tmpfs, read-only mounts, flipped bits."""
import contextlib
import json
import os
import resource
import shutil
import subprocess
import time

import pytest

from estimator_app.model_dir import checkpoints
from tests.estimator_app.cli_runner import run_app
from tests.estimator_app.training.test_faults import assert_same_weights, one_line_error
from tests.estimator_app.training.test_interruption import start
from tests.estimator_app.training.test_training import FLAGS
from tests.small_data import write_data

COMMAND = ["train", "--data_dir", "data", "--model_dir", "model"] + FLAGS + [
    "--train_epoch", "20", "--eval_interval", "150", "--keep_checkpoint_max", "2"]
STEPS = 20 * 31


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    write_data(str(root / "data"), train_rows=500, test_rows=150)
    run_app(*COMMAND, cwd=root)
    return root


@pytest.fixture
def root(whole, tmp_path):
    os.symlink(str(whole / "data"), str(tmp_path / "data"))
    return tmp_path


@contextlib.contextmanager
def small_disk(path, options="size=8m"):
    """A tmpfs of 8 MiB, or a skip where mounting is not allowed."""
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip("mounting a tmpfs is not allowed here: %s" % done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def wait_for_checkpoint(model, process, seconds=120):
    end = time.time() + seconds
    while not checkpoints.latest(str(model)):
        assert process.poll() is None and time.time() < end, process.communicate()[0]
        time.sleep(0.02)


def run_to_the_fault(root, inject):
    """Starts a training, injects a fault after the first checkpoint, returns its last line of output."""
    process = start(root, COMMAND)
    try:
        wait_for_checkpoint(root / "model", process)
        inject(process)
        output = process.communicate(timeout=120)[0]
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1 and "Traceback" not in output, output
    return output.strip().splitlines()[-1]


def assert_goes_on(root, whole):
    """The next start uses a good checkpoint and ends as if nothing had happened."""
    before = checkpoints.latest(str(root / "model"), contents=True)
    assert before is not None
    assert "from step %d" % before in run_app(*COMMAND, cwd=root).stdout
    assert_same_weights(root / "model", whole / "model", STEPS)


def test_files_that_may_not_grow(root, whole):
    line = run_to_the_fault(root, lambda process: resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (700, 700)))
    assert line.startswith("error: ") and "model/" in line and "File too large" in line, line
    assert "the last good checkpoint is of step" in line
    assert_goes_on(root, whole)


@pytest.mark.long
def test_a_full_disk(root, whole):
    with small_disk(root / "model"):
        def fill(process):
            with contextlib.suppress(OSError), open(str(root / "model" / "filler"), "wb", buffering=0) as stream:
                while True:
                    stream.write(bytes(1 << 12))

        line = run_to_the_fault(root, fill)
        assert line.startswith("error: ") and "model/" in line and "No space left on device" in line, line
        (root / "model" / "filler").unlink()
        assert_goes_on(root, whole)


@pytest.mark.long
def test_a_read_only_disk(root, whole):
    with small_disk(root / "model"):
        for name in os.listdir(str(whole / "model")):
            source = str(whole / "model" / name)
            (shutil.copytree if os.path.isdir(source) else shutil.copy2)(source, str(root / "model" / name))
        subprocess.run(["mount", "-o", "remount,ro", str(root / "model")], check=True)
        one_line_error(run_app(*COMMAND, "--train_epoch", "21", cwd=root, check=False), "model/",
                       "Read-only file system")
        done = run_app("eval", "--model_dir", "model", cwd=root)
        assert json.loads(done.stdout.splitlines()[-1])["global_step"] == STEPS


@pytest.mark.parametrize("name", ["model", "model/best"])
def test_a_file_where_a_directory_should_be(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("mine")
    one_line_error(run_app(*COMMAND, "--train_epoch", "1", cwd=root, check=False), name, "exists")
    assert (root / name).read_text() == "mine"


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 0x04
    # A new file: the one in best/ is a hard link to the old one.
    path.unlink()
    path.write_bytes(bytes(content))
    path.chmod(0o640)


@pytest.mark.parametrize("name", ["sparse-model.ckpt-%d/small_table/embedding/slice.data",
                                  pytest.param("model.ckpt-%d.data-00000-of-00001", marks=pytest.mark.long)])
def test_a_flipped_bit_of_the_latest_checkpoint(root, whole, name):
    shutil.copytree(str(whole / "model"), str(root / "model"))
    name = name % STEPS
    flip(root / "model" / name, 700)
    done = run_app("eval", "--model_dir", "model", cwd=root)
    assert json.loads(done.stdout.splitlines()[-1])["global_step"] == 600
    assert "%s is damaged" % name in done.stderr and "the one before is used" in done.stderr
    done = run_app(*COMMAND, cwd=root)
    assert "%s is damaged" % name in done.stdout and "it is set aside in model/damaged" in done.stdout
    assert "from step 600" in done.stdout
    assert_same_weights(root / "model", whole / "model", STEPS)
