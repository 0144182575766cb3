"""Start-up of the commands: ``bash run_estimator.sh bench startup``.

From the start of the process to the end of the first training step, ours with the preset plain against the reference
way's Estimator; and the time of ``--help``, which must not load TensorFlow.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness

MOST_FIRST_STEP, MOST_HELP = 3.5, 0.3
_LOADED = ("import sys; from estimator_app.parsers import build_parser; build_parser('train', []); "
           "print('tensorflow' in sys.modules)")


def measure(directory: str, source: str, pairs: int, rows: int, warm_up: int = 1) -> List[Dict[str, Any]]:
    """Measures start-up in alternating pairs, starts/s, and the seconds of ``train --help``."""
    data, kind = _data.prepared_pair(directory, "census", source, rows, max(64, rows // 4))
    model = os.path.join(directory, "model")

    def side(way: str) -> float:
        shutil.rmtree(model, ignore_errors=True)
        began = time.time()
        if way == "ours":
            return 1.0 / (_first_step(data[way], model) - began)
        done = _harness.run_worker("train", "--way", way, "--data_dir", data[way], "--preset", "plain", "--steps", "2",
                                   "--save_steps", "1000", "--warm_up", "0", "--settings",
                                   '{"batch_size": 64, "model_dir": "%s"}' % model)
        return 1.0 / (done["first_step"] - began)

    speeds = _harness.alternate({"ours": lambda: side("ours"), "reference": lambda: side("reference")}, pairs, warm_up)
    started = _harness.compared("startup", "starts/s", speeds, data=kind)
    started["first_step_seconds"] = round(1.0 / started["ours_best"], 2)
    helps = []
    for _ in range(pairs + warm_up):
        began = time.perf_counter()
        _harness.run_python(["-m", "estimator_app", "train", "--help"])
        helps.append(time.perf_counter() - began)
    loaded = _harness.run_python(["-c", _LOADED]).strip() == "True"
    return [dict(started, bounds=[["first_step_seconds", None, MOST_FIRST_STEP]]),
            {"benchmark": "startup", "what": "--help", "help_seconds": round(min(helps), 3), "loads_tensorflow": loaded,
             "bounds": [["help_seconds", None, MOST_HELP]]}]


def _first_step(data_dir: str, model_dir: str) -> float:
    """Starts the train command and returns the time at which it reported its first step."""
    path = os.pathsep.join([_harness.PROJECT] + [item for item in [os.environ.get("PYTHONPATH")] if item])
    process = subprocess.Popen(
        [sys.executable, "-m", "estimator_app", "train", "--data_dir", data_dir, "--model_dir", model_dir, "--device",
         "cpu", "--batch_size", "64", "--log_interval", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"})
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
    parser.add_argument("--rows", type=int, default=60000, metavar="N", help="training rows (default: 60000)")
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
