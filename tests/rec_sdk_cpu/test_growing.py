"""Tables that grow: dynamic expansion, host memory, disk (rec_sdk_api 3.1-3.3)."""
import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.core.initial_rows import BLOCK
from tests.rec_sdk_cpu.tools import ids_placeholder, keys_of, lookup, make_table, session, start


def _train_op(table, out, module="lazy_adam_by_addr"):
    import importlib
    optimizer = importlib.import_module("mx_rec.optimizers." + module)
    loss = tf.reduce_sum(tf.square(out - 1.0))
    if module == "lazy_adam_by_addr":
        local = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_LOCAL_EMB")
        address = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_ID_OFFSET")
        return optimizer.create_hash_optimizer_by_address(0.1).apply_gradients(
            list(zip(tf.gradients(loss, local), address)))
    return optimizer.create_hash_optimizer(0.1).apply_gradients(
        list(zip(tf.gradients(loss, [table.variable]), [table.variable])))


@pytest.mark.parametrize("kind", ["expansion", "ddr"])
def test_a_growing_table_follows_its_keys_within_a_quarter(sdk, kind):
    start(use_dynamic_expansion=kind == "expansion")
    sizes = {} if kind == "expansion" else {"host_vocabulary_size": 10 ** 8}
    table, ids = make_table(dim=4, rows=5000, **sizes), ids_placeholder()
    step = _train_op(table, lookup(table, ids), "lazy_adam_by_addr" if kind == "expansion" else "lazy_adam")
    sess = session()
    assert sess.run(table.variable).shape == (BLOCK, 4)
    random = np.random.RandomState(0)
    for _ in range(12):
        sess.run(step, {ids: random.randint(10 ** 12, size=random.randint(1, 4000))})
    used = table.size()
    shapes = {sess.run(state.variable).shape for state in table.states().values()}
    assert len(table.states()) == 3 and used > 5000
    assert all(used <= rows <= 1.25 * used for rows, _ in shapes)
    assert sorted(keys_of(sess, table).values()) == list(range(used))


def test_rows_are_the_same_however_the_table_grew(sdk):
    start(use_dynamic_expansion=True)
    table, ids = make_table(dim=4), ids_placeholder()
    out = lookup(table, ids)
    slow, fast = session(), session()
    for number in range(300):
        slow.run(out, {ids: [number]})
    values = fast.run(out, {ids: np.arange(300)})
    np.testing.assert_array_equal(slow.run(table.variable)[:300], values)
    assert len(np.unique(values)) == values.size and 0.7 < values.std() < 1.0 and abs(values).max() <= 2


@pytest.mark.parametrize("initializer, mean, spread", [
    (tf.compat.v1.constant_initializer(0.25), 0.5, 0.0),
    (tf.compat.v2.constant_initializer(0.25), 0.5, 0.0),
    (tf.compat.v1.random_normal_initializer(mean=3.0, stddev=0.1, seed=1), 6.0, 0.2),
    (tf.compat.v2.random_normal_initializer(mean=3.0, stddev=0.1, seed=1), 6.0, 0.2),
    (tf.compat.v1.truncated_normal_initializer(mean=3.0, stddev=0.1), 6.0, 0.176),
    (tf.compat.v1.keras.initializers.RandomNormal(mean=3.0, stddev=0.1), 6.0, 0.2),
    # Not supported outside static device memory: truncated_normal(0, 1), without init_param.
    (tf.compat.v1.zeros_initializer(), 0.0, 0.88), (tf.compat.v1.random_uniform_initializer(5, 6), 0.0, 0.88),
    (tf.compat.v1.glorot_uniform_initializer(), 0.0, 0.88)])
@pytest.mark.parametrize("kind", ["expansion", "ddr"])
def test_initializers_as_the_sdk_treats_them(sdk, kind, initializer, mean, spread):
    start(use_dynamic_expansion=kind == "expansion")
    table = make_table(dim=8, rows=2000, initializer=initializer, init_param=2.0, host_vocabulary_size=2000)
    values = session().run(lookup(table, tf.range(1000, dtype=tf.int64)))
    assert abs(values.mean() - mean) < 0.05 and abs(values.std() - spread) < 0.02


def test_a_constant_row_may_differ_from_column_to_column(sdk):
    start(use_dynamic_expansion=True)
    table = make_table(initializer=tf.compat.v1.constant_initializer([1.0, 2.0, 3.0]))
    assert session().run(lookup(table, tf.constant([5, 6], tf.int64))).tolist() == [[1, 2, 3]] * 2


def test_host_tables_overflow_at_their_capacity_and_at_one_batchs_device_rows(sdk):
    start()
    table, ids = make_table(rows=3, host_vocabulary_size=5), ids_placeholder()
    out = lookup(table, ids)
    sess = session()
    with pytest.raises(tf.errors.InvalidArgumentError, match="Device cache overflow!"):
        sess.run(out, {ids: [1, 2, 3, 4]})
    sess.run(out, {ids: [1, 2, 3]})
    sess.run(out, {ids: [4, 5]})
    with pytest.raises(tf.errors.InvalidArgumentError, match="Device cache overflow!"):
        sess.run(out, {ids: [6]})


def test_collections_have_one_entry_per_training_lookup_in_the_same_order(sdk):
    start(use_dynamic_expansion=True)
    first, second = make_table("a"), make_table("b")
    lookup(first, tf.constant([1], tf.int64))
    lookup(first, tf.constant([1], tf.int64), is_train=False)
    lookup(second, tf.constant([1], tf.int64), is_grad=False)
    local = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_LOCAL_EMB")
    address = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_ID_OFFSET")
    assert len(local) == len(address) == 2
    assert ["a_lookup" in pair[0].name and "a_lookup" in pair[1].name for pair in zip(local, address)] == [True, False]


@pytest.mark.parametrize("kind", ["expansion", "ddr"])
def test_a_resumed_run_equals_one_without_a_break(sdk, tmp_path, kind):
    start(use_dynamic_expansion=kind == "expansion")
    sizes = {} if kind == "expansion" else {"host_vocabulary_size": 10 ** 6}
    table, ids = make_table(dim=4, rows=500, **sizes), ids_placeholder()
    step = _train_op(table, lookup(table, ids), "lazy_adam_by_addr" if kind == "expansion" else "lazy_adam")
    saver = tf.compat.v1.train.Saver()
    random = np.random.RandomState(1)
    batches = [random.randint(10 ** 6, size=200) for _ in range(8)]
    whole, sess = session(), session()
    for number, batch in enumerate(batches):
        whole.run(step, {ids: batch})
        if number == 3:
            path = saver.save(whole, str(tmp_path / "model.ckpt"), number)
    saver.restore(sess, path)
    for batch in batches[4:]:
        sess.run(step, {ids: batch})
    assert keys_of(sess, table) == keys_of(whole, table)
    used = table.size()
    for state in table.states().values():
        np.testing.assert_array_equal(sess.run(state.variable)[:used], whole.run(state.variable)[:used])


def test_a_saved_state_that_no_update_has_reached_has_its_initial_value(sdk, tmp_path):
    start(use_dynamic_expansion=True)
    table, ids = make_table(), ids_placeholder()
    out = lookup(table, ids)
    _train_op(table, out)
    saver = tf.compat.v1.train.Saver()
    sess = session()
    sess.run(out, {ids: np.arange(500)})
    saver.save(sess, str(tmp_path / "model.ckpt"))
    from rec_sdk_cpu.core import sparse_files
    directory = str(tmp_path / "sparse-model.ckpt")
    assert not sparse_files.open_rows(directory, "t", "LazyAdam_momentum").any()
    assert sparse_files.open_rows(directory, "t", "LazyAdam_velocity").shape == (500, 3)
