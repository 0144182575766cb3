"""Scoring raw text against the reference way: ``bash run_estimator.sh bench predict``.

From the text of a census file to a file of probabilities, with the census preset. The reference way reads the text row
by row, looks every value up in a dictionary, runs the reference model on batches and writes row by row.
"""
import csv
import os
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness

BATCH_SIZE = 4096
LEAST_ROWS_PER_SECOND = 200000


def measure(directory: str, source: str, pairs: int, rows: int, reference_rows: int, warm_up: int = 1
            ) -> Dict[str, Any]:
    """Measures alternating pairs, rows/s; neither side's loading of the model counts."""
    from benchmarks import _app
    from estimator_app.serving.predict import Prediction, predict
    train_path, test_path, kind = _data.raw_text(directory, source, 4096, rows)
    data = _data.prepared(directory, (train_path, test_path), 8)
    short = os.path.join(directory, "reference.test")
    with open(test_path, "rb") as stream, open(short, "wb") as target:
        target.writelines(line for line, _ in zip(stream, range(reference_rows)))
    model, scores = os.path.join(directory, "model"), os.path.join(directory, "scores.csv")
    _harness.run_python(["-m", "estimator_app", "train", "--data_dir", data, "--model_dir", model, "--preset", "census",
                         "--train_epoch", "1", "--device", "cpu"])

    def ours() -> float:
        done = predict(Prediction(model, "latest", (test_path,), scores, "csv", BATCH_SIZE, "0", 0))
        return done.rows / done.seconds

    reference = _Reference(_app.make(data, "plain"))
    speeds = _harness.alternate({"ours": ours, "reference": lambda: reference.score(short, scores)}, pairs, warm_up)
    return _harness.compared("predict", "rows/s", speeds, rows=rows, reference_rows=reference_rows, data=kind,
                             bounds=[["ours_best", LEAST_ROWS_PER_SECOND, None]])


class _Reference:
    """The reference model with random weights behind a row-by-row reader."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        from benchmarks import _reference
        from feature_specs.records import DENSE_FEATURE, SPARSE_FEATURE
        dataset = self._dataset = model.manifest.dataset
        self._ids: List[Dict[str, int]] = [{} for _ in dataset.categorical]
        with tf.Graph().as_default():
            tf.compat.v1.set_random_seed(1)
            ids = tf.compat.v1.placeholder(tf.int64, [None, len(dataset.categorical)])
            dense = tf.compat.v1.placeholder(tf.float32, [None, len(dataset.numeric)])
            found = _reference.model_fn_of(model, 100000)({SPARSE_FEATURE: ids, DENSE_FEATURE: dense}, None,
                                                          tf.estimator.ModeKeys.PREDICT).predictions
            session = tf.compat.v1.Session()
            session.run(tf.compat.v1.global_variables_initializer())
            self._run = session.make_callable([found[task] for task in dataset.task_names], [ids, dense])

    def score(self, path: str, output: str) -> float:
        """Scores a file and returns rows/s."""
        columns = list(self._dataset.files.columns)
        sparse = [columns.index(feature.column) for feature in self._dataset.categorical]
        dense = [columns.index(feature.column) for feature in self._dataset.numeric]
        rows = 0
        began = time.perf_counter()
        with open(path, encoding="utf-8", newline="") as stream, open(output, "w", encoding="utf-8") as target:
            writer = csv.writer(target)
            ids: List[List[int]] = []
            numbers: List[List[float]] = []
            for row in csv.reader(stream, skipinitialspace=True):
                ids.append([index.setdefault(row[place].strip(), len(index)) for index, place in zip(self._ids,
                                                                                                     sparse)])
                numbers.append([float(row[place]) for place in dense])
                if len(ids) == BATCH_SIZE:
                    writer.writerows(zip(*self._run(ids, numbers)))
                    ids, numbers = [], []
                rows += 1
            if ids:
                writer.writerows(zip(*self._run(ids, numbers)))
        return rows / (time.perf_counter() - began)


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("predict", __doc__)
    parser.add_argument("--rows", type=int, default=200000, metavar="N", help="rows of our side (default: 200000)")
    parser.add_argument("--reference_rows", type=int, default=20000, metavar="N",
                        help="rows of the reference (default: 20000)")
    args = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as directory:
        if args.quick:
            results = [dict(measure(directory, args.source, 1, 600, 300, 0), bounds=[])]
        else:
            results = [measure(directory, args.source, args.pairs, args.rows, args.reference_rows)]
    _harness.report(results, lambda result: "predict, %s data" % result["data"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
