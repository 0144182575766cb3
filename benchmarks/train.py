"""Training from files against the reference way: ``bash run_estimator.sh bench train``.

The census with the preset ``plain`` (summed rows, the original's size), the shop's log with ``mmoe.json`` (concatenated
vectors). Each run is a process of its own; the clock starts after the warm-up and includes the checkpoints.
"""
import os
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness
from benchmarks.step import PRESETS

#: (dataset, batch size): smallest ratio to the reference way, or smallest examples/s.
BOUNDS = {("census", 32): ["ratio", 2.5, None], ("census", 512): ["ratio", 5, None],
          ("census", 4096): ["ratio", 8, None], ("shop", 512): ["ours_best", 60000, None],
          ("shop", 4096): ["ours_best", 60000, None]}


def measure(directory: str, data: Dict[str, str], name: str, batch_size: int, pairs: int, rows: int,
            warm_up: int = 1) -> Dict[str, Any]:
    """Measures alternating pairs; ours trains ``rows`` examples, the reference a quarter of them."""
    def side(way: str) -> float:
        model = os.path.join(directory, "model")
        shutil.rmtree(model, ignore_errors=True)
        steps = max(4, (rows if way == "ours" else rows // 4) // batch_size)
        return _harness.run_worker(
            "train", "--way", way, "--data_dir", data[way], "--preset", PRESETS[name], "--steps", str(steps),
            "--save_steps", str(max(1, steps // 2)), "--warm_up", str(max(1, steps // 10)), "--settings",
            '{"batch_size": %d, "model_dir": "%s"}' % (batch_size, model))["examples_per_second"]

    speeds = _harness.alternate({"ours": lambda: side("ours"), "reference": lambda: side("reference")}, pairs, warm_up)
    return _harness.compared("train", "examples/s", speeds, dataset=name, batch_size=batch_size,
                             bounds=[BOUNDS[name, batch_size]] if (name, batch_size) in BOUNDS else [])


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("train", __doc__, chooses_data=True)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[32, 512, 4096], metavar="N",
                        help="batch sizes (default: 32 512 4096)")
    parser.add_argument("--rows", type=int, default=60000, metavar="N",
                        help="training rows of the files (default: 60000)")
    args = parser.parse_args(list(arguments))
    results: List[Dict[str, Any]] = []
    for name in args.datasets:
        with tempfile.TemporaryDirectory() as directory:
            data = _data.prepared_pair(directory, name, args.source, 300 if args.quick else args.rows, 64)[0]
            for size in [16] if args.quick else args.batch_size:
                results.append(measure(directory, data, name, size, 1 if args.quick else args.pairs,
                                       64 if args.quick else min(400000, 3000 * size), 0 if args.quick else 1))
    _harness.report(results, lambda result: "train, %s, batch %d" % (result["dataset"], result["batch_size"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
