"""Evaluation metrics per task, exact at any class balance, made of stock ops.

All scores of one evaluation are kept in local variables of a size that is known beforehand; the areas under the curves
are computed from the sorted scores at the end (:mod:`estimator_app.model.curves`), as scikit-learn does.
"""
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf

from estimator_app.metric_names import (
    AUC_MEAN,
    AUC_PREFIX,
    CALIBRATION_PREFIX,
    EXAMPLES,
    LOG_LOSS_PREFIX,
    LOSS,
    PR_AUC_PREFIX,
    RELIABILITY_PREFIX,
    WEIGHTED_PREFIX,
)
from estimator_app.model import curves
from estimator_app.model.rank_merge import RankMerge

Metric = Tuple[tf.Tensor, tf.Operation]

RELIABILITY_BINS = 15


class KeptScores(NamedTuple):
    """The scores of all batches of an evaluation.

    Attributes:
        scores: float32 [ranks * steps * batch].
        classes: int32 [ranks * steps * batch], +1 positive, -1 negative, 0 padding, or a batch that was never written.
        weights: float32 [ranks * steps * batch], or None where rows have no weights.
        update: the op that writes a batch.
    """

    scores: tf.Tensor
    classes: tf.Tensor
    weights: Optional[tf.Tensor]
    update: tf.Operation


def evaluation_metrics(logits: Dict[str, tf.Tensor], labels: Dict[str, tf.Tensor], losses: Dict[str, tf.Tensor],
                       valid: tf.Tensor, steps: int, batch_size: int,
                       row_weights: Optional[tf.Tensor] = None,
                       merge: Optional[RankMerge] = None) -> Dict[str, Metric]:
    """Builds the ``eval_metric_ops`` of an evaluation.

    Args:
        logits: {task: float32 [batch]}.
        labels: {task: int64 [batch]}, 0 or 1; anything in padding rows.
        losses: {task: float32 [batch]}, log loss of each row.
        valid: bool [batch], False in padding rows.
        steps: batches of the evaluation.
        batch_size: rows per batch.
        row_weights: float32 [batch], not negative, for the weighted scores; None for none.
        merge: over the ranks, each of which sees its share of the rows; None for one rank. Every rank gets the metrics
            of all rows.

    Returns:
        ``auc_<task>``, ``pr_auc_<task>`` (average precision), ``log_loss_<task>``, ``calibration_<task>`` (mean
        predicted over observed rate), ``auc_mean``, ``mean_loss`` (mean over tasks and rows) and ``examples``, all
        scalars; ``reliability_<task>`` float32 [3, bins], see :func:`curves.reliability`. With row weights the first
        four again, weighted, as ``weighted_<name>``.
    """
    merge = merge or RankMerge()
    weights = tf.cast(valid, tf.float32)
    metrics: Dict[str, Metric] = {}
    aucs = []
    for task in logits:
        kept = keep_scores(logits[task], labels[task], valid, steps, batch_size, task, merge, row_weights)
        ranking = curves.rank(kept.scores, kept.classes)
        auc, pr_auc = curves.areas(ranking)
        aucs.append((auc, kept.update))
        metrics[AUC_PREFIX + task], metrics[PR_AUC_PREFIX + task] = (auc, kept.update), (pr_auc, kept.update)
        metrics[RELIABILITY_PREFIX + task] = (curves.reliability(ranking, RELIABILITY_BINS), kept.update)
        metrics.update(_means(task, logits[task], labels[task], losses[task], weights, "", merge))
        if row_weights is not None:
            auc, pr_auc = curves.areas(ranking, kept.weights)
            metrics[WEIGHTED_PREFIX + AUC_PREFIX + task] = (auc, kept.update)
            metrics[WEIGHTED_PREFIX + PR_AUC_PREFIX + task] = (pr_auc, kept.update)
            metrics.update(_means(task, logits[task], labels[task], losses[task], weights * row_weights,
                                  WEIGHTED_PREFIX, merge))
    metrics[AUC_MEAN] = (tf.add_n([auc for auc, _ in aucs]) / len(aucs), tf.group(*[update for _, update in aucs]))
    mean_loss = tf.add_n([losses[task] for task in logits]) / len(logits)
    metrics[LOSS] = weighted_mean(mean_loss, weights, LOSS, merge)
    metrics[EXAMPLES] = _count(valid, merge)
    return metrics


def keep_scores(scores: tf.Tensor, labels: tf.Tensor, valid: tf.Tensor, steps: int, batch_size: int, name: str,
                merge: RankMerge, row_weights: Optional[tf.Tensor] = None) -> KeptScores:
    """Keeps the scores of all batches.

    Args:
        scores: float32 [batch], any monotonic score; must not be NaN.
        labels: int64 [batch].
        valid: bool [batch].
        steps: largest number of batches.
        batch_size: rows per batch.
        name: of the scope.
        merge: over the ranks.
        row_weights: float32 [batch], or None.
    """
    with tf.compat.v1.variable_scope("exact_auc_%s" % name):
        kept_scores = local_variable("scores", [steps, batch_size], tf.float32)
        kept_classes = local_variable("classes", [steps, batch_size], tf.int32)
        step = local_variable("step", [], tf.int32)
        classes = tf.where(valid, tf.where(tf.equal(labels, 1), tf.ones_like(labels), -tf.ones_like(labels)),
                           tf.zeros_like(labels))
        kept_weights = None if row_weights is None else local_variable("weights", [steps, batch_size], tf.float32)
        with tf.control_dependencies([tf.debugging.Assert(step < steps, [
                "the evaluation has more batches than planned:", tf.constant(steps)])]):
            writes = [tf.compat.v1.scatter_update(kept_scores, step, tf.reshape(scores, [batch_size])),
                      tf.compat.v1.scatter_update(kept_classes, step, tf.cast(classes, tf.int32))]
            if row_weights is not None:
                writes.append(tf.compat.v1.scatter_update(kept_weights, step, tf.reshape(row_weights, [batch_size])))
        with tf.control_dependencies(writes):
            update = tf.compat.v1.assign_add(step, 1)
        scores, classes, weights = (None if kept is None else tf.reshape(merge.gather(kept), [-1])
                                    for kept in (kept_scores, kept_classes, kept_weights))
        return KeptScores(scores, classes, weights, update.op)


def weighted_mean(values: tf.Tensor, weights: tf.Tensor, name: str, merge: RankMerge) -> Metric:
    """Returns the weighted mean over all rows of all ranks, and the update op.

    Args:
        values: float32 [batch] or [batch, n].
        weights: float32 [batch].
        name: of the scope.
        merge: over the ranks.

    Returns:
        float32 scalar or [n], 0 where the weights are 0; the sums are kept in float64.
    """
    with tf.compat.v1.variable_scope(name):
        total = local_variable("total", values.shape.as_list()[1:], tf.float64)
        count = local_variable("count", [], tf.float64)
        factors = tf.reshape(weights, [-1] + [1] * (values.shape.ndims - 1))
        update = tf.group(
            tf.compat.v1.assign_add(total, tf.reduce_sum(tf.cast(values * factors, tf.float64), axis=0)),
            tf.compat.v1.assign_add(count, tf.reduce_sum(tf.cast(weights, tf.float64))))
        whole = merge.sum(total)
        return tf.cast(tf.math.divide_no_nan(whole, tf.fill(tf.shape(whole), merge.sum(count))), tf.float32), update


def _means(task: str, logits: tf.Tensor, labels: tf.Tensor, losses: tf.Tensor, weights: tf.Tensor,
           prefix: str, merge: RankMerge) -> Dict[str, Metric]:
    """Returns log loss and calibration of a task, the rows weighted."""
    def mean(values: tf.Tensor, name: str) -> Metric:
        return weighted_mean(values, weights, prefix + name + task, merge)

    predicted = mean(tf.sigmoid(logits), "predicted_")
    observed = mean(tf.cast(tf.equal(labels, 1), tf.float32), "observed_")
    return {prefix + LOG_LOSS_PREFIX + task: mean(losses, LOG_LOSS_PREFIX),
            prefix + CALIBRATION_PREFIX + task: (tf.math.divide_no_nan(predicted[0], observed[0]),
                                                 tf.group(predicted[1], observed[1]))}


def _count(valid: tf.Tensor, merge: RankMerge) -> Metric:
    total = local_variable("examples", [], tf.int64)
    update = tf.compat.v1.assign_add(total, tf.reduce_sum(tf.cast(valid, tf.int64)))
    return tf.identity(merge.sum(total)), update.op


def local_variable(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    """Returns a variable that an evaluation starts at zero and no checkpoint holds."""
    return tf.compat.v1.get_variable(
        name, shape, dtype, initializer=tf.compat.v1.zeros_initializer(), trainable=False, use_resource=False,
        collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES, tf.compat.v1.GraphKeys.METRIC_VARIABLES])
