"""Tasks: losses, predictions and their relations against formulas written row by row."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_app.model.tasks import joint_logits, make_tasks
from feature_specs.dataset import TaskDefinition
from feature_specs.errors import ConfigError
from feature_specs.manifest import LabelStatistics
from feature_specs.records import LABEL
from tests.support.model_oracle import Tasks, sigmoid
from tests.support.small_data import RICH, SMALL, write_data

ROWS = 40
NAMES = ("click", "buy", "keep", "rate", "watch")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("rich"), dataset=RICH)[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("small"), dataset=SMALL)[0]


def arrays(seed=0, rows=ROWS):
    """{task: logits}, labels float32 [n, 5] with every kind of unknown, and weights."""
    random = np.random.RandomState(seed)
    labels = random.randint(0, 2, (rows, 5)).astype(np.float32)
    labels[:, 4] = random.gamma(2.0, 20.0, rows)
    labels[random.rand(rows, 5) < 0.2] = np.nan
    return ({name: random.normal(0, 1.5, rows).astype(np.float32) for name in NAMES}, labels,
            random.gamma(2.0, 0.5, rows).astype(np.float32))


def run(tasks, logits, labels, function):
    """Values of ``function(joint logits, labels, own logits)`` of a task set."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        own = {name: tf.constant(value) for name, value in logits.items()}
        return session.run(function(tasks.related(own), tasks.labels({LABEL: tf.constant(labels)}), own))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("weights", [(), ("buy=3", "watch=0.25", "rate=0")])
def test_the_training_loss(manifest, weighted, weights):
    logits, labels, row_weights = arrays()
    tasks = make_tasks(manifest, weights)
    found, gradients = run(tasks, logits, labels, lambda joint, given_labels, own: [
        (loss, tf.gradients(loss, [own[name] for name in NAMES])) for loss in [tasks.training_loss(
            joint, given_labels, tf.constant(row_weights) if weighted else None)]][0])
    oracle = Tasks(manifest.dataset, manifest.label_statistics)
    by_task = {text.split("=")[0]: float(text.split("=")[1]) for text in weights}

    def expected(values):
        return oracle.training_loss(values, labels, row_weights if weighted else None, by_task)

    assert found == pytest.approx(expected(logits), rel=1e-5)
    for name, gradient in zip(NAMES, gradients):
        assert np.isfinite(gradient).all()
        for row in (0, 7, 19):
            up, down = ({key: np.array(value, np.float64) for key, value in logits.items()} for _ in range(2))
            up[name][row] += 1e-4
            down[name][row] -= 1e-4
            assert gradient[row] == pytest.approx((expected(up) - expected(down)) / 2e-4, rel=1e-3, abs=1e-6)


def test_a_task_counts_where_its_whole_chain_is_positive(manifest):
    _, labels, _ = arrays(1, 200)
    counts = run(make_tasks(manifest), arrays(1, 200)[0], labels, lambda joint, found, own: {
        name: found[name].counts for name in NAMES})
    click, rate, watch = labels[:, 0], labels[:, 3], labels[:, 4]
    np.testing.assert_array_equal(counts["rate"], (click == 1) & np.isfinite(rate))
    np.testing.assert_array_equal(counts["watch"], (click == 1) & (rate == 1) & np.isfinite(watch))
    # A task that is given another is trained on all rows.
    np.testing.assert_array_equal(counts["keep"], np.isfinite(labels[:, 2]))
    assert 0 < counts["watch"].sum() < counts["rate"].sum()


def test_integer_labels_are_unknown_below_zero(small):
    labels = np.array([[1, 0, -1], [-1, -1, -1], [-2, -2, -2], [0, 1, 1]], np.int64)
    logits = {name: np.zeros(4, np.float32) for name in SMALL.task_names}
    counts = run(make_tasks(small), logits, labels, lambda joint, found, own: {
        name: found[name].counts for name in SMALL.task_names})
    np.testing.assert_array_equal(np.stack([counts[name] for name in SMALL.task_names], axis=1), labels >= 0)


def test_the_loss_divides_by_all_rows_so_that_parts_of_a_batch_agree_with_the_whole(manifest):
    logits, labels, weights = arrays(2)
    tasks = make_tasks(manifest)

    def loss(rows):
        return run(tasks, {name: value[rows] for name, value in logits.items()}, labels[rows],
                   lambda joint, found, own: tasks.training_loss(joint, found, tf.constant(weights[rows])))

    halves = [loss(slice(0, ROWS // 2)), loss(slice(ROWS // 2, ROWS))]
    assert np.mean(halves) == pytest.approx(loss(slice(0, ROWS)), rel=1e-5)


def test_a_batch_of_unknown_labels_has_loss_zero_and_no_gradient(manifest):
    logits, _, _ = arrays()
    tasks = make_tasks(manifest)
    found = run(tasks, logits, np.full((ROWS, 5), np.nan, np.float32), lambda joint, labels, own: [
        tasks.training_loss(joint, labels, None),
        tf.gradients(tasks.training_loss(joint, labels, None), list(own.values()))])
    assert found[0] == 0.0 and all((value == 0).all() for value in found[1])


def test_predictions_and_their_names(manifest):
    logits, labels, _ = arrays(3)
    tasks = make_tasks(manifest)
    found = run(tasks, logits, labels, lambda joint, _, own: tasks.predictions(own))
    oracle = Tasks(manifest.dataset, manifest.label_statistics)
    assert tasks.output_names() == ["click", "buy", "buy_given_click", "keep", "keep_given_buy", "rate", "watch"]
    assert set(found) == set(tasks.output_names())
    for name in ("click", "buy", "keep", "rate"):
        np.testing.assert_allclose(found[name], oracle.probability(logits, name), atol=3e-7)
    np.testing.assert_allclose(found["keep"], sigmoid(logits["click"]) * sigmoid(logits["buy"])
                               * sigmoid(logits["keep"]), atol=3e-7)
    for name in ("buy", "keep"):
        given_name = RICH.task(name).given
        np.testing.assert_allclose(found["%s_given_%s" % (name, given_name)], sigmoid(logits[name]), atol=3e-7)
    np.testing.assert_allclose(found["watch"], np.expm1(oracle.number(logits, "watch")), rtol=1e-5)


def test_a_regression_without_transform_and_without_deviation(manifest):
    dataset = dataclasses.replace(RICH, tasks=(TaskDefinition("watch", "seconds", "regression"),))
    plain = dataclasses.replace(manifest, dataset=dataset, label_statistics={"watch": LabelStatistics(3.0, 0.0)})
    tasks = make_tasks(plain)
    labels, logits = np.array([[4.0], [np.nan]], np.float32), {"watch": np.array([0.5, 9.0], np.float32)}
    loss, prediction = run(tasks, logits, labels, lambda joint, found, own: (
        tasks.training_loss(joint, found, None), tasks.predictions(own)["watch"]))
    assert loss == pytest.approx(0.5 * (4.0 - 3.5) ** 2 / 2)
    np.testing.assert_allclose(prediction, [3.5, 12.0])
    assert tasks.main_metric == "mean_loss" and tasks.selectable() == [
        "mean_loss", "rmse_watch", "mae_watch", "column_rmse_watch", "column_mae_watch"]


_LOGITS = st.one_of(st.floats(-1e4, 1e4), st.sampled_from([-1e30, -200.0, -88.0, -17.0, 0.0, 17.0, 88.0, 200.0, 1e30]))


@pytest.fixture(scope="module")
def joint():
    with tf.Graph().as_default():
        first, second = (tf.compat.v1.placeholder(tf.float32, [None]) for _ in range(2))
        value = joint_logits(first, second)
        loss = [tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.ones_like(value) * label, logits=value)
                for label in (0.0, 1.0)]
        session = tf.compat.v1.Session()
        gradients = [tf.gradients(item, [first, second]) for item in loss]
        yield lambda a, b: session.run([value, loss, gradients], {first: a, second: b})
        session.close()


@settings(max_examples=200)
@given(st.lists(st.tuples(_LOGITS, _LOGITS), min_size=1, max_size=30))
def test_joint_logits_over_all_magnitudes(joint, pairs):
    """Against float64: log p and log(1 - p) of p = sigmoid(a) sigmoid(b), as sums of logarithms."""
    first, second = (np.array(column, np.float32) for column in zip(*pairs))
    value, loss, gradients = joint(first, second)
    a, b = first.astype(np.float64), second.astype(np.float64)
    log_both = -np.logaddexp(0, -a) - np.logaddexp(0, -b)
    log_not = np.logaddexp(-np.logaddexp(0, a), -np.logaddexp(0, -a) - np.logaddexp(0, b))
    np.testing.assert_allclose(value, log_both - log_not, rtol=1e-5, atol=1e-5)
    assert np.isfinite(value).all()
    np.testing.assert_allclose(loss[1], -log_both, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loss[0], -log_not, rtol=1e-4, atol=1e-5)
    for gradient in gradients[0] + gradients[1]:
        assert np.isfinite(gradient).all()
    # d/da of -log p is -(1 - sigmoid(a)), whatever b is.
    np.testing.assert_allclose(gradients[1][0], -sigmoid_of(-a), atol=2e-5)
    np.testing.assert_allclose(gradients[1][1], -sigmoid_of(-b), atol=2e-5)
    # d/da of -log(1 - p) is p (1 - sigmoid(a)) / (1 - p); beyond 1e4 float64 does not tell the terms apart.
    small = (np.abs(a) <= 1e4) & (np.abs(b) <= 1e4)
    expected = np.exp(log_both - np.logaddexp(0, a) - log_not)
    np.testing.assert_allclose(gradients[0][0][small], expected[small], rtol=2e-3, atol=2e-5)


def sigmoid_of(values):
    return np.exp(-np.logaddexp(0, -values))


def test_weights_are_read(small):
    assert {task.name: task.weight for task in make_tasks(small, ("buy=0.5",)).tasks.values()} == {
        "click": 1.0, "buy": 0.5, "stay": 1.0}


@pytest.mark.parametrize("texts, words", [
    (("c=1",), "task_weights c=1 is not understood.* tasks: click, buy, stay"), (("buy=-1",), "buy=-1 is not"),
    (("buy",), "buy is not understood"), (("buy=1", "buy=2"), "buy=2 is not understood"), (("buy=inf",), "buy=inf"),
    (("buy=nan",), "buy=nan"), (("click=0", "buy=0", "stay=0"), "0 for every task")])
def test_wrong_weights_are_refused(small, texts, words):
    with pytest.raises(ConfigError, match=words):
        make_tasks(small, texts)


def test_names_of_scores(manifest, small):
    tasks = make_tasks(manifest)
    assert tasks.main_metric == "auc_mean"
    assert tasks.main_scores() == ["auc_click", "auc_buy", "auc_keep", "auc_rate", "rmse_watch"]
    assert "gauc_buy" in tasks.score_names() and "gauc_buy" not in make_tasks(small).score_names()
    lower = {name for name in tasks.selectable() if tasks.is_loss(name)}
    assert lower == {"mean_loss"} | {"log_loss_" + name for name in NAMES[:4]} | {
        name + "_watch" for name in ("rmse", "mae", "column_rmse", "column_mae")}
    tasks.check_selectable("--metric", "auc_buy")
    # Closer to 1 is better there, which neither the least nor the greatest value is.
    with pytest.raises(ConfigError, match="--metric calibration_buy is not known"):
        tasks.check_selectable("--metric", "calibration_buy")
    with pytest.raises(ConfigError, match="--metric auc_bye is not known; choose from auc_mean, mean_loss, auc_click"):
        tasks.check_selectable("--metric", "auc_bye")
