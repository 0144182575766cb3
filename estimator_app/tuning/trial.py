"""One trial of ``tune``: an ordinary ``train`` in a process of its own, watched through its ``metrics.jsonl``.

A process per trial keeps the memory of a long search bounded and gives the SDK the life cycle that it has in any run.
"""
import os
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List

from estimator_app.model_dir import history

LOG_FILE = "train.log"
_POLL_SECONDS = 0.2
_STOP_SECONDS = 60.0


class TrialFailedError(Exception):
    """The training of a trial ended with an error; the message is its last line."""


def run_training(preset: str, data_dir: str, model_dir: str, report: Callable[[Dict[str, Any]], None],
                 check: Callable[[], None]) -> List[Dict[str, Any]]:
    """Trains once and returns the evaluations; raises TrialFailedError where the training failed.

    Its output goes to a file beside the new ``model_dir``. ``report`` is called with each evaluation's metrics as they
    come, ``check`` several times a second; what they raise ends the training.
    """
    command = [sys.executable, "-m", "estimator_app", "train", "--preset", preset, "--data_dir", data_dir,
               "--model_dir", model_dir]
    log = os.path.join(os.path.dirname(os.path.abspath(model_dir)), LOG_FILE)
    with open(log, "ab") as output:
        # A session of its own: Ctrl-C reaches the search, which then ends the training.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                 start_new_session=True)
    try:
        seen = 0
        while True:
            check()
            # Before reading: what the process wrote last is then read too.
            status = child.poll()
            evaluations = history.evaluations(model_dir)
            for metrics in evaluations[seen:]:
                report(metrics)
            seen = len(evaluations)
            if status == 0:
                return evaluations
            if status is not None:
                raise TrialFailedError("exit status %d: %s" % (status, _last_line(log)))
            time.sleep(_POLL_SECONDS)
    finally:
        child.terminate()  # nothing where it has ended
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1][:300]
