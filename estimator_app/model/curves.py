"""Areas under curves and reliability from all scores of an evaluation: exact, with ties, weights and padding.

One descending sort serves everything. Equal scores form a group, and a curve has one point per group, as scikit-learn's
``roc_auc_score`` and ``average_precision_score`` have it. Sums are float64: exact for counts.
"""
from typing import NamedTuple, Optional, Tuple

import tensorflow as tf


class Ranking(NamedTuple):
    """Rows ordered by descending score.

    Attributes:
        scores: float32 [n], descending.
        classes: int32 [n], +1 positive, -1 negative, 0 not counted.
        order: int32 [n], where each row was before.
        groups: int32 [n], number of different scores before this one.
    """

    scores: tf.Tensor
    classes: tf.Tensor
    order: tf.Tensor
    groups: tf.Tensor


def rank(scores: tf.Tensor, classes: tf.Tensor) -> Ranking:
    """Orders rows by descending score.

    Args:
        scores: float32 [n]; must not be NaN. Infinite scores count as the largest and smallest number.
        classes: int32 [n], +1 positive, -1 negative, 0 not counted.
    """
    scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
    ordered, order = tf.nn.top_k(scores, k=tf.shape(scores)[0])
    steps = tf.cast(tf.not_equal(ordered[1:], ordered[:-1]), tf.int32)
    return Ranking(ordered, tf.gather(classes, order), order, tf.concat([[0], tf.cumsum(steps)], axis=0))


def areas(ranking: Ranking, weights: Optional[tf.Tensor] = None) -> Tuple[tf.Tensor, tf.Tensor]:
    """Area under the ROC curve, and average precision: the area under the precision-recall curve in steps.

    Args:
        ranking: see :func:`rank`.
        weights: float32 [n], not negative, in the order of the rows that were ranked; None where all count the same.

    Returns:
        Two float32 scalars; the first is 0 where a class is missing, the second where there is no positive.
    """
    given = tf.ones_like(ranking.scores) if weights is None else tf.gather(weights, ranking.order)
    weight = tf.cast(given, tf.float64)
    count = tf.shape(ranking.scores)[0]
    positive, negative = (
        tf.math.unsorted_segment_sum(tf.where(tf.equal(ranking.classes, kind), weight, tf.zeros_like(weight)),
                                     ranking.groups, count) for kind in (1, -1))
    positives_above, negatives_above = tf.cumsum(positive), tf.cumsum(negative)
    positives, negatives = positives_above[-1], negatives_above[-1]
    # Ordered pairs twice: a positive beats the negatives of later groups, and half of those of its own.
    pairs = tf.reduce_sum(positive * (2.0 * (negatives - negatives_above) + negative))
    precision = tf.math.divide_no_nan(positives_above, positives_above + negatives_above)
    return (tf.cast(tf.math.divide_no_nan(pairs, 2.0 * positives * negatives), tf.float32),
            tf.cast(tf.math.divide_no_nan(tf.reduce_sum(positive * precision), positives), tf.float32))


def reliability(ranking: Ranking, bins: int) -> tf.Tensor:
    """Predicted against observed rates in bins of equal numbers of rows, by ascending score.

    Args:
        ranking: of logits, see :func:`rank`.
        bins: number of bins.

    Returns:
        float32 [3, bins]: mean predicted probability, observed rate, rows; 0 in bins without rows.
    """
    counted = tf.cast(tf.not_equal(ranking.classes, 0), tf.int64)
    total = tf.reduce_sum(counted)
    ascending = total - tf.cumsum(counted)
    bin_of = tf.cast(ascending * bins // tf.maximum(total, 1), tf.int32)
    weight = tf.cast(counted, tf.float64)
    # Rows that do not count may lie outside, where they add nothing.
    bin_of = tf.clip_by_value(bin_of, 0, bins - 1)
    predicted, observed, rows = (tf.math.unsorted_segment_sum(values, bin_of, bins) for values in (
        weight * tf.cast(tf.sigmoid(ranking.scores), tf.float64),
        tf.cast(tf.equal(ranking.classes, 1), tf.float64), weight))
    return tf.cast(tf.stack([tf.math.divide_no_nan(predicted, rows), tf.math.divide_no_nan(observed, rows), rows]),
                   tf.float32)
