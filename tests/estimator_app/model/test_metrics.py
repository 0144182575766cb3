"""Scores of an evaluation against scikit-learn and independent loops."""
import dataclasses
import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from estimator_app.model import curves, metrics
from estimator_app.model.metrics import EvaluationBatch, RankMerge, collapse_warnings, expert_metrics
from estimator_app.model.tasks import make_tasks
from feature_specs import sdk as sdk_names
from tests.support.evaluation import Evaluation, Ranks, evaluate, gauc
from tests.support.model_oracle import Tasks
from tests.support.small_data import RICH, SMALL, write_data


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("rich"), dataset=RICH)[0]


@pytest.fixture(scope="module")
def tasks(manifest):
    return make_tasks(manifest)


@pytest.fixture(scope="module")
def few(manifest):
    """Three of the tasks: one alone, one that is given it, and a regression where it is 1."""
    dataset = dataclasses.replace(RICH, tasks=(RICH.task("click"), RICH.task("buy"),
                                               dataclasses.replace(RICH.task("watch"), where="click")))
    return make_tasks(dataclasses.replace(manifest, dataset=dataset))


def rows_of_few(count, seed):
    """Rows of those tasks."""
    logits, labels, weights, group = rows(count, seed, 0.3)
    return {name: logits[name] for name in ("click", "buy", "watch")}, labels[:, [0, 1, 4]], weights, group


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_tasks(write_data(tmp_path_factory.mktemp("small"), dataset=SMALL)[0])


def rows(count, seed=0, unknown=0.15):
    """Rows of the rich dataset: logits with ties, labels, weights and groups."""
    random = np.random.RandomState(seed)
    scores = random.normal(0, 1.2, (count, 5)).astype(np.float32)
    # Joint probabilities of rounded scores would be equal but for the last bit.
    scores[:, [0, 3]] = np.round(scores[:, [0, 3]], 1)
    labels = (random.normal(0, 1, (count, 5)) + scores > 0.3).astype(np.float32)
    labels[:, 4] = np.expm1(np.abs(random.normal(2, 1, count)))
    labels[random.rand(count, 5) < unknown] = np.nan
    weights = random.gamma(2.0, 1.0, count).astype(np.float32)
    weights[::7] = 0.0
    return ({name: scores[:, n] for n, name in enumerate(RICH.task_names)}, labels, weights,
            random.randint(0, 12, count).astype(np.int64) * (1 << 37))


def small_rows(logits, labels):
    """Logits and labels of the small dataset of one score and one label."""
    return {name: logits for name in SMALL.task_names}, np.stack([labels] * 3, axis=1)


def test_every_score_of_every_task(manifest, tasks):
    logits, labels, weights, group = rows(701)
    found = evaluate(tasks, logits, labels, 64, weights, group)
    oracle = Tasks(manifest.dataset, manifest.label_statistics)
    assert found["examples"] == 701
    losses, aucs = [], []
    for number, name in enumerate(RICH.task_names):
        known = oracle.known(labels, name)
        label = labels[known, number]
        losses.append(np.nanmean(oracle.row_losses(logits, labels, name)))
        if name == "watch":
            for prefix, weight in (("", None), ("weighted_", weights[known])):
                outputs = oracle.number(logits, name)[known]
                for units, truth, guess in (("", np.log1p(label), outputs), ("column_", label, np.expm1(outputs))):
                    rmse = math.sqrt(mean_squared_error(truth, guess, sample_weight=weight))
                    assert found["%s%srmse_watch" % (prefix, units)] == pytest.approx(rmse, rel=1e-5)
                    assert found["%s%smae_watch" % (prefix, units)] == pytest.approx(
                        mean_absolute_error(truth, guess, sample_weight=weight), rel=1e-5)
            continue
        p = oracle.probability(logits, name)[known]
        # The graph ranks by float32 logits: equal logits are equal scores there.
        ranked = np.log(p / (1 - p)).astype(np.float32).round(5)
        for prefix, weight in (("", None), ("weighted_", weights[known])):
            for score, function in (("auc_", roc_auc_score), ("pr_auc_", average_precision_score)):
                assert found[prefix + score + name] == pytest.approx(function(label, ranked, sample_weight=weight),
                                                                     abs=2e-5), (prefix, score, name)
            assert found[prefix + "log_loss_" + name] == pytest.approx(log_loss(label, p, sample_weight=weight),
                                                                       rel=1e-5)
            assert found[prefix + "calibration_" + name] == pytest.approx(
                np.average(p, weights=weight) / np.average(label, weights=weight), rel=1e-5)
        assert found["gauc_" + name] == pytest.approx(gauc(ranked, label, group[known]), abs=2e-5)
        aucs.append(found["auc_" + name])
    assert found["mean_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["auc_mean"] == pytest.approx(np.mean(aucs), abs=1e-6)
    assert set(found) == {prefix + name for name in tasks.score_names() for prefix in ("", "weighted_")
                          if not (prefix and name.startswith("gauc"))} | {"mean_loss", "auc_mean", "examples"}


@pytest.mark.parametrize("count, rate", [(20000, 0.5), (100000, 0.0003)])
def test_auc_agrees_with_scikit_learn_at_any_balance(small, count, rate):
    random = np.random.RandomState(int(rate * 1e6))
    labels = (random.uniform(size=count) < rate).astype(np.int64)
    logits = (random.normal(size=count) + 1.3 * labels - 3).astype(np.float32)
    result = evaluate(small, *small_rows(logits, labels), 4096)
    assert result["auc_click"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-6)
    assert result["pr_auc_click"] == pytest.approx(average_precision_score(labels, logits), abs=1e-6)
    assert result["examples"] == count


def test_scores_that_are_nearly_equal_are_still_ordered(small):
    labels = np.array([0, 1] * 500)
    logits = np.float32(-2.7) + np.arange(1000, dtype=np.float32) * np.float32(3e-7)
    found = evaluate(small, *small_rows(logits, labels), 100)
    assert found["auc_click"] == pytest.approx(roc_auc_score(labels, logits), abs=1e-6)


@pytest.mark.parametrize("label", [0, 1, -1])
def test_what_is_not_defined_is_nan_and_left_out_of_means(small, label):
    random = np.random.RandomState(1)
    logits, labels = small_rows(random.normal(size=50).astype(np.float32), random.randint(0, 2, 50))
    labels[:, 0] = label
    found = evaluate(small, logits, labels, 16)
    assert math.isnan(found["auc_click"]) and math.isnan(found["pr_auc_click"])
    assert math.isnan(found["calibration_click"]) == (label < 1)
    assert math.isnan(found["log_loss_click"]) == (label < 0)
    assert found["auc_mean"] == pytest.approx(found["auc_buy"])
    losses = [found["log_loss_" + name] for name in SMALL.task_names if label >= 0 or name != "click"]
    assert found["mean_loss"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_groups_with_one_class_only_do_not_count(few):
    logits, labels, _, _ = rows_of_few(40, 1)
    found = evaluate(few, logits, labels, 16, group=np.arange(40, dtype=np.int64))
    assert math.isnan(found["gauc_click"])


def test_more_batches_than_planned_are_refused(small):
    logits, labels = small_rows(np.zeros(8, np.float32), np.ones(8, np.int64))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        batch = EvaluationBatch(tf.ones([4], tf.bool), 1, 4, RankMerge())
        found = small.metrics({name: tf.constant(value[:4]) for name, value in logits.items()},
                              small.labels({"label": tf.constant(labels[:4])}), batch)
        session.run(tf.compat.v1.local_variables_initializer())
        session.run(found["auc_click"][1])
        with pytest.raises(tf.errors.InvalidArgumentError, match="more batches than planned"):
            session.run(found["auc_click"][1])


@functools.lru_cache(maxsize=None)
def areas_graph():
    with tf.Graph().as_default():
        inputs = [tf.compat.v1.placeholder(kind, [None]) for kind in (tf.float32, tf.int32, tf.float32, tf.int64)]
        ranking = curves.rank(*inputs[:2])
        return tf.compat.v1.Session(), inputs, (*curves.areas(ranking, inputs[2]),
                                                curves.area_within_groups(ranking, inputs[3]))


def areas_of(*values):
    session, inputs, outputs = areas_graph()
    return session.run(outputs, dict(zip(inputs, values)))


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([-np.inf, -2.0, -1.0, 0.0, 0.5, 3.0, np.inf]), st.sampled_from([-1, 0, 1]),
                          st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.sampled_from([-5, 0, 1, 1 << 40])),
                min_size=2, max_size=40))
def test_areas_with_ties_infinities_weights_groups_and_padding(drawn):
    """Against the definitions: the share of ordered pairs, and the precision at the score of every positive."""
    scores, kinds, weights, group = (np.array(column) for column in zip(*drawn))
    for weight in (np.ones(len(drawn)), weights):
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
        auc, pr_auc, within = areas_of(scores, kinds, weight, group)
        expected = (pairs / total, precision / positives) if total else (math.nan, math.nan)
        assert (auc, pr_auc) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    counted = kinds != 0
    assert within == pytest.approx(gauc(scores[counted], (kinds[counted] + 1) // 2, group[counted]), abs=1e-6,
                                   nan_ok=True)


@pytest.fixture(scope="module")
def sized(few):
    """{(steps, batch size): the graph of an evaluation}."""
    return {size: Evaluation(few, *size, True, True) for size in ((1, 60), (12, 5))}


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(0, 10 ** 6))
def test_batches_and_padding_change_nothing(sized, count, seed):
    logits, labels, weights, group = rows_of_few(count, seed)
    whole, found = (evaluation.run(logits, labels, weights, group) for evaluation in sized.values())
    assert found["examples"] == count
    for name, value in whole.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("counts", [pytest.param((50, 33), marks=pytest.mark.long), (40, 17, 0)])
def test_ranks_find_together_what_one_rank_finds_on_all_rows(few, monkeypatch, counts):
    logits, labels, weights, group = rows_of_few(sum(counts), len(counts))
    random = np.random.RandomState(5)
    experts = random.exponential(size=(sum(counts), 3, 4)).astype(np.float32)
    gate = random.dirichlet(np.ones(3), sum(counts)).astype(np.float32)
    ends, steps = np.cumsum(counts), -(-max(counts) // 16)
    ranks = Ranks(len(counts))
    monkeypatch.setattr(sdk_names, "allgather", ranks.allgather)

    def one(rank):
        mine = slice(ends[rank] - counts[rank], ends[rank])
        return Evaluation(few, steps, 16, True, True, len(counts), (3, 4)).run(
            {name: value[mine] for name, value in logits.items()}, labels[mine], weights[mine], group[mine],
            experts[mine], gate[mine])

    found = ranks.run(one)
    wanted = Evaluation(few, 1, sum(counts), True, True, 1, (3, 4)).run(logits, labels, weights, group, experts, gate)
    assert wanted["examples"] == sum(counts) and 0.6 < wanted["auc_click"] < 0.95
    for result in found:
        assert result.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(result[name], value, rtol=1e-5, atol=2e-6, err_msg=name)
            np.testing.assert_array_equal(result[name], found[0][name], err_msg=name)
    assert len(set(ranks.calls)) == 1 and ranks.calls[0] > 0


def test_one_rank_adds_no_op():
    with tf.Graph().as_default() as graph:
        tensor = tf.constant([1.0])
        count = len(graph.get_operations())
        assert RankMerge().sum(tensor) is tensor and RankMerge(1).gather(tensor) is tensor
        assert len(graph.get_operations()) == count


def test_collectives_keep_their_order(monkeypatch):
    monkeypatch.setattr(sdk_names, "allgather", lambda tensor, size: tf.concat([tensor] * size, axis=0))
    with tf.Graph().as_default():
        merge = RankMerge(2)
        first, second = merge.gather(tf.constant([1.0])), merge.gather(tf.constant([2.0]))
        before = {operation for tensor in second.op.inputs for operation in tensor.op.control_inputs}
        assert first.op in before


def expert_scores(gates, experts, valid):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        found = expert_metrics(tf.constant(experts, tf.float32), {"a": tf.constant(gates, tf.float32)} if gates else {},
                               tf.constant(valid), RankMerge())
        session.run(tf.compat.v1.local_variables_initializer())
        session.run([update for _, update in found.values()])
        return session.run({name: value for name, (value, _) in found.items()})


def test_expert_scores_leave_padding_out():
    experts = [[[1.0, 3.0], [3.0, 1.0]], [[9.0, 9.0], [9.0, 9.0]]]
    found = expert_scores([[0.5, 0.5], [0.0, 1.0]], experts, [True, False])
    # Two experts with half the weight each; each lies 1 from the mean, which is 2.
    assert found == {"experts_used_a": pytest.approx(2.0, rel=1e-5), "expert_difference": pytest.approx(0.5)}
    assert collapse_warnings(found) == []


def test_the_use_of_experts_is_that_of_the_mean_gate():
    gates = [[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]
    found = expert_scores(gates, np.ones((2, 3, 1)), [True, True])
    mean = np.mean(gates, axis=0)
    assert found["experts_used_a"] == pytest.approx(np.exp(-(mean * np.log(mean)).sum()), rel=1e-5)


def test_collapsed_experts_and_gates_are_reported():
    same = [[[1.0, 3.0], [1.0, 3.0]]] * 2
    lines = collapse_warnings(expert_scores([[0.0, 1.0], [0.0, 1.0]], same, [True, True]))
    assert len(lines) == 2 and "nearly the same" in lines[0] and "gate of task a uses one expert only" in lines[1]
    assert collapse_warnings(expert_scores([], same, [True, True]))[0].startswith("all experts")
    assert collapse_warnings({"experts_used_a": None, "expert_difference": None}) == []


def test_local_variables_are_in_no_checkpoint():
    with tf.Graph().as_default():
        metrics.local_variable("v", [2], tf.float32)
        assert not tf.compat.v1.global_variables() and len(tf.compat.v1.local_variables()) == 1
