"""Areas under curves from all scores of an evaluation: exact, with ties, weights, groups and padding.

One descending sort serves everything. Equal scores form a group, and a curve has one point per group, as scikit-learn's
``roc_auc_score`` and ``average_precision_score`` have it. Sums are float64: exact for counts.
"""
from typing import NamedTuple, Optional, Tuple

import tensorflow as tf

from feature_specs.records import NO_GROUP


class Ranking(NamedTuple):
    """Rows ordered by descending score."""

    scores: tf.Tensor  # float32 [n], descending
    classes: tf.Tensor  # int32 [n], +1 positive, -1 negative, 0 not counted
    order: tf.Tensor  # int32 [n], where each row was before
    groups: tf.Tensor  # int32 [n], number of different scores before this one


def rank(scores: tf.Tensor, classes: tf.Tensor) -> Ranking:
    """Orders rows by ``scores``, float32 [n] without NaN; infinite ones count as the largest and smallest number."""
    scores = tf.clip_by_value(scores, tf.float32.min, tf.float32.max)
    ordered, order = tf.nn.top_k(scores, k=tf.shape(scores)[0])
    steps = tf.cast(tf.not_equal(ordered[1:], ordered[:-1]), tf.int32)
    return Ranking(ordered, tf.gather(classes, order), order, tf.concat([[0], tf.cumsum(steps)], axis=0))


def areas(ranking: Ranking, weights: Optional[tf.Tensor] = None) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns the area under the ROC curve and average precision, the area under the precision-recall curve in steps:
    float32 scalars, NaN where a class is missing; ``weights`` float32 [n] are in the order of the unranked rows."""
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
    # 0 / 0 is NaN: where a class is missing there is no curve.
    both = tf.where(negatives > 0, positives, tf.zeros_like(positives))
    return (tf.cast(pairs / (2.0 * positives * negatives), tf.float32),
            tf.cast(tf.where(both > 0, tf.reduce_sum(positive * precision), tf.zeros_like(both)) / both, tf.float32))


def area_within_groups(ranking: Ranking, group: tf.Tensor) -> tf.Tensor:
    """Returns GAUC: the areas under the ROC curves of the groups that have both classes, weighted by their rows; NaN
    where none has. ``group`` int64 [n] is in the order of the unranked rows; those of :data:`NO_GROUP` do not count."""
    count = tf.shape(ranking.scores)[0]
    # Of equal groups the sort keeps the order, so within a group scores stay descending.
    groups, order = tf.nn.top_k(tf.gather(group, ranking.order), k=count)
    classes, ties = tf.gather(ranking.classes, order), tf.gather(ranking.groups, order)
    classes *= tf.cast(tf.not_equal(groups, NO_GROUP), classes.dtype)
    new_group = tf.concat([[True], tf.not_equal(groups[1:], groups[:-1])], axis=0)
    new_tie = tf.logical_or(new_group, tf.concat([[True], tf.not_equal(ties[1:], ties[:-1])], axis=0))
    number, tie = (tf.cumsum(tf.cast(is_new, tf.int32)) - 1 for is_new in (new_group, new_tie))
    is_positive, is_negative = (tf.cast(tf.equal(classes, kind), tf.float64) for kind in (1, -1))
    positives, negatives = (tf.math.unsorted_segment_sum(values, number, count)
                            for values in (is_positive, is_negative))
    tie_negatives = tf.gather(tf.math.unsorted_segment_sum(is_negative, tie, count), tie)
    # Negatives of the group that stand before a row's tie, and those after it.
    before = tf.cumsum(is_negative, exclusive=True)
    start_of_tie = tf.gather(tf.boolean_mask(before, new_tie), tie)
    start_of_group = tf.gather(tf.boolean_mask(before, new_group), number)
    after = tf.gather(negatives, number) - (start_of_tie - start_of_group) - tie_negatives
    pairs = tf.math.unsorted_segment_sum(is_positive * (after + 0.5 * tie_negatives), number, count)
    areas_of_groups = tf.math.divide_no_nan(pairs, positives * negatives)
    rows = tf.where((positives > 0) & (negatives > 0), positives + negatives, tf.zeros_like(positives))
    return tf.cast(tf.reduce_sum(areas_of_groups * rows) / tf.reduce_sum(rows), tf.float32)
