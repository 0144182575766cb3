import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from estimator_app.metrics import auc_of, evaluation_metrics


def evaluate(logits, labels, batch_size, tasks=("one",)):
    """Feeds rows in batches, the last one padded with label -1; returns the final metric values."""
    count = len(labels)
    steps = -(-count // batch_size)
    missing = steps * batch_size - count
    logits = np.concatenate([logits, np.full((missing, len(tasks)), 9.0)]).astype(np.float32)
    labels = np.concatenate([labels, -np.ones((missing, len(tasks)), np.int64)])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logit = tf.compat.v1.placeholder(tf.float32, [batch_size, len(tasks)])
        label = tf.compat.v1.placeholder(tf.int64, [batch_size, len(tasks)])
        by_task = {task: logit[:, n] for n, task in enumerate(tasks)}
        label_of = {task: label[:, n] for n, task in enumerate(tasks)}
        losses = {task: tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(label_of[task], tf.float32), logits=by_task[task]) for task in tasks}
        metrics = evaluation_metrics(by_task, label_of, losses, label[:, 0] >= 0, steps, batch_size)
        session.run(tf.compat.v1.local_variables_initializer())
        updates = [update for _, update in metrics.values()]
        for start in range(0, len(labels), batch_size):
            part = slice(start, start + batch_size)
            session.run(updates, {logit: logits[part], label: labels[part]})
        return session.run({name: value for name, (value, _) in metrics.items()})


@pytest.mark.parametrize("rows, rate", [(20000, 0.5), (20000, 0.06), (50000, 0.003), (100000, 0.0003)])
def test_auc_agrees_with_scikit_learn_at_any_balance(rows, rate):
    random = np.random.RandomState(int(rate * 1e6))
    labels = (random.uniform(size=rows) < rate).astype(np.int64)
    logits = random.normal(size=rows) + 1.3 * labels - 3
    result = evaluate(logits[:, None], labels[:, None], 4096)
    assert result["auc_one"] == pytest.approx(roc_auc_score(labels, logits.astype(np.float32)), abs=1e-6)
    assert result["examples"] == rows


def test_log_loss_and_calibration_leave_padding_out():
    random = np.random.RandomState(0)
    labels = random.randint(2, size=(1001, 2))
    logits = random.normal(size=(1001, 2))
    result = evaluate(logits, labels, 64, ("one", "two"))
    probabilities = 1 / (1 + np.exp(-logits))
    expected = [log_loss(labels[:, n], probabilities[:, n]) for n in range(2)]
    assert result["log_loss_one"] == pytest.approx(expected[0], abs=1e-5)
    assert result["mean_loss"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert result["calibration_two"] == pytest.approx(probabilities[:, 1].mean() / labels[:, 1].mean(), abs=1e-5)
    areas = [roc_auc_score(labels[:, n], logits[:, n].astype(np.float32)) for n in range(2)]
    assert result["auc_mean"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_scores_that_are_nearly_equal_are_still_ordered():
    labels = np.array([0, 1] * 500)
    logits = np.float32(-2.7) + np.arange(1000, dtype=np.float32) * np.float32(3e-7)
    assert evaluate(logits[:, None], labels[:, None], 100)["auc_one"] == pytest.approx(
        roc_auc_score(labels, logits), abs=1e-6)


def test_one_class_only_gives_zero_not_nan():
    assert evaluate(np.zeros((10, 1)), np.ones((10, 1), np.int64), 4)["auc_one"] == 0.0


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5, 3.0, np.inf]), st.sampled_from([-1, 0, 1])),
                min_size=2, max_size=40))
def test_auc_with_ties_and_infinities_is_the_share_of_ordered_pairs(rows):
    positives = [score for score, kind in rows if kind == 1]
    negatives = [score for score, kind in rows if kind == -1]
    pairs = [(1.0 if p > n else 0.5 if p == n else 0.0) for p in positives for n in negatives]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        value = session.run(auc_of(tf.constant([score for score, _ in rows], tf.float32),
                                   tf.constant([kind for _, kind in rows], tf.int32)))
    assert value == pytest.approx(np.mean(pairs) if pairs else 0.0, abs=1e-6)
