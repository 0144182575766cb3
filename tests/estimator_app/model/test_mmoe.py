"""The graph against the formulas of the original: ten separate layers on one-hot input, written in NumPy."""
import numpy as np
import pytest
import tensorflow as tf

from estimator_app.model.layers import NetworkShape
from estimator_app.model.losses import task_losses
from estimator_app.model.mmoe import build_mmoe, embedding_initializer

IDS, DENSE, FIELDS, ROWS = 11, 3, 4, 23


def softmax(values):
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


class Original:
    """PaddleRec's MMoE: per expert Dense(x -> size, relu), per task a gate Dense(x -> experts, softmax), a tower."""

    def __init__(self, shape, seed):
        random = np.random.RandomState(seed)

        def weights(*sizes):
            return random.normal(0, 0.4, sizes).astype(np.float32).astype(np.float64)
        inputs = IDS + DENSE
        self.shape = shape
        self.experts = [(weights(inputs, shape.expert_size), weights(shape.expert_size))
                        for _ in range(shape.expert_num)]
        self.gates = [(weights(inputs, shape.expert_num), weights(shape.expert_num)) for _ in shape.tasks]
        self.towers = [(weights(shape.expert_size, shape.tower_size), weights(shape.tower_size),
                        weights(shape.tower_size, 2), weights(2)) for _ in shape.tasks]

    def run(self, x, labels):
        """Returns probabilities [n, tasks], the mean log loss and the gradients by our variables' names."""
        rows, tasks = labels.shape
        hidden = [np.maximum(x @ kernel + bias, 0) for kernel, bias in self.experts]
        d_hidden = [np.zeros_like(value) for value in hidden]
        probabilities, loss, grads, d_gates = [], 0.0, {}, []
        for number, task in enumerate(self.shape.tasks):
            gate = softmax(x @ self.gates[number][0] + self.gates[number][1])
            mixed = sum(gate[:, [e]] * hidden[e] for e in range(len(hidden)))
            first, first_bias, last, last_bias = self.towers[number]
            units = np.maximum(mixed @ first + first_bias, 0)
            both = softmax(units @ last + last_bias)
            probabilities.append(both[:, 1])
            loss -= np.log(both[np.arange(rows), labels[:, number]]).mean() / tasks
            d_both = (both - np.eye(2)[labels[:, number]]) / (rows * tasks)
            d_units = (d_both @ last.T) * (units > 0)
            d_mixed = d_units @ first.T
            name = "mmoe/tower_%s/" % task
            grads[name + "output/kernel"], grads[name + "output/bias"] = units.T @ d_both, d_both.sum(axis=0)
            grads[name + "hidden/kernel"], grads[name + "hidden/bias"] = mixed.T @ d_units, d_units.sum(axis=0)
            d_gate = np.stack([(d_mixed * value).sum(axis=1) for value in hidden], axis=1)
            d_gates.append(gate * (d_gate - (gate * d_gate).sum(axis=1, keepdims=True)))
            for e in range(len(hidden)):
                d_hidden[e] += gate[:, [e]] * d_mixed
        d_first = np.concatenate([d * (h > 0) for d, h in zip(d_hidden, hidden)] + d_gates, axis=1)
        kernel = x.T @ d_first
        grads["table"], grads["mmoe/first_layer/kernel"] = kernel[:IDS], kernel[IDS:]
        grads["mmoe/first_layer/bias"] = d_first.sum(axis=0)
        return np.stack(probabilities, axis=1), loss, grads

    def as_ours(self):
        """Our variables: a table row is what the ten layers give for one id."""
        layers = self.experts + self.gates
        kernel = np.concatenate([kernel for kernel, _ in layers], axis=1)
        values = {"table": kernel[:IDS], "mmoe/first_layer/kernel": kernel[IDS:],
                  "mmoe/first_layer/bias": np.concatenate([bias for _, bias in layers])}
        for task, (first, first_bias, last, last_bias) in zip(self.shape.tasks, self.towers):
            name = "mmoe/tower_%s/" % task
            values.update({name + "hidden/kernel": first, name + "hidden/bias": first_bias,
                           name + "output/kernel": last, name + "output/bias": last_bias})
        return values


@pytest.mark.parametrize("shape", [
    NetworkShape(("income", "marital"), 8, 16, 8), NetworkShape(("a", "b", "c"), 3, 5, 4),
    NetworkShape(("a",), 1, 2, 3)])
def test_values_and_gradients_equal_the_original(shape):
    random = np.random.RandomState(3)
    ids = random.randint(IDS, size=(ROWS, FIELDS))
    dense = random.normal(0, 1, (ROWS, DENSE)).astype(np.float32)
    labels = random.randint(2, size=(ROWS, len(shape.tasks)))
    x = np.concatenate([np.eye(IDS)[ids].sum(axis=1), dense.astype(np.float64)], axis=1)
    original = Original(shape, seed=5)
    probabilities, loss, expected = original.run(x, labels)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table = tf.compat.v1.get_variable("table", [IDS, shape.width])
        pooled = tf.reduce_sum(tf.gather(table, ids), axis=1)
        output = build_mmoe(pooled, tf.constant(dense), shape)
        logits = {task: output.logits[task][0] for task in shape.tasks}
        losses = task_losses(logits, {task: tf.constant(labels[:, n]) for n, task in enumerate(shape.tasks)})
        total = tf.add_n([tf.reduce_mean(item) for item in losses.values()]) / len(losses)
        variables = {variable.op.name: variable for variable in tf.compat.v1.trainable_variables()}
        ours = original.as_ours()
        assert sorted(variables) == sorted(ours) == sorted(expected)
        for name, variable in variables.items():
            variable.load(ours[name].astype(np.float32).reshape(variable.shape.as_list()), session)
        gradients = {name: tf.convert_to_tensor(gradient) for name, gradient in
                     zip(variables, tf.gradients(total, list(variables.values())))}
        found = session.run((logits, total, gradients))
    for number, task in enumerate(shape.tasks):
        np.testing.assert_allclose(1 / (1 + np.exp(-found[0][task])), probabilities[:, number], atol=1e-6)
    assert found[1] == pytest.approx(loss, abs=1e-6)
    for name, value in expected.items():
        np.testing.assert_allclose(found[2][name].reshape(value.shape), value, atol=1e-6, err_msg=name)


def test_the_embedding_is_144_wide_at_the_reference_sizes():
    assert NetworkShape(("income", "marital"), 8, 16, 8).width == 144


@pytest.mark.parametrize("reference_init, differ", [(False, True), (True, False)])
def test_experts_differ_after_training_but_not_with_the_reference_initialisation(reference_init, differ):
    shape = NetworkShape(("a", "b"), 4, 6, 5)
    random = np.random.RandomState(0)
    ids, dense = random.randint(IDS, size=(200, FIELDS)), random.normal(0, 1, (200, DENSE)).astype(np.float32)
    labels = np.stack([ids[:, 0] > 5, dense[:, 0] + (ids[:, 1] > 4) > 0.5], axis=1).astype(np.int64)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table = tf.compat.v1.get_variable("table", [IDS, shape.width],
                                          initializer=embedding_initializer(reference_init, 1, 0.01))
        output = build_mmoe(tf.reduce_sum(tf.gather(table, ids), axis=1), tf.constant(dense), shape, reference_init, 1)
        losses = task_losses({task: output.logits[task][0] for task in shape.tasks},
                             {"a": tf.constant(labels[:, 0]), "b": tf.constant(labels[:, 1])})
        step = tf.compat.v1.train.AdamOptimizer(0.02).minimize(
            tf.add_n([tf.reduce_mean(item) for item in losses.values()]))
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(60):
            session.run(step)
        experts, gates = session.run((output.experts, output.gates))
    spread = np.abs(experts - experts.mean(axis=2, keepdims=True)).mean() / np.abs(experts).mean()
    if differ:
        assert spread > 0.1
    else:
        assert spread < 1e-5 and np.abs(gates["a"] - 0.25).max() < 1e-5
