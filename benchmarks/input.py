"""The input pipeline against the reference way: ``bash run_estimator.sh bench input``.

Ours reads shuffled training batches of packed records; the reference way parses row by row, shuffles rows and batches
them. Nothing else runs, so that the figure is what training could read at most.
"""
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

from benchmarks import _data, _harness

_WARM_UP_BATCHES = 4


def measure(directory: str, name: str, source: str, batch_size: int, pairs: int, rows: int,
            warm_up: int = 1) -> Dict[str, Any]:
    """Measures alternating pairs; a measurement of ours reads four times the rows, one of the reference an eighth."""
    import tensorflow as tf

    from benchmarks import _app, _reference
    from feature_specs.manifest import TRAIN_SPLIT
    data, kind = _data.prepared_pair(directory, name, source, rows, 64)
    model = _app.make(data["ours"], "default", batch_size=batch_size)
    _app.start_sdk()
    with tf.Graph().as_default():
        ours = _rows(_app.training_dataset(model).prefetch(8), batch_size)
    with tf.Graph().as_default():
        reference = _rows(_reference.batches(model.manifest, data["reference"], TRAIN_SPLIT, batch_size, True),
                          batch_size)
    speeds = _harness.alternate({"ours": lambda: ours(4 * rows), "reference": lambda: reference(rows // 8)}, pairs,
                                warm_up)
    return _harness.compared("input", "rows/s", speeds, dataset=name, batch_size=batch_size, rows=rows, data=kind)


def _rows(dataset: Any, batch_size: int) -> Callable[[int], float]:
    """Returns what reads so many rows in a new session and returns rows/s."""
    import tensorflow as tf

    from benchmarks import _app
    graph = tf.compat.v1.get_default_graph()
    iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
    # An op that needs all of the batch: what crosses into Python would be measured too.
    ready = tf.group(*[value.op for value in iterator.get_next().values()])

    def measure_rows(rows: int) -> float:
        count = max(1, rows // batch_size)
        # A session per measurement: a pipeline that stayed would prefetch in the other side's turn.
        with graph.as_default(), _app.session() as session:
            session.run(iterator.initializer)
            fetch = session.make_callable(ready)
            for _ in range(_WARM_UP_BATCHES):
                fetch()
            began = time.perf_counter()
            for _ in range(count):
                fetch()
            return count * batch_size / (time.perf_counter() - began)

    return measure_rows


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("input", __doc__, chooses_data=True)
    parser.add_argument("--batch_size", type=int, default=4096, metavar="N", help="rows per batch (default: 4096)")
    parser.add_argument("--rows", type=int, default=60000, metavar="N", help="training rows (default: 60000)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        args.batch_size, args.rows, args.pairs = 64, 512, 1
    results: List[Dict[str, Any]] = []
    for name in args.datasets:
        with tempfile.TemporaryDirectory() as directory:
            results.append(measure(directory, name, args.source, args.batch_size, args.pairs, args.rows,
                                   0 if args.quick else 1))
    _harness.report(results, lambda result: "input, %s" % result["dataset"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
