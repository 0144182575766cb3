"""Networks against the formulas of the papers, written in NumPy."""
import numpy as np
import pytest
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model import networks
from estimator_app.model.networks import Inputs, Network, NetworkOutput, expert_outputs, make_network
from feature_specs.errors import ConfigError
from tests.support import model_oracle

TASKS = ("a", "b", "c")
ROWS, NUMBERS = 11, 2
CONFIGS = {
    "mmoe": Config(model="mmoe", expert_num=3, expert_layers=(4,), tower_layers=(5,)),
    "mmoe deep": Config(model="mmoe", expert_num=3, expert_layers=(6, 5, 4), tower_layers=(7, 3)),
    "mmoe norm": Config(model="mmoe", expert_num=2, expert_layers=(4, 3), tower_layers=(5,), batch_norm=True),
    "ple": Config(model="ple", expert_num=2, task_expert_num=2, expert_layers=(4,), tower_layers=(5,)),
    "ple deep": Config(model="ple", expert_num=1, task_expert_num=3, expert_layers=(4, 6), tower_layers=(5, 4)),
    "ple norm": Config(model="ple", expert_num=2, task_expert_num=1, expert_layers=(4,), tower_layers=(5,),
                       batch_norm=True),
    "shared bottom": Config(model="shared_bottom", expert_num=3, expert_layers=(4,), tower_layers=(5,)),
    "shared bottom deep": Config(model="shared_bottom", expert_num=2, expert_layers=(4, 3), tower_layers=(5, 4)),
}


def inputs_of(config, tasks, numbers=NUMBERS, seed=0):
    """What goes in, as arrays: summed rows or vectors, and numbers."""
    random = np.random.RandomState(seed)
    width = make_network(config, tasks).width
    return (random.normal(0, 1, (ROWS, width)), [random.normal(0, 1, (ROWS, size)) for size in (3, 5)],
            random.normal(0, 1, (ROWS, numbers)))


def build(config, tasks, arrays, is_training):
    """Builds a network on arrays; returns its output and what it read."""
    summed, vectors, numbers = arrays
    is_sum = config.input_layer == "sum"
    fed = [tf.constant(item, tf.float32) for item in ([summed] if is_sum else vectors)]
    inputs = Inputs(config, fed[0] if is_sum else None, {} if is_sum else {"f": fed[0], "g": fed[1]},
                    tf.constant(numbers, tf.float32))
    with tf.compat.v1.variable_scope(config.model):
        return make_network(config, tasks)(inputs, is_training), fed


def test_blocks_take_the_place_of_vectors_in_the_first_layer():
    config = CONFIGS["mmoe"].replace(input_layer="concat")
    arrays = inputs_of(config, TASKS)
    found = []
    for with_blocks in (False, True):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            parts = [tf.constant(item, tf.float32) for item in arrays[1]]
            inputs = Inputs(config, None, {"f": parts[0], "g": parts[1]}, tf.constant(arrays[2], tf.float32),
                            (tf.concat(parts, axis=1),) if with_blocks else ())
            with tf.compat.v1.variable_scope(config.model):
                output = make_network(config, TASKS)(inputs, False)
            load_random(session)
            found.append(session.run(output.logits))
    for task in TASKS:
        np.testing.assert_array_equal(found[0][task], found[1][task])


def load_random(session, seed=1):
    """Gives every variable values of its own, moving averages too; returns {name: value}."""
    random = np.random.RandomState(seed)
    variables = sorted(tf.compat.v1.global_variables(), key=lambda item: item.name)
    values = {}
    for variable in variables:
        value = random.normal(0, 0.5, variable.shape.as_list())
        if variable.op.name.endswith("variance"):
            value = np.abs(value) + 0.5
        values[variable.op.name] = value.astype(np.float32)
    session.run([variable.initializer for variable in variables],
                {variable.initializer.inputs[1]: values[variable.op.name] for variable in variables})
    return values


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("layer", ["sum", "concat"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_network_computes_what_the_papers_say(name, layer, is_training):
    config = CONFIGS[name].replace(input_layer=layer)
    arrays = inputs_of(config, TASKS)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output, _ = build(config, TASKS, arrays, is_training)
        variables = load_random(session)
        found_logits, found_gates = session.run([output.logits, output.gates])
    oracle = model_oracle.Network(config, TASKS, variables)
    summed, vectors, numbers = arrays
    first = oracle.first_layer(numbers, summed if layer == "sum" else None, vectors)
    logits, gates = oracle.run(first, is_training)
    assert set(found_logits) == set(TASKS) and set(found_gates) == set(gates)
    for task in TASKS:
        np.testing.assert_allclose(found_logits[task], logits[task], rtol=1e-4, atol=1e-5)
    for task, weights in gates.items():
        np.testing.assert_allclose(found_gates[task], weights, atol=1e-6)
        np.testing.assert_allclose(found_gates[task].sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("layer", ["sum", "concat"])
@pytest.mark.parametrize("name", ["mmoe deep", "ple deep", "shared bottom deep", "mmoe norm"])
def test_gradients_are_those_of_finite_differences(name, layer):
    config = CONFIGS[name].replace(input_layer=layer)
    arrays = inputs_of(config, TASKS)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output, fed = build(config, TASKS, arrays, True)
        total = tf.add_n([tf.reduce_sum(tf.sin(value)) for value in output.logits.values()])
        variables = {variable.op.name: variable for variable in tf.compat.v1.trainable_variables()}
        gradients = tf.gradients(total, list(variables.values()) + fed)
        values = {key: value.astype(np.float64) for key, value in load_random(session).items()}
        found = dict(zip(list(variables) + ["in%d" % n for n in range(len(fed))], session.run(gradients)))
    summed, vectors, numbers = arrays

    def run():
        oracle = model_oracle.Network(config, TASKS, values)
        first = oracle.first_layer(numbers, summed if layer == "sum" else None, vectors)
        return sum(np.sin(value).sum() for value in oracle.run(first, True)[0].values())

    inputs = {"in%d" % n: array for n, array in enumerate([summed] if layer == "sum" else vectors)}
    random = np.random.RandomState(2)
    for key, gradient in found.items():
        array = inputs[key] if key in inputs else values[key]
        places = random.permutation(array.size)[:4]
        expected = model_oracle.numeric_gradient(run, array, places)
        np.testing.assert_allclose(gradient.reshape(-1)[places], expected, rtol=2e-3, atol=2e-4, err_msg=key)


def test_the_first_layer_is_144_wide_at_the_reference_sizes():
    assert make_network(Config(), ("income", "marital")).width == 144


@pytest.mark.parametrize("name, width", [("mmoe", 3 * 4 + 3 * 3), ("ple", (2 + 6) * 4 + 3 * 4), ("shared bottom", 12)])
def test_widths(name, width):
    assert make_network(CONFIGS[name], TASKS).width == width


def test_tasks_of_ple_do_not_see_the_experts_of_others():
    config = Config(model="ple", input_layer="sum", expert_num=2, task_expert_num=2, expert_layers=(3,))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        output, (summed,) = build(config, TASKS, inputs_of(config, TASKS, seed=3), False)
        slopes = [tf.gradients(output.logits[task], summed)[0] for task in TASKS]
        load_random(session)
        found = [np.abs(value).sum(axis=0) for value in session.run(slopes)]
    for number, gradient in enumerate(found):
        experts, gates = gradient[:24].reshape(8, 3).sum(axis=1), gradient[24:].reshape(3, 4).sum(axis=1)
        assert [value > 0 for value in experts] == [place < 2 or place // 2 - 1 == number for place in range(8)]
        assert [value > 0 for value in gates] == [place == number for place in range(3)]


def test_without_numbers_there_is_no_kernel_for_them():
    config = CONFIGS["mmoe"].replace(input_layer="sum")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        arrays = inputs_of(config, TASKS, numbers=0)
        output, _ = build(config, TASKS, arrays, False)
        variables = load_random(session)
        found = session.run(output.logits)
    assert "mmoe/first_layer/kernel" not in variables
    oracle = model_oracle.Network(config, TASKS, variables)
    expected = oracle.run(oracle.first_layer(arrays[2], arrays[0]))[0]
    for task in TASKS:
        np.testing.assert_allclose(found[task], expected[task], rtol=1e-4, atol=1e-5)


def test_an_unknown_network_is_refused():
    with pytest.raises(ConfigError, match="model 'tree' is not known; choose from mmoe, ple, shared_bottom"):
        make_network(Config(model="tree"), TASKS)


class WrongWidth(Network):
    """Declares one unit less than it reads."""

    @property
    def width(self):
        return 3 * self.config.expert_num - 1

    def __call__(self, inputs, is_training):
        first = inputs.linear("first_layer", 3 * self.config.expert_num)
        experts = expert_outputs(first, self.config.expert_num, self.config, is_training)
        return NetworkOutput({task: first[:, 0] for task in self.tasks}, {}, experts)


def test_a_network_that_reads_another_width_than_it_declares_is_refused(monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "wrong", WrongWidth)
    config = Config(model="wrong", input_layer="sum", expert_num=2, expert_layers=(3,))
    with tf.Graph().as_default(), pytest.raises(ConfigError, match="wrong reads 6 units.* declares a width of 5"):
        build(config, TASKS, inputs_of(config, TASKS), False)


def test_a_network_must_declare_its_width_and_output():
    class Empty(Network):
        pass
    with pytest.raises(NotImplementedError):
        Empty(Config(), TASKS).width  # noqa: B018
    with pytest.raises(NotImplementedError):
        Empty(Config(), TASKS)(None, False)


def test_dropout_acts_in_training_only_and_keeps_the_mean(sdk):
    config = Config(input_layer="sum", expert_num=2, expert_layers=(8,), expert_dropout=0.5)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        first = tf.ones([4000, 16])
        plain, dropped = expert_outputs(first, 2, config, False), expert_outputs(first, 2, config, True)
        plain, dropped = session.run([plain, dropped])
    assert (plain == 1).all() and set(np.unique(dropped)) == {0.0, 2.0}
    assert dropped.mean() == pytest.approx(1.0, abs=0.02)


def test_initial_weights_are_a_function_of_seed_and_name():
    def initial(seed, **settings):
        config = CONFIGS["mmoe deep"].replace(seed=seed, **settings)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            build(config, TASKS, inputs_of(config, TASKS), False)
            session.run(tf.compat.v1.global_variables_initializer())
            return session.run({item.op.name: item for item in tf.compat.v1.global_variables()})
    first, again, other = initial(1), initial(1), initial(2)
    kernels = [name for name in first if name.endswith("kernel")]
    for name in kernels:
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.allclose(first[name], other[name])
        limit = np.sqrt(6.0 / sum(first[name].shape[-2:]))
        assert np.abs(first[name]).max() <= limit
    towers = [first["mmoe/tower_%s/hidden_0/kernel" % task] for task in TASKS]
    assert not np.allclose(towers[0], towers[1]) and not np.allclose(towers[1], towers[2])
    constant = initial(1, reference_init=True)
    assert all((constant[name] == np.float32(0.1)).all() for name in kernels)


@pytest.mark.parametrize("reference_init, differ", [(False, True), (True, False)])
def test_experts_differ_after_training_but_not_with_the_reference_initialisation(reference_init, differ):
    config = Config(input_layer="sum", expert_num=4, expert_layers=(6,), reference_init=reference_init)
    random = np.random.RandomState(0)
    numbers = random.normal(0, 1, (200, 3)).astype(np.float32)
    labels = (numbers[:, 0] * numbers[:, 1] > 0).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        width = make_network(config, ("a",)).width
        with tf.compat.v1.variable_scope("mmoe"):
            inputs = Inputs(config, tf.zeros([200, width]), {}, tf.constant(numbers))
            output = make_network(config, ("a",))(inputs, True)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.constant(labels),
                                                                      logits=output.logits["a"]))
        step = tf.compat.v1.train.GradientDescentOptimizer(0.2).minimize(loss)
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(40):
            session.run(step)
        experts, gates = session.run([output.experts, output.gates])
    spread = np.abs(experts - experts.mean(axis=1, keepdims=True)).mean() / np.abs(experts).mean()
    if differ:
        assert spread > 0.1
    else:
        assert spread < 1e-5 and np.abs(gates["a"] - 0.25).max() < 1e-5
