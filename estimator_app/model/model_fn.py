"""The model function for TRAIN, EVAL and PREDICT: embedding -> network -> tasks."""
from typing import Any, Callable, Dict, Tuple

import tensorflow as tf

from estimator_app.model.definition import Model
from estimator_app.model.embedding import embed
from estimator_app.model.metrics import EvaluationBatch, RankMerge, expert_metrics
from estimator_app.model.optimizer import build_train_op
from feature_specs.records import EVAL_WEIGHT, GROUP, LABEL, WEIGHT, is_padding
from feature_specs.spec_list import FeatureSpecLists


def make_model_fn(model: Model, specs: FeatureSpecLists, eval_steps: int, rank_size: int = 1,
                  steps: Tuple[int, int] = (0, 0)) -> Callable[..., tf.estimator.EstimatorSpec]:
    """Returns the model function of an Estimator: (features, labels, mode) -> EstimatorSpec.

    ``specs`` are handed over from ``input_fn``, whose batches ``features`` are; an evaluation has ``eval_steps``
    batches; learning-rate schedules run between the first and last of ``steps``.
    """
    config, tasks = model.config, model.tasks

    def model_fn(features: Dict[str, tf.Tensor], labels: Any, mode: str) -> tf.estimator.EstimatorSpec:
        del labels  # FeatureSpec mode passes one feature dict that holds the labels too (rec_sdk_api 2.2).
        is_training = mode == tf.estimator.ModeKeys.TRAIN
        inputs = embed(features, model, specs, is_training)
        with tf.compat.v1.variable_scope(config.model):
            output = model.network(inputs, is_training)
        if mode == tf.estimator.ModeKeys.PREDICT:
            columns = {name: tf.expand_dims(value, 1) for name, value in tasks.predictions(output.logits).items()}
            serving = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: tf.estimator.export.PredictOutput(columns)}
            return tf.estimator.EstimatorSpec(mode, predictions=columns, export_outputs=serving)
        logits, task_labels = tasks.related(output.logits), tasks.labels(features)
        if is_training:
            loss = tasks.training_loss(logits, task_labels, features[WEIGHT][:, 0] if WEIGHT in features else None)
            loss = loss if output.penalty is None else loss + output.penalty
            has_lists = any(table.has_lists for table in model.encoding.tables)
            return tf.estimator.EstimatorSpec(mode, loss=loss,
                                              train_op=build_train_op(loss, config, rank_size, steps, has_lists))
        batch = EvaluationBatch(tf.logical_not(is_padding(features[LABEL])), eval_steps, config.eval_batch_size,
                                RankMerge(rank_size),
                                features[EVAL_WEIGHT][:, 0] if EVAL_WEIGHT in features else None,
                                features[GROUP][:, 0] if GROUP in features else None)
        metrics = tasks.metrics(logits, task_labels, batch)
        metrics.update(expert_metrics(output.experts, output.gates, batch.valid, batch.merge))
        # The Estimator averages this over batches; the exact loss of all rows is the metric mean_loss.
        return tf.estimator.EstimatorSpec(mode, loss=tasks.training_loss(logits, task_labels, None),
                                          eval_metric_ops=metrics)

    return model_fn
