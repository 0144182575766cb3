"""One trial of ``tune``: an ordinary ``train`` in a process of its own, watched through its ``metrics.jsonl``.

A process per trial keeps the memory of a long search bounded and gives the SDK the life cycle that it has in any run.
"""
import os
import re
import shutil
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List

from tqdm import tqdm

from estimator_app.model_dir import history
from feature_specs.errors import UserError

LOG_FILE = "train.log"
_POLL_SECONDS = 0.2
_STOP_SECONDS = 60.0
NOT_OURS = "%s is there, but %s: it is not replaced; move it away, or choose another --output_path"
# What a trial writes in its directory.
_FILES = re.compile(r"(preset\.json(\.tmp)?|%s|split\d+(_metrics\.jsonl)?)\Z" % re.escape(LOG_FILE))


class TrialFailedError(Exception):
    """The training of a trial ended with an error; the message is its last line."""


def run_training(preset: str, data_dir: str, model_dir: str, steps: int, report: Callable[[Dict[str, Any]], None],
                 check: Callable[[], None]) -> List[Dict[str, Any]]:
    """Trains once and returns the evaluations; raises TrialFailedError where the training failed.

    Its output goes to a file beside the new ``model_dir``; a terminal shows how many of its ``steps`` are done.
    ``report`` is called with each evaluation's metrics as they come, ``check`` several times a second; what they raise
    ends the training.
    """
    command = [sys.executable, "-m", "estimator_app", "train", "--preset", preset, "--data_dir", data_dir,
               "--model_dir", model_dir]
    log = os.path.join(os.path.dirname(os.path.abspath(model_dir)), LOG_FILE)
    with open(log, "ab") as output:
        # A session of its own: Ctrl-C reaches the search, which then ends the training.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                 start_new_session=True)
    bar = tqdm(total=steps, desc="training " + model_dir, unit=" steps", leave=False, dynamic_ncols=True, disable=None)
    try:
        seen = 0
        while True:
            check()
            # Before reading: what the process wrote last is then read too.
            status = child.poll()
            lines = history.read(model_dir)
            bar.update(max((entry["global_step"] for entry in lines), default=0) - bar.n)
            evaluations = history.evaluations_among(lines)
            for metrics in evaluations[seen:]:
                report(metrics)
            seen = len(evaluations)
            if status == 0:
                return evaluations
            if status is not None:
                raise TrialFailedError("exit status %d: %s" % (status, _last_line(log)))
            time.sleep(_POLL_SECONDS)
    finally:
        bar.close()
        child.terminate()  # nothing where it has ended
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def check_empty(directory: str) -> None:
    """Raises UserError where something is in the place of a trial to come."""
    if os.path.lexists(directory) and not (os.path.isdir(directory) and not os.listdir(directory)):
        raise UserError(NOT_OURS % (directory, "no trial of this study wrote it"))


def remove_trial(directory: str) -> None:
    """Removes what a trial that was cut off wrote; other files that lie beside it stay, and the directory with them."""
    if not os.path.isdir(directory) or os.path.islink(directory):
        return
    for entry in list(os.scandir(directory)):
        if _FILES.match(entry.name) and not entry.is_symlink():
            if entry.is_dir():
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.remove(entry.path)
    if not os.listdir(directory):
        os.rmdir(directory)


def _last_line(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["no output"])[-1][:300]
