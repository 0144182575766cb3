"""The reference way, written anew: what the original port does, on a stock Estimator.

Rows are parsed one by one; ten small dense layers on the numbers; the looked-up rows are gathered and summed; plain
Adam updates the whole table; the area under the curve comes from 200 thresholds. Initial values are random ones: with
the original's constants the work would be the same.
"""
from typing import Any, Callable, Dict, List

import tensorflow as tf

from feature_specs.dataset import DENSE_FEATURE, LABEL, SPARSE_FEATURE
from feature_specs.manifest import Manifest

EXPERTS, EXPERT_SIZE, TOWER_SIZE = 8, 16, 8
SHUFFLE_ROWS, PREFETCH, PARALLEL_READS = 32000, 100, 8
_EPSILON = 1e-4


def batches(manifest: Manifest, data_dir: str, split: str, batch_size: int, training: bool) -> tf.data.Dataset:
    """Returns the input pipeline: records one by one, then batches.

    Args:
        manifest: of data with one row per record.
        data_dir: the data.
        split: name of the split.
        batch_size: rows per batch; the remainder is dropped.
        training: shuffled and endless.
    """
    dataset = manifest.dataset

    def parse(record: tf.Tensor) -> Dict[str, tf.Tensor]:
        return tf.io.parse_single_example(record, {
            LABEL: tf.io.FixedLenFeature([dataset.num_tasks], tf.int64),
            SPARSE_FEATURE: tf.io.FixedLenFeature([dataset.num_sparse], tf.int64),
            DENSE_FEATURE: tf.io.FixedLenFeature([dataset.num_dense], tf.float32)})

    rows = tf.data.TFRecordDataset(["%s/%s" % (data_dir, shard.path) for shard in manifest.split(split).shards],
                                   num_parallel_reads=PARALLEL_READS)
    if training:
        rows = rows.shuffle(SHUFFLE_ROWS, seed=128).repeat()
    return rows.map(parse).batch(batch_size, drop_remainder=True).prefetch(PREFETCH)


def model_fn_of(manifest: Manifest, table_rows: int = 0) -> Callable[..., tf.estimator.EstimatorSpec]:
    """Returns the model function of the reference model.

    Args:
        manifest: columns, tasks and ids.
        table_rows: rows of the table; 0 for one per id.
    """
    tasks = manifest.dataset.task_names
    rows = table_rows or manifest.num_ids()

    def model_fn(features: Dict[str, tf.Tensor], labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        del labels
        probabilities = _network(features, tasks, rows)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=probabilities)
        label = tf.cast(features[LABEL], tf.float32)
        loss = tf.add_n([tf.compat.v1.losses.log_loss(label[:, number], probabilities[task], epsilon=_EPSILON)
                         for number, task in enumerate(tasks)]) / float(len(tasks))
        if mode == tf.estimator.ModeKeys.TRAIN:
            step = tf.compat.v1.train.get_global_step()
            return tf.estimator.EstimatorSpec(
                mode, loss=loss, train_op=tf.compat.v1.train.AdamOptimizer(0.001).minimize(loss, global_step=step))
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={
            "auc_" + task: tf.compat.v1.metrics.auc(label[:, number], probabilities[task], num_thresholds=200)
            for number, task in enumerate(tasks)})

    return model_fn


def estimator(manifest: Manifest, model_dir: str, save_steps: int, threads: int) -> tf.estimator.Estimator:
    """Returns the stock Estimator of the reference model."""
    session_config = tf.compat.v1.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=threads,
                                              inter_op_parallelism_threads=threads)
    return tf.estimator.Estimator(model_fn_of(manifest), config=tf.estimator.RunConfig(
        model_dir=model_dir, tf_random_seed=1, save_checkpoints_steps=save_steps, save_summary_steps=None,
        log_step_count_steps=None, session_config=session_config))


def _network(features: Dict[str, tf.Tensor], tasks: Any, table_rows: int) -> Dict[str, tf.Tensor]:
    width = EXPERTS * EXPERT_SIZE + len(tasks) * EXPERTS
    table = tf.compat.v1.get_variable("table", [table_rows, width],
                                      initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.05))
    embedded = tf.reduce_sum(tf.nn.embedding_lookup(table, features[SPARSE_FEATURE]), axis=1)
    dense = features[DENSE_FEATURE]
    experts: List[tf.Tensor] = []
    for number in range(EXPERTS):
        part = embedded[:, number * EXPERT_SIZE:(number + 1) * EXPERT_SIZE]
        experts.append(tf.nn.relu(tf.compat.v1.layers.dense(dense, EXPERT_SIZE) + part))
    stacked = tf.stack(experts, axis=1)
    probabilities = {}
    for number, task in enumerate(tasks):
        begin = EXPERTS * EXPERT_SIZE + number * EXPERTS
        gate = tf.nn.softmax(tf.compat.v1.layers.dense(dense, EXPERTS) + embedded[:, begin:begin + EXPERTS])
        mixed = tf.reduce_sum(tf.expand_dims(gate, 2) * stacked, axis=1)
        hidden = tf.compat.v1.layers.dense(mixed, TOWER_SIZE, activation=tf.nn.relu)
        both = tf.nn.softmax(tf.compat.v1.layers.dense(hidden, 2))
        probabilities[task] = tf.clip_by_value(both[:, 1], 1e-15, 1 - 1e-15)
    return probabilities
