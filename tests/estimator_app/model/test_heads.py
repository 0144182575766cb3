import numpy as np
import pytest
import tensorflow as tf

from estimator_app.model.gate_metrics import collapse_warnings, gate_metrics
from estimator_app.model.layers import EnsembleOutput, NetworkOutput, NetworkShape, mix
from estimator_app.model.learning_rate import scheduled
from estimator_app.model.losses import task_losses, training_loss
from estimator_app.model.networks import build_network

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
    (logits, networks), variables = run(shape)
    assert set(logits) == set(shape.tasks) and all(value.shape == (9,) for value in logits.values())
    assert networks.experts.shape == (9, 1, units, shape.expert_size)
    assert all(name.startswith(shape.model + "/") for name in variables)
    if gate is None:
        assert networks.gates == {}
    else:
        for weights in networks.gates.values():
            assert weights.shape == (9, 1, gate)
            np.testing.assert_allclose(weights.sum(axis=2), 1.0, rtol=1e-5)


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
    width = shape.network_width
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        pooled = tf.constant(np.random.RandomState(1).normal(0, 1, (20, shape.width)), tf.float32)
        dense = tf.constant(np.random.RandomState(2).normal(0, 1, (20, 2)), tf.float32)
        output = build_network(pooled, dense, shape, seed=5)
        variables = tf.compat.v1.trainable_variables()
        # What one network's logits depend on: by columns of the first layer, by the leading axis of the towers.
        gradients = [tf.gradients(tf.reduce_sum(output.networks.logits["b"][number] ** 2), [pooled] + variables)
                     for number in range(3)]
        gradients = [[tf.zeros([3]) if item is None else item for item in each] for each in gradients]
        session.run(tf.compat.v1.global_variables_initializer())
        values, found, kernels = session.run((output, gradients, {item.op.name: item for item in variables}))
    np.testing.assert_allclose(values.logits["b"], values.networks.logits["b"].mean(axis=0), rtol=1e-5, atol=1e-6)
    for number, each in enumerate(found):
        for gradient in each:
            parts = np.split(gradient, 3, axis=-1 if gradient.shape[-1] == shape.width else 0)
            assert [bool(np.abs(part).sum()) for part in parts] == [
                place == number and bool(np.abs(gradient).sum()) for place in range(3)]
        assert np.abs(each[0]).sum() > 0
    first = np.split(kernels[model + "/first_layer/kernel"], 3, axis=1)
    hidden = kernels[model + "/tower_b/hidden/kernel"]
    for kernel in (first, hidden):
        assert not np.allclose(kernel[0], kernel[1]) and not np.allclose(kernel[1], kernel[2])
    assert first[0].shape == (2, width) and hidden.shape[0] == 3


@pytest.mark.parametrize("model", ["mmoe", "shared_bottom", "ple"])
def test_networks_side_by_side_compute_what_each_computes_alone(model):
    together, alone = (NetworkShape(TASKS, 3, 4, 5, model, 2, network_num=count) for count in (3, 1))
    random = np.random.RandomState(1)
    pooled, dense = random.normal(0, 1, (6, together.width)), random.normal(0, 1, (6, 2)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        columns = tf.constant(pooled, tf.float32)
        networks = build_network(columns, tf.constant(dense), together).networks
        gradient = tf.gradients([networks.logits[task] ** 2 for task in TASKS], columns)[0]
        with tf.compat.v1.variable_scope("alone"):
            own_columns = tf.compat.v1.placeholder(tf.float32, [None, alone.width])
            single = build_network(own_columns, tf.constant(dense), alone).networks
            own_gradient = tf.gradients([single.logits[task] ** 2 for task in TASKS], own_columns)[0]
        session.run(tf.compat.v1.global_variables_initializer())
        variables = {variable.op.name: variable for variable in tf.compat.v1.trainable_variables()}
        found, slopes = session.run((networks, gradient))
        for number, part in enumerate(np.split(pooled, 3, axis=1)):
            for name, variable in variables.items():
                if name.startswith("alone/"):
                    both = session.run(variables[name[len("alone/"):]])
                    variable.load(np.split(both, 3, axis=-1 if "first_layer" in name else 0)[number], session)
            expected, own_slopes = session.run((single, own_gradient), {own_columns: part})
            np.testing.assert_allclose(np.split(slopes, 3, axis=1)[number], own_slopes, atol=1e-6)
            np.testing.assert_allclose(found.experts[:, number], expected.experts[:, 0], atol=1e-6)
            for task in TASKS:
                np.testing.assert_allclose(found.logits[task][number], expected.logits[task][0], atol=1e-6)
            for task, gates in expected.gates.items():
                np.testing.assert_allclose(found.gates[task][:, number], gates[:, 0], atol=1e-6)


def metrics_of(gate_values, experts, weights):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        # One gate array per network; the networks' experts are alike.
        gates = {"a": tf.stack([tf.constant(gate, tf.float32) for gate in gate_values], axis=1)} if gate_values else {}
        networks = NetworkOutput({"a": tf.zeros([len(gate_values) or 1, 2])}, gates,
                                 tf.stack([tf.constant(experts, tf.float32)] * (len(gate_values) or 1), axis=1))
        metrics = gate_metrics(EnsembleOutput({"a": tf.zeros([2])}, networks), tf.constant(weights, tf.float32))
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
    assert collapse_warnings(metrics_of([], same, [1.0, 1.0]))[0].startswith("all experts")


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
        fast = training_loss(output.networks, named)
        single = [{task: output.networks.logits[task][number] for task in TASKS} for number in range(networks)]
        plain = tf.add_n([tf.add_n([tf.reduce_mean(loss) for loss in task_losses(logits, named).values()]) / 3.0
                          for logits in single])
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
