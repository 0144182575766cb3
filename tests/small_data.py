"""A small prepared data directory made by hand: another writer than the product's, for any number of tasks."""
import os

import numpy as np
import tensorflow as tf

from feature_specs.dataset import DatasetDefinition, TaskDefinition
from feature_specs.manifest import DenseStatistics, Manifest, Shard, Split, write_manifest

TASKS = ("click", "buy", "stay")
SMALL = DatasetDefinition(
    name="small",
    columns=("a", "b", "c", "x", "y") + tuple("label_" + task for task in TASKS),
    sparse_columns=("a", "b", "c"),
    dense_columns=("x", "y"),
    tasks=tuple(TaskDefinition(task, "label_" + task, "yes", ("no", "yes")) for task in TASKS),
    table_name="small_table",
)
VOCABULARY_SIZES = (5, 7, 3)


def make_rows(count, seed=0):
    """Rows as arrays: ids int64 [n, 3], dense float32 [n, 2], labels int64 [n, 3]; learnable."""
    random = np.random.RandomState(seed)
    offsets = np.cumsum([0] + [size + 1 for size in VOCABULARY_SIZES[:-1]])
    values = np.stack([random.randint(size, size=count) for size in VOCABULARY_SIZES], axis=1)
    dense = np.stack([random.exponential(10.0, count), random.normal(3.0, 2.0, count)], axis=1).astype(np.float32)
    scores = np.stack([values[:, 0] - 2.0, values[:, 1] - 3.0 + (dense[:, 1] - 3.0), values[:, 2] + values[:, 0] - 3.0],
                      axis=1)
    labels = (scores + random.normal(0, 1, scores.shape) > 0).astype(np.int64)
    return values + offsets, dense, labels


def statistics(values):
    """Statistics of one column, written from their definitions."""
    values = values.astype(np.float64)
    logs = np.sign(values) * np.log1p(np.abs(values))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 21)[1:-1]).astype(np.float32)).astype(np.float64)
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return DenseStatistics(
        count=len(values), mean=values.mean(), std=values.std(), minimum=values.min(), maximum=values.max(),
        log_mean=logs.mean(), log_std=logs.std(), bin_edges=tuple(map(float, edges)),
        bin_counts=tuple(int(count) for count in counts))


def write_data(directory, train_rows=100, test_rows=37, line_per_sample=4, shards=3, seed=0, dataset=SMALL):
    """Writes records and manifest; returns the manifest and {split: (ids, dense, labels)}."""
    arrays = {"train": make_rows(train_rows, seed), "test": make_rows(test_rows, seed + 1)}
    splits = {}
    for split, (ids, dense, labels) in arrays.items():
        os.makedirs(os.path.join(directory, split), exist_ok=True)
        records = [(start, min(start + line_per_sample, len(ids))) for start in range(0, len(ids), line_per_sample)]
        made = []
        for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
            path = "%s/part-%05d-of-%05d.tfrecord" % (split, shard, shards)
            rows = 0
            with tf.io.TFRecordWriter(os.path.join(directory, path)) as writer:
                for number in part:
                    start, end = records[number]
                    rows += end - start
                    missing = line_per_sample - (end - start)
                    writer.write(_example(
                        np.concatenate([labels[start:end], -np.ones((missing, labels.shape[1]), np.int64)]),
                        np.concatenate([ids[start:end], np.zeros((missing, ids.shape[1]), np.int64)]),
                        np.concatenate([dense[start:end], np.zeros((missing, dense.shape[1]), np.float32)])))
            size = os.path.getsize(os.path.join(directory, path))
            made.append(Shard(path, rows, len(part), size, "0" * 64))
        splits[split] = Split(
            rows=len(ids), positives={task: int(labels[:, n].sum()) for n, task in enumerate(dataset.task_names)},
            out_of_vocabulary={}, duplicates=0, bad_rows={}, inputs=(), shards=tuple(made))
    manifest = Manifest(
        dataset=dataset, line_per_sample=line_per_sample,
        vocabularies={column: tuple("%s%d" % (column, n) for n in range(size))
                      for column, size in zip(dataset.sparse_columns, VOCABULARY_SIZES)},
        vocab_from=("train",),
        dense_statistics={column: statistics(arrays["train"][1][:, n])
                          for n, column in enumerate(dataset.dense_columns)},
        seed=seed, splits=splits)
    write_manifest(manifest, directory)
    return manifest, arrays


def _example(labels, ids, dense):
    return tf.train.Example(features=tf.train.Features(feature={
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels.ravel())),
        "sparse_feature": tf.train.Feature(int64_list=tf.train.Int64List(value=ids.ravel())),
        "dense_feature": tf.train.Feature(float_list=tf.train.FloatList(value=dense.ravel())),
    })).SerializeToString()
