"""The command line itself: help, exit statuses and one-line errors."""
import os
import signal
import time

import pytest

from preprocessing.sample_data import write_sample
from tests.estimator_app.cli_runner import run_app, start_app


def test_help_lists_every_kind_of_flag(tmp_path):
    text = run_app("train", "--help", cwd=tmp_path).stdout
    for flag in ("--batch_size", "--use_dynamic", "--fresh", "--eval_mode", "--ranks"):
        assert flag in text


@pytest.mark.parametrize("arguments, status, message", [
    (["train", "--batch_size", "0"], 1, "batch_size 0 is out of range"),
    (["train", "--nonsense", "1"], 2, "unrecognized arguments"),
    (["train", "--batch_size", "many"], 2, "invalid int value"),
    (["eval", "--checkpoint", "newest"], 1, "holds no trained model"),
    (["predict"], 1, "holds no trained model"),
    (["prepare", "--output_path", "x"], 1, "error: "),
])
def test_wrong_command_lines_give_one_line(tmp_path, arguments, status, message):
    done = run_app(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == status and message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupted_preparation_ends_its_processes_and_leaves_nothing(tmp_path):
    train, test = write_sample(str(tmp_path), 60000, 100, 1)
    process = start_app("prepare", "--train_data_path", train, "--test_data_path", test, "--output_path", "out",
                        "--num_workers", "2", "--chunk_bytes", "4000", cwd=tmp_path, start_new_session=True)
    end = time.time() + 60
    while len(workers_of(process.pid)) < 2:
        assert time.time() < end and process.poll() is None
        time.sleep(0.02)
    workers = workers_of(process.pid)
    # As Ctrl-C does: to the whole process group.
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate()[0]
    assert process.returncode == 130 and output == "interrupted; what was there before is unchanged\n"
    assert not any(os.path.exists("/proc/%d" % pid) for pid in workers)
    assert sorted(os.listdir(str(tmp_path))) == ["census-income.data.gz", "census-income.test.gz"]


def workers_of(pid):
    """Returns the children of a process."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name, encoding="ascii", errors="replace") as stream:
                parent = int(stream.read().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(name))
    return found
