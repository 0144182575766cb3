"""What gates and experts do, as evaluation metrics, and warnings where they have collapsed."""
import math
from typing import Any, Dict, List, Optional, Tuple

import tensorflow as tf

from estimator_app.model.layers import EnsembleOutput
from estimator_app.model.metrics import local_variable, weighted_mean
from estimator_app.model.rank_merge import RankMerge

Metric = Tuple[tf.Tensor, tf.Operation]

ENTROPY_PREFIX = "gate_entropy_"
WEIGHT_PREFIX = "gate_weight_"
LARGEST_PREFIX = "gate_largest_"
USE_PREFIX = "expert_use_"
HISTOGRAM_PREFIX = "gate_histogram_"
#: Bins of equal width from 0 to 1 in which gate weights are counted.
HISTOGRAM_BINS = 20
DIFFERENCE = "expert_difference"
#: Above this mean weight of one expert, a gate has chosen it for every row.
LARGEST_ALLOWED = 0.99
#: Below this difference, the experts compute the same.
LEAST_DIFFERENCE = 0.01
_MAX_SINGLE_WEIGHTS = 64
_TINY = 1e-12


def gate_metrics(output: EnsembleOutput, weights: tf.Tensor,
                 merge: Optional[RankMerge] = None) -> Dict[str, Metric]:
    """Builds the metrics.

    Args:
        output: of the networks, outside training.
        weights: float32 [batch], 1 for rows that count and 0 for padding.
        merge: over the ranks; None for one rank.

    Returns:
        ``expert_use_<task>_<expert>``: share of the rows where no expert of the same network weighs more, left out
        where experts are many; ``gate_histogram_<task>`` float32 [bins]: gate weights of all rows and experts, counted
        in equal bins from 0 to 1; ``gate_entropy_<task>``: mean entropy of a row's gate over that of equal weights, 1
        where all experts weigh the same, mean over the networks; ``gate_weight_<task>_<expert>``: mean weight, experts
        of all networks counted on, left out where they are many; ``gate_largest_<task>``: the largest mean weight of
        one expert;
        ``expert_difference``: mean distance of an expert's output from the mean of all experts, over the mean output,
        least of the networks. Nothing about gates where the head has none.
    """
    merge = merge or RankMerge()
    metrics: Dict[str, Metric] = {}
    for task, gates in output.networks.gates.items():
        metrics.update(_metrics_of_gates(task, gates, weights, merge))
    if output.networks.experts.shape[2].value > 1:
        metrics[DIFFERENCE] = _difference(output.networks.experts, weights, merge)
    return metrics


def collapse_warnings(metrics: Dict[str, Any]) -> List[str]:
    """Returns one sentence per sign that experts or gates have collapsed.

    Args:
        metrics: of an evaluation.
    """
    lines = []
    if metrics.get(DIFFERENCE, 1.0) < LEAST_DIFFERENCE:
        lines.append("all experts compute nearly the same (%s %.2g): they are of no use beyond one; see "
                     "--reference_init and --embedding_stddev" % (DIFFERENCE, metrics[DIFFERENCE]))
    for name in sorted(metrics):
        if name.startswith(LARGEST_PREFIX) and metrics[name] > LARGEST_ALLOWED:
            lines.append("the gate of task %s gives one expert %.1f %% of the weight: the others are of no use to it; "
                         "lower --sparse_learning_rate or raise --expert_dropout"
                         % (name[len(LARGEST_PREFIX):], 100.0 * metrics[name]))
    return lines


def _metrics_of_gates(task: str, gates: tf.Tensor, weights: tf.Tensor, merge: RankMerge) -> Dict[str, Metric]:
    """Returns the metrics of a task's gates, float32 [batch, networks, gate_size]."""
    networks, size = gates.shape.as_list()[1:]
    if size < 2:
        return {}
    side_by_side = [-1, networks * size]
    entropy = -tf.reduce_sum(gates * tf.math.log(gates + _TINY), axis=[1, 2]) / (networks * math.log(size))
    means, update = weighted_mean(tf.reshape(gates, side_by_side), weights, WEIGHT_PREFIX + task, merge)
    metrics: Dict[str, Metric] = {
        ENTROPY_PREFIX + task: weighted_mean(entropy, weights, ENTROPY_PREFIX + task, merge),
        LARGEST_PREFIX + task: (tf.reduce_max(means), update)}
    metrics[HISTOGRAM_PREFIX + task] = _histogram(tf.reshape(gates, side_by_side), weights, HISTOGRAM_PREFIX + task,
                                                  merge)
    if networks * size <= _MAX_SINGLE_WEIGHTS:
        first = tf.one_hot(tf.argmax(gates, axis=2), size)
        uses, use_update = weighted_mean(tf.reshape(first, side_by_side), weights, USE_PREFIX + task, merge)
        for number in range(networks * size):
            metrics["%s%s_%d" % (WEIGHT_PREFIX, task, number)] = (means[number], update)
            metrics["%s%s_%d" % (USE_PREFIX, task, number)] = (uses[number], use_update)
    return metrics


def _histogram(values: tf.Tensor, weights: tf.Tensor, name: str, merge: RankMerge) -> Metric:
    """Counts values between 0 and 1 in equal bins, float32 [bins]; rows of weight 0 are left out."""
    with tf.compat.v1.variable_scope(name):
        # In float64: the counts of a long evaluation stay exact.
        total = local_variable("total", [HISTOGRAM_BINS], tf.float64)
        # One more bin takes the rows that do not count; a weight of 1 belongs to the last but one.
        counted = tf.minimum(values, 1.0 - 1e-6) + 2.0 * (1.0 - tf.expand_dims(weights, 1))
        counts = tf.histogram_fixed_width(counted, [0.0, 1.0 + 1.0 / HISTOGRAM_BINS], HISTOGRAM_BINS + 1)
        update = tf.compat.v1.assign_add(total, tf.cast(counts[:HISTOGRAM_BINS], tf.float64))
        return tf.cast(merge.sum(total), tf.float32), update.op


def _difference(experts: tf.Tensor, weights: tf.Tensor, merge: RankMerge) -> Metric:
    """Mean distance of the experts from their mean over the mean output, least of [batch, networks, n, size]."""
    networks = experts.shape[1].value
    distance = tf.reduce_mean(tf.abs(experts - tf.reduce_mean(experts, axis=2, keepdims=True)), axis=[2, 3])
    size = tf.reduce_mean(tf.abs(experts), axis=[2, 3])
    means, update = weighted_mean(tf.concat([distance, size], axis=1), weights, DIFFERENCE, merge)
    return tf.reduce_min(tf.math.divide_no_nan(means[:networks], means[networks:])), update
