import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

from estimator_app.model.layers import NetworkOutput
from estimator_app.model.losses import parse_task_weights, task_losses, training_loss
from feature_specs.errors import ConfigError

LOGITS = {"a": np.array([-1.0, 0.5, 2.0], np.float32), "b": np.array([0.1, -3.0, 1.0], np.float32)}
LABELS = {"a": np.array([0, 1, 1]), "b": np.array([1, 0, 0])}


def run(function):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logits = {task: tf.constant(value) for task, value in LOGITS.items()}
        labels = {task: tf.constant(value) for task, value in LABELS.items()}
        return session.run(function(logits, labels))


def total(**settings):
    def build(logits, labels):
        twice = {task: tf.stack([value] * 2) for task, value in logits.items()}
        return training_loss(NetworkOutput(twice, {}, tf.zeros([3, 2, 1, 1])), labels, **settings)
    return run(build)


def oracle(task, smoothing=0.0):
    probability = 1 / (1 + np.exp(-LOGITS[task].astype(np.float64)))
    target = LABELS[task] * (1 - smoothing) + smoothing / 2
    return -(target * np.log(probability) + (1 - target) * np.log(1 - probability))


def test_log_loss_and_smoothing():
    for smoothing in (0.0, 0.2):
        found = run(lambda logits, labels, s=smoothing: task_losses(logits, labels, s))
        for task in LOGITS:
            np.testing.assert_allclose(found[task], oracle(task, smoothing), atol=1e-6)
    assert oracle("a").mean() == pytest.approx(log_loss(LABELS["a"], 1 / (1 + np.exp(-LOGITS["a"]))), abs=1e-6)


def test_weights_multiply_the_losses_of_the_tasks():
    a, b = oracle("a").mean(), oracle("b").mean()
    # Two networks, each with the mean over two tasks.
    assert total() == pytest.approx(a + b, abs=1e-6)
    assert total(task_weights={"a": 1.0, "b": 1.0}) == pytest.approx(a + b, abs=1e-6)
    assert total(task_weights={"a": 2.0, "b": 0.5}) == pytest.approx(2 * a + 0.5 * b, abs=1e-6)
    assert total(task_weights={"a": 1.0, "b": 0.0}) == pytest.approx(a, abs=1e-6)
    assert total(label_smoothing=0.1) == pytest.approx(oracle("a", 0.1).mean() + oracle("b", 0.1).mean(), abs=1e-6)


def test_weights_are_read():
    assert parse_task_weights((), ("a", "b")) == {"a": 1.0, "b": 1.0}
    assert parse_task_weights(("b=0.5",), ("a", "b")) == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize("texts, words", [
    (("c=1",), "task_weights c=1 is not understood.* tasks: a, b"), (("a=-1",), "a=-1 is not understood"),
    (("a",), "a is not understood"), (("a=1", "a=2"), "a=2 is not understood"), (("a=inf",), "a=inf"),
    (("a=nan",), "a=nan"), (("a=0", "b=0"), "0 for every task")])
def test_weights_that_are_refused(texts, words):
    with pytest.raises(ConfigError, match=words):
        parse_task_weights(texts, ("a", "b"))
