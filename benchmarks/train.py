"""Training end to end against the reference way: ``bash run_estimator.sh bench train``.

From TFRecords on disk through the Estimator to checkpoints, without evaluation, at the reference model's size on both
sides: one MMoE network, no bins, 144 values per table row. Each run is a process of its own; start-up and warm-up do
not count, checkpoints do.
"""
import os
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness

LEAST_RATIOS = {32: 2.5, 512: 5.0, 4096: 8.0}
LINE_PER_SAMPLE = 8
_WARM_UP_ROWS = 16384


def measure(directory: str, source: str, batch_sizes: Sequence[int], pairs: int, rows: int, warm_up_rounds: int,
            line_per_sample: int = LINE_PER_SAMPLE) -> List[Dict[str, Any]]:
    """Measures alternating pairs of trainings.

    Args:
        directory: for data and models.
        source: folder with the raw text, or empty.
        batch_sizes: to measure.
        pairs: counted pairs.
        rows: training rows; both sides save a checkpoint after each pass over them.
        warm_up_rounds: pairs before the counted ones.
        line_per_sample: rows per record of our side.

    Returns:
        One result per batch size.
    """
    train_path, test_path, kind = _data.raw_text(directory, source, rows, max(batch_sizes))
    data = {"ours": _data.prepared(directory, (train_path, test_path), line_per_sample),
            "reference": _data.prepared(directory, (train_path, test_path), 1)}
    results = []
    for batch_size in batch_sizes:
        steps = rows // batch_size
        # Our side takes more passes, so that its runs are not too short to measure.
        passes = {"ours": 1 if batch_size < 128 else 3, "reference": 1}

        def side(way: str, batch_size: int = batch_size, steps: int = steps, passes: Any = passes) -> float:
            model = os.path.join(directory, "model")
            shutil.rmtree(model, ignore_errors=True)
            return _harness.run_worker(
                "train", "--way", way, "--data_dir", data[way], "--model_dir", model, "--batch_size", str(batch_size),
                "--steps", str(steps * passes[way]), "--save_steps", str(steps),
                "--warm_up", str(max(1, min(_WARM_UP_ROWS // batch_size, steps // 4))))["examples_per_second"]

        speeds = _harness.alternate({"ours": lambda: side("ours"), "reference": lambda: side("reference")},  # noqa: B023
                                    pairs, warm_up_rounds)
        least = LEAST_RATIOS.get(batch_size)
        results.append(_harness.compared(
            "train", "examples/s", speeds, batch_size=batch_size, rows=rows, data=kind,
            line_per_sample=line_per_sample, bounds=[["ratio", least, None]] if least else []))
    return results


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("train", __doc__)
    parser.add_argument("--batch_size", type=int, nargs="+", default=sorted(LEAST_RATIOS), metavar="N",
                        help="batch sizes (default: 32 512 4096)")
    parser.add_argument("--rows", type=int, default=_data.PUBLISHED_ROWS, metavar="N",
                        help="training rows (default: %d, as published)" % _data.PUBLISHED_ROWS)
    parser.add_argument("--line_per_sample", type=int, default=LINE_PER_SAMPLE, metavar="N",
                        help="rows per record of our side (default: %d)" % LINE_PER_SAMPLE)
    args = parser.parse_args(list(arguments))
    if args.quick:
        args.batch_size, args.rows, args.pairs = [64], 512, 1
    with tempfile.TemporaryDirectory() as directory:
        results = measure(directory, args.source, args.batch_size, args.pairs, args.rows, 0 if args.quick else 1,
                          args.line_per_sample)
    _harness.report(results, lambda result: "train, batch %d, %s data" % (result["batch_size"], result["data"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
