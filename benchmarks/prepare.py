"""Data preparation against the plain way: ``bash run_estimator.sh bench prepare``.

The plain way reads the file with pandas, numbers the values with ``factorize`` and makes one protobuf message per
record. It does less: no checks, no statistics, no shuffle, no hashes. Both run alternately; the figures are ratios of
rows per second within a pair.
"""
import dataclasses
import os
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness
from feature_specs.dataset import CSV, PARQUET, DatasetDefinition, FileFormat
from feature_specs.dataset_file import load_dataset
from preprocessing.pipeline import Preparation, prepare
from preprocessing.reading.columns import roles_of
from preprocessing.reading.readers import Reading
from preprocessing.samples.sample import write_sample

LEAST_ROWS_PER_SECOND = 100000


def plain_way(path: str, definition: DatasetDefinition, directory: str, line_per_sample: int = 8) -> int:
    """Converts a file with pandas and one message per record; returns the number of rows."""
    import numpy as np
    import pandas as pd
    import tensorflow as tf
    files = definition.files
    if files.format == PARQUET:
        frame = pd.read_parquet(path)
    else:
        frame = pd.read_csv(path, sep=files.separator, header=0 if files.header else None, skipinitialspace=True,
                            names=list(files.columns) or None, na_filter=False)
    sparse: List[Any] = []
    for feature in definition.categorical:
        if not feature.is_list:
            sparse.append(pd.factorize(frame[feature.column].astype(str))[0][:, np.newaxis])
            continue
        parts = frame[feature.column].astype(str).str.split(feature.separator, expand=True)
        parts = parts.iloc[:, :feature.max_length]
        codes = pd.factorize(parts.values.ravel())[0].reshape(parts.shape)
        sparse.append(np.pad(codes, ((0, 0), (0, feature.max_length - codes.shape[1])), constant_values=-1))
    ids = np.concatenate(sparse, axis=1)
    numbers = [pd.to_numeric(frame[feature.column], errors="coerce") for feature in definition.numeric]
    dense = np.stack([column.values for column in numbers], axis=1).astype(np.float32)
    labels = np.stack([frame[task.column].astype(str).isin(task.positive or ("1",)).values
                       for task in definition.tasks], axis=1).astype(np.int64)
    with tf.io.TFRecordWriter(os.path.join(directory, "rows.tfrecord")) as writer:
        for start in range(0, len(frame), line_per_sample):
            part = slice(start, start + line_per_sample)
            writer.write(tf.train.Example(features=tf.train.Features(feature={
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels[part].ravel())),
                "sparse_feature": tf.train.Feature(int64_list=tf.train.Int64List(value=ids[part].ravel())),
                "dense_feature": tf.train.Feature(float_list=tf.train.FloatList(value=dense[part].ravel())),
            })).SerializeToString())
    return len(frame)


def _as_parquet(path: str, definition: DatasetDefinition) -> str:
    """Writes a text file as Parquet and returns its path."""
    import pandas as pd
    files = definition.files
    frame = pd.read_csv(path, sep=files.separator, header=0 if files.header else None, skipinitialspace=True,
                        names=list(files.columns) or None, keep_default_na=False, na_values={
                            name: [""] for name in roles_of(definition).numbers})
    frame.to_parquet(path + ".parquet")
    return path + ".parquet"


def measure(pairs: int, rows: int, workers: Sequence[int], source: str = "", warm_up: int = 1) -> List[Dict[str, Any]]:
    """Measures alternating pairs.

    Args:
        pairs: counted pairs.
        rows: rows of the training file; the test file has one.
        workers: numbers of threads to measure.
        source: folder with the raw census text, or empty for made-up rows.
        warm_up: pairs before the counted ones.

    Returns:
        One result per dataset, format and number of threads, rows/s.
    """
    results = []
    with tempfile.TemporaryDirectory() as directory:
        census = _data.raw_text(directory, source, rows, 1)
        shop = write_sample("shop", directory, rows, 1)
        for name, paths, kind in (("census", census[:2], census[2]), ("shop", shop, "made up")):
            for file_format in (CSV, PARQUET):
                definition = load_dataset(name).definition
                if file_format == PARQUET:
                    paths = (_as_parquet(paths[0], definition), _as_parquet(paths[1], definition))
                    definition = dataclasses.replace(definition, files=FileFormat(PARQUET))

                def ours(threads: int, paths: Sequence[str] = paths,
                         definition: DatasetDefinition = definition) -> float:
                    start = time.perf_counter()
                    prepare(Preparation(definition, (paths[0],), (paths[1],), os.path.join(directory, "out"),
                                        reading=Reading(num_workers=threads)))
                    return rows / (time.perf_counter() - start)

                def plain(paths: Sequence[str] = paths, definition: DatasetDefinition = definition) -> float:
                    start = time.perf_counter()
                    plain_way(paths[0], definition, directory)
                    return rows / (time.perf_counter() - start)

                for threads in workers:
                    speeds = _harness.alternate({"ours": lambda: ours(threads),  # noqa: B023
                                                 "reference": plain}, pairs, warm_up)
                    result = _harness.compared("prepare", "rows/s", speeds, dataset=name, format=file_format,
                                               threads=threads, rows=rows, data=kind)
                    if (name, file_format, threads) == ("census", CSV, 1):
                        result["bounds"] = [["ours_best", LEAST_ROWS_PER_SECOND, None]]
                    results.append(result)
    return results


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement and prints JSON lines and a table."""
    parser = _harness.new_parser("prepare", __doc__, pairs=3)
    parser.add_argument("--rows", type=int, default=100000, metavar="N", help="rows of each file (default: 100000)")
    parser.add_argument("--num_workers", type=int, nargs="+", default=[1, 2], metavar="N",
                        help="threads that read (default: 1 2)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        results = [dict(result, bounds=[]) for result in measure(1, 300, [1], args.source, 0)]
    else:
        results = measure(args.pairs, args.rows, args.num_workers, args.source)
    _harness.report(results, lambda result: "%s, %s, %d thread%s" % (
        result["dataset"], result["format"], result["threads"], "s" if result["threads"] > 1 else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
