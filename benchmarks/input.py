"""The input pipeline against the reference way: ``bash run_estimator.sh bench input``.

Ours reads shuffled training batches of packed records; the reference way parses row by row, shuffles rows and batches
them. Nothing else runs, so that the figure is what training could read at most.
"""
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

from benchmarks import _data, _harness

LEAST_ROWS_PER_SECOND = 1000000
_LEAST_PACKED = 32
_WARM_UP_BATCHES = 4


def measure(directory: str, source: str, packings: Sequence[int], batch_size: int, pairs: int, rows: int,
            warm_up: int = 1) -> List[Dict[str, Any]]:
    """Measures alternating pairs.

    Args:
        directory: for the data.
        source: folder with the raw text, or empty.
        packings: rows per record of our side.
        batch_size: rows per batch.
        pairs: counted pairs.
        rows: training rows; a measurement of ours reads four times as many, one of the reference an eighth.
        warm_up: pairs before the counted ones.

    Returns:
        One result per packing.
    """
    paths = _data.raw_text(directory, source, rows, batch_size)
    results = []
    for packed in packings:
        ours = _our_rows(_data.prepared(directory, paths[:2], packed), batch_size)
        reference = _reference_rows(_data.prepared(directory, paths[:2], 1), batch_size)
        speeds = _harness.alternate({"ours": lambda: ours(4 * rows),  # noqa: B023
                                     "reference": lambda: reference(rows // 8)}, pairs, warm_up)  # noqa: B023
        result = _harness.compared("input", "rows/s", speeds, line_per_sample=packed, batch_size=batch_size, rows=rows,
                                   data=paths[2])
        if packed >= _LEAST_PACKED:
            result["bounds"] = [["ours_best", LEAST_ROWS_PER_SECOND, None]]
        results.append(result)
    return results


def _our_rows(data_dir: str, batch_size: int) -> Callable[[int], float]:
    import tensorflow as tf

    from benchmarks import _app
    _app.start_sdk()
    from estimator_app.config import Config
    from estimator_app.training import machine
    from feature_specs.encoding import make_encoding
    from feature_specs.manifest import TRAIN_SPLIT, read_manifest
    from input_fn.pipeline import training_batches
    from input_fn.plan import plan_training
    config, cores = Config(), machine.threads(0)
    manifest = read_manifest(data_dir)
    plan = plan_training(manifest.split(TRAIN_SPLIT), manifest.line_per_sample, batch_size, config.window_rows)
    with tf.Graph().as_default():
        dataset = training_batches(
            data_dir, manifest.split(TRAIN_SPLIT).shards, manifest.dataset,
            make_encoding(manifest, config.dense_transform, 0), plan, 1 << 20, 1, config.shuffle_rows,
            parallel_calls=cores)
        return _speed(_app.pipeline(dataset.prefetch(machine.prefetch(config.prefetch, cores))), batch_size)


def _reference_rows(data_dir: str, batch_size: int) -> Callable[[int], float]:
    import tensorflow as tf

    from benchmarks import _app, _reference
    from feature_specs.manifest import TRAIN_SPLIT, read_manifest
    with tf.Graph().as_default():
        dataset = _reference.batches(read_manifest(data_dir), data_dir, TRAIN_SPLIT, batch_size, True)
        return _speed(_app.pipeline(dataset), batch_size)


def _speed(start: Callable[[], Any], batch_size: int) -> Callable[[int], float]:
    def measure_rows(rows: int) -> float:
        count = max(1, rows // batch_size)
        # A session per measurement: a pipeline that stayed would prefetch in the other side's turn.
        session, fetch = start()
        with session:
            for _ in range(_WARM_UP_BATCHES):
                fetch()
            began = time.perf_counter()
            for _ in range(count):
                fetch()
            return count * batch_size / (time.perf_counter() - began)

    return measure_rows


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("input", __doc__)
    parser.add_argument("--line_per_sample", type=int, nargs="+", default=[1, 8, 32, 128], metavar="L",
                        help="rows packed into one record of ours (default: 1 8 32 128)")
    parser.add_argument("--batch_size", type=int, default=4096, metavar="N", help="rows per batch (default: 4096)")
    parser.add_argument("--rows", type=int, default=_data.PUBLISHED_ROWS, metavar="N",
                        help="training rows (default: %d)" % _data.PUBLISHED_ROWS)
    args = parser.parse_args(list(arguments))
    if args.quick:
        args.line_per_sample, args.batch_size, args.rows, args.pairs = [8], 64, 512, 1
    with tempfile.TemporaryDirectory() as directory:
        results = measure(directory, args.source, args.line_per_sample, args.batch_size, args.pairs, args.rows,
                          0 if args.quick else 1)
    _harness.report([dict(result, bounds=[]) if args.quick else result for result in results],
                    lambda result: "input, %d rows per record" % result["line_per_sample"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
