"""NPUEstimator: train, evaluate, predict and export, with graph modification and gradient descent on the table."""
import argparse
import os

import numpy as np
import tensorflow as tf
from batches import dataset, mean_loss, network
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.optimizers.gradient_descent import create_hash_optimizer
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable
from npu_bridge.npu_init import NPUEstimator, NPURunConfig

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--model_dir")
parser.add_argument("--steps", type=int, default=12)
parser.add_argument("--loop", type=int, default=1)
parser.add_argument("--together", action="store_true")
args = parser.parse_args()

if args.together:
    init(max_steps=args.steps, train_steps=args.steps, save_steps=args.steps, eval_steps=3)
else:
    init(max_steps=args.steps, save_steps=args.steps)


def model_fn(features, labels, mode, params):
    is_train = mode == tf.estimator.ModeKeys.TRAIN
    table = create_table(tf.int64, 4, "table", tf.compat.v1.constant_initializer(0.1),
                         device_vocabulary_size=params["rows"])
    embedded = sparse_lookup(table, features["ids"], is_train=is_train, modify_graph=True, name="ids_lookup")
    logits = network(embedded, features["numbers"])
    if mode == tf.estimator.ModeKeys.PREDICT:
        prediction = {"p": tf.sigmoid(logits), "first_id": tf.identity(features["ids"][:, 0])}
        return tf.estimator.EstimatorSpec(
            mode, prediction, export_outputs={"serving_default": tf.estimator.export.PredictOutput(prediction["p"])})
    loss = mean_loss(logits, features["label"])
    if not is_train:
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={
            "mean": tf.compat.v1.metrics.mean(tf.sigmoid(logits))})
    dense_variables, sparse_variables = get_dense_and_sparse_variable()
    dense = tf.compat.v1.train.GradientDescentOptimizer(0.1)
    gradients = dense.compute_gradients(loss, var_list=dense_variables)
    sparse_gradients = tf.gradients(loss, sparse_variables)
    with tf.control_dependencies([gradient.values for gradient in sparse_gradients]):
        dense_update = dense.apply_gradients([(tf.identity(gradient), variable) for gradient, variable in gradients])
    update = create_hash_optimizer(learning_rate=0.2).apply_gradients(zip(sparse_gradients, sparse_variables))
    step = tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(dense_update, update, step))


def receiver():
    features = {"ids": tf.compat.v1.placeholder(tf.int64, [None, 3], "ids"),
                "numbers": tf.compat.v1.placeholder(tf.float32, [None, 2], "numbers")}
    return tf.estimator.export.ServingInputReceiver(features, features)


estimator = NPUEstimator(model_fn=model_fn, model_dir=args.model_dir, params={"rows": 100}, config=NPURunConfig(
    save_checkpoints_steps=args.steps, iterations_per_loop=args.loop, log_step_count_steps=None, keep_checkpoint_max=2))
train_data, eval_data = (lambda: dataset(args.steps, 1)), (lambda: dataset(3, 2))
if args.together:
    metrics, _ = tf.estimator.train_and_evaluate(
        estimator, tf.estimator.TrainSpec(train_data, max_steps=args.steps, hooks=[GraphModifierHook()]),
        tf.estimator.EvalSpec(eval_data, steps=3, hooks=[GraphModifierHook()], throttle_secs=0))
else:
    estimator.train(train_data, max_steps=args.steps, hooks=[GraphModifierHook()])
    metrics = estimator.evaluate(eval_data, hooks=[GraphModifierHook()])
predicted = list(estimator.predict(eval_data, hooks=[GraphModifierHook()], yield_single_examples=False))
exported = estimator.export_saved_model(os.path.join(args.model_dir, "export"), receiver)
np.savez(args.output, eval_loss=metrics["loss"], mean=metrics["mean"], step=metrics["global_step"],
         prediction=np.concatenate([item["p"] for item in predicted]),
         first_id=np.concatenate([item["first_id"] for item in predicted]), exported=exported)
terminate_config_initializer()
