"""The reference way: what the original port does, on a stock Estimator, for any dataset.

Rows are parsed one by one; plain Adam updates the whole table; areas come from 200 thresholds. With the ``sum`` input
layer looked-up rows are gathered and summed into eight experts, as the original does; with ``concat`` every
field's rows are averaged over its values and the vectors concatenated. Initial values are random: with the original's
constants the work would be the same.
"""
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import tensorflow as tf

from estimator_app.config import SUM
from estimator_app.model.definition import Model
from feature_specs.dataset import BINARY
from feature_specs.manifest import Manifest
from feature_specs.records import DENSE_FEATURE, LABEL, SPARSE_FEATURE, table_keys

SHUFFLE_ROWS, PREFETCH, PARALLEL_READS = 32000, 100, 8


def batches(manifest: Manifest, data_dir: str, split: str, batch_size: int, training: bool) -> tf.data.Dataset:
    """Returns the input pipeline: records one by one, then batches of label, dense_feature and sparse_feature.

    Args:
        manifest: of data with one row per record.
        data_dir: the data.
        split: name of the split.
        batch_size: rows per batch; the remainder is dropped.
        training: shuffled and endless.
    """
    dataset = manifest.dataset
    kind = tf.float32 if dataset.has_float_labels else tf.int64
    first, sizes = _places(manifest)

    def parse(record: tf.Tensor) -> Dict[str, tf.Tensor]:
        row = tf.io.parse_single_example(record, {
            LABEL: tf.io.FixedLenFeature([len(dataset.tasks)], kind),
            SPARSE_FEATURE: tf.io.FixedLenFeature([dataset.sparse_width], tf.int64),
            DENSE_FEATURE: tf.io.FixedLenFeature([len(dataset.numeric)], tf.float32)})
        value = row[SPARSE_FEATURE]
        # Place 0 is for what is missing.
        ids = tf.where(value < 0, tf.zeros_like(value), tf.math.floormod(value, sizes) + first)
        numbers = row[DENSE_FEATURE]
        known = tf.where(tf.math.is_nan(numbers), tf.zeros_like(numbers), numbers)
        return {LABEL: row[LABEL], SPARSE_FEATURE: ids, DENSE_FEATURE: tf.math.log1p(tf.abs(known))}

    rows = tf.data.TFRecordDataset(["%s/%s" % (data_dir, shard.path) for shard in manifest.split(split).shards],
                                   num_parallel_reads=PARALLEL_READS)
    if training:
        rows = rows.shuffle(SHUFFLE_ROWS, seed=128).repeat()
    return rows.map(parse).batch(batch_size, drop_remainder=True).prefetch(PREFETCH)


def from_ours(model: Model, ours: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Turns batches of ours into batches of the reference: the same rows, keys numbered one by one from 1."""
    keys = np.concatenate([ours[table_keys(table.name)] for table in model.encoding.tables], axis=2)
    found, places = np.unique(keys, return_inverse=True)
    return {LABEL: ours[LABEL], DENSE_FEATURE: ours[DENSE_FEATURE],
            SPARSE_FEATURE: places.reshape(keys.shape).astype(np.int64) + (0 if found[0] == 0 else 1)}


def model_fn_of(model: Model, table_rows: int = 0) -> Callable[..., tf.estimator.EstimatorSpec]:
    """Returns the model function of the reference model; ``table_rows`` 0: a row per value."""
    first, sizes = _places(model.manifest)
    rows = table_rows or int((first + sizes).max())
    binary = [task.name for task in model.manifest.dataset.tasks if task.type == BINARY]
    numbers = {task.name: place for place, task in enumerate(model.manifest.dataset.tasks)}

    def model_fn(features: Dict[str, tf.Tensor], labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        del labels
        logits = _network(features, model, rows)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={task: tf.sigmoid(logits[task]) for task in binary})
        label = tf.cast(features[LABEL], tf.float32)
        known = tf.cast(tf.math.is_finite(label), tf.float32)
        label = tf.where(tf.math.is_finite(label), label, tf.zeros_like(label))
        losses = []
        for task, place in numbers.items():
            each = (tf.nn.sigmoid_cross_entropy_with_logits(labels=label[:, place], logits=logits[task])
                    if task in binary else tf.square(logits[task] - tf.math.log1p(label[:, place])))
            losses.append(tf.reduce_mean(each * known[:, place]))
        loss = tf.add_n(losses) / float(len(losses))
        if mode == tf.estimator.ModeKeys.TRAIN:
            step = tf.compat.v1.train.get_global_step()
            return tf.estimator.EstimatorSpec(
                mode, loss=loss, train_op=tf.compat.v1.train.AdamOptimizer(0.001).minimize(loss, global_step=step))
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={
            "auc_" + task: tf.compat.v1.metrics.auc(label[:, numbers[task]], tf.sigmoid(logits[task]),
                                                    num_thresholds=200) for task in binary})

    return model_fn


def estimator(model: Model, model_dir: str, save_steps: int, threads: int) -> tf.estimator.Estimator:
    """Returns the stock Estimator of the reference model."""
    session_config = tf.compat.v1.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=threads,
                                              inter_op_parallelism_threads=threads)
    return tf.estimator.Estimator(model_fn_of(model), config=tf.estimator.RunConfig(
        model_dir=model_dir, tf_random_seed=1, save_checkpoints_steps=save_steps, save_summary_steps=None,
        log_step_count_steps=None, session_config=session_config))


def _places(manifest: Manifest) -> Tuple[np.ndarray, np.ndarray]:
    """Returns int64 [W] twice: the first row of a value's vocabulary in one table, and the vocabulary's size."""
    starts, sizes, begin = {}, {}, 1
    for name, info in manifest.vocabularies.items():
        starts[name], sizes[name] = begin, max(info.size, info.distinct) + 1
        begin += sizes[name]
    names = [feature.vocabulary or feature.name for feature in manifest.dataset.categorical
             for _ in range(feature.width)]
    return (np.array([starts[name] for name in names], np.int64), np.array([sizes[name] for name in names], np.int64))


def _network(features: Dict[str, tf.Tensor], model: Model, table_rows: int) -> Dict[str, tf.Tensor]:
    config, tasks = model.config, model.manifest.dataset.task_names
    is_sum, count, units = config.input_layer == SUM, config.expert_num, config.expert_layers[0]
    dense, ids = features[DENSE_FEATURE], features[SPARSE_FEATURE]
    width = count * (units + len(tasks)) if is_sum else config.embedding_dim
    table = tf.compat.v1.get_variable("table", [table_rows, width],
                                      initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.05))
    embedded = tf.nn.embedding_lookup(table, ids)
    experts: List[tf.Tensor] = []
    if is_sum:
        summed = tf.reduce_sum(embedded, axis=1)
        first = [tf.compat.v1.layers.dense(dense, units) + summed[:, number * units:(number + 1) * units]
                 for number in range(count)]
        gates = [tf.compat.v1.layers.dense(dense, count) + summed[:, begin:begin + count]
                 for begin in range(count * units, width, count)]
    else:
        widths = [feature.width for feature in model.manifest.dataset.categorical]
        if int(ids.shape[1]) > sum(widths):  # Bins of ours, of which the reference makes fields too.
            widths += [1] * (int(ids.shape[1]) - sum(widths))
        mask = tf.expand_dims(tf.cast(ids > 0, tf.float32), 2)
        parts = zip(tf.split(embedded, widths, axis=1), tf.split(mask, widths, axis=1))
        vectors = [tf.math.divide_no_nan(tf.reduce_sum(part * there, 1), tf.broadcast_to(
            tf.reduce_sum(there, 1), tf.shape(part[:, 0]))) for part, there in parts]
        whole = tf.concat(vectors + [dense], axis=1)
        first = [tf.compat.v1.layers.dense(whole, units) for _ in range(count)]
        gates = [tf.compat.v1.layers.dense(whole, count) for _ in tasks]
    for hidden in first:
        hidden = tf.nn.relu(hidden)
        for size in config.expert_layers[1:]:
            hidden = tf.compat.v1.layers.dense(hidden, size, activation=tf.nn.relu)
        experts.append(hidden)
    stacked = tf.stack(experts, axis=1)
    logits = {}
    for task, gate in zip(tasks, gates):
        hidden = tf.reduce_sum(tf.expand_dims(tf.nn.softmax(gate), 2) * stacked, axis=1)
        for size in config.tower_layers:
            hidden = tf.compat.v1.layers.dense(hidden, size, activation=tf.nn.relu)
        logits[task] = tf.compat.v1.layers.dense(hidden, 1)[:, 0]
    return logits
