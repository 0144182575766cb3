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

BATCH_SIZE = 4096
LEAST_ROWS_PER_SECOND = 250000


def measure(directory: str, source: str, pairs: int, rows: int, reference_rows: int, batch_size: int = BATCH_SIZE,
            warm_up_rounds: int = 1, line_per_sample: int = 8) -> Dict[str, Any]:
    """Measures alternating pairs.

    Args:
        directory: for data and models.
        source: folder with the raw text, or empty.
        pairs: counted pairs.
        rows, reference_rows: evaluation rows of either side; speeds are compared, not times.
        batch_size: rows per batch.
        warm_up_rounds: pairs before the counted ones.
        line_per_sample: rows per record of our side.

    Returns:
        The result, rows/s.
    """
    data, kind = {}, ""
    for way, count, packed in (("ours", rows, line_per_sample), ("reference", reference_rows, 1)):
        folder = os.path.join(directory, way)
        os.mkdir(folder)
        train_path, test_path, kind = _data.raw_text(folder, source, 4 * batch_size, count)
        data[way] = _data.prepared(folder, (train_path, test_path), packed)

    def side(way: str) -> float:
        model = os.path.join(directory, "model")
        shutil.rmtree(model, ignore_errors=True)
        return _harness.run_worker(
            "eval", "--way", way, "--data_dir", data[way], "--model_dir", model, "--batch_size", str(batch_size),
            "--steps", "1", "--save_steps", "1", "--warm_up", "2")["examples_per_second"]

    speeds = _harness.alternate({"ours": lambda: side("ours"), "reference": lambda: side("reference")}, pairs,
                                warm_up_rounds)
    return _harness.compared("eval", "rows/s", speeds, batch_size=batch_size, rows=rows, data=kind,
                             reference_rows=reference_rows, bounds=[["ours_best", LEAST_ROWS_PER_SECOND, None]])


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("eval", __doc__)
    parser.add_argument("--rows", type=int, default=800000, metavar="N", help="rows of our side (default: 800000)")
    parser.add_argument("--reference_rows", type=int, default=80000, metavar="N",
                        help="rows of the reference (default: 80000)")
    args = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as directory:
        if args.quick:
            results: List[Dict[str, Any]] = [dict(measure(directory, args.source, 1, 640, 640, 64, 0), bounds=[])]
        else:
            results = [measure(directory, args.source, args.pairs, args.rows, args.reference_rows)]
    _harness.report(results, lambda result: "eval, batch %d, %s data" % (result["batch_size"], result["data"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
