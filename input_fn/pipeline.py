"""The datasets: records in windows, parsed and shuffled window by window, cut into batches.

A whole window is parsed by one op and shuffled by one gather; only whole batches travel one by one. The order of the
rows is a function of (seed, epoch, window) and nothing else, so a training run continues at any step by arithmetic.
"""
import dataclasses
import os
from typing import Dict, Tuple

import numpy as np
import tensorflow as tf

from feature_specs.dataset import BINARY, DatasetDefinition
from feature_specs.encoding import FeatureEncoding
from feature_specs.manifest import Manifest, Split
from feature_specs.records import (
    DENSE_FEATURE,
    EVAL_WEIGHT,
    GROUP,
    LABEL,
    NO_VALUE,
    PADDING_LABEL,
    SPARSE_FEATURE,
    WEIGHT,
    is_padding,
)
from input_fn.encode import encode_rows
from input_fn.plan import TrainPlan

_READ_BUFFER_BYTES = 1 << 20
_INTERLEAVED_FILES = 4

Batch = Dict[str, tf.Tensor]

# The functions of a dataset hold no Python control flow on tensors; converting them costs seconds at every start.
_plain = tf.autograph.experimental.do_not_convert


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read, and how."""

    data_dir: str  # the prepared data
    manifest: Manifest
    encoding: FeatureEncoding
    seed: int  # of all shuffling
    shuffle_rows: int  # rows in the record shuffle buffer; 0 keeps the order
    window_rows: int  # rows parsed together
    parallel_calls: int  # windows parsed at a time
    rank_id: int = 0  # this and the next: the share of the records
    rank_size: int = 1
    # The weight column, or a numeric feature whose raw values evaluation batches carry; empty for none.
    eval_weight: str = ""

    def paths(self, split: Split) -> Tuple[str, ...]:
        """Returns the paths of a split's files that have rows."""
        return tuple(os.path.join(self.data_dir, shard.path) for shard in split.shards if shard.rows)


def extract_fn(records: tf.Tensor, dataset: DatasetDefinition, line_per_sample: int) -> Batch:
    """Parses serialized records, string [n], of L rows each into label [n, T*L], sparse_feature int64 [n, W*L],
    dense_feature float32 [n, D*L], and where the dataset has them weight float32 and group int64 [n, L]."""
    columns = {LABEL: (len(dataset.tasks), tf.float32 if dataset.has_float_labels else tf.int64),
               SPARSE_FEATURE: (dataset.sparse_width, tf.int64), DENSE_FEATURE: (len(dataset.numeric), tf.float32)}
    if dataset.weight:
        columns[WEIGHT] = 1, tf.float32
    if dataset.group:
        columns[GROUP] = 1, tf.int64
    return tf.io.parse_example(records, {name: tf.io.FixedLenFeature([width * line_per_sample], kind)
                                         for name, (width, kind) in columns.items()})


def reshape_fn(batch: Batch, dataset: DatasetDefinition) -> Batch:
    """Reshapes what :func:`extract_fn` returns into rows, [n*L, T], [n*L, W], [n*L, D] and [n*L, 1]."""
    # The number of rows comes from the labels: a dataset may have no numeric or no categorical feature.
    rows = tf.size(batch[LABEL]) // len(dataset.tasks)
    widths = {LABEL: len(dataset.tasks), SPARSE_FEATURE: dataset.sparse_width, DENSE_FEATURE: len(dataset.numeric)}
    return {name: tf.reshape(value, [rows, widths.get(name, 1)]) for name, value in batch.items()}


def checked_rows(records: tf.Tensor, manifest: Manifest, encoding: FeatureEncoding) -> Batch:
    """Returns the rows of serialized records as :func:`reshape_fn` does; evaluating them raises InvalidArgumentError
    where they hold what no preparation writes: a label that is none, an index or hash out of range, an infinite number
    or weight, a negative weight."""
    dataset = manifest.dataset
    rows = reshape_fn(extract_fn(records, dataset, manifest.line_per_sample), dataset)
    padding = tf.expand_dims(is_padding(rows[LABEL]), 1)
    sparse = rows[SPARSE_FEATURE]
    lowest = np.repeat([NO_VALUE if feature.is_list else 0 for feature in dataset.categorical],
                       [feature.width for feature in dataset.categorical]).astype(np.int64)
    conditions = {
        "labels that no preparation writes": _labels_are_sound(rows[LABEL], padding, dataset),
        "values out of range": (sparse < encoding.limits) & ((sparse >= lowest) | padding),
        "infinite numbers": tf.logical_not(tf.math.is_inf(rows[DENSE_FEATURE]))}
    if dataset.weight:
        conditions["weights that are negative or not finite"] = (rows[WEIGHT] >= 0) & tf.math.is_finite(rows[WEIGHT])
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(sound), [problem])
                                  for problem, sound in conditions.items()]):
        return {name: tf.identity(value) for name, value in rows.items()}


def training_batches(reading: Reading, split: Split, plan: TrainPlan, epochs: int, start_step: int) -> tf.data.Dataset:
    """Returns the training batches of one rank in ``epochs`` passes, from a step on that is counted from epoch 0:
    {label [B, T], int64 [B, width] keys per table, dense_feature float32 [B, D], weight float32 [B, 1]}."""
    manifest, seed, line_per_sample = reading.manifest, reading.seed, reading.manifest.line_per_sample
    first = plan.position(start_step)
    paths = list(reading.paths(split))
    full = [shard.rows // line_per_sample for shard in split.shards if shard.rows]
    shuffle_records = min(max(2, reading.shuffle_rows // line_per_sample), max(2, plan.share.full_records))

    @_plain
    def epoch_windows(epoch: tf.Tensor) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices((paths, tf.constant(full, tf.int64)))
        if reading.shuffle_rows:
            files = files.shuffle(len(paths), seed=_epoch_seed(seed, epoch), reshuffle_each_iteration=False)
        records = files.interleave(
            _plain(lambda path, count: tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES).take(count)),
            cycle_length=min(_INTERLEAVED_FILES, len(paths)), block_length=16)
        if reading.rank_size > 1:
            records = records.shard(reading.rank_size, reading.rank_id)
        if reading.shuffle_rows:
            records = records.shuffle(shuffle_records, seed=_epoch_seed(seed + 1, epoch),
                                      reshuffle_each_iteration=False)
        if plan.share.partial_rows:
            # Last in every epoch, so that its padding rows shorten only the last window.
            records = records.concatenate(tf.data.TFRecordDataset(paths[-1]).skip(full[-1]))
        is_first = tf.cast(tf.equal(epoch, first.epoch), tf.int64)
        windows = records.skip(is_first * first.window * plan.window_records).batch(plan.window_records)
        numbers = tf.data.Dataset.range(1 << 62).map(_plain(lambda number: (epoch, number + is_first * first.window)))
        return tf.data.Dataset.zip((windows, numbers))

    @_plain
    def parse(records: tf.Tensor, place: Tuple[tf.Tensor, tf.Tensor]) -> Batch:
        epoch, window = place
        rows = checked_rows(records, manifest, reading.encoding)
        order = tf.range(tf.shape(rows[LABEL])[0])
        if reading.shuffle_rows:
            random = tf.random.stateless_uniform(tf.shape(order), tf.stack([_epoch_seed(seed + 2, epoch), window]))
            order = tf.argsort(random)
        order = tf.boolean_mask(order, tf.logical_not(tf.gather(is_padding(rows[LABEL]), order)))
        # A rank with more rows than another one drops what goes beyond the common number of steps.
        left = plan.steps_per_epoch - tf.cast(window, tf.int32) * plan.window_batches
        batches = tf.minimum(tf.size(order) // plan.batch_size, left)
        order = order[:batches * plan.batch_size]
        return _encoded_batches({name: tf.gather(value, order) for name, value in rows.items() if name != GROUP},
                                reading.encoding, plan.batch_size)

    batches = tf.data.Dataset.range(first.epoch, epochs).flat_map(epoch_windows)
    batches = batches.map(parse, num_parallel_calls=reading.parallel_calls).unbatch()
    return batches.skip(first.batch) if first.batch else batches


def evaluation_batches(reading: Reading, split: Split, batch_size: int) -> tf.data.Dataset:
    """Returns every row once, in file order; the last batch is filled up with padding rows. Batches are as in training,
    with a group also group int64 [B, 1], with an evaluation weight eval_weight float32 [B, 1], 0 in padding rows."""
    dataset, line_per_sample = reading.manifest.dataset, reading.manifest.line_per_sample
    window_rows = max(1, reading.window_rows // batch_size) * batch_size
    records = tf.data.TFRecordDataset(list(reading.paths(split)), buffer_size=_READ_BUFFER_BYTES)
    if reading.rank_size > 1:
        records = records.shard(reading.rank_size, reading.rank_id)
    filler = {LABEL: -np.inf if dataset.has_float_labels else PADDING_LABEL}

    @_plain
    def pad_and_encode(rows: Batch) -> Batch:
        missing = -tf.shape(rows[LABEL])[0] % batch_size
        padded = {name: tf.pad(value, [[0, missing], [0, 0]], constant_values=filler.get(name, 0))
                  for name, value in rows.items()}
        if reading.eval_weight and reading.eval_weight == dataset.weight:
            padded[EVAL_WEIGHT] = padded[WEIGHT]
        elif reading.eval_weight:
            place = [feature.name for feature in dataset.numeric].index(reading.eval_weight)
            weights = padded[DENSE_FEATURE][:, place:place + 1]
            padded[EVAL_WEIGHT] = tf.where(tf.math.is_nan(weights), tf.zeros_like(weights), weights)
        return _encoded_batches(padded, reading.encoding, batch_size)

    windows = records.batch(max(1, window_rows // line_per_sample)).map(
        _plain(lambda window: checked_rows(window, reading.manifest, reading.encoding)),
        num_parallel_calls=reading.parallel_calls)
    if window_rows % line_per_sample:
        # Windows must hold whole batches: regroup the rows where the packing does not fit.
        windows = windows.unbatch().batch(window_rows)
    return windows.map(pad_and_encode, num_parallel_calls=reading.parallel_calls).unbatch()


def _labels_are_sound(labels: tf.Tensor, padding: tf.Tensor, dataset: DatasetDefinition) -> tf.Tensor:
    """Returns bool [n, T]; ``padding`` is bool [n, 1]: all labels of a padding row are marked, and no others."""
    if labels.dtype.is_floating:
        marked = tf.math.is_inf(labels)
        any_number = tf.constant([task.kind != BINARY for task in dataset.tasks])
        fits = tf.equal(labels, 0) | tf.equal(labels, 1) | tf.math.is_nan(labels) | any_number
    else:
        marked = tf.equal(labels, PADDING_LABEL)
        fits = (labels > PADDING_LABEL) & (labels <= 1)
    return tf.equal(marked, padding) & (fits | marked)


def _encoded_batches(rows: Batch, encoding: FeatureEncoding, batch_size: int) -> Batch:
    """Encodes rows that fill whole batches and cuts them: [batches, batch_size, width]."""
    keys, numbers = encode_rows(rows[SPARSE_FEATURE], rows[DENSE_FEATURE], encoding)
    encoded = {**rows, **keys, DENSE_FEATURE: numbers}
    del encoded[SPARSE_FEATURE]
    return {name: tf.reshape(value, [tf.shape(value)[0] // batch_size, batch_size, value.shape[1].value])
            for name, value in encoded.items()}


def _epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    # Odd multiplier: epochs of neighbouring seeds do not meet.
    return tf.cast(seed, tf.int64) * 1000003 + epoch
