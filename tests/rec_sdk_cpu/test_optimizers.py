"""The sparse optimizers against NumPy oracles written from rec_sdk_api 4, over 50 steps with duplicate ids."""
import numpy as np
import pytest
import tensorflow as tf

from tests.rec_sdk_cpu.tools import ids_placeholder, keys_of, lookup, make_table, rows_of, session, start

STEPS = 50
DIM = 3


def _static(module, **arguments):
    import importlib
    return importlib.import_module("mx_rec.optimizers." + module).create_hash_optimizer(**arguments)


def _by_address(module, **arguments):
    import importlib
    made = importlib.import_module("mx_rec.optimizers." + module)
    name = "create_hash_optimizer_by_addr" if module == "gradient_descent_by_addr" else \
        "create_hash_optimizer_by_address"
    return getattr(made, name)(**arguments)


class LazyAdam:
    def __init__(self, rate=0.05, beta1=0.9, beta2=0.999, epsilon=1e-2, inside=False):
        self.rate, self.beta1, self.beta2, self.epsilon, self.inside = rate, beta1, beta2, epsilon, inside
        self.m, self.v, self.t = {}, {}, 0

    def step(self, rows, gradients):
        self.t += 1
        rate = self.rate * np.sqrt(1 - self.beta2 ** self.t) / (1 - self.beta1 ** self.t)
        for key, g in gradients.items():
            m = self.m[key] = self.beta1 * self.m.get(key, 0.0) + (1 - self.beta1) * g
            v = self.v[key] = self.beta2 * self.v.get(key, 0.0) + (1 - self.beta2) * g * g
            rows[key] -= rate * m / (np.sqrt(v + self.epsilon) if self.inside else np.sqrt(np.abs(v)) + self.epsilon)


class Sgd:
    def __init__(self, decay):
        self.decay = decay

    def step(self, rows, gradients):
        for key, g in gradients.items():
            rows[key] -= 0.05 * (g + self.decay * rows[key])


class Adagrad:
    def __init__(self, epsilon, start=0.9):
        self.epsilon, self.start, self.s = epsilon, start, {}

    def step(self, rows, gradients):
        for key, g in gradients.items():
            s = self.s[key] = self.s.get(key, self.start) + g * g
            rows[key] -= 0.05 * g / np.sqrt(s + self.epsilon)


class Ftrl:
    def __init__(self, l1=0.05, l2=0.1, shrinkage=0.01):
        self.l1, self.l2, self.shrinkage, self.n, self.z = l1, l2, shrinkage, {}, {}

    def step(self, rows, gradients):
        for key, g in gradients.items():
            old = self.n.get(key, 0.1)
            new = self.n[key] = old + g * g
            # The SDK's code: without shrinkage it adds what TensorFlow subtracts.
            sign = -1 if self.shrinkage else 1
            z = self.z[key] = (self.z.get(key, 0.0) + g + 2 * self.shrinkage * rows[key]
                               + sign * (np.sqrt(new) - np.sqrt(old)) / 0.05 * rows[key])
            rows[key] = np.where(np.abs(z) > self.l1,
                                 (np.sign(z) * self.l1 - z) / (np.sqrt(new) / 0.05 + 2 * self.l2), 0.0)


CASES = {
    "lazy_adam": (lambda: _static("lazy_adam", learning_rate=0.05, epsilon=1e-2), LazyAdam, False),
    "lazy_adam_by_addr": (lambda: _by_address("lazy_adam_by_addr", learning_rate=0.05, epsilon=1e-2), LazyAdam, True),
    "adagrad": (lambda: _static("adagrad", learning_rate=0.05), lambda: Adagrad(0.0), False),
    "adagrad_by_addr": (lambda: _by_address("adagrad_by_addr", learning_rate=0.05, initial_accumulator_value=1e-6),
                        lambda: Adagrad(1e-7, 1e-6), True),
    "gradient_descent": (lambda: _static("gradient_descent", learning_rate=0.05), lambda: Sgd(0.0), False),
    "gradient_descent_decay": (lambda: _static("gradient_descent", learning_rate=0.05, weight_decay=1e-2),
                               lambda: Sgd(1e-2), False),
    "gradient_descent_by_addr": (lambda: _by_address("gradient_descent_by_addr", learning_rate=0.05),
                                 lambda: Sgd(1e-4), True),
    "ftrl": (lambda: _static("ftrl", learning_rate=0.05, l1_regularization_strength=0.05,
                             l2_regularization_strength=0.1, l2_shrinkage_regularization_strength=0.01), Ftrl, False),
}


def _train_op(optimizer, table, loss, by_address):
    if by_address:
        local = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_LOCAL_EMB")
        targets = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_ID_OFFSET")
    else:
        local = targets = [table.variable]
    return optimizer.apply_gradients(list(zip(tf.gradients(loss, local), targets)))


def _compare(case, lookups, batches):
    make, oracle, by_address = case
    start(use_dynamic_expansion=by_address)
    optimizer, oracle = make(), oracle()
    table = make_table(dim=DIM, rows=200)
    ids = [ids_placeholder() for _ in range(lookups)]
    weights = [tf.compat.v1.placeholder(tf.float32, [None, DIM]) for _ in range(lookups)]
    loss = tf.add_n([tf.reduce_sum(lookup(table, i) * w) for i, w in zip(ids, weights)])
    step = _train_op(optimizer, table, loss, by_address)
    sess = session()
    rows, random = {}, np.random.RandomState(0)
    for batch in batches(random):
        values = [random.normal(size=(len(part), DIM)).astype(np.float32) for part in batch]
        feed = dict(zip(ids, batch))
        feed.update(zip(weights, values))
        sess.run(step, feed)
        gradients = {}
        for part, value in zip(batch, values):
            for key, gradient in zip(part, value.astype(np.float64)):
                gradients[key] = gradients.get(key, 0.0) + gradient
        for key in gradients:
            if key not in rows:
                rows[key] = _initial(sess, table, keys_of(sess, table)[key]).astype(np.float64)
        oracle.step(rows, gradients)
    keys = sorted(rows)
    np.testing.assert_allclose(rows_of(sess, table, keys), [rows[key] for key in keys], rtol=1e-6, atol=2e-6)
    return table, optimizer


def _initial(sess, table, row):
    if not hasattr(sess, "initial"):
        with tf.compat.v1.Session(graph=sess.graph) as fresh:
            fresh.run(table.variable.initializer)
            sess.initial = fresh.run(table.variable)
    return sess.initial[row]


@pytest.mark.parametrize("lookups", [1, 3])
@pytest.mark.parametrize("name", sorted(CASES))
def test_update_rule_over_50_steps_with_duplicates(sdk, name, lookups):
    # 40 keys at most: all in the first block of rows, whose initial values a fresh session shows.
    _compare(CASES[name], lookups, lambda random: (
        [random.randint(40, size=random.randint(1, 9)) for _ in range(lookups)] for _ in range(STEPS)))


def test_generation_g2_puts_epsilon_inside_the_root():
    import rec_sdk_cpu
    from rec_sdk_cpu.core import config
    rec_sdk_cpu.uninstall()
    rec_sdk_cpu.install(generation="G2")
    try:
        config.reset()
        with tf.Graph().as_default():
            _compare((CASES["lazy_adam"][0], lambda: LazyAdam(inside=True), False), 1, lambda random: (
                [random.randint(40, size=5)] for _ in range(STEPS)))
        with tf.Graph().as_default():
            config.reset()
            _compare((CASES["lazy_adam_by_addr"][0], lambda: LazyAdam(inside=True), True), 1, lambda random: (
                [random.randint(40, size=5)] for _ in range(STEPS)))
    finally:
        rec_sdk_cpu.uninstall()
        rec_sdk_cpu.install()
        config.reset()


STATES = {"lazy_adam": ["LazyAdam_momentum", "LazyAdam_velocity"],
          "lazy_adam_by_addr": ["LazyAdam_momentum", "LazyAdam_velocity"],
          "adagrad": [], "adagrad_by_addr": ["Adagrad_accumulator"], "gradient_descent": [],
          "gradient_descent_by_addr": [], "ftrl": ["ftrl_accum", "ftrl_linear"]}


@pytest.mark.parametrize("name", sorted(STATES))
def test_states_of_the_sparse_checkpoint(sdk, name):
    table, _ = _compare(CASES[name], 1, lambda random: [[np.array([1, 2])]])
    assert sorted(table.states()) == sorted(STATES[name] + ["embedding"])


def test_adagrads_accumulator_stays_in_the_tensorflow_checkpoint(sdk):
    from mx_rec.optimizers.base import CustomizedOptimizer
    CustomizedOptimizer.name_counter.clear()
    _compare(CASES["adagrad"], 1, lambda random: [[np.array([1])]])
    saver = tf.compat.v1.train.Saver()
    assert [variable.op.name for variable in saver._var_list] == ["global_step", "t/Adagrad_0/accumulator"]


def test_the_optimizer_created_last_serves_all_tables(sdk):
    from mx_rec.util.initialize import ConfigInitializer
    start()
    first, second = _static("lazy_adam"), _static("gradient_descent", learning_rate=0.1)
    assert ConfigInitializer.get_instance().optimizer_config.optimizer_instance is second is not first


@pytest.mark.parametrize("name, base", [("lazy_adam", "AdamOptimizer"), ("adagrad", "AdagradOptimizer"),
                                        ("gradient_descent", "GradientDescentOptimizer"), ("ftrl", "FtrlOptimizer")])
def test_optimizers_are_tensorflow_optimizers_and_refuse_dense_variables(sdk, name, base):
    start()
    optimizer = CASES[name][0]()
    assert isinstance(optimizer, getattr(tf.compat.v1.train, base))
    variable = tf.compat.v1.get_variable("w", [3])
    with pytest.raises(NotImplementedError, match="You are using a wrong type of variable."):
        optimizer.apply_gradients([(tf.ones([3]), variable)])
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply_gradients([(None, make_table().variable)])


def test_by_address_refuses_what_is_no_address(sdk):
    start(use_dynamic_expansion=True)
    with pytest.raises(NotImplementedError, match="ID_OFFSET"):
        CASES["lazy_adam_by_addr"][0]().apply_gradients([(tf.ones([1, 3]), tf.constant([0], tf.int64))])


def test_apply_gradients_advances_a_global_step_only_where_one_is_given(sdk):
    start()
    table, ids = make_table(), tf.constant([1], tf.int64)
    step = tf.compat.v1.train.get_or_create_global_step()
    pairs = [(tf.gradients(tf.reduce_sum(lookup(table, ids)), [table.variable])[0], table.variable)]
    optimizer = _static("lazy_adam")
    plain, counted = optimizer.apply_gradients(pairs), optimizer.apply_gradients(pairs, global_step=step)
    assert optimizer.get_slot_names() == ["m", "v"] and optimizer.get_slot(table.variable, "m").shape == [20, 3]
    sess = session()
    sess.run(plain)
    assert sess.run(step) == 0
    sess.run(counted)
    assert sess.run(step) == 1


def test_learning_rate_may_be_a_float_tensor_that_has_no_value_yet(sdk):
    start()
    rate = tf.identity(tf.compat.v1.get_variable("rate", initializer=0.1))
    assert _static("lazy_adam", learning_rate=rate)
    with pytest.raises(ValueError, match="learning_rate"):
        _static("lazy_adam", learning_rate=tf.constant(11.0))
