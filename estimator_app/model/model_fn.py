"""The model function for TRAIN, EVAL and PREDICT."""
from typing import Any, Callable, Dict, NamedTuple, Optional

import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model.embedding import pooled_embedding
from estimator_app.model.gate_metrics import gate_metrics
from estimator_app.model.layers import EnsembleOutput
from estimator_app.model.losses import parse_task_weights, task_losses, training_loss
from estimator_app.model.metrics import evaluation_metrics
from estimator_app.model.networks import build_network, network_shape
from estimator_app.model.optimizer import build_train_op
from estimator_app.model.rank_merge import RankMerge
from feature_specs.dataset import DENSE_FEATURE, EVAL_WEIGHT, LABEL, DatasetDefinition
from feature_specs.encoding import FeatureEncoding
from feature_specs.spec_list import FeatureSpecLists


class ModelContext(NamedTuple):
    """What the model function needs besides the batch.

    Attributes:
        config: settings.
        dataset: columns and tasks.
        encoding: constants of the encoding.
        specs: FeatureSpecs, handed over from input_fn.
        eval_steps: batches of one evaluation.
        rank_size: number of ranks.
        max_steps: steps of the whole training, which learning-rate schedules end at; -1 where nothing is trained.
    """

    config: Config
    dataset: DatasetDefinition
    encoding: FeatureEncoding
    specs: FeatureSpecLists
    eval_steps: int
    rank_size: int
    max_steps: int = -1


def make_model_fn(context: ModelContext) -> Callable[..., tf.estimator.EstimatorSpec]:
    """Returns the model function of an Estimator.

    Args:
        context: everything besides the batch.

    Returns:
        A function (features, labels, mode) -> EstimatorSpec; ``features`` holds ``sparse_feature``, ``dense_feature``
        and, except for prediction, ``label``.
    """
    def model_fn(features: Dict[str, tf.Tensor], labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        del labels  # FeatureSpec mode passes one feature dict that holds the labels too (rec_sdk_api 2.2).
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        output = _forward(features, context, is_training)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return _predict_spec(output, features)
        label = features[LABEL]
        task_labels = {task: label[:, number] for number, task in enumerate(context.dataset.task_names)}
        losses = task_losses(output.logits, task_labels)
        valid = tf.greater_equal(label[:, 0], 0)
        if is_training:
            config = context.config
            loss = training_loss(output.networks, task_labels, config.label_smoothing,
                                 parse_task_weights(config.task_weights, context.dataset.task_names))
            return tf.estimator.EstimatorSpec(
                mode, loss=loss / config.network_num,
                train_op=build_train_op(loss, context.config, context.rank_size, context.max_steps))
        total = tf.add_n(list(losses.values())) / len(losses)
        weights = tf.cast(valid, tf.float32)
        loss = tf.math.divide_no_nan(tf.reduce_sum(total * weights), tf.reduce_sum(weights))
        row_weights = features[EVAL_WEIGHT][:, 0] if EVAL_WEIGHT in features else None
        merge = RankMerge(context.rank_size)
        metrics = evaluation_metrics(output.logits, task_labels, losses, valid, context.eval_steps,
                                     context.config.eval_batch_size, row_weights, merge)
        metrics.update(gate_metrics(output, weights, merge))
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)

    return model_fn


def _forward(features: Dict[str, tf.Tensor], context: ModelContext, is_training: bool) -> EnsembleOutput:
    config = context.config
    shape = network_shape(config, context.dataset.task_names)
    pooled = pooled_embedding(features, config, context.encoding, context.dataset.table_name, shape.width,
                              context.specs, is_training, context.rank_size)
    return build_network(pooled, features[DENSE_FEATURE], shape, config.reference_init, config.seed,
                         1.0 - config.expert_dropout if is_training else 1.0)


def _predict_spec(output: EnsembleOutput, features: Dict[str, tf.Tensor]) -> tf.estimator.EstimatorSpec:
    probabilities = {task: tf.expand_dims(tf.sigmoid(logit), 1) for task, logit in output.logits.items()}
    predictions = dict(probabilities)
    label: Optional[tf.Tensor] = features.get(LABEL)
    if label is not None:
        # A copy: graph modification rewires consumers of the batch, not the batch itself (rec_sdk_api 5.1).
        predictions[LABEL] = tf.identity(label)
    return tf.estimator.EstimatorSpec(
        tf.estimator.ModeKeys.PREDICT, predictions=predictions,
        export_outputs={tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY:
                        tf.estimator.export.PredictOutput(probabilities)})
