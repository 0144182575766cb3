import numpy as np
import pytest
import tensorflow as tf

from estimator_app.gate_metrics import collapse_warnings, gate_metrics
from estimator_app.heads import build_network
from estimator_app.layers import EnsembleOutput, NetworkOutput, NetworkShape, mix
from estimator_app.learning_rate import scheduled
from estimator_app.losses import task_losses, training_loss
from estimator_app.mmoe import build_mmoe

TASKS = ("a", "b", "c")


def run(shape, rows=9, dense=2, seed=0):
    """Builds and runs a network; returns values of the output, and {variable: value}."""
    random = np.random.RandomState(seed)
    pooled = random.normal(0, 1, (rows, shape.width)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output = build_network(tf.constant(pooled), tf.constant(random.normal(0, 1, (rows, dense)), tf.float32), shape)
        session.run(tf.compat.v1.global_variables_initializer())
        variables = {variable.op.name: variable for variable in tf.compat.v1.trainable_variables()}
        return session.run((output, variables))


@pytest.mark.parametrize("shape, width, units, gate", [
    (NetworkShape(TASKS, 4, 5, 3), 4 * 5 + 3 * 4, 4, 4),
    (NetworkShape(TASKS, 4, 5, 3, "shared_bottom"), 20, 4, None),
    (NetworkShape(TASKS, 4, 5, 3, "ple", 2), (4 + 6) * 5 + 3 * 6, 10, 6),
    (NetworkShape(("a",), 1, 2, 3, "ple", 1), 2 * 2 + 2, 2, 2)])
def test_shapes(shape, width, units, gate):
    assert shape.width == shape.network_width == width
    (logits, members), variables = run(shape)
    assert set(logits) == set(shape.tasks) and all(value.shape == (9,) for value in logits.values())
    assert members[0].experts.shape == (9, units, shape.expert_size)
    assert all(name.startswith(shape.model + "/") for name in variables)
    if gate is None:
        assert members[0].gates == {}
    else:
        for weights in members[0].gates.values():
            assert weights.shape == (9, gate)
            np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


def test_tasks_of_ple_do_not_see_the_experts_of_others():
    shape = NetworkShape(TASKS, 2, 3, 4, "ple", 2)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pooled = tf.constant(np.random.RandomState(1).normal(0, 1, (50, shape.width)), tf.float32)
        output = build_network(pooled, tf.zeros([50, 0]), shape)
        session.run(tf.compat.v1.global_variables_initializer())
        for number, task in enumerate(TASKS):
            gradient = np.abs(session.run(tf.gradients(output.logits[task], pooled)[0])).sum(axis=0)
            experts, gates = gradient[:24].reshape(8, 3).sum(axis=1), gradient[24:].reshape(3, 4).sum(axis=1)
            own = slice(2 + 2 * number, 4 + 2 * number)
            assert (experts[:2] > 0).all() and (experts[own] > 0).all()
            assert experts.sum() == pytest.approx(experts[:2].sum() + experts[own].sum())
            assert [value > 0 for value in gates] == [place == number for place in range(3)]


@pytest.mark.parametrize("model", ["mmoe", "shared_bottom", "ple"])
def test_several_networks_are_averaged_and_share_nothing(model):
    shape = NetworkShape(TASKS, 3, 4, 5, model, 2, network_num=3)
    assert shape.width == 3 * shape.network_width
    (logits, members), variables = run(shape)
    for task in TASKS:
        np.testing.assert_allclose(logits[task], np.mean([member.logits[task] for member in members], axis=0),
                                   rtol=1e-5, atol=1e-6)
    kernels = [variables[scope + model + "/first_layer/kernel"] for scope in ("", "network_1/", "network_2/")]
    assert not np.allclose(kernels[0], kernels[1]) and not np.allclose(kernels[1], kernels[2])


def test_one_network_is_the_plain_head():
    shape = NetworkShape(TASKS, 3, 4, 5)
    pooled = np.random.RandomState(0).normal(0, 1, (9, shape.width)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        plain = build_mmoe(tf.constant(pooled), tf.zeros([9, 0]), shape, seed=7)
        with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), reuse=True):
            head = build_network(tf.constant(pooled), tf.zeros([9, 0]), shape, seed=7)
        session.run(tf.compat.v1.global_variables_initializer())
        first, second = session.run((plain.logits, head.logits))
    np.testing.assert_array_equal(first["b"], second["b"])


def metrics_of(gate_values, experts, weights):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        members = tuple(NetworkOutput({"a": tf.zeros([2])}, {"a": tf.constant(gate, tf.float32)} if gate else {},
                                      tf.constant(experts, tf.float32)) for gate in gate_values)
        metrics = gate_metrics(EnsembleOutput({"a": tf.zeros([2])}, members), tf.constant(weights, tf.float32))
        session.run(tf.compat.v1.local_variables_initializer())
        session.run([update for _, update in metrics.values()])
        return session.run({name: value for name, (value, _) in metrics.items()})


def test_gate_metrics_leave_padding_out():
    experts = [[[1.0, 3.0], [3.0, 1.0]], [[9.0, 9.0], [9.0, 9.0]]]
    found = metrics_of([[[0.5, 0.5], [0.0, 1.0]]], experts, [1.0, 0.0])
    assert found["gate_entropy_a"] == pytest.approx(1.0) and found["gate_largest_a"] == pytest.approx(0.5)
    assert found["gate_weight_a_0"] == pytest.approx(0.5) and found["expert_difference"] == pytest.approx(0.5)
    assert collapse_warnings(found) == []
    counts = np.zeros(20)
    counts[10] = 2.0
    np.testing.assert_array_equal(found["gate_histogram_a"], counts)


def test_expert_use_and_histogram_over_networks():
    experts = [[[1.0, 3.0], [3.0, 1.0]]] * 2
    found = metrics_of([[[0.7, 0.3], [0.2, 0.8]], [[0.0, 1.0], [0.44, 0.56]]], experts, [1.0, 1.0])
    assert [found["expert_use_a_%d" % number] for number in range(4)] == [0.5, 0.5, 0.0, 1.0]
    expected = np.histogram([0.7, 0.3, 0.2, 0.8, 0.0, 1.0, 0.44, 0.56], 20, (0, 1 + 1e-6))[0]
    assert found["gate_histogram_a"].sum() == 8 and found["gate_histogram_a"][19] == expected[19] == 1
    assert found["gate_histogram_a"][0] == 1 and found["gate_histogram_a"][[8, 11]].tolist() == [1, 1]


def test_collapsed_experts_and_gates_are_reported():
    same = [[[1.0, 3.0], [1.0, 3.0]]] * 2
    found = metrics_of([[[0.5, 0.5], [0.5, 0.5]], [[0.0, 1.0], [0.0, 1.0]]], same, [1.0, 1.0])
    assert found["gate_entropy_a"] == pytest.approx(0.5)
    lines = collapse_warnings(found)
    assert len(lines) == 2 and "nearly the same" in lines[0] and "task a gives one expert 100.0 %" in lines[1]
    assert collapse_warnings(metrics_of([None], same, [1.0, 1.0]))[0].startswith("all experts")


def test_schedules():
    assert scheduled(0.5, "fixed", 10) == 0.5 and scheduled(0.5, "cosine", -1) == 0.5
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.create_global_step()
        rate = scheduled(0.5, "cosine", 10)
        found = []
        for value in (0, 5, 10, 12):
            step.load(value, session)
            found.append(session.run(rate))
    np.testing.assert_allclose(found, [0.5, 0.25, 0.0, 0.0], atol=1e-7)


@pytest.mark.parametrize("networks", [1, 3])
def test_the_training_loss_is_the_mean_over_tasks_and_rows_summed_over_networks(networks):
    shape = NetworkShape(TASKS, 3, 4, 5, network_num=networks)
    random = np.random.RandomState(3)
    labels = random.randint(0, 2, (7, 3))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pooled = tf.constant(random.normal(0, 1, (7, shape.width)), tf.float32)
        output = build_network(pooled, tf.zeros([7, 0]), shape)
        named = {task: tf.constant(labels[:, number]) for number, task in enumerate(TASKS)}
        fast = training_loss(output, named)
        plain = tf.add_n([tf.add_n([tf.reduce_mean(loss) for loss in task_losses(member.logits, named).values()]) / 3.0
                          for member in output.members])
        variables = tf.compat.v1.trainable_variables()
        session.run(tf.compat.v1.global_variables_initializer())
        found = session.run([(loss, tf.gradients(loss, [pooled] + variables)) for loss in (fast, plain)])
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for ours, expected in zip(found[0][1], found[1][1]):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_one_product_mixes_for_all_gates_as_one_by_one():
    random = np.random.RandomState(4)
    experts, logits = random.normal(0, 1, (6, 5, 4)).astype(np.float32), random.normal(0, 1, (6, 3, 5))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        together = mix(tf.constant(experts), tf.constant(logits, tf.float32))
        single = [mix(tf.constant(experts), tf.constant(logits[:, gate:gate + 1], tf.float32)) for gate in range(3)]
        (mixed, weights), parts = session.run([together, single])
    expected = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    np.testing.assert_allclose(mixed, np.einsum("bge,bes->bgs", expected, experts), atol=1e-6)
    np.testing.assert_allclose(np.concatenate([part[0] for part in parts], axis=1), mixed, atol=1e-6)
