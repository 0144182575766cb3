"""Start-up and memory of the commands: ``bash run_estimator.sh bench startup``.

From the start of the process to the end of the first training step, ours against the reference way's Estimator; the
time of ``--help``, which must not load TensorFlow; and the peak memory of the default training.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness

MOST_FIRST_STEP, MOST_HELP, MOST_MEGABYTES = 6.0, 0.3, 900.0
_PEAK = ("import resource, subprocess, sys; subprocess.run([sys.executable] + sys.argv[1:], check=True); "
         "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
_LOADED = "import sys; from estimator_app.cli import build_parser; build_parser(); print('tensorflow' in sys.modules)"


def measure(directory: str, source: str, pairs: int, rows: int, warm_up: int = 1) -> List[Dict[str, Any]]:
    """Measures start-up in alternating pairs, ``--help``, and one default training.

    Args:
        directory: for data and models.
        source: folder with the raw text, or empty.
        pairs: counted pairs.
        rows: training rows.
        warm_up: pairs before the counted ones.

    Returns:
        Results: start-ups per second, seconds of ``--help``, and MB.
    """
    train_path, test_path, kind = _data.raw_text(directory, source, rows, max(64, rows // 4))
    ours = _data.prepared(directory, (train_path, test_path), 8)
    reference = _data.prepared(directory, (train_path, test_path), 1)
    model = os.path.join(directory, "model")

    def side(way: str) -> float:
        shutil.rmtree(model, ignore_errors=True)
        began = time.time()
        if way == "ours":
            return 1.0 / (_first_step(ours, model) - began)
        done = _harness.run_worker("train", "--way", way, "--data_dir", reference, "--model_dir", model,
                                   "--batch_size", "64", "--steps", "2", "--save_steps", "1000", "--warm_up", "0")
        return 1.0 / (done["first_step"] - began)

    speeds = _harness.alternate({"ours": lambda: side("ours"), "reference": lambda: side("reference")}, pairs, warm_up)
    started = _harness.compared("startup", "starts/s", speeds, data=kind)
    started["first_step_seconds"] = round(1.0 / started["ours_best"], 2)
    helps = []
    for _ in range(pairs + warm_up):
        began = time.perf_counter()
        _harness.run_python(["-m", "estimator_app", "--help"])
        helps.append(time.perf_counter() - began)
    loaded = _harness.run_python(["-c", _LOADED]).strip() == "True"
    shutil.rmtree(model, ignore_errors=True)
    peak = _peak_megabytes(["-m", "estimator_app", "train", "--data_dir", ours, "--model_dir", model, "--batch_size",
                            str(min(512, rows // 2)), "--train_epoch", "2"])
    return [dict(started, bounds=[["first_step_seconds", None, MOST_FIRST_STEP]]),
            {"benchmark": "startup", "what": "--help", "help_seconds": round(min(helps), 3), "loads_tensorflow": loaded,
             "bounds": [["help_seconds", None, MOST_HELP]]},
            {"benchmark": "startup", "what": "default training", "data": kind, "rows": rows,
             "peak_megabytes": peak,
             "bounds": [["peak_megabytes", None, MOST_MEGABYTES]]}]


def _peak_megabytes(arguments: Sequence[str]) -> float:
    """Returns the largest resident memory of a Python command.

    A process between this one and the command: until it runs its own program, a child counts with its parent's memory,
    which is large after other benchmarks.
    """
    return round(float(_harness.run_python(["-c", _PEAK] + list(arguments)).splitlines()[-1]) / 1024.0, 1)


def _first_step(data_dir: str, model_dir: str) -> float:
    """Starts the train command and returns the time at which it reported its first step."""
    path = os.pathsep.join([_harness.PROJECT] + [item for item in [os.environ.get("PYTHONPATH")] if item])
    process = subprocess.Popen(
        [sys.executable, "-m", "estimator_app", "train", "--data_dir", data_dir, "--model_dir", model_dir,
         "--batch_size", "64", "--log_interval", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"})
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("step 1/"):
                return time.time()
    finally:
        process.kill()
        process.wait()
    raise _harness.WorkerError("the training command ended before its first step")


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("startup", __doc__)
    parser.add_argument("--rows", type=int, default=_data.PUBLISHED_ROWS, metavar="N",
                        help="training rows (default: %d)" % _data.PUBLISHED_ROWS)
    args = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as directory:
        results = measure(directory, args.source, 1 if args.quick else args.pairs, 512 if args.quick else args.rows,
                          0 if args.quick else 1)
    if args.quick:
        results = [dict(result, bounds=[]) for result in results]
    _harness.report(results, lambda result: "startup, %s" % result.get("what", "first step"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
