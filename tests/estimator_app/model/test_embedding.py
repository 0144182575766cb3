"""Tables, lookups and pooling: lists, padding, sizes; both ways to pool."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model.definition import make_model
from feature_specs.encoding import Field, TableLayout
from feature_specs.errors import ConfigError
from tests.support.model_oracle import pooled
from tests.support.small_data import RICH, SMALL, keys_of, write_data

BATCH, DIM = 6, 3
FIELDS = (Field("one"), Field("mean", 4, True, "mean"), Field("sum", 3, True, "sum"))
LAYOUT = TableLayout("t", 0, 20, 40, FIELDS, tuple(range(8)))


def make_keys(seed=0):
    """int64 [BATCH, 8]; lists of every length, empty ones first."""
    random = np.random.RandomState(seed)
    keys = random.randint(1, 9, (BATCH, 8)).astype(np.int64) + (7 << 40)
    for start, width in ((1, 4), (5, 3)):
        lengths = np.array([0, 1, 2, 3, 9, 0])[:BATCH]
        places = keys[:, start:start + width]
        places[np.arange(width) >= lengths[:, None]] = 0
    return keys


def lookups(sdk, static, with_layout=True):
    """Both ways on the same lookup: {name: (pooled, gradient by the table)} and the rows by key."""
    from mx_rec.core.embedding import create_table, sparse_lookup

    from estimator_app.model import pooling
    from rec_sdk_cpu.core.lookup import pooled_product
    keys, layout = make_keys(), LAYOUT if with_layout else None
    tf.compat.v1.train.create_global_step()
    table = create_table(key_dtype=tf.int64, dim=DIM, name="t", device_vocabulary_size=40,
                         emb_initializer=tf.compat.v1.truncated_normal_initializer(stddev=1.0, seed=5))
    export = table.index.export()
    fed = tf.compat.v1.placeholder_with_default(keys, keys.shape if static else [None, 8])
    embedded = sparse_lookup(table, fed, is_train=True, modify_graph=True, name="l")
    weights = pooling.row_weights(fed, layout) if layout else None
    widths = [field.width for field in FIELDS] if layout else None
    results = {}
    factor = tf.constant(np.random.RandomState(3).normal(0, 1, (BATCH, 3, DIM) if layout else (BATCH, DIM)), tf.float32)
    for name, function in (("plain", pooling.pool), ("product", pooled_product)):
        value = function(embedded, weights, widths)
        gradient = tf.gradients(tf.reduce_sum(value * factor), table.variable)[0]
        results[name] = (value, tf.math.unsorted_segment_sum(gradient.values, gradient.indices, 40))
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(embedded)
        found, (known, places), rows = session.run((results, export, table.variable))
    return found, {key: rows[place] for key, place in zip(known.tolist(), places.tolist())}, dict(
        zip(known.tolist(), places.tolist()))


@pytest.mark.parametrize("static", [True, False], ids=["known batch", "unknown batch"])
def test_both_ways_to_pool_give_the_means_and_sums_of_the_lists(sdk, static):
    found, rows, places = lookups(sdk, static)
    keys = make_keys()
    begin = 0
    for number, field in enumerate(FIELDS):
        expected = pooled(rows, keys[:, begin:begin + field.width], field.pooling)
        begin += field.width
        for name in ("plain", "product"):
            np.testing.assert_allclose(found[name][0][:, number], expected, atol=1e-6)
    np.testing.assert_allclose(found["plain"][0][0, 1:], 0.0)
    np.testing.assert_allclose(found["plain"][1], found["product"][1], atol=1e-6)
    assert np.abs(found["plain"][1]).sum() > 0
    for name in ("plain", "product"):
        np.testing.assert_array_equal(found[name][1][places[0]], 0.0)


def test_both_ways_to_sum_everything_agree(sdk):
    found, rows, _ = lookups(sdk, True, with_layout=False)
    expected = sum(np.stack([rows[key] for key in column]) for column in make_keys().T.tolist())
    for name in ("plain", "product"):
        np.testing.assert_allclose(found[name][0], expected, atol=1e-5)
    np.testing.assert_allclose(found["plain"][1], found["product"][1], atol=1e-6)


def test_the_product_refuses_what_is_not_a_lookups_own_tensor(sdk):
    from mx_rec.core.embedding import create_table, sparse_lookup

    from rec_sdk_cpu.core.lookup import pooled_product
    tf.compat.v1.train.create_global_step()
    table = create_table(key_dtype=tf.int64, dim=DIM, name="t", device_vocabulary_size=40,
                         emb_initializer=tf.compat.v1.zeros_initializer())
    embedded = sparse_lookup(table, tf.constant(make_keys()), is_train=True, modify_graph=True)
    mask = tf.ones([BATCH, 8, 1])
    for tensor in (embedded * mask, embedded[:, :4], tf.identity(embedded), tf.zeros([BATCH, 8, DIM])):
        with pytest.raises(RuntimeError, match="is not the .* tensor that sparse_lookup returned"):
            pooled_product(tensor, None, [8])
    assert pooled_product(embedded, None, [8]).shape.as_list() == [BATCH, 1, DIM]


@pytest.mark.parametrize("fields, expected", [
    ((Field("a"), Field("b")), None),
    ((Field("a"), Field("s", 3, True, "sum")), [[1, 1, 0, 1], [1, 0, 0, 0]]),
    ((Field("m", 4, True, "mean"),), [[1 / 3, 1 / 3, 0, 1 / 3], [1, 0, 0, 0]])])
def test_weights_of_rows(sdk, fields, expected):
    from estimator_app.model.pooling import row_weights
    keys = tf.constant([[5, 5, 0, 9], [5, 0, 0, 0]], tf.int64)
    layout = TableLayout("t", 0, 9, 9, fields, tuple(range(4)))
    weights = row_weights(keys, layout)
    if expected is None:
        assert weights is None
        return
    with tf.compat.v1.Session() as session:
        np.testing.assert_allclose(session.run(weights), expected, rtol=1e-6)


def test_an_empty_list_alone_is_a_zero_vector(sdk):
    from estimator_app.model.pooling import row_weights
    layout = TableLayout("t", 0, 9, 9, (Field("m", 2, True, "mean"),), (0, 1))
    with tf.compat.v1.Session() as session:
        np.testing.assert_array_equal(session.run(row_weights(tf.zeros([3, 2], tf.int64), layout)), np.zeros((3, 2)))


def test_sizes_of_tables_and_of_the_static_exchange(sdk):
    from estimator_app.model.embedding import send_count, table_capacity
    static = Config(use_dynamic=False, batch_size=2, eval_batch_size=3)
    assert table_capacity(Config(), LAYOUT) == 40 and table_capacity(Config(table_capacity=7), LAYOUT) == 7
    assert send_count(Config(), LAYOUT) is None
    assert send_count(static, LAYOUT) == 3 * 8
    assert send_count(static.replace(use_multi_lookup=True), LAYOUT) == 40
    assert send_count(static.replace(batch_size=100), LAYOUT) == 40


def test_a_fixed_table_that_is_too_small_for_the_data_is_refused(tmp_path):
    manifest, _ = write_data(str(tmp_path))
    config = Config(data_dir=str(tmp_path), table_capacity=3)
    with pytest.raises(ConfigError, match=r"has 3 rows \(--table_capacity\), and the data has \d+ keys for it"):
        make_model(config, manifest).needs()
    make_model(config.replace(use_dynamic_expansion=True), manifest).needs()


def test_data_without_any_table_is_refused(tmp_path):
    manifest, _ = write_data(str(tmp_path))
    manifest = dataclasses.replace(manifest, dataset=dataclasses.replace(SMALL, categorical=()))
    with pytest.raises(ConfigError, match="no categorical feature and no numeric one with bins.*--dense_bins 32"):
        make_model(Config(data_dir=str(tmp_path), dense_bins=0), manifest).check_tables()
    make_model(Config(data_dir=str(tmp_path), dense_bins=4), manifest).check_tables()


@pytest.mark.parametrize("layer, dims", [("concat", {"users": 3, "items": 5}), ("sum", None)])
def test_fields_become_vectors_of_their_tables(sdk, tmp_path, layer, dims):
    """Against the keys that the documentation makes of records, and rows looked up one by one."""
    from estimator_app.model.definition import make_model
    from estimator_app.model.embedding import embed
    from feature_specs.records import DENSE_FEATURE
    from feature_specs.spec_list import FeatureSpecLists
    from input_fn.encode import encode_rows
    from tests.support.small_data import without_dims
    dataset = RICH if layer == "concat" else without_dims(RICH)
    manifest, arrays = write_data(tmp_path, 12, 4, dataset=dataset)
    config = Config(input_layer=layer, use_modify_graph=True, expert_num=2, expert_layers=(3,), embedding_stddev=1.0)
    model = make_model(config, manifest)
    rows = arrays["train"]
    keys, numbers = encode_rows(tf.constant(rows.sparse), tf.constant(rows.dense), model.encoding)
    features = dict(keys, **{DENSE_FEATURE: numbers})
    inputs = embed(features, model, FeatureSpecLists(), True)
    from rec_sdk_cpu.core import graph_state
    tables = {table.table_name: table for table in graph_state.of().tables.values()}
    exports = {name: (table.index.export(), table.variable) for name, table in tables.items()}
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        values, blocks = session.run([inputs.vectors if layer == "concat" else inputs.summed, inputs.blocks])
        coded = session.run(keys)
        found = {name: {key: value[1][place] for key, place in zip(*[part.tolist() for part in value[0]])}
                 for name, value in session.run(exports).items()}
    expected_keys = keys_of(rows, manifest)
    vectors = {}
    for feature in dataset.categorical:
        vectors[feature.name] = pooled(found[feature.table], expected_keys[feature.name],
                                       feature.pooling if feature.is_list else "sum")
    # The bins of the price stand last in their table.
    vectors["price"] = pooled(found["users"], coded["sparse_feature_users"][:, -1:], "sum")
    if dims:
        # What the first layer reads: the same vectors in the same order, in one piece per table.
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), np.concatenate(list(values.values()), axis=1))
        assert len(blocks) == 2
        assert {name: value.shape[1] for name, value in values.items()} == {
            "user": 3, "tags": 3, "price": 3, "item": 5, "seen": 5, "city": 5}
        for name, value in values.items():
            np.testing.assert_allclose(value, vectors[name], atol=1e-6, err_msg=name)
    else:
        np.testing.assert_allclose(values, sum(vectors.values()), atol=1e-5)


@pytest.mark.parametrize("settings, kept", [
    ({"field_dropout": 0.25}, 0.75), ({"field_dropout": 0.25, "use_multi_lookup": True}, 0.75), ({}, 1.0)])
def test_training_drops_fields_whole_and_scales_the_others(sdk, tmp_path, settings, kept):
    """Every value of a table is 0.1, so that a field is 0.1 times a number of rows (1 for a mean), or dropped."""
    from estimator_app.model.embedding import embed
    from feature_specs.records import DENSE_FEATURE
    from feature_specs.spec_list import FeatureSpecLists
    from input_fn.encode import encode_rows
    manifest, arrays = write_data(tmp_path, 400, 4, dataset=RICH)
    model = make_model(Config(use_modify_graph=True, reference_init=True, **settings), manifest)
    rows = arrays["train"]
    keys, numbers = encode_rows(tf.constant(rows.sparse), tf.constant(rows.dense), model.encoding)
    inputs = embed(dict(keys, **{DENSE_FEATURE: numbers}), model, FeatureSpecLists(), True)
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        vectors, blocks = session.run([inputs.vectors, inputs.blocks])
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), np.concatenate(list(vectors.values()), axis=1))
    is_kept = []
    for name, values in vectors.items():
        np.testing.assert_array_equal(values, np.repeat(values[:, :1], values.shape[1], axis=1), err_msg=name)
        counts = values[:, 0] * kept / 0.1
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-4, err_msg=name)
        if name not in ("tags", "seen"):  # lists may be empty
            is_kept.append(counts > 0.5)
    assert len(is_kept) > 3
    assert [part.mean() for part in is_kept] == pytest.approx([kept] * len(is_kept), abs=0.08)
    if kept < 1:  # each field is drawn apart, also where tables differ
        assert np.abs(np.corrcoef(is_kept) - np.eye(len(is_kept))).max() < 0.2


@pytest.mark.parametrize("layer, is_training, dropped", [("concat", True, 2), ("concat", False, 0), ("sum", True, 0)])
def test_fields_are_dropped_in_training_and_of_vectors_only(sdk, tmp_path, monkeypatch, layer, is_training, dropped):
    """Once per table, with seeds of their own."""
    from npu_bridge.npu_init import npu_ops

    from estimator_app.model.embedding import embed
    from feature_specs.records import DENSE_FEATURE
    from feature_specs.spec_list import FeatureSpecLists
    from input_fn.encode import encode_rows
    from tests.support.small_data import without_dims
    seeds, dropout = [], npu_ops.dropout
    monkeypatch.setattr(npu_ops, "dropout", lambda *given, seed: seeds.append(seed) or dropout(*given, seed=seed))
    manifest, arrays = write_data(tmp_path, 12, 4, dataset=RICH if layer == "concat" else without_dims(RICH))
    model = make_model(Config(use_modify_graph=True, field_dropout=0.5, input_layer=layer), manifest)
    rows = arrays["train"]
    keys, numbers = encode_rows(tf.constant(rows.sparse), tf.constant(rows.dense), model.encoding)
    embed(dict(keys, **{DENSE_FEATURE: numbers}), model, FeatureSpecLists(), is_training)
    assert len(set(seeds)) == len(seeds) == dropped
