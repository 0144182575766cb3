"""Data preparation against the reference way: ``python -m benchmarks.prepare``.

The reference way reads the text with pandas, walks over the rows with ``iterrows`` and makes one protobuf message per
row. Both run alternately on made-up data; the figures are ratios of rows per second within a pair.
"""
import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

import numpy as np

from feature_specs.census import CENSUS
from preprocessing.pipeline import prepare
from preprocessing.sample_data import write_sample


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


def measure(pairs: int, rows: int, reference_rows: int, line_per_sample: Sequence[int]) -> List[Dict[str, Any]]:
    """Measures alternating pairs.

    Args:
        pairs: counted pairs; one more before them warms up.
        rows: rows of the file that our way prepares.
        reference_rows: rows of the file that the reference way converts.
        line_per_sample: rows per record to measure.

    Returns:
        One result per entry of ``line_per_sample``: rows/s of both ways (medians) and the ratios.
    """
    results = []
    with tempfile.TemporaryDirectory() as directory:
        paths = []
        for name, count in (("ours", rows), ("reference", reference_rows)):
            folder = os.path.join(directory, name)
            os.mkdir(folder)
            paths.append(write_sample(folder, count, 1))
        for packed in line_per_sample:
            speeds: List[List[float]] = [[], []]
            for pair in range(pairs + 1):
                found = []
                start = time.perf_counter()
                prepare(paths[0][0], paths[0][1], os.path.join(directory, "out"), line_per_sample=packed)
                found.append(rows / (time.perf_counter() - start))
                start = time.perf_counter()
                reference_way(paths[1][0], directory)
                found.append(reference_rows / (time.perf_counter() - start))
                if pair:
                    speeds[0].append(found[0])
                    speeds[1].append(found[1])
            ratios = [ours / reference for ours, reference in zip(*speeds)]
            results.append({
                "benchmark": "prepare", "line_per_sample": packed, "pairs": pairs, "rows": rows,
                "reference_rows": reference_rows, "rows_per_second": round(statistics.median(speeds[0])),
                "reference_rows_per_second": round(statistics.median(speeds[1])),
                "ratio": round(statistics.median(ratios), 1), "ratio_least": round(min(ratios), 1),
                "ratio_most": round(max(ratios), 1)})
    return results


def machine_facts() -> Dict[str, Any]:
    """Returns what a figure depends on besides the program."""
    return {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version(),
            "numpy": np.__version__}


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement and prints JSON lines and a table."""
    parser = argparse.ArgumentParser(prog="benchmarks.prepare", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, metavar="N", help="counted pairs of runs (default: 5)")
    parser.add_argument("--rows", type=int, default=200000, metavar="N",
                        help="rows that our way prepares (default: 200000)")
    parser.add_argument("--reference_rows", type=int, default=3000, metavar="N",
                        help="rows that the reference way converts (default: 3000)")
    parser.add_argument("--line_per_sample", type=int, nargs="+", default=[8, 1], metavar="L",
                        help="rows packed into one record (default: 8 1)")
    args = parser.parse_args(list(arguments))
    results = measure(args.pairs, args.rows, args.reference_rows, args.line_per_sample)
    for result in results:
        sys.stdout.write(json.dumps(dict(result, **machine_facts())) + "\n")
    sys.stdout.write("%15s %15s %15s %10s %17s\n" % ("line_per_sample", "rows/s", "reference", "ratio", "spread"))
    for result in results:
        sys.stdout.write("%15d %15d %15d %9.1fx %7.1fx - %.1fx\n" % (
            result["line_per_sample"], result["rows_per_second"], result["reference_rows_per_second"], result["ratio"],
            result["ratio_least"], result["ratio_most"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
