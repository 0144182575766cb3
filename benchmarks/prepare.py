"""Data preparation against the reference way: ``bash run_estimator.sh bench prepare``.

The reference way reads the text with pandas, walks over the rows with ``iterrows`` and makes one protobuf message per
row. Both run alternately; the figures are ratios of rows per second within a pair.
"""
import os
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness
from feature_specs.census import CENSUS
from preprocessing.pipeline import prepare

LEAST_ROWS_PER_SECOND = 100000


def reference_way(train_path: str, directory: str) -> int:
    """Converts a file row by row; returns the number of rows."""
    import pandas as pd
    import tensorflow as tf
    frame = pd.read_csv(train_path, header=None, names=CENSUS.columns, skipinitialspace=True, na_filter=False)
    frame = frame.astype({column: str for column in CENSUS.sparse_columns})
    indices: Dict[str, Dict[str, int]] = {}
    offset = 0
    for column in CENSUS.sparse_columns:
        indices[column] = {value: offset + place for place, value in enumerate(frame[column].unique())}
        offset += len(indices[column]) + 1
    with tf.io.TFRecordWriter(os.path.join(directory, "rows.tfrecord")) as writer:
        for _, row in frame.iterrows():
            labels = [int(row[task.label_column] == task.positive_value) for task in CENSUS.tasks]
            ids = [indices[column][row[column]] for column in CENSUS.sparse_columns]
            dense = [float(row[column]) for column in CENSUS.dense_columns]
            writer.write(tf.train.Example(features=tf.train.Features(feature={
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
                "sparse_feature": tf.train.Feature(int64_list=tf.train.Int64List(value=ids)),
                "dense_feature": tf.train.Feature(float_list=tf.train.FloatList(value=dense)),
            })).SerializeToString())
    return len(frame)


def measure(pairs: int, rows: int, reference_rows: int, line_per_sample: Sequence[int], workers: Sequence[int],
            source: str = "", warm_up: int = 1) -> List[Dict[str, Any]]:
    """Measures alternating pairs.

    Args:
        pairs: counted pairs.
        rows: rows of the file that our way prepares.
        reference_rows: rows of the file that the reference way converts.
        line_per_sample: rows per record to measure.
        workers: numbers of processes to measure.
        source: folder with the raw text, or empty for made-up rows.
        warm_up: pairs before the counted ones.

    Returns:
        One result per packing and number of processes, and one that compares the most processes with one, rows/s.
    """
    results = []
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for name, count in (("ours", rows), ("reference", reference_rows)):
            folder = os.path.join(directory, name)
            os.mkdir(folder)
            paths.append(_data.raw_text(folder, source, count, 1))

        def ours(packed: int, processes: int) -> float:
            start = time.perf_counter()
            prepare(paths[0][0], paths[0][1], os.path.join(directory, "out"), line_per_sample=packed,
                    num_workers=processes)
            return rows / (time.perf_counter() - start)

        def reference() -> float:
            start = time.perf_counter()
            reference_way(paths[1][0], directory)
            return reference_rows / (time.perf_counter() - start)

        for packed in line_per_sample:
            for processes in workers:
                speeds = _harness.alternate({"ours": lambda: ours(packed, processes),  # noqa: B023
                                             "reference": reference}, pairs, warm_up)
                result = _harness.compared("prepare", "rows/s", speeds, line_per_sample=packed, processes=processes,
                                           rows=rows, reference_rows=reference_rows, data=paths[0][2])
                if processes == 1 and packed > 1:
                    result["bounds"] = [["ours_best", LEAST_ROWS_PER_SECOND, None]]
                results.append(result)
        if max(workers) > 1:
            most, packed = max(workers), max(line_per_sample)
            speeds = _harness.alternate({"ours": lambda: ours(packed, most), "reference": lambda: ours(packed, 1)},
                                        pairs, warm_up)
            results.append(_harness.compared("prepare", "rows/s", speeds, line_per_sample=packed, processes=most,
                                             reference_processes=1, rows=rows, data=paths[0][2]))
    return results


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement and prints JSON lines and a table."""
    parser = _harness.new_parser("prepare", __doc__)
    parser.add_argument("--rows", type=int, default=_data.PUBLISHED_ROWS, metavar="N",
                        help="rows that our way prepares (default: %d)" % _data.PUBLISHED_ROWS)
    parser.add_argument("--reference_rows", type=int, default=3000, metavar="N",
                        help="rows that the reference way converts (default: 3000)")
    parser.add_argument("--line_per_sample", type=int, nargs="+", default=[8, 1], metavar="L",
                        help="rows packed into one record (default: 8 1)")
    parser.add_argument("--num_workers", type=int, nargs="+", default=[1, 2], metavar="N",
                        help="processes that split text and encode records (default: 1 2)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        results = [dict(result, bounds=[]) for result in measure(1, 300, 30, [8], [1], args.source, 0)]
    else:
        results = measure(args.pairs, args.rows, args.reference_rows, args.line_per_sample, args.num_workers,
                          args.source)
    _harness.report(results, lambda result: "prepare, %d per record, %d process%s%s" % (
        result["line_per_sample"], result["processes"], "es" if result["processes"] > 1 else "",
        " against 1" if "reference_processes" in result else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
