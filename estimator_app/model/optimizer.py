"""The training op in the SDK's order of calls (rec_sdk_api 4, gradient recipe)."""
from typing import Any, List, Tuple

import tensorflow as tf
from mx_rec.constants.constants import ASCEND_SPARSE_LOOKUP_ID_OFFSET, ASCEND_SPARSE_LOOKUP_LOCAL_EMB
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.optimizers.lazy_adam_by_addr import create_hash_optimizer_by_address
from mx_rec.util.variable import get_dense_and_sparse_variable

from estimator_app.config import Config
from estimator_app.model.learning_rate import scheduled
from feature_specs.errors import ConfigError
from feature_specs.sdk import allreduce_sum


def build_train_op(loss: tf.Tensor, config: Config, rank_size: int, max_steps: int = -1) -> tf.Operation:
    """Builds the op of one training step.

    Args:
        loss: float32 scalar.
        config: learning rates.
        rank_size: number of ranks; dense gradients are averaged over them.
        max_steps: steps of the whole training, where schedules end.

    Returns:
        The op that updates dense variables, table rows and the global step.

    Raises:
        ConfigError: the Rec SDK at hand takes no schedule for the table.
    """
    dense_optimizer = tf.compat.v1.train.AdamOptimizer(
        scheduled(config.learning_rate, config.learning_rate_schedule, max_steps))
    dense_variables, sparse_variables = get_dense_and_sparse_variable()
    # The dense gradients come first: computing them merges the lookups in graph-modification mode.
    # Ungated, so that TensorFlow merges its backward ops with the equal ones of the sparse gradients below.
    dense_gradients = [
        (gradient, variable) for gradient, variable in dense_optimizer.compute_gradients(
            loss, var_list=dense_variables, gate_gradients=dense_optimizer.GATE_NONE) if gradient is not None]
    if rank_size > 1:
        dense_gradients = [(allreduce_sum(gradient) / rank_size, variable) for gradient, variable in dense_gradients]
    sparse_optimizer, sources, targets = _sparse_side(config, sparse_variables, max_steps)
    sparse_gradients = [_with_penalty(gradient, source, config.embedding_l2)
                        for gradient, source in zip(tf.gradients(loss, sources), sources)]
    # No variable may change before the last gradient is there: the two backward passes read the same weights.
    gradients = [gradient for gradient, _ in dense_gradients] + [
        getattr(gradient, "values", gradient) for gradient in sparse_gradients if gradient is not None]
    with tf.control_dependencies(gradients):
        updates = [dense_optimizer.apply_gradients(dense_gradients),
                   sparse_optimizer.apply_gradients(list(zip(sparse_gradients, targets)))]
    # The SDK's optimizers do not advance the global step.
    with tf.control_dependencies(updates):
        return tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1).op


def _sparse_side(config: Config, sparse_variables: List[tf.Variable],
                 max_steps: int) -> Tuple[Any, List[Any], List[Any]]:
    """Returns the optimizer of the tables, what to differentiate by, and what to update."""
    rate = scheduled(config.sparse_learning_rate, config.sparse_learning_rate_schedule, max_steps)
    create = create_hash_optimizer_by_address if config.use_dynamic_expansion else create_hash_optimizer
    try:
        optimizer = create(learning_rate=rate)
    except ValueError as error:
        if isinstance(rate, float):
            raise
        raise ConfigError("the optimizer of this Rec SDK takes only a number as learning rate (%s); use "
                          "--sparse_learning_rate_schedule fixed" % error) from error
    if not config.use_dynamic_expansion:
        return optimizer, sparse_variables, sparse_variables
    # Tables that grow have no variable to differentiate by: the rows of the batch, and where they live.
    return (optimizer, tf.compat.v1.get_collection(ASCEND_SPARSE_LOOKUP_LOCAL_EMB),
            tf.compat.v1.get_collection(ASCEND_SPARSE_LOOKUP_ID_OFFSET))


def _with_penalty(gradient: Any, source: Any, penalty: float) -> Any:
    """Adds the gradient of penalty / 2 * sum of squares over the batch's rows to a gradient of the table.

    Args:
        gradient: IndexedSlices of the table variable, or float32 [n, dim] of the rows of the batch; or None.
        source: the table variable, or the rows of the batch.
        penalty: strength.
    """
    if gradient is None or not penalty:
        return gradient
    if isinstance(gradient, tf.IndexedSlices):
        rows = tf.gather(source, gradient.indices)
        return tf.IndexedSlices(gradient.values + penalty * rows, gradient.indices, gradient.dense_shape)
    return gradient + penalty * source
