"""What a terminal shows while a training runs, read from the other end of a pseudo-terminal."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.training.progress import ProgressHook, tell_evaluation
from feature_specs.files import PROJECT
from tests.support import runs

STEPS = 3


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """What a terminal with a number of columns (0: it does not know) shows of STEPS steps after an evaluation."""
    def show(columns):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
        tasks = SimpleNamespace(main_scores=lambda: ["auc_click"])
        run = SimpleNamespace(config=Config(model_dir=str(tmp_path), batch_size=8, log_interval=STEPS), rank_id=0,
                              rank_size=1, numbers=SimpleNamespace(max_steps=STEPS), model=SimpleNamespace(tasks=tasks))
        hook = ProgressHook(run)
        with os.fdopen(theirs, "w") as terminal, tf.Graph().as_default():
            monkeypatch.setattr(sys, "stderr", terminal)
            step = tf.compat.v1.train.get_or_create_global_step()
            tf.compat.v1.losses.add_loss(tf.constant(0.5))
            advance = tf.compat.v1.assign_add(step, 1)
            with tf.compat.v1.train.SingularMonitoredSession([hook]) as session:
                hook.note_evaluation({"auc_click": 0.75}, 0.0)
                for _ in range(STEPS):
                    time.sleep(0.6)  # longer than the bar waits between two pictures
                    session.run(advance)
            monkeypatch.undo()
            text = os.read(ours, 1 << 16).decode()
        os.close(ours)
        return text
    return show


@pytest.mark.parametrize("columns", [0, 80, 132])
def test_the_bar_has_steps_speed_time_left_and_scores_and_no_other_time(shown, columns):
    text = shown(columns)
    assert "| 2/3, " in text and re.search(r"\d ex/s, 0:0\d left, auc_click=0\.75", text), text
    assert not re.search(r"\[\d\d:\d\d", text), text
    assert all(len(picture) <= (columns or 80) for picture in text.split("\r")), text


@pytest.mark.long
@pytest.mark.parametrize("times", [1, 20])
def test_a_stop_is_told_on_a_line_of_its_own(tmp_path, times):
    runs.prepare_small(tmp_path)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "estimator_app", *runs.TRAIN, "--train_epoch", "90000", "--eval_interval", "100000"],
        cwd=str(tmp_path), env=dict(os.environ, PYTHONPATH=PROJECT), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text, is_impatient = "", times > 1
    while process.poll() is None:
        if text.count("ex/s") > 2 and times:
            times -= 1
            process.send_signal(signal.SIGINT)
        if select.select([ours], [], [], 0.01)[0]:
            with contextlib.suppress(OSError):  # the other end is closed
                text += os.read(ours, 1 << 16).decode()
    with contextlib.suppress(OSError):
        text += os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert process.returncode == 130
    # A line is what stands behind the last return.
    last = [line.split("\r")[-1] for line in text.replace("\r\n", "\n").splitlines()][-1]
    # Who is impatient may come while it is being saved.
    told = [r"stopped by SIGINT at step \d+; a checkpoint is saved, .*",
            "interrupted; checkpoints that were saved are kept, .*"]
    assert any(re.fullmatch(words, last) for words in told[:1 + is_impatient]), text[-600:]
    assert "Traceback" not in text


def test_building_an_evaluation_does_not_count_as_training(sdk, tmp_path, monkeypatch):
    from estimator_app.training.train import EvaluationRecorder
    clock, seconds = [100.0], []

    def build():
        clock[0] += 5.0  # as graph and restored variables take
        return "rows"

    tasks = SimpleNamespace(main_scores=lambda: ["auc_click"])
    run = SimpleNamespace(config=Config(model_dir=str(tmp_path)), rank_id=1, rank_size=2, stop_reason=lambda _: None,
                          model=SimpleNamespace(tasks=tasks),
                          numbers=SimpleNamespace(data_start=0, steps_per_epoch=10))
    recorder = EvaluationRecorder(SimpleNamespace(run=run, eval_input_fn=build, guard=SimpleNamespace(check=int)))
    recorder.progress = SimpleNamespace(note_evaluation=lambda metrics, took: seconds.append(took))
    monkeypatch.setattr(time, "time", lambda: clock[0])
    assert recorder.input_fn() == "rows"
    clock[0] += 2.0
    recorder.export(None, None, None, {name: np.float32(1) for name in (
        "global_step", "examples", "mean_loss", "auc_click")}, False)
    assert seconds == [7.0]


def test_a_long_name_has_its_scores_below_it(capsys):
    tasks = SimpleNamespace(main_scores=lambda: ["auc_click", "rmse_of_a_very_long_name"])
    run = SimpleNamespace(rank_id=0, model=SimpleNamespace(tasks=tasks),
                          numbers=SimpleNamespace(data_start=0, steps_per_epoch=10))
    tell_evaluation(run, {"global_step": 10, "mean_loss": 0.5, "auc_click": 0.75, "rmse_of_a_very_long_name": None})
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split()[2] == "mean_loss" and len(heading) == len(row) and row.endswith("n/a")
    assert heading.index("auc_click") + len("auc_click") == row.index("0.75000") + len("0.75000")
