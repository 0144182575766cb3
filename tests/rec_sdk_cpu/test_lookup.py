"""Lookup semantics (rec_sdk_api 3.4, 3.5): insertion, zeros, gradients, FeatureSpec rules, static mode."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rec_sdk_cpu.tools import ids_placeholder, keys_of, lookup, make_table, session, start


def _spec(name="f", **arguments):
    from mx_rec.core.asc.helper import FeatureSpec
    return FeatureSpec(name, **dict({"table_name": "t"}, **arguments))


def _insert(specs, batch, is_training=True):
    from mx_rec.core.asc.helper import get_asc_insert_func
    return get_asc_insert_func(tgt_key_specs=specs, is_training=is_training)(batch)


def _lookup(*args, **kwargs):
    from mx_rec.core.embedding import sparse_lookup
    return sparse_lookup(*args, **kwargs)


@pytest.mark.parametrize("kind", ["hbm", "ddr", "ssd", "expansion"])
def test_training_inserts_and_evaluation_gives_zeros_and_inserts_nothing(sdk, tmp_path, kind):
    start(use_dynamic_expansion=kind == "expansion")
    sizes = {"ddr": {"host_vocabulary_size": 20},
             "ssd": {"host_vocabulary_size": 20, "ssd_vocabulary_size": 20, "ssd_data_path": [str(tmp_path)]}}
    table, ids = make_table(**sizes.get(kind, {})), ids_placeholder()
    train, evaluate = lookup(table, ids), lookup(table, ids, is_train=False)
    sess = session()
    assert not sess.run(evaluate, {ids: [1, 2]}).any() and table.size() == 0
    first = sess.run(train, {ids: [4, 9, 4]})
    assert (first[0] == first[2]).all() and (first[0] != first[1]).any() and first.any(axis=1).all()
    got = sess.run(evaluate, {ids: [9, 8, 4]})
    np.testing.assert_array_equal(got, [first[1], np.zeros(3), first[0]])
    assert keys_of(sess, table) == {4: 0, 9: 1} and table.size() == 2


def test_rows_of_a_static_table_are_the_given_initializers_values(sdk):
    start()
    table, ids = make_table(initializer=tf.compat.v1.glorot_uniform_initializer(seed=3)), ids_placeholder()
    out = lookup(table, ids)
    sess = session()
    np.testing.assert_array_equal(sess.run(out, {ids: [5, 6]}), sess.run(table.variable)[:2])


@pytest.mark.parametrize("expansion", [False, True])
@pytest.mark.parametrize("default", [2.0, [1.0, 2.0, 3.0], [[4.0, 5.0, 6.0]]])
def test_serving_default_value_takes_the_place_of_zeros(sdk, default, expansion):
    start(use_dynamic_expansion=expansion)
    table = make_table()
    out = lookup(table, tf.constant([3], tf.int64), is_train=False, serving_default_value=tf.constant(default))
    expected = np.zeros((1, 3)) if expansion else np.broadcast_to(default, (1, 3))
    np.testing.assert_array_equal(session().run(out), expected)


def test_shape_of_the_result_and_int32_ids(sdk):
    start()
    table = make_table(dim=5)
    assert lookup(table, tf.compat.v1.placeholder(tf.int32, [None, 4])).shape.as_list() == [None, 4, 5]
    assert make_table("s", dim=tf.TensorShape([7])).emb_size == 7


def test_gradients_of_duplicates_are_summed_and_is_grad_false_stops_them(sdk):
    start()
    table = make_table()
    grad = lookup(table, tf.constant([1, 2, 1], tf.int64))
    stopped = lookup(table, tf.constant([1, 5], tf.int64), is_grad=False)
    slices = tf.gradients(tf.reduce_sum(grad * [[1.0], [2.0], [4.0]]) + tf.reduce_sum(stopped), [table.variable])[0]
    sess = session()
    indices, values, _ = sess.run([slices.indices, slices.values, stopped])
    dense = np.zeros((20, 3))
    np.add.at(dense, indices, values)
    index = keys_of(sess, table)
    assert dense[index[1]].tolist() == [5, 5, 5] and dense[index[2]].tolist() == [2, 2, 2]
    assert not dense[index[5]].any()


def test_without_any_gradient_compute_gradients_raises(sdk):
    start()
    out = lookup(make_table(), tf.constant([1], tf.int64), is_grad=False)
    weight = tf.compat.v1.get_variable("w", [])
    with pytest.raises(RuntimeError, match="No gradients provided for any variable"):
        tf.compat.v1.train.AdamOptimizer().compute_gradients(tf.reduce_sum(out) * weight)


def test_several_lookups_of_one_table_share_keys_and_gradients(sdk):
    start()
    table = make_table()
    outs = [lookup(table, tf.constant(ids, tf.int64)) for ids in ([1, 2, 3], [3, 4, 1], [4, 4, 4])]
    slices = tf.gradients(tf.add_n([tf.reduce_sum(out) for out in outs]), [table.variable])[0]
    sess = session()
    values, (indices, gradients) = sess.run([outs, [slices.indices, slices.values]])
    index = keys_of(sess, table)
    assert sorted(index) == [1, 2, 3, 4] and sorted(index.values()) == [0, 1, 2, 3]
    np.testing.assert_array_equal(values[0][0], values[1][2])
    np.testing.assert_array_equal(values[1][1], values[2][0])
    totals = np.zeros(20)
    np.add.at(totals, indices, gradients[:, 0])
    assert [totals[index[key]] for key in (1, 2, 3, 4)] == [2, 1, 2, 4]


@settings(max_examples=6)
@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_a_pooled_product_equals_reduce_sum(batch, fields, data):
    import rec_sdk_cpu
    from rec_sdk_cpu.core import config
    from rec_sdk_cpu.core.lookup import pooled_product
    ids = data.draw(st.lists(st.lists(st.integers(0, 6), min_size=fields, max_size=fields), min_size=batch,
                             max_size=batch))
    expansion, admission = data.draw(st.booleans()), data.draw(st.booleans())
    rec_sdk_cpu.install()
    config.reset()
    with tf.Graph().as_default():
        start(use_dynamic_expansion=expansion)
        table = make_table()
        out = lookup(table, tf.constant(ids, tf.int64),
                     access_and_evict_config={"access_threshold": 2} if admission else None)
        weights = tf.constant(np.arange(batch * 3, dtype=np.float32).reshape(batch, 3))
        pooled, expected = pooled_product(out, None, None), tf.reduce_sum(out, axis=1)
        target = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_LOCAL_EMB")[0] if expansion else table.variable
        gradients = [tf.convert_to_tensor(tf.gradients(tf.reduce_sum(value * weights), [target])[0])
                     for value in (pooled, expected)]
        values = session().run([pooled, expected] + gradients)
        np.testing.assert_allclose(values[0], values[1], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(values[2], values[3], rtol=1e-5, atol=1e-5)
    config.reset()


def test_a_pooled_product_refuses_what_is_no_lookup(sdk):
    from rec_sdk_cpu.core.lookup import pooled_product
    start()
    with pytest.raises(RuntimeError, match="pool that tensor itself"):
        pooled_product(tf.zeros([2, 3, 4]), None, None)


def test_feature_spec_lookup_in_dynamic_mode(sdk):
    start()
    table, spec = make_table(), _spec(index_key="ids")
    dataset = tf.data.Dataset.from_tensors({"ids": tf.constant([[1, 2], [2, 3]], tf.int64), "label": [0, 1]})
    from mx_rec.core.asc.helper import get_asc_insert_func
    dataset = dataset.map(get_asc_insert_func(tgt_key_specs=[spec], is_training=True))
    batch = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
    assert sorted(batch) == ["ids", "label", "label_read_emb_key"]
    assert batch["label_read_emb_key"].dtype == tf.int32 and batch["label_read_emb_key"].shape.rank == 0
    out = _lookup(table, spec, batch=batch)
    assert _lookup(table, spec, batch=batch) is out
    assert spec.feat_cnt == 1 and spec.dims is None
    assert session().run(out).shape == (2, 2, 3)
    with pytest.raises(RuntimeError, match="You have not config feature for is training mode False"):
        _lookup(table, spec, is_train=False, batch=batch)


def test_feature_spec_lookup_in_static_mode_takes_the_ids_from_the_iterator(sdk):
    start(use_dynamic=False)
    table, spec = make_table(), _spec(index_key="ids")
    from mx_rec.core.asc.helper import get_asc_insert_func
    dataset = tf.data.Dataset.from_tensors({"ids": tf.constant([[1, 2], [2, 3]], tf.int64)})
    dataset = dataset.map(get_asc_insert_func(tgt_key_specs=spec))
    tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
    assert (spec.dims, spec.feat_cnt, spec.batch_size, spec.split) == ([2, 2], 2, 2, 4)
    out = _lookup(table, spec, send_count=4)
    assert table.send_count == 4 and session().run(out).shape == (2, 2, 3)


def test_static_mode_needs_known_shapes_that_agree(sdk):
    start(use_dynamic=False)
    with pytest.raises(ValueError, match="drop_remainder"):
        _insert(_spec(), {"f": tf.compat.v1.placeholder(tf.int64, [None, 2])})
    with pytest.raises(ValueError, match="rank >= 1"):
        _insert(_spec(), {"f": tf.constant(1, tf.int64)})
    spec = _spec()
    _insert(spec, {"f": tf.zeros([4, 2], tf.int64)})
    with pytest.raises(ValueError, match="one shape in train and eval"):
        _insert(spec, {"f": tf.zeros([5, 2], tf.int64)}, is_training=False)


def test_feature_spec_rules(sdk):
    start()
    assert _spec().name != _spec().name
    assert _spec("a.b", table_name=None).table_name == "ab"
    with pytest.raises(ValueError, match="is_timestamp must be None"):
        _insert(_spec(is_timestamp=False), {"f": tf.zeros([1], tf.int64)})
    with pytest.raises(KeyError, match="timestamp"):
        _insert(_spec("time", is_timestamp=True), {"f": tf.zeros([1], tf.int64)})
    with pytest.raises(ValueError, match="scalar"):
        _insert(_spec("time", is_timestamp=True), {"time": tf.zeros([1], tf.int64)})
    # A normal key that the batch does not have is skipped silently; the lookup complains.
    spec = _spec("missing")
    _insert(spec, {"f": tf.zeros([1], tf.int64)})
    with pytest.raises(RuntimeError, match="Feature Spec has not been initialized"):
        _lookup(make_table(), spec, batch={"missing": tf.zeros([1], tf.int64)})


def test_tuple_batches_take_positions(sdk):
    start()
    spec = _spec(index_key=1)
    result = _insert_tuple(spec, (tf.zeros([2]), tf.zeros([2], tf.int64)))
    assert len(result) == 3 and result[2].dtype == tf.int32
    with pytest.raises(ValueError, match="not a position"):
        _insert_tuple(_spec(index_key="f"), (tf.zeros([2]),))


def _insert_tuple(spec, batch):
    from mx_rec.core.asc.helper import get_asc_insert_func
    return get_asc_insert_func(tgt_key_specs=spec)(*batch)


def test_table_names_lose_other_characters_and_must_be_unique_in_a_graph(sdk):
    start()
    assert make_table("a.b").table_name == "ab"
    with pytest.raises(ValueError, match="Duplicated hashtable name"):
        make_table("ab")
    with pytest.raises(ValueError, match="no letter"):
        make_table("...")
    with tf.Graph().as_default():
        assert make_table("ab").table_name == "ab"


def test_table_variables_are_sparse_not_trainable_and_in_the_collection(sdk):
    from mx_rec.util.variable import get_dense_and_sparse_variable
    start()
    dense = tf.compat.v1.get_variable("w", [])
    with tf.compat.v1.variable_scope("scope"):
        table = make_table()
    assert table.variable.op.name == "scope/t"
    assert get_dense_and_sparse_variable() == ([dense], [table.variable])


def test_init_param_multiplies_the_initial_values(sdk):
    start()
    table = make_table(initializer=tf.compat.v1.constant_initializer(0.5), init_param=-2.0)
    np.testing.assert_array_equal(session().run(table.variable), np.full((20, 3), -1.0))


def test_capacity_of_each_kind(sdk, tmp_path):
    start()
    assert make_table("h", rows=7).capacity() == 7
    assert make_table("d", rows=7, host_vocabulary_size=50).capacity() == 50
    assert make_table("s", rows=7, host_vocabulary_size=50, ssd_vocabulary_size=9,
                      ssd_data_path=[str(tmp_path)]).capacity() == 59
