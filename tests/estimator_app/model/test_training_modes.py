"""A dataset with everything trains in every mode of the SDK: to the same numbers, which a plain TensorFlow graph with
NumPy's lazy Adam also reaches."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.client import session as session_module

from estimator_app.model.definition import make_model
from estimator_app.model.networks import Inputs
from feature_specs.records import LABEL, WEIGHT
from tests.support import training
from tests.support.model_oracle import pooled
from tests.support.small_data import RICH, keys_of, without_dims, write_data

ROWS, STEPS = 50, 3
PHASE = "train:0:%d" % STEPS
# Fewer tasks than there could be: building the graphs is what takes the time here.
LIGHT = dataclasses.replace(RICH, group="", tasks=(
    RICH.task("click"), RICH.task("buy"), dataclasses.replace(RICH.task("watch"), where="click")))
QUICK = ("static",)
GRAPH = {"use_modify_graph": True}
# Mode -> settings; all of them must reach the numbers of the first.
SAME = {
    "specs": {},
    "graph": GRAPH,
    "several lookups": {"use_multi_lookup": True},
    "several lookups in a graph": dict(GRAPH, use_multi_lookup=True),
    "expansion": {"use_dynamic_expansion": True},
    "expansion in a graph": dict(GRAPH, use_dynamic_expansion=True),
    "static": {"use_dynamic": False},
    "host memory": dict(GRAPH, cache_mode="DDR"),
    "disk, static": dict(GRAPH, cache_mode="SSD", use_dynamic=False),
    # Every key comes in with its first occurrence.
    "admission of all": {"use_faae": True, "access_threshold": 1, "eviction_threshold": 10000},
    "admission of all in a graph": dict(GRAPH, use_faae=True, access_threshold=1, eviction_threshold=10000),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("rich")
    manifest, arrays = write_data(root, ROWS, 30, dataset=LIGHT)
    return root, manifest, arrays


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """{mode: (tables, weights, metrics)}, each trained once."""
    found = {}

    def run(mode, **more):
        if mode not in found:
            model = tmp_path_factory.mktemp("model") / "m"
            config = training.settings_of(data[0], model, embedding_l2=0.01, **dict(SAME.get(mode, {}), **more))
            metrics = training.train(config, data[1])
            found[mode] = (training.tables_of(model, STEPS), training.weights_of(model, STEPS), metrics)
        return found[mode]
    return run


@pytest.mark.parametrize("mode", [mode if mode in QUICK else pytest.param(mode, marks=pytest.mark.long)
                                  for mode in sorted(set(SAME) - {"specs"})])
def test_every_mode_reaches_the_same_numbers(trained, mode):
    tables, weights, metrics = trained(mode)
    wanted_tables, wanted_weights, wanted_metrics = trained("specs")
    assert set(tables) == set(wanted_tables) == {"users", "items"}
    for table, rows in wanted_tables.items():
        assert rows.keys() == tables[table].keys() and len(rows) > 8
        for key, row in rows.items():
            np.testing.assert_allclose(tables[table][key], row, atol=2e-5, err_msg="%s %d" % (table, key))
    for name, value in wanted_weights.items():
        if not name.startswith(("beta", "LazyAdam", "Lazy")) and "/Adam" not in name and name in weights:
            np.testing.assert_allclose(weights[name], value, atol=1e-4, err_msg=name)
    for name in ("auc_click", "auc_buy", "rmse_watch", "mean_loss"):
        assert metrics[name] == pytest.approx(wanted_metrics[name], abs=1e-4), name
    assert metrics["examples"] == 30


def test_the_padding_key_is_neither_trained_nor_penalised(trained):
    tables = trained("specs")[0]
    for rows in tables.values():
        np.testing.assert_array_equal(rows[0], 0.0)
        assert all(np.abs(row).max() > 0 for key, row in rows.items() if key)


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, GRAPH, {"use_dynamic_expansion": True}], ids=["specs", "graph", "expansion"])
def test_the_row_of_the_padding_key_stays_as_it_began(data, tmp_path, settings):
    rows = []
    for epochs in (1, 2):
        config = training.settings_of(data[0], tmp_path / str(epochs), embedding_stddev=0.5, embedding_l2=0.5,
                                      train_epoch=epochs, **settings)
        training.train(config, data[1], phase="train:0:%d" % (STEPS * epochs))
        rows.append([training.tables_of(config.model_dir, STEPS * epochs)[name] for name in ("users", "items")])
    for first, later in zip(*rows):
        assert np.abs(first[0]).max() > 0
        np.testing.assert_array_equal(first[0], later[0])
        assert all(np.abs(first[key] - later[key]).max() > 0 for key in first if key)


@pytest.mark.long
def test_keys_below_the_threshold_get_no_row(data, tmp_path, trained):
    threshold = 8
    config = training.settings_of(data[0], tmp_path / "m", use_faae=True, access_threshold=threshold)
    training.train(config, data[1], phase=PHASE)
    found = training.tables_of(config.model_dir, STEPS)
    counts = {}
    rows = data[2]["train"].take(slice(0, STEPS * 16))
    for feature, keys in keys_of(rows, data[1]).items():
        if feature not in ("price", "age"):
            for key in keys.ravel().tolist():
                counts[key] = counts.get(key, 0) + 1
    for table in ("users", "items"):
        known = [key for key in trained("specs")[0][table] if key in counts and key]
        admitted = {key for key in known if counts[key] >= threshold}
        assert {key for key in found[table] if key in counts and key} == admitted
        assert 0 < len(admitted) < len(known)


@pytest.mark.parametrize("layer, model", [("concat", "mmoe"), pytest.param("sum", "ple", marks=pytest.mark.long)])
def test_training_equals_plain_tensorflow_with_lazy_adam(tmp_path, layer, model):
    """The app, and by hand: tables as NumPy rows, gradients by a plain graph, Adam's formulas in NumPy."""
    dataset = LIGHT if layer == "concat" else without_dims(LIGHT)
    manifest, arrays = write_data(tmp_path / "data", ROWS, 30, dataset=dataset)
    config = training.settings_of(
        tmp_path / "data", tmp_path / "m", input_layer=layer, model=model, embedding_l2=0.01,
        task_weights=("buy=2", "watch=0.5"), learning_rate_schedule="cosine", sparse_learning_rate_schedule="cosine",
        dense_bins=0)
    training.train(config, manifest, phase=PHASE)
    wanted_tables, wanted = training.tables_of(config.model_dir, STEPS), training.weights_of(config.model_dir, STEPS)
    made = make_model(config, manifest)
    tables, weights = by_hand(made, arrays["train"], wanted)
    for name, rows in tables.items():
        assert rows.keys() == {key for key in wanted_tables[name] if key}
        for key, row in rows.items():
            np.testing.assert_allclose(wanted_tables[name][key], row, atol=2e-4, err_msg="%s %d" % (name, key))
    for name, value in weights.items():
        np.testing.assert_allclose(wanted[name], value, atol=2e-4, err_msg=name)


def by_hand(made, rows, names):
    """Trains STEPS steps; returns {table: {key: row}} and {name: weights}."""
    from input_fn.encode import encode_rows
    config = made.config
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        coded = session.run(encode_rows(tf.constant(rows.sparse), tf.constant(rows.dense), made.encoding))
    tables = {layout.name: {} for layout in made.encoding.tables}
    moments = {name: {} for name in tables}
    weights, slots = None, {}
    for step in range(STEPS):
        part = slice(step * 16, (step + 1) * 16)
        keys = {layout.name: coded[0]["sparse_feature_" + layout.name][part] for layout in made.encoding.tables}
        fields = {}
        for layout in made.encoding.tables:
            for key in np.unique(keys[layout.name]).tolist():
                tables[layout.name].setdefault(key, np.zeros(made.table_dim(layout)))
            begin = 0
            for field in layout.fields:
                fields[field.name] = (layout, keys[layout.name][:, begin:begin + field.width], field.pooling)
                begin += field.width
        vectors = {name: pooled(tables[layout.name], own, pooling) for name, (layout, own, pooling) in fields.items()}
        gradients, weights = gradients_of(made, vectors, coded[1][part], rows.take(part), weights)
        rate = 0.5 * (1 + np.cos(np.pi * step / STEPS))
        scale = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        for name, gradient in gradients["weights"].items():
            slots[name] = adam(weights, name, gradient, slots.get(name), config.learning_rate * rate * scale)
        sums = {name: {} for name in tables}
        for name, (layout, own, pooling) in fields.items():
            for row, places in enumerate(own):
                used = [key for key in places.tolist() if key]
                for key in used:
                    share = gradients["vectors"][name][row] / (len(used) if pooling == "mean" else 1)
                    sums[layout.name][key] = sums[layout.name].get(key, 0.0) + share
        for name, by_key in sums.items():
            for key, gradient in by_key.items():
                if np.abs(gradient).max() > 0:
                    gradient = gradient + config.embedding_l2 * tables[name][key]
                moments[name][key] = adam(tables[name], key, gradient, moments[name].get(key),
                                          config.sparse_learning_rate * rate * scale)
    return {name: {key: row for key, row in found.items() if key} for name, found in tables.items()}, weights


def adam(values, name, gradient, slots, rate):
    """Changes values[name]; returns the new moments."""
    first, second = slots if slots else (0.0, 0.0)
    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient ** 2
    values[name] = values[name] - rate * first / (np.sqrt(second) + 1e-8)
    return first, second


def gradients_of(made, vectors, numbers, rows, weights):
    """Gradients of the loss by field vectors and weights, from a graph without tables; weights None: initial ones."""
    config, is_sum = made.config, made.config.input_layer == "sum"
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(config.seed)
        fed = {name: tf.constant(value, tf.float32) for name, value in vectors.items()}
        inputs = Inputs(config, tf.add_n(list(fed.values())) if is_sum else None, {} if is_sum else fed,
                        tf.constant(numbers, tf.float32))
        with tf.compat.v1.variable_scope(config.model):
            output = made.network(inputs, True)
        features = {LABEL: tf.constant(rows.labels), WEIGHT: tf.constant(rows.weight)}
        loss = made.tasks.training_loss(made.tasks.related(output.logits), made.tasks.labels(features),
                                        features[WEIGHT])
        variables = {item.op.name: item for item in tf.compat.v1.trainable_variables()}
        if weights is None:
            session.run(tf.compat.v1.global_variables_initializer())
            weights = {name: value.astype(np.float64) for name, value in session.run(variables).items()}
        else:
            session.run([item.initializer for item in variables.values()],
                        {item.initializer.inputs[1]: weights[name] for name, item in variables.items()})
        found = session.run({"vectors": dict(zip(fed, tf.gradients(loss, list(fed.values())))),
                             "weights": dict(zip(variables, tf.gradients(loss, list(variables.values()))))})
    return found, weights


def test_a_networks_penalty_is_part_of_what_is_minimised(data, tmp_path, monkeypatch):
    """A penalty far larger than the losses decides where Adam goes: a learning rate towards it in every step."""
    config = training.settings_of(data[0], tmp_path / "m", learning_rate_schedule="fixed")
    kind = type(make_model(config, data[1]).network)
    build = kind.__call__

    def with_penalty(self, inputs, is_training):
        output = build(self, inputs, is_training)
        (bias,) = (item for item in tf.compat.v1.trainable_variables()
                   if item.op.name.endswith("tower_click/output/bias"))
        return dataclasses.replace(output, penalty=1e6 * tf.reduce_sum(tf.square(bias - 5.0)))

    monkeypatch.setattr(kind, "__call__", with_penalty)
    training.train(config, data[1], phase=PHASE)
    (bias,) = (value for name, value in training.weights_of(tmp_path / "m", STEPS).items()
               if name.endswith("tower_click/output/bias"))
    np.testing.assert_allclose(bias, STEPS * config.learning_rate, rtol=1e-3)


def test_no_session_is_opened_before_the_estimators_and_the_optimizer_gets_a_number(data, tmp_path, monkeypatch):
    """A session before the Estimator's initialises a device without the app's options."""
    import traceback
    training.prepare_device("cpu")
    from estimator_app.model import optimizer
    opened, rates = [], []
    plain = session_module.BaseSession.__init__
    create = optimizer.create_hash_optimizer

    def opening(self, *args, **kwargs):
        opened.append([frame.filename for frame in traceback.extract_stack()])
        plain(self, *args, **kwargs)

    monkeypatch.setattr(session_module.BaseSession, "__init__", opening)
    monkeypatch.setattr(optimizer, "create_hash_optimizer",
                        lambda learning_rate: rates.append(learning_rate) or create(learning_rate=learning_rate))
    config = training.settings_of(data[0], tmp_path / "m", sparse_learning_rate_schedule="cosine")
    training.train(config, data[1])
    assert opened and all(any(name.endswith("monitored_session.py") for name in stack) for stack in opened)
    assert rates == [config.sparse_learning_rate] and isinstance(rates[0], float)


def test_the_seam_is_the_product_of_the_stand_in_on_a_cpu():
    training.prepare_device("cpu")
    from estimator_app.model.pooling import Seam
    from rec_sdk_cpu.core.lookup import pooled_product
    assert Seam.pool is pooled_product
