"""Evaluation metrics per task, exact at any class balance, made of stock ops.

All scores of one evaluation are kept in local variables of a size that is known beforehand; the areas under the curves
are computed from the sorted scores at the end, as scikit-learn does, with ties counted half.
"""
from typing import Dict, Sequence, Tuple

import tensorflow as tf

from estimator_app.metric_names import AUC_MEAN, AUC_PREFIX, EXAMPLES, LOSS

Metric = Tuple[tf.Tensor, tf.Operation]


def evaluation_metrics(logits: Dict[str, tf.Tensor], labels: Dict[str, tf.Tensor], losses: Dict[str, tf.Tensor],
                       valid: tf.Tensor, steps: int, batch_size: int) -> Dict[str, Metric]:
    """Builds the ``eval_metric_ops`` of an evaluation.

    Args:
        logits: {task: float32 [batch]}.
        labels: {task: int64 [batch]}, 0 or 1; anything in padding rows.
        losses: {task: float32 [batch]}, log loss of each row.
        valid: bool [batch], False in padding rows.
        steps: batches of the evaluation.
        batch_size: rows per batch.

    Returns:
        ``auc_<task>``, ``log_loss_<task>``, ``calibration_<task>`` (mean predicted over observed rate), ``auc_mean``,
        ``mean_loss`` (mean over tasks and rows) and ``examples``; all scalars.
    """
    weights = tf.cast(valid, tf.float32)
    metrics: Dict[str, Metric] = {}
    areas = []
    for task in logits:
        area = exact_auc(logits[task], labels[task], valid, steps, batch_size, task)
        areas.append(area)
        metrics[AUC_PREFIX + task] = area
        metrics["log_loss_" + task] = tf.compat.v1.metrics.mean(losses[task], weights, name="log_loss_" + task)
        predicted = tf.compat.v1.metrics.mean(tf.sigmoid(logits[task]), weights, name="predicted_" + task)
        observed = tf.compat.v1.metrics.mean(tf.cast(tf.equal(labels[task], 1), tf.float32), weights,
                                             name="observed_" + task)
        metrics["calibration_" + task] = (tf.math.divide_no_nan(predicted[0], observed[0]),
                                          tf.group(predicted[1], observed[1]))
    metrics[AUC_MEAN] = (tf.add_n([area[0] for area in areas]) / len(areas),
                           tf.group(*[area[1] for area in areas]))
    mean_loss = tf.add_n([losses[task] for task in logits]) / len(logits)
    metrics[LOSS] = tf.compat.v1.metrics.mean(mean_loss, weights, name=LOSS)
    metrics[EXAMPLES] = _count(valid)
    return metrics


def exact_auc(scores: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor, steps: int, batch_size: int,
              name: str) -> Metric:
    """Area under the ROC curve over all batches, exact: the share of ordered (negative, positive) pairs.

    Args:
        scores: float32 [batch], any monotonic score; must not be NaN.
        labels: int64 [batch].
        valid: bool [batch].
        steps: largest number of batches.
        batch_size: rows per batch.
        name: of the scope.

    Returns:
        Value float32 scalar (0 where a class is missing) and the update op.
    """
    with tf.compat.v1.variable_scope("exact_auc_%s" % name):
        kept_scores = local_variable("scores", [steps, batch_size], tf.float32)
        # +1 positive, -1 negative, 0 nothing (padding, or a batch that was never written).
        kept_classes = local_variable("classes", [steps, batch_size], tf.int32)
        step = local_variable("step", [], tf.int32)
        classes = tf.where(valid, tf.where(tf.equal(labels, 1), tf.ones_like(labels), -tf.ones_like(labels)),
                           tf.zeros_like(labels))
        with tf.control_dependencies([tf.debugging.Assert(step < steps, [
                "the evaluation has more batches than planned:", tf.constant(steps)])]):
            writes = [tf.compat.v1.scatter_update(kept_scores, step, tf.reshape(scores, [batch_size])),
                      tf.compat.v1.scatter_update(kept_classes, step, tf.cast(classes, tf.int32))]
        with tf.control_dependencies(writes):
            update = tf.compat.v1.assign_add(step, 1)
        value = auc_of(tf.reshape(kept_scores, [-1]), tf.reshape(kept_classes, [-1]))
    return value, update.op


def auc_of(scores: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Exact area under the ROC curve.

    Args:
        scores: float32 [n].
        classes: int32 [n], +1 positive, -1 negative, 0 not counted.

    Returns:
        float32 scalar; 0 where a class is missing.
    """
    positive, negative = tf.equal(classes, 1), tf.equal(classes, -1)
    # Rows that are no negatives sort behind every score, so they are never counted as smaller.
    infinity = tf.constant(float("inf"), tf.float32)
    # Only the filler is infinite: an infinite score counts as the largest number.
    scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
    ordered = tf.sort(tf.where(negative, scores, tf.fill(tf.shape(scores), infinity)))
    below = tf.searchsorted(ordered, scores, side="left", out_type=tf.int64)
    not_above = tf.searchsorted(ordered, scores, side="right", out_type=tf.int64)
    pairs = tf.reduce_sum(tf.where(positive, below + not_above, tf.zeros_like(below)))
    positives = tf.reduce_sum(tf.cast(positive, tf.int64))
    negatives = tf.reduce_sum(tf.cast(negative, tf.int64))
    # int64 sums are exact; only the final quotient is rounded.
    return tf.math.divide_no_nan(tf.cast(pairs, tf.float32), 2.0 * tf.cast(positives * negatives, tf.float32))


def _count(valid: tf.Tensor) -> Metric:
    total = local_variable("examples", [], tf.int64)
    update = tf.compat.v1.assign_add(total, tf.reduce_sum(tf.cast(valid, tf.int64)))
    return tf.identity(total), update.op


def local_variable(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    """Returns a variable that an evaluation starts at zero and no checkpoint holds."""
    return tf.compat.v1.get_variable(
        name, shape, dtype, initializer=tf.compat.v1.zeros_initializer(), trainable=False, use_resource=False,
        collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES, tf.compat.v1.GraphKeys.METRIC_VARIABLES])
