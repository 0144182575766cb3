"""A clean environment and process state for each test; the identity of a job is otherwise read once per process."""
import pytest
import tensorflow as tf

from rec_sdk_cpu.npu_bridge_modules import process_state

_UNSET = ("RANK_SIZE", "CM_WORKER_SIZE", "RANK_ID", "POD_NAME", "TF_CONFIG", "LOCAL_CHECKPOINT_DIR", "RESTORE_FROM",
          "OMPI_COMM_WORLD_SIZE", "DEVICE_ID")


@pytest.fixture(autouse=True)
def clean_process(monkeypatch):
    for name in _UNSET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JOB_ID", "10086")
    process_state.reset()
    tf.compat.v1.reset_default_graph()
    yield
    process_state.reset()


@pytest.fixture
def linear():
    """(model_fn, input_fn) of y = 2x; the model's one weight starts at 0."""
    def input_fn():
        data = tf.data.Dataset.from_tensor_slices(({"x": [[1.0], [2.0], [3.0], [4.0]]}, [[2.0], [4.0], [6.0], [8.0]]))
        return data.repeat().batch(2, drop_remainder=True)

    def model_fn(features, labels, mode, params):
        weight = tf.compat.v1.get_variable("weight", [1, 1], initializer=tf.compat.v1.zeros_initializer())
        predictions = tf.matmul(features["x"], weight)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions={"y": predictions}, export_outputs={
                "serving_default": tf.estimator.export.PredictOutput({"y": predictions})})
        loss = tf.reduce_mean(tf.square(predictions - labels))
        if mode == tf.estimator.ModeKeys.EVAL:
            return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={
                "mae": tf.compat.v1.metrics.mean_absolute_error(labels, predictions)})
        optimizer = tf.compat.v1.train.GradientDescentOptimizer((params or {}).get("rate", 0.05))
        train_op = optimizer.minimize(loss, global_step=tf.compat.v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn, input_fn
