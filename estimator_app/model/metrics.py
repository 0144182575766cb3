"""Evaluation metrics, exact at any class balance, made of stock ops; the ranks' shares of the rows are put together.

All scores of one evaluation are kept in local variables of a size that is known beforehand (8 bytes per row and task);
what needs an order is computed from them at the end (:mod:`estimator_app.model.curves`), as scikit-learn does. A metric
that is not defined, such as an AUC where a class is missing, is NaN here and null in files.
"""
from __future__ import annotations

import dataclasses
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from estimator_app.model import lazy as tf

WEIGHTED_PREFIX = "weighted_"
Metric = Tuple["tf.Tensor", "tf.Operation"]


class RankMerge:
    """Collectives of one graph, in the order in which they are built: every rank builds and runs the same ones.

    With one rank nothing is added to the graph. Only gathering is used, and only of float32 and int32, which every HCCL
    release has; sums are formed from what was gathered, in the order of the ranks, so all ranks get the same bits.
    """

    def __init__(self, rank_size: int = 1) -> None:
        self._rank_size = rank_size
        self._last: List[tf.Operation] = []

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the ranks' tensors, all of one shape, one behind the other: float32, int32 or int64 [n, ...] ->
        [n * rank_size, ...]; int64 travels as two int32."""
        if self._rank_size == 1:
            return tensor
        from feature_specs import sdk
        if tensor.dtype.base_dtype == tf.int64:  # A variable's own dtype is that of a reference.
            return tf.bitcast(self.gather(tf.bitcast(tensor, tf.int32)), tf.int64)
        with tf.control_dependencies(self._last):
            gathered = sdk.allgather(tf.identity(tensor), self._rank_size)
        self._last = [gathered.op]
        return gathered

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the sum over the ranks, same shape and dtype; floats travel as float32, integers as int32."""
        if self._rank_size == 1:
            return tensor
        travelling = tf.cast(tensor, tf.float32 if tensor.dtype.is_floating else tf.int32)
        parts = tf.cast(self.gather(tf.expand_dims(travelling, 0)), tensor.dtype)
        return tf.reduce_sum(tf.reshape(parts, [self._rank_size] + tensor.shape.as_list()), axis=0)


@dataclasses.dataclass(frozen=True)
class EvaluationBatch:
    """What all metrics of an evaluation share."""

    valid: tf.Tensor  # bool [batch], False in padding rows
    steps: int  # batches of the evaluation
    batch_size: int
    merge: RankMerge  # every rank gets the metrics of all rows
    row_weights: Optional[tf.Tensor] = None  # float32 [batch], not negative, of a second set of scores, weighted_<name>
    group: Optional[tf.Tensor] = None  # int64 [batch], for GAUC

    def weightings(self, counts: tf.Tensor) -> Iterator[Tuple[str, tf.Tensor]]:
        """Yields (prefix of names, float32 [batch] weights) of the plain and, where asked for, the weighted scores."""
        yield "", counts
        if self.row_weights is not None:
            yield WEIGHTED_PREFIX, counts * self.row_weights


def ranking_scores(name: str, logits: tf.Tensor, labels: tf.Tensor, counts: tf.Tensor,
                   batch: EvaluationBatch) -> Dict[str, Metric]:
    """Builds ``auc`` and ``pr_auc`` (average precision) of all rows, the same weighted, and ``gauc`` with a group.

    All float32 [batch]: ``logits`` any monotonic score, ``labels`` 0 or 1, ``counts`` 0 in rows that do not count.
    """
    from estimator_app.model import curves
    classes = tf.cast(counts * (2.0 * labels - 1.0), tf.int32)
    with tf.compat.v1.variable_scope("exact_auc_%s" % name):
        kept, update = _keep({"scores": logits, "classes": classes, "weights": batch.row_weights, "group": batch.group},
                             batch)
    ranking = curves.rank(kept["scores"], kept["classes"])
    found = dict(zip(("auc", "pr_auc"), curves.areas(ranking)))
    if batch.row_weights is not None:
        found.update(zip((WEIGHTED_PREFIX + "auc", WEIGHTED_PREFIX + "pr_auc"), curves.areas(ranking, kept["weights"])))
    if batch.group is not None:
        found["gauc"] = curves.area_within_groups(ranking, kept["group"])
    return {name: (value, update) for name, value in found.items()}


def _keep(values: Dict[str, Optional[tf.Tensor]], batch: EvaluationBatch) -> Tuple[Dict[str, tf.Tensor], tf.Operation]:
    """Keeps the values [batch] of all batches; returns them, [ranks * steps * batch] each, and the op that writes."""
    given = {name: tensor for name, tensor in values.items() if tensor is not None}
    kept = {name: local_variable(name, [batch.steps, batch.batch_size], tensor.dtype) for name, tensor in given.items()}
    step = local_variable("step", [], tf.int32)
    with tf.control_dependencies([tf.debugging.Assert(step < batch.steps, [
            "the evaluation has more batches than planned:", tf.constant(batch.steps)])]):
        writes = [tf.compat.v1.scatter_update(kept[name], step, tf.reshape(tensor, [batch.batch_size]))
                  for name, tensor in given.items()]
    with tf.control_dependencies(writes):
        update = tf.compat.v1.assign_add(step, 1)
    return {name: tf.reshape(batch.merge.gather(variable), [-1]) for name, variable in kept.items()}, update.op


def weighted_mean(values: tf.Tensor, weights: tf.Tensor, name: str, merge: RankMerge) -> Metric:
    """Returns the mean of float32 [batch] or [batch, n] over all rows of all ranks, weighted by float32 [batch]: a
    scalar or [n], NaN where the weights are 0, from sums in float64; ``name`` is that of its scope."""
    with tf.compat.v1.variable_scope(name):
        total = local_variable("total", values.shape.as_list()[1:], tf.float64)
        weight = local_variable("weight", [], tf.float64)
        factors = tf.reshape(weights, [-1] + [1] * (values.shape.ndims - 1))
        update = tf.group(
            tf.compat.v1.assign_add(total, tf.reduce_sum(tf.cast(values * factors, tf.float64), axis=0)),
            tf.compat.v1.assign_add(weight, tf.reduce_sum(tf.cast(weights, tf.float64))))
        return tf.cast(merge.sum(total) / merge.sum(weight), tf.float32), update


def ratio(numerator: Metric, denominator: Metric) -> Metric:
    """Returns one metric over another, NaN where that is 0."""
    value = tf.where(tf.equal(denominator[0], 0.0), tf.constant(float("nan")), numerator[0] / denominator[0])
    return value, tf.group(numerator[1], denominator[1])


def mean_of_defined(metrics: Sequence[Metric]) -> Metric:
    """Returns the mean of those metrics that are defined; NaN where none is."""
    values = tf.stack([value for value, _ in metrics])
    defined = tf.logical_not(tf.math.is_nan(values))
    total = tf.reduce_sum(tf.where(defined, values, tf.zeros_like(values)))
    return total / tf.reduce_sum(tf.cast(defined, values.dtype)), tf.group(*[update for _, update in metrics])


def count(valid: tf.Tensor, merge: RankMerge) -> Metric:
    """Returns the number of rows of all ranks, int64."""
    total = local_variable("examples", [], tf.int64)
    update = tf.compat.v1.assign_add(total, tf.reduce_sum(tf.cast(valid, tf.int64)))
    return tf.identity(merge.sum(total)), update.op


def expert_metrics(experts: tf.Tensor, gates: Dict[str, tf.Tensor], valid: tf.Tensor,
                   merge: RankMerge) -> Dict[str, Metric]:
    """Builds what says whether experts, float32 [batch, n, size], and gates, {task: [batch, m]}, have collapsed.

    ``experts_used_<task>`` is exp of the entropy of the mean gate, between 1 (one expert has all the weight) and m;
    ``expert_difference`` the mean distance of an expert's output from the mean of all experts, over the mean output.
    """
    distance = tf.reduce_mean(tf.abs(experts - tf.reduce_mean(experts, axis=1, keepdims=True)), axis=[1, 2])
    size = tf.reduce_mean(tf.abs(experts), axis=[1, 2])
    values = [*gates.values(), tf.stack([distance, size], axis=1)]
    means, update = weighted_mean(tf.concat(values, axis=1), tf.cast(valid, tf.float32), "experts", merge)
    *mean_gates, of_experts = tf.split(means, [value.shape[1].value for value in values])
    found = {"experts_used_%s" % task: (tf.exp(-tf.reduce_sum(mean * tf.math.log(mean + 1e-12))), update)
             for task, mean in zip(gates, mean_gates)}
    if experts.shape[1].value > 1:
        found["expert_difference"] = (tf.math.divide_no_nan(of_experts[0], of_experts[1]), update)
    return found


def collapse_warnings(found: Dict[str, float]) -> List[str]:
    """Returns one sentence per sign in an evaluation's metrics that experts or gates have collapsed."""
    lines = []
    difference = found.get("expert_difference")
    if difference is not None and difference < 0.01:
        lines.append("all experts compute nearly the same (expert_difference %.2g): they are of no use beyond one; see "
                     "--reference_init and --embedding_stddev" % difference)
    for name, value in sorted(found.items()):
        if name.startswith("experts_used_") and value is not None and value < 1.05:
            lines.append("the gate of task %s uses one expert only (%s %.2f): where the gate is not made for that, "
                         "lower the learning rates or raise --expert_dropout"
                         % (name[len("experts_used_"):], name, value))
    return lines


def local_variable(name: str, shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    """Returns a variable that an evaluation starts at zero and no checkpoint holds."""
    return tf.compat.v1.get_variable(
        name, shape, dtype, initializer=tf.compat.v1.zeros_initializer(), trainable=False, use_resource=False,
        collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES, tf.compat.v1.GraphKeys.METRIC_VARIABLES])
