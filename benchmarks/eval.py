"""Evaluation against the reference way: ``bash run_estimator.sh bench eval``.

From packed records through the Estimator to exact areas under the curves, against rows parsed one by one and areas
from 200 thresholds. Each run is a process of its own; the clock starts after the first batches and stops when the
metrics are there.
"""
import os
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness
from benchmarks.step import PRESETS

BATCH_SIZE = 4096
LEAST_ROWS_PER_SECOND = 250000


def measure(directory: str, name: str, source: str, pairs: int, rows: int, batch_size: int = BATCH_SIZE,
            warm_up: int = 1) -> Dict[str, Any]:
    """Measures alternating pairs, rows/s; the reference has a tenth of the rows."""
    data, kind = {}, ""
    for way, count in (("ours", rows), ("reference", max(rows // 10, 4 * batch_size))):
        folder = os.path.join(directory, way)
        os.mkdir(folder)
        both, kind = _data.prepared_pair(folder, name, source, 4 * batch_size, count)
        data[way] = both[way]

    def side(way: str) -> float:
        model = os.path.join(directory, "model")
        shutil.rmtree(model, ignore_errors=True)
        return _harness.run_worker(
            "eval", "--way", way, "--data_dir", data[way], "--preset", PRESETS[name], "--warm_up", "2", "--settings",
            '{"batch_size": %d, "eval_batch_size": %d, "model_dir": "%s"}' % (batch_size, batch_size, model)
        )["examples_per_second"]

    speeds = _harness.alternate({"ours": lambda: side("ours"), "reference": lambda: side("reference")}, pairs, warm_up)
    return _harness.compared("eval", "rows/s", speeds, dataset=name, batch_size=batch_size, rows=rows, data=kind,
                             bounds=[["ours_best", LEAST_ROWS_PER_SECOND, None]] if name == "census" else [])


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("eval", __doc__, chooses_data=True)
    parser.add_argument("--rows", type=int, default=400000, metavar="N",
                        help="rows of our side with the census, a quarter with the shop's log (default: 400000)")
    args = parser.parse_args(list(arguments))
    results: List[Dict[str, Any]] = []
    for name in args.datasets:
        with tempfile.TemporaryDirectory() as directory:
            if args.quick:
                results.append(dict(measure(directory, name, args.source, 1, 640, 64, 0), bounds=[]))
            else:
                results.append(measure(directory, name, args.source, args.pairs,
                                       args.rows if name == "census" else args.rows // 4))
    _harness.report(results, lambda result: "eval, %s, batch %d" % (result["dataset"], result["batch_size"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
