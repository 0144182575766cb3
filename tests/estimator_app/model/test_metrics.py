import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from estimator_app.model import curves
from estimator_app.model.metrics import RELIABILITY_BINS, evaluation_metrics


def evaluate(logits, labels, batch_size, tasks=("one",), weights=None):
    """Feeds rows in batches, the last one padded with label -1; returns the final metric values."""
    count = len(labels)
    steps = -(-count // batch_size)
    missing = steps * batch_size - count
    logits = np.concatenate([logits, np.full((missing, len(tasks)), 9.0)]).astype(np.float32)
    labels = np.concatenate([labels, -np.ones((missing, len(tasks)), np.int64)])
    weighted = weights is not None
    weights = np.concatenate([weights if weighted else np.ones(count), np.full(missing, 7.0)]).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        logit = tf.compat.v1.placeholder(tf.float32, [batch_size, len(tasks)])
        label = tf.compat.v1.placeholder(tf.int64, [batch_size, len(tasks)])
        by_task = {task: logit[:, n] for n, task in enumerate(tasks)}
        label_of = {task: label[:, n] for n, task in enumerate(tasks)}
        losses = {task: tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(label_of[task], tf.float32), logits=by_task[task]) for task in tasks}
        weight = tf.compat.v1.placeholder(tf.float32, [batch_size])
        metrics = evaluation_metrics(by_task, label_of, losses, label[:, 0] >= 0, steps, batch_size,
                                     weight if weighted else None)
        session.run(tf.compat.v1.local_variables_initializer())
        updates = [update for _, update in metrics.values()]
        for start in range(0, len(labels), batch_size):
            part = slice(start, start + batch_size)
            session.run(updates, {logit: logits[part], label: labels[part], weight: weights[part]})
        return session.run({name: value for name, (value, _) in metrics.items()})


@pytest.mark.parametrize("rows, rate", [(20000, 0.5), (20000, 0.06), (50000, 0.003), (100000, 0.0003)])
def test_auc_agrees_with_scikit_learn_at_any_balance(rows, rate):
    random = np.random.RandomState(int(rate * 1e6))
    labels = (random.uniform(size=rows) < rate).astype(np.int64)
    logits = random.normal(size=rows) + 1.3 * labels - 3
    result = evaluate(logits[:, None], labels[:, None], 4096)
    assert result["auc_one"] == pytest.approx(roc_auc_score(labels, logits.astype(np.float32)), abs=1e-6)
    assert result["pr_auc_one"] == pytest.approx(average_precision_score(labels, logits.astype(np.float32)), abs=1e-6)
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


def test_weighted_scores_agree_with_scikit_learn():
    random = np.random.RandomState(5)
    labels = (random.uniform(size=(3001, 2)) < [0.06, 0.4]).astype(np.int64)
    # Rounded, so that many scores are equal.
    logits = np.round(random.normal(size=(3001, 2)) + 1.5 * labels - 2, 1).astype(np.float32)
    weights = random.gamma(2.0, 800.0, 3001).astype(np.float32)
    weights[::7] = 0.0
    result = evaluate(logits, labels, 256, ("one", "two"), weights)
    plain = evaluate(logits, labels, 256, ("one", "two"))
    assert {"weighted_%s_%s" % (name, task) for name in ("auc", "pr_auc", "log_loss", "calibration")
            for task in ("one", "two")} == set(result) - set(plain)
    for n, task in enumerate(("one", "two")):
        label, logit = labels[:, n], logits[:, n]
        probability = 1 / (1 + np.exp(-logit.astype(np.float64)))
        for name, oracle in (("auc_", roc_auc_score), ("pr_auc_", average_precision_score)):
            assert result["weighted_" + name + task] == pytest.approx(
                oracle(label, logit, sample_weight=weights), abs=1e-6)
            assert result[name + task] == plain[name + task] == pytest.approx(oracle(label, logit), abs=1e-6)
        assert result["weighted_log_loss_" + task] == pytest.approx(
            log_loss(label, probability, sample_weight=weights), abs=1e-5)
        assert result["weighted_calibration_" + task] == pytest.approx(
            np.average(probability, weights=weights) / np.average(label, weights=weights), abs=1e-5)


def test_reliability_is_in_bins_of_equal_numbers_of_rows():
    random = np.random.RandomState(6)
    labels = (random.uniform(size=(1003, 1)) < 0.3).astype(np.int64)
    logits = random.permutation(np.linspace(-4, 3, 1003)).astype(np.float32)[:, None]
    predicted, observed, rows = evaluate(logits, labels, 100)["reliability_one"]
    order = np.argsort(logits[:, 0])
    bin_of = np.arange(1003) * RELIABILITY_BINS // 1003
    for number in range(RELIABILITY_BINS):
        inside = order[bin_of == number]
        assert rows[number] == len(inside)
        assert predicted[number] == pytest.approx((1 / (1 + np.exp(-logits[inside, 0]))).mean(), abs=1e-6)
        assert observed[number] == pytest.approx(labels[inside, 0].mean(), abs=1e-6)


def test_reliability_of_fewer_rows_than_bins():
    predicted, observed, rows = evaluate(np.zeros((2, 1)), np.ones((2, 1), np.int64), 4)["reliability_one"]
    assert rows.sum() == 2 and set(rows) == {0.0, 1.0}
    np.testing.assert_allclose(predicted[rows > 0], 0.5)
    np.testing.assert_allclose(observed, rows)


@functools.lru_cache(maxsize=None)
def areas_graph():
    with tf.Graph().as_default():
        inputs = [tf.compat.v1.placeholder(kind, [None]) for kind in (tf.float32, tf.int32, tf.float32)]
        return tf.compat.v1.Session(), inputs, curves.areas(curves.rank(*inputs[:2]), inputs[2])


def areas_of(*values):
    session, inputs, outputs = areas_graph()
    return session.run(outputs, dict(zip(inputs, values)))


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5, 3.0, np.inf]), st.sampled_from([-1, 0, 1]),
                          st.sampled_from([0.0, 0.5, 1.0, 3.0])), min_size=2, max_size=40))
def test_areas_with_ties_infinities_weights_and_padding(rows):
    """Against the definitions: the share of ordered pairs, and the precision at the score of every positive."""
    scores, kinds = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    weights = np.array([row[2] for row in rows])
    for weight in (np.ones(len(rows)), weights):
        pairs = total = precision = 0.0
        for i in np.flatnonzero(kinds == 1):
            for j in np.flatnonzero(kinds == -1):
                total += weight[i] * weight[j]
                won = 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
                pairs += weight[i] * weight[j] * won
            above = weight * (scores >= scores[i])
            if above[kinds == 1].sum():
                precision += weight[i] * above[kinds == 1].sum() / above[kinds != 0].sum()
        positives = weight[kinds == 1].sum()
        auc, pr_auc = areas_of(scores, kinds, weight)
        assert auc == pytest.approx(pairs / total if total else 0.0, abs=1e-6)
        assert pr_auc == pytest.approx(precision / positives if positives else 0.0, abs=1e-6)
