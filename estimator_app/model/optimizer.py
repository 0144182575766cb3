"""The training op by the SDK's gradient recipe (rec_sdk_api 4) with one backward pass, and the learning rates."""
import math
from typing import Any, Tuple, Union

import tensorflow as tf
from mx_rec.constants.constants import ASCEND_SPARSE_LOOKUP_ID_OFFSET, ASCEND_SPARSE_LOOKUP_LOCAL_EMB
from mx_rec.graph.merge_lookup import do_merge_lookup
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.optimizers.lazy_adam_by_addr import create_hash_optimizer_by_address
from mx_rec.util.variable import get_dense_and_sparse_variable

from estimator_app.config import Config
from feature_specs.sdk import allreduce_sum


def build_train_op(loss: tf.Tensor, config: Config, rank_size: int, steps: Tuple[int, int],
                   has_lists: bool = False) -> tf.Operation:
    """Builds the op of one training step: it updates dense variables, table rows and the global step.

    Dense gradients are averaged over the ranks; learning-rate schedules run between the first and last of ``steps``;
    with ``has_lists`` a table has rows of padding keys, which are never penalised.
    """
    dense_optimizer = tf.compat.v1.train.AdamOptimizer(
        scheduled(config.learning_rate, config.learning_rate_schedule, steps))
    if config.use_modify_graph:
        # What a lookup stands for there is put in its place before anything is differentiated.
        do_merge_lookup(is_train=True)
    dense_variables, sources = get_dense_and_sparse_variable()
    create, targets = create_hash_optimizer, sources
    if config.use_dynamic_expansion:
        # Tables that grow have no variable to differentiate by: the rows of the batch, and where they live.
        create = create_hash_optimizer_by_address
        sources, targets = (tf.compat.v1.get_collection(name) for name in (
            ASCEND_SPARSE_LOOKUP_LOCAL_EMB, ASCEND_SPARSE_LOOKUP_ID_OFFSET))
    # Made with a number: to look at a tensor's value, G3 opens a session of its own, which on a device initialises it
    # without our options, and one G2 version takes numbers only. TensorFlow's Adam, which both SDK optimizers build on,
    # reads its rate when it applies gradients, so the schedule may come later.
    sparse_optimizer = create(learning_rate=config.sparse_learning_rate)
    sparse_optimizer._lr = scheduled(config.sparse_learning_rate, config.sparse_learning_rate_schedule, steps)
    # One backward pass for both sides: of two, TensorFlow would merge only the ops that are equal to the last bit.
    gradients_of_all = tf.gradients(loss, dense_variables + sources)
    dense_gradients = [(gradient, variable) for gradient, variable in zip(gradients_of_all, dense_variables)
                       if gradient is not None]
    if rank_size > 1:
        dense_gradients = [(allreduce_sum(gradient) / rank_size, variable) for gradient, variable in dense_gradients]
    sparse_gradients = [_with_penalty(gradient, source, config, has_lists)
                        for gradient, source in zip(gradients_of_all[len(dense_variables):], sources)]
    # No variable may change before the last gradient is there: the backward pass reads the weights.
    gradients = [gradient for gradient, _ in dense_gradients] + [
        getattr(gradient, "values", gradient) for gradient in sparse_gradients if gradient is not None]
    moving_averages = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(gradients + moving_averages):
        # One update for all tables: one per table would advance lazy Adam's powers repeatedly.
        updates = [dense_optimizer.apply_gradients(dense_gradients),
                   sparse_optimizer.apply_gradients(list(zip(sparse_gradients, targets)))]
    # The SDK's optimizers do not advance the global step.
    with tf.control_dependencies(updates):
        return tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1).op


def scheduled(rate: float, schedule: str, steps: Tuple[int, int]) -> Union[float, tf.Tensor]:
    """Returns the learning rate of a step, a number or a float32 scalar: of ``cosine`` rate * (1 + cos(pi * share)) / 2
    with a share from 0 to 1 between the two global ``steps``."""
    first, last = steps
    if schedule == "fixed" or last <= first:
        return rate
    share = (tf.cast(tf.compat.v1.train.get_global_step(), tf.float32) - float(first)) / float(last - first)
    return rate * 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(share, 1.0)))


def _with_penalty(gradient: Any, source: Any, config: Config, has_lists: bool) -> Any:
    """Adds the gradient of penalty / 2 * sum of squares over the batch's rows to a gradient of the table.

    This is IndexedSlices of the table variable, or float32 [n, dim] of the rows of the batch, which ``source`` is then;
    or None. With ``has_lists`` rows without any gradient are left alone: the padding key's is masked and never has one.
    """
    if gradient is None or not config.embedding_l2:
        return gradient
    sliced = isinstance(gradient, tf.IndexedSlices)
    values = gradient.values if sliced else gradient
    addition = config.embedding_l2 * (tf.gather(source, gradient.indices) if sliced else source)
    if sliced and config.lookups > 1:
        # Where lookups are not merged a row stands there once per lookup; it is penalised once.
        _, places, counts = tf.unique_with_counts(gradient.indices)
        addition /= tf.expand_dims(tf.cast(tf.gather(counts, places), tf.float32), 1)
    if has_lists:
        addition *= tf.cast(tf.reduce_any(tf.not_equal(values, 0.0), axis=1, keepdims=True), tf.float32)
    if sliced:
        return tf.IndexedSlices(values + addition, gradient.indices, gradient.dense_shape)
    return values + addition
