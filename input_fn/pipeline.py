"""The datasets: records in windows, parsed and shuffled window by window, cut into batches.

A whole window is parsed by one op and shuffled by one gather; only whole batches travel one by one. The order of the
rows is a function of (seed, epoch, window) and nothing else, so a training run continues at any step by arithmetic.
"""
from typing import Callable, Dict, Sequence, Tuple

import tensorflow as tf

from feature_specs.dataset import DENSE_FEATURE, EVAL_WEIGHT, LABEL, SPARSE_FEATURE, DatasetDefinition
from feature_specs.encoding import FeatureEncoding
from feature_specs.manifest import Shard
from input_fn.encode import encode_rows
from input_fn.plan import TrainPlan, batch_of_step
from input_fn.record_file import shard_path

PADDING_LABEL = -1
_READ_BUFFER_BYTES = 1 << 20
_INTERLEAVED_FILES = 4

Batch = Dict[str, tf.Tensor]

# The functions of a dataset hold no Python control flow on tensors; converting them costs seconds at every start.
_plain = tf.autograph.experimental.do_not_convert


def extract_fn(records: tf.Tensor, dataset: DatasetDefinition, line_per_sample: int) -> Batch:
    """Parses a batch of serialized records.

    Args:
        records: string [n].
        dataset: T tasks, S sparse and D dense columns.
        line_per_sample: L, rows per record.

    Returns:
        label int64 [n, T*L], sparse_feature int64 [n, S*L], dense_feature float32 [n, D*L].
    """
    return tf.io.parse_example(records, {
        LABEL: tf.io.FixedLenFeature([dataset.num_tasks * line_per_sample], tf.int64),
        SPARSE_FEATURE: tf.io.FixedLenFeature([dataset.num_sparse * line_per_sample], tf.int64),
        DENSE_FEATURE: tf.io.FixedLenFeature([dataset.num_dense * line_per_sample], tf.float32),
    })


def reshape_fn(batch: Batch, dataset: DatasetDefinition) -> Batch:
    """Reshapes packed records into rows.

    Args:
        batch: what :func:`extract_fn` returns, n records of L rows.
        dataset: T tasks, S sparse and D dense columns.

    Returns:
        label int64 [n*L, T], sparse_feature int64 [n*L, S], dense_feature float32 [n*L, D].
    """
    return {
        LABEL: tf.reshape(batch[LABEL], [-1, dataset.num_tasks]),
        SPARSE_FEATURE: tf.reshape(batch[SPARSE_FEATURE], [-1, dataset.num_sparse]),
        # The number of rows comes from the labels: a dataset may have no dense column.
        DENSE_FEATURE: tf.reshape(batch[DENSE_FEATURE],
                                  [tf.size(batch[LABEL]) // dataset.num_tasks, dataset.num_dense]),
    }


def checked_rows(rows: Batch, num_sparse_ids: int) -> Batch:
    """Fails the pipeline where rows hold what no preparation writes.

    Args:
        rows: what :func:`reshape_fn` returns.
        num_sparse_ids: number of ids that the manifest knows.

    Returns:
        The same rows; evaluating them raises InvalidArgumentError where a label is not 0, 1 or the padding mark of a
        whole row, an id is negative or beyond the manifest's, or a number is not finite.
    """
    label, ids, dense = rows[LABEL], rows[SPARSE_FEATURE], rows[DENSE_FEATURE]
    is_padding = tf.equal(label, PADDING_LABEL)
    whole_rows = tf.reduce_all(tf.equal(is_padding, is_padding[:, :1]))
    checks = [
        tf.debugging.Assert(whole_rows & tf.reduce_all((label >= PADDING_LABEL) & (label <= 1)),
                            ["labels outside 0 and 1"]),
        tf.debugging.Assert(tf.reduce_all((ids >= 0) & (ids < num_sparse_ids)), ["ids outside the vocabulary"]),
        tf.debugging.Assert(tf.reduce_all(tf.math.is_finite(dense)), ["numbers that are not finite"])]
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in rows.items()}


def training_batches(directory: str, shards: Sequence[Shard], dataset: DatasetDefinition, encoding: FeatureEncoding,
                     plan: TrainPlan, epochs: int, seed: int, shuffle_rows: int, start_step: int = 0, rank_id: int = 0,
                     rank_size: int = 1, parallel_calls: int = 2, skipped: Sequence[int] = ()) -> tf.data.Dataset:
    """Returns the training batches of one rank from a given step on.

    Args:
        directory: the data directory.
        shards: files of the split.
        dataset: its definition.
        encoding: constants of the encoding.
        plan: the arithmetic of this pipeline.
        epochs: passes over the data.
        seed: of all shuffling, int >= 0.
        shuffle_rows: rows in the record shuffle buffer; 0 keeps the order of the files.
        start_step: the first batch to yield, counted from the beginning of epoch 0.
        rank_id, rank_size: share of the records.
        parallel_calls: windows parsed at a time.
        skipped: batches that are left out, counted from the beginning of epoch 0; passes over the data follow until
            all steps have a batch.

    Returns:
        Batches {label int64 [B, T], sparse_feature int64 [B, S+K], dense_feature float32 [B, D]}.
    """
    first_batch = batch_of_step(start_step, skipped)
    start = plan.position(first_batch)
    epochs += -(-len(set(skipped)) // plan.steps_per_epoch)
    line_per_sample = plan.line_per_sample
    paths = [shard_path(directory, shard) for shard in shards if shard.rows]
    full = [shard.rows // line_per_sample for shard in shards if shard.rows]
    shuffle_records = min(max(2, shuffle_rows // line_per_sample), max(2, plan.share.full_records))

    @_plain
    def epoch_windows(epoch: tf.Tensor) -> tf.data.Dataset:
        files = tf.data.Dataset.from_tensor_slices((paths, tf.constant(full, tf.int64)))
        if shuffle_rows:
            files = files.shuffle(len(paths), seed=_epoch_seed(seed, epoch), reshuffle_each_iteration=False)
        records = files.interleave(
            _plain(lambda path, count: tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES).take(count)),
            cycle_length=min(_INTERLEAVED_FILES, len(paths)), block_length=16)
        if rank_size > 1:
            records = records.shard(rank_size, rank_id)
        if shuffle_rows:
            records = records.shuffle(shuffle_records, seed=_epoch_seed(seed + 1, epoch),
                                      reshuffle_each_iteration=False)
        if plan.share.partial_rows:
            # Last in every epoch, so that its padding rows shorten only the last window.
            records = records.concatenate(tf.data.TFRecordDataset(paths[-1]).skip(full[-1]))
        is_first = tf.equal(epoch, start.epoch)
        records = records.skip(tf.where(is_first, tf.constant(start.record, tf.int64), tf.constant(0, tf.int64)))
        first_window = tf.where(is_first, tf.constant(start.window, tf.int64), tf.constant(0, tf.int64))
        windows = records.batch(plan.window_records)
        numbers = tf.data.Dataset.range(1 << 62).map(_plain(lambda number: (epoch, number + first_window)))
        return tf.data.Dataset.zip((windows, numbers))

    @_plain
    def parse(records: tf.Tensor, place: Tuple[tf.Tensor, tf.Tensor]) -> Batch:
        rows = checked_rows(reshape_fn(extract_fn(records, dataset, line_per_sample), dataset),
                            encoding.num_sparse_ids)
        order = _row_order(rows[LABEL], seed, place[0], place[1], bool(shuffle_rows))
        # A rank with more rows than another one drops what goes beyond the common number of steps.
        left = plan.steps_per_epoch - tf.cast(place[1], tf.int32) * plan.window_batches
        batches = tf.minimum(tf.size(order) // plan.batch_size, left)
        order = order[:batches * plan.batch_size]
        rows = {name: tf.gather(value, order) for name, value in rows.items()}
        return _cut(_encode(rows, encoding), plan.batch_size)

    batches = tf.data.Dataset.range(start.epoch, epochs).flat_map(epoch_windows)
    batches = batches.map(parse, num_parallel_calls=parallel_calls)
    batches = batches.apply(tf.data.experimental.unbatch())
    batches = batches.skip(start.batch_in_window) if start.batch_in_window else batches
    return _without(batches, first_batch, skipped)


def evaluation_batches(directory: str, shards: Sequence[Shard], dataset: DatasetDefinition, encoding: FeatureEncoding,
                       line_per_sample: int, batch_size: int, window_rows: int, rank_id: int = 0, rank_size: int = 1,
                       parallel_calls: int = 2, weight_column: str = "") -> tf.data.Dataset:
    """Returns every row once, in file order; the last batch is filled up with rows whose label is -1.

    Args:
        directory: the data directory.
        shards: files of the split.
        dataset: its definition.
        encoding: constants of the encoding.
        line_per_sample: rows per record.
        batch_size: B, rows per batch.
        window_rows: about how many rows are parsed together.
        rank_id, rank_size: share of the records.
        parallel_calls: windows parsed at a time.
        weight_column: dense column whose raw values the batches carry besides; empty for none.

    Returns:
        Batches {label int64 [B, T], sparse_feature int64 [B, S+K], dense_feature float32 [B, D]}, with a weight column
        also eval_weight float32 [B, 1], 0 in padding rows.
    """
    window_batches = max(1, window_rows // batch_size)
    records = tf.data.TFRecordDataset([shard_path(directory, shard) for shard in shards],
                                      buffer_size=_READ_BUFFER_BYTES)
    if rank_size > 1:
        records = records.shard(rank_size, rank_id)

    @_plain
    def parse(window: tf.Tensor) -> Batch:
        return checked_rows(reshape_fn(extract_fn(window, dataset, line_per_sample), dataset),
                            encoding.num_sparse_ids)

    @_plain
    def pad_and_encode(rows: Batch) -> Batch:
        missing = -tf.shape(rows[LABEL])[0] % batch_size
        padded = {
            name: tf.pad(value, [[0, missing], [0, 0]], constant_values=PADDING_LABEL if name == LABEL else 0)
            for name, value in rows.items()}
        encoded = _encode(padded, encoding)
        if weight_column:
            place = dataset.dense_columns.index(weight_column)
            encoded[EVAL_WEIGHT] = padded[DENSE_FEATURE][:, place:place + 1]
        return _cut(encoded, batch_size)

    if (window_batches * batch_size) % line_per_sample:
        # Windows must hold whole batches: regroup the rows where the packing does not fit.
        rows = records.batch(max(1, window_rows // line_per_sample)).map(parse, num_parallel_calls=parallel_calls)
        windows = rows.apply(tf.data.experimental.unbatch()).batch(window_batches * batch_size)
    else:
        windows = records.batch(window_batches * batch_size // line_per_sample).map(
            parse, num_parallel_calls=parallel_calls)
    return windows.map(pad_and_encode, num_parallel_calls=parallel_calls).apply(tf.data.experimental.unbatch())


def with_timestamp(key: str, make: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[Batch], Batch]:
    """Returns the map function that adds the scalar int64 timestamp of a batch.

    Args:
        key: name of the entry.
        make: from the batch's labels to the timestamp.
    """
    @_plain
    def add(batch: Batch) -> Batch:
        return dict(batch, **{key: make(tf.cast(batch[LABEL], tf.int64))})
    return add


def _without(batches: tf.data.Dataset, first: int, skipped: Sequence[int]) -> tf.data.Dataset:
    """Leaves batches out; the first one of the dataset has the given number."""
    if not any(number >= first for number in skipped):
        return batches
    left_out = tf.constant(sorted(set(skipped)), tf.int64)
    numbered = tf.data.Dataset.zip((tf.data.Dataset.range(first, 1 << 62), batches))
    return numbered.filter(lambda number, batch: tf.reduce_all(tf.not_equal(left_out, number))).map(
        lambda number, batch: batch)


def _encode(rows: Batch, encoding: FeatureEncoding) -> Batch:
    ids, dense = encode_rows(rows[SPARSE_FEATURE], rows[DENSE_FEATURE], encoding)
    return {LABEL: rows[LABEL], SPARSE_FEATURE: ids, DENSE_FEATURE: dense}


def _cut(rows: Batch, batch_size: int) -> Batch:
    return {name: tf.reshape(value, [tf.shape(value)[0] // batch_size, batch_size, value.shape[1].value])
            for name, value in rows.items()}


def _row_order(labels: tf.Tensor, seed: int, epoch: tf.Tensor, window: tf.Tensor, shuffle: bool) -> tf.Tensor:
    """Returns int32 [valid rows]: the rows of a window that are no padding, shuffled."""
    count = tf.shape(labels)[0]
    if shuffle:
        order = tf.argsort(tf.random.stateless_uniform(
            [count], seed=tf.stack([_epoch_seed(seed + 2, epoch), window])))
    else:
        order = tf.range(count)
    return tf.boolean_mask(order, tf.gather(labels[:, 0], order) >= 0)


def _epoch_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    # Odd multiplier: epochs of neighbouring seeds do not meet.
    return tf.cast(seed, tf.int64) * 1000003 + epoch
