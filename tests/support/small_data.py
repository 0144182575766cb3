"""Small prepared data directories made by hand: another writer than the product's, for any dataset definition."""
import dataclasses
import hashlib
import os
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import tensorflow as tf

from feature_specs.dataset_file import parse_dataset
from feature_specs.manifest import (
    DenseStatistics,
    LabelStatistics,
    Manifest,
    RowSplit,
    Shard,
    Split,
    VocabularyInfo,
    write_manifest,
)

SMALL = parse_dataset("""
name: small
files: {format: csv, header: false, columns: [a, b, c, x, y, label_click, label_buy, label_stay]}
features:
  a: {type: categorical}
  b: {type: categorical}
  c: {type: categorical}
  x: {type: numeric}
  y: {type: numeric}
tasks:
  click: {type: binary, column: label_click, positive: ["yes"], negative: ["no"]}
  buy: {type: binary, column: label_buy, positive: ["yes"], negative: ["no"]}
  stay: {type: binary, column: label_stay, positive: ["yes"], negative: ["no"]}
""", "small.yaml").definition

# Everything that a dataset can have: two tables with sizes of their own, hashed values, lists with both poolings, a
# shared vocabulary, bins of one number and not of the other, every relation between tasks, weights and groups.
RICH = parse_dataset("""
name: rich
files: {format: csv, header: true, separator: "\\t"}
features:
  user: {type: categorical, encoding: hash, table: users}
  item: {type: categorical, table: items}
  seen: {type: categorical, separator: ",", max_length: 4, pooling: mean, vocabulary: item, table: items}
  tags: {type: categorical, separator: "|", max_length: 3, pooling: sum, encoding: hash, table: users}
  city: {type: categorical, table: items}
  price: {type: numeric, transform: log_standard, bins: 5, missing: 2.5, table: users}
  age: {type: numeric, transform: standard, bins: 0, table: items}
tables:
  users: {dim: 3}
  items: {dim: 5}
tasks:
  click: {type: binary, column: click}
  buy: {type: binary, column: buy, given: click}
  keep: {type: binary, column: keep, given: buy}
  rate: {type: binary, column: rate, where: click}
  watch: {type: regression, column: seconds, transform: log, where: rate}
weight: w
group: user
""", "rich.yaml").definition
VOCABULARY_SIZE = 6
HASH_LIMIT = (1 << 40) - 1


class Rows(NamedTuple):
    """Rows as they stand in records.

    Attributes:
        sparse: int64 [n, W], indexes and hashes; -1 in empty places of lists.
        dense: float32 [n, D], NaN where a number is missing.
        labels: int64 [n, T] with -1, or float32 [n, T] with NaN, where a label is unknown.
        weight: float32 [n].
        group: int64 [n].
    """

    sparse: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    weight: np.ndarray
    group: np.ndarray

    def take(self, places):
        return Rows(*[array[places] for array in self])


def without_dims(dataset):
    """The same dataset with tables that leave their size to the run, as the input layer ``sum`` wants them."""
    return dataclasses.replace(dataset, tables=tuple(dataclasses.replace(table, dim=0) for table in dataset.tables))


def make_rows(dataset, count, seed=0):
    """Learnable rows of any definition."""
    random = np.random.RandomState(seed)
    hashed = np.random.RandomState(99).randint(1, HASH_LIMIT, 7)
    parts, scores = [], np.zeros(count)
    for feature in dataset.categorical:
        # Some values are the unknown one; hashes come from a few values, so that they repeat.
        values = random.randint(0, VOCABULARY_SIZE + 1, (count, feature.width))
        scores += (values[:, 0] % 3 - 1.0)
        if feature.encoding == "hash":
            values = hashed[values]
        if feature.is_list:
            lengths = random.randint(0, feature.width + 1, count)
            values = np.where(np.arange(feature.width) < lengths[:, None], values, -1)
        parts.append(values)
    dense = np.stack([random.exponential(3.0, count) if number % 2 == 0 else random.normal(3.0, 2.0, count)
                      for number in range(len(dataset.numeric))], axis=1).astype(np.float32)
    scores += dense[:, -1] - 3.0
    labels = []
    for task in dataset.tasks:
        noisy = scores + random.normal(0, 1, count)
        labels.append(np.exp(0.5 * noisy) if task.type == "regression" else (noisy > 0).astype(float))
    labels = np.stack(labels, axis=1)
    unknown = random.rand(*labels.shape) < 0.1
    if dataset.has_float_labels:
        labels = np.where(unknown, np.nan, labels).astype(np.float32)
        dense = np.where(random.rand(*dense.shape) < 0.1, np.nan, dense).astype(np.float32)
    else:
        labels = labels.astype(np.int64)
    group = parts[0][:, 0] if dataset.group else np.zeros(count, np.int64)
    return Rows(np.concatenate(parts, axis=1).astype(np.int64), dense, labels,
                random.gamma(2.0, 0.5, count).astype(np.float32), group.astype(np.int64))


def statistics(values):
    """Statistics of one column, written from their definitions."""
    values = values[~np.isnan(values)].astype(np.float64)
    logs = np.sign(values) * np.log1p(np.abs(values))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 21)[1:-1]).astype(np.float32)).astype(np.float64)
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    return DenseStatistics(
        count=len(values), mean=values.mean(), std=values.std(), minimum=values.min(), maximum=values.max(),
        log_mean=logs.mean(), log_std=logs.std(), bin_edges=tuple(map(float, edges)),
        bin_counts=tuple(int(count) for count in counts))


def label_statistics(task, values):
    known = values[np.isfinite(values)].astype(np.float64) if values.dtype.kind == "f" else values[values >= 0]
    known = np.log1p(known) if task.transform == "log" else known
    return LabelStatistics(float(known.mean()), float(known.std()))


def write_data(directory, train_rows=100, test_rows=37, line_per_sample=4, shards=3, seed=0, dataset=SMALL):
    """Writes records, vocabularies and the manifest; returns the manifest and {split: Rows}."""
    arrays = {"train": make_rows(dataset, train_rows, seed), "test": make_rows(dataset, test_rows, seed + 1)}
    splits = {split: write_split(directory, split, rows, dataset, line_per_sample, shards)
              for split, rows in arrays.items()}
    train = arrays["train"]
    manifest = Manifest(
        has_rare_values=False,
        dataset=dataset, line_per_sample=line_per_sample, vocabularies=write_vocabularies(directory, dataset),
        vocabulary_splits=("train",),
        dense_statistics={feature.name: statistics(train.dense[:, n]) for n, feature in enumerate(dataset.numeric)},
        label_statistics={task.name: label_statistics(task, train.labels[:, n])
                          for n, task in enumerate(dataset.tasks)},
        seed=seed, row_split=RowSplit(), splits=splits)
    write_manifest(manifest, str(directory))
    return manifest, arrays


def write_vocabularies(directory, dataset):
    """Numbers run backwards, so that nothing may take them for the order of the features."""
    found = {}
    owners = {feature.name: feature for feature in dataset.categorical}
    for place, name in enumerate(dataset.vocabulary_names):
        number = len(dataset.vocabulary_names) - place
        if name not in owners:
            found[name] = VocabularyInfo(number, "bins", 0, 0)
        elif owners[name].encoding == "hash":
            found[name] = VocabularyInfo(number, "hash", 0, VOCABULARY_SIZE + 1)
        else:
            path = "vocabulary/%s.parquet" % name
            os.makedirs(os.path.join(str(directory), "vocabulary"), exist_ok=True)
            values = ["%s%d" % (name, value) for value in range(VOCABULARY_SIZE)]
            pyarrow.parquet.write_table(pa.table({
                "value": pa.array(values, pa.string()), "count": pa.array([9] * VOCABULARY_SIZE, pa.int64()),
                "index": pa.array(range(1, VOCABULARY_SIZE + 1), pa.int64())}), os.path.join(str(directory), path))
            found[name] = VocabularyInfo(number, "vocabulary", VOCABULARY_SIZE + 1, VOCABULARY_SIZE, path,
                                         _sha256(os.path.join(str(directory), path)))
    return found


def write_split(directory, split, rows, dataset, line_per_sample, shards):
    """Writes the records of one split; returns what the manifest says of it."""
    count = len(rows.labels)
    os.makedirs(os.path.join(str(directory), split), exist_ok=True)
    records = [(start, min(start + line_per_sample, count)) for start in range(0, count, line_per_sample)]
    made = []
    for shard, part in enumerate(np.array_split(np.arange(len(records)), shards)):
        path = "%s/part-%05d-of-%05d.tfrecord" % (split, shard, shards)
        full = os.path.join(str(directory), path)
        with tf.io.TFRecordWriter(full) as writer:
            for number in part:
                writer.write(record_of(rows.take(slice(*records[number])), dataset, line_per_sample))
        made.append(Shard(path, sum(records[number][1] - records[number][0] for number in part), len(part),
                          os.path.getsize(full), _sha256(full)))
    unknown = ~np.isfinite(rows.labels) if rows.labels.dtype.kind == "f" else rows.labels < 0
    return Split(
        rows=count, positives={task.name: int((rows.labels[:, n] == 1).sum()) for n, task in enumerate(dataset.tasks)
                               if task.type == "binary"},
        unknown_labels={task: int(unknown[:, n].sum()) for n, task in enumerate(dataset.task_names)},
        out_of_vocabulary={}, cut_lists={}, duplicates=0, contradictions={}, bad_rows={}, inputs=(), shards=tuple(made))


def record_of(rows, dataset, line_per_sample):
    """One serialized record; rows that are missing are filled up."""
    missing = line_per_sample - len(rows.labels)
    filler = -np.inf if dataset.has_float_labels else -2

    def packed(values, fill):
        pad = np.full((missing,) + values.shape[1:], fill, values.dtype)
        return np.concatenate([values, pad]).ravel()

    def floats(values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    def integers(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    labels = packed(rows.labels, filler)
    features = {"label": floats(labels) if dataset.has_float_labels else integers(labels),
                "sparse_feature": integers(packed(rows.sparse, 0)), "dense_feature": floats(packed(rows.dense, 0.0))}
    if dataset.weight:
        features["weight"] = floats(packed(rows.weight, 0.0))
    if dataset.group:
        features["group"] = integers(packed(rows.group, 0))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def columns_of(dataset):
    """{feature: slice of its sparse values}."""
    ends = np.cumsum([feature.width for feature in dataset.categorical])
    return {feature.name: slice(end - feature.width, end) for feature, end in zip(dataset.categorical, ends)}


def keys_of(rows, manifest):
    """{categorical feature: int64 [n, width]} by the rule of the documentation: number << 40, plus the value."""
    dataset = manifest.dataset
    found = {}
    for feature in dataset.categorical:
        values = rows.sparse[:, columns_of(dataset)[feature.name]]
        number = manifest.vocabularies[feature.vocabulary or feature.name].number
        found[feature.name] = np.where(values < 0, 0, (number << 40) + values)
    return found


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()
