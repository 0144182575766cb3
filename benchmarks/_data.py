"""The data of the benchmarks: raw text of any number of rows, its prepared forms, and arrays of it for peers."""
import gzip
import itertools
import json
import os
from typing import Any, Dict, List, Tuple

from feature_specs.dataset_file import load_dataset
from feature_specs.errors import DataError
from feature_specs.manifest import read_manifest
from preprocessing.pipeline import Preparation, prepare
from preprocessing.reading.readers import Reading
from preprocessing.samples.sample import write_sample

#: Rows of the published training file.
PUBLISHED_ROWS = 199523
_CENSUS = ("census-income.data", "census-income.test")


def census_files(source: str) -> Tuple[str, str]:
    """Returns the training and the test file of the census in a folder, plain or gzip.

    Raises:
        DataError: one of them is not there.
    """
    paths = []
    for name in _CENSUS:
        found = [path for path in (os.path.join(source, name), os.path.join(source, name + ".gz"))
                 if os.path.isfile(path)]
        if not found:
            raise DataError("%s is not %s, plain or as .gz; name its folder with --source" % (
                name, "in %s" % source if source else "given"))
        paths.append(found[0])
    return paths[0], paths[1]


def raw_text(directory: str, source: str, rows: int, eval_rows: int) -> Tuple[str, str, str]:
    """Writes plain census text files of given lengths.

    Args:
        directory: existing folder to write into.
        source: folder with the census text, whose rows are repeated as often as needed; empty for made-up rows.
        rows, eval_rows: lines of the training and of the evaluation file.

    Returns:
        The two paths, and what the rows are.
    """
    if source:
        found, kind = census_files(source), "real"
    else:
        found, kind = write_sample("census", directory, min(rows, 60000), min(eval_rows, 20000)), "made up"
    paths: List[str] = []
    for path, name, count in zip(found, _CENSUS, (rows, eval_rows)):
        target = os.path.join(directory, name)
        with (gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")) as stream:
            lines = [line.rstrip(b"\r\n") + b"\n" for line in stream]
        with open(target, "wb") as output:
            output.writelines(itertools.islice(itertools.cycle(lines), count))
        paths.append(target)
    return paths[0], paths[1], kind


def prepared(directory: str, paths: Tuple[str, str], line_per_sample: int, name: str = "census") -> str:
    """Prepares a data directory and returns its path.

    Args:
        directory: existing folder to write into.
        paths: training and evaluation text.
        line_per_sample: rows per record.
        name: of the built-in dataset.
    """
    target = os.path.join(directory, "%s-%d" % (name, line_per_sample))
    prepare(Preparation(load_dataset(name).definition, paths[:1], paths[1:], target, line_per_sample=line_per_sample,
                        reading=Reading(num_workers=0)))
    return target


def prepared_pair(directory: str, name: str, source: str, rows: int, eval_rows: int) -> Tuple[Dict[str, str], str]:
    """Prepares a built-in dataset for both sides: {``ours``: 8 rows per record, ``reference``: one}; and what the rows
    are."""
    if name == "census":
        paths, kind = raw_text(directory, source, rows, eval_rows)[:2], "made up" if not source else "real"
    else:
        paths, kind = write_sample(name, directory, rows, eval_rows), "made up"
    return {way: prepared(directory, paths, packed, name) for way, packed in (("ours", 8), ("reference", 1))}, kind


def write_arrays(data_dir: str, split: str, path: str) -> None:
    """Writes a split's rows as arrays, for peers: float32 label [n, T], int64 sparse [n, W], float32 dense [n, D]."""
    import numpy as np
    import tensorflow as tf

    from feature_specs.records import DENSE_FEATURE, LABEL, SPARSE_FEATURE, is_padding
    from input_fn.pipeline import extract_fn, reshape_fn
    manifest = read_manifest(data_dir)
    dataset, line_per_sample = manifest.dataset, manifest.line_per_sample
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        files = [os.path.join(data_dir, shard.path) for shard in manifest.split(split).shards if shard.rows]
        rows = tf.compat.v1.data.make_one_shot_iterator(tf.data.TFRecordDataset(files).batch(4096).map(
            lambda records: reshape_fn(extract_fn(records, dataset, line_per_sample), dataset))).get_next()
        wanted = (rows[LABEL], rows[SPARSE_FEATURE], rows[DENSE_FEATURE], is_padding(rows[LABEL]))
        parts = []
        try:
            while True:
                label, sparse, dense, padding = session.run(wanted)
                if not dataset.has_float_labels:
                    label = np.where(label < 0, np.nan, label)
                parts.append([label.astype(np.float32)[~padding], sparse[~padding], dense[~padding]])
        except tf.errors.OutOfRangeError:
            label, sparse, dense = (np.concatenate(column) for column in zip(*parts))
    np.savez(path, label=label, sparse=sparse, dense=dense)


def specification(data_dir: str, path: str, **more: Any) -> str:
    """Writes what a peer must know of the data, with further entries, as JSON; returns the path."""
    manifest = read_manifest(data_dir)
    fields = []
    for feature in manifest.dataset.categorical:
        vocabulary = feature.vocabulary or feature.name
        info = manifest.vocabularies[vocabulary]
        fields.append({"name": feature.name, "width": feature.width, "vocabulary": vocabulary,
                       "values": max(info.size, info.distinct) + 1})
    tasks = [{"name": task.name, "type": task.type, "transform": task.transform} for task in manifest.dataset.tasks]
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(dict(more, fields=fields, tasks=tasks), stream)
    return path
