"""What a terminal shows while a training runs, read from the other end of a pseudo-terminal."""
import fcntl
import os
import pty
import re
import struct
import sys
import termios
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.training.progress import ProgressHook

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
