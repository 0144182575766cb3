"""Admission and eviction (rec_sdk_api 6): counts, thresholds, timestamps, EvictHook, freed rows, history."""
import itertools
import os
import types

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.core import sparse_files
from tests.rec_sdk_cpu.tools import ids_placeholder, keys_of, lookup, make_table, session, start


def _config(access, eviction=None, **more):
    return dict({"access_threshold": access, "eviction_threshold": eviction}, **more)


def _clock():
    time = tf.compat.v1.placeholder_with_default(tf.constant(1, tf.int64), [])
    tf.compat.v1.add_to_collection("ASCEND_TIMESTAMP", time)
    return time


@pytest.mark.parametrize("expansion", [False, True])
def test_the_batch_that_reaches_the_threshold_is_admitted(sdk, expansion):
    start(use_dynamic_expansion=expansion)
    table, ids = make_table(), ids_placeholder()
    out = lookup(table, ids, access_and_evict_config=_config(3))
    sess = session()
    assert not sess.run(out, {ids: [7, 7, 8]}).any() and table.size() == 0
    got = sess.run(out, {ids: [8, 7, 9]})
    assert not got[0].any() and got[1].any() and not got[2].any()
    assert keys_of(sess, table) == {7: 0}
    assert sess.run(out, {ids: [9, 9, 8]}).any(axis=1).all()
    assert keys_of(sess, table) in ({7: 0, 8: 2, 9: 1}, {7: 0, 8: 1, 9: 2})


def test_ids_that_are_not_admitted_get_no_gradient_row(sdk):
    start()
    table, ids = make_table(), ids_placeholder()
    out = lookup(table, ids, access_and_evict_config=_config(2))
    slices = tf.gradients(tf.reduce_sum(out), [table.variable])[0]
    sess = session()
    indices, values = sess.run([slices.indices, slices.values], {ids: [1, 5, 5, 2]})
    assert indices.tolist() == [0] and values.tolist() == [[2.0, 2.0, 2.0]]


def test_faae_coefficient_multiplies_the_counts(sdk):
    start()
    table, ids = make_table(), ids_placeholder()
    out = lookup(table, ids, access_and_evict_config=_config(10, faae_coefficient=5))
    sess = session()
    assert sess.run(out, {ids: [1, 2, 2]}).any(axis=1).tolist() == [False, True, True]
    assert sess.run(out, {ids: [1]}).any()


def test_several_lookups_of_a_table_count_as_one_batch(sdk):
    start()
    table = make_table()
    outs = [lookup(table, tf.constant(ids, tf.int64), access_and_evict_config=_config(2))
            for ids in ([1, 2], [2, 3], [3, 4])]
    first, second, third = session().run(outs)
    assert first.any(axis=1).tolist() == [False, True]
    assert second.any(axis=1).tolist() == [True, True] and third.any(axis=1).tolist() == [True, False]


def test_evaluation_reads_only(sdk):
    start()
    table, ids = make_table(), ids_placeholder()
    train = lookup(table, ids, access_and_evict_config=_config(2))
    evaluate = lookup(table, ids, is_train=False, access_and_evict_config=_config(2))
    sess = session()
    for _ in range(5):
        assert not sess.run(evaluate, {ids: [1]}).any()
    assert not sess.run(train, {ids: [1]}).any()
    assert sess.run(train, {ids: [1]}).any() and sess.run(evaluate, {ids: [1]}).any()


def test_serving_default_value_for_ids_that_are_not_admitted(sdk):
    start()
    out = lookup(make_table(), tf.constant([1, 2, 2], tf.int64), access_and_evict_config=_config(2),
                 serving_default_value=tf.constant([7.0, 8.0, 9.0]))
    got = session().run(out)
    assert got[0].tolist() == [7, 8, 9] and got[1].tolist() == got[2].tolist() != [7, 8, 9]


@pytest.mark.parametrize("access, eviction", [(-1, None), (-1, -1), (-1, 5)])
def test_minus_one_is_refused(sdk, access, eviction):
    start()
    _clock()
    with pytest.raises(ValueError, match="pass None, not -1"):
        lookup(make_table(), tf.constant([1], tf.int64), access_and_evict_config=_config(access, eviction))


@pytest.mark.parametrize("config, error", [
    ({"eviction_threshold": 5}, "Access_threshold should be configured before eviction_threshold."),
    ({"access_threshold": 2, "eviction_threshold": 5}, "threshold config, or timestamp error"),
    ({"access_threshold": 2.0}, "access_threshold must be"),
    ({"access_threshold": 2, "faae_coefficient": 0}, "faae_coefficient must be")])
def test_configurations_that_are_refused(sdk, config, error):
    start()
    with pytest.raises(ValueError, match=error):
        lookup(make_table(), tf.constant([1], tf.int64), access_and_evict_config=config)


@pytest.mark.parametrize("access", [None, 0])
def test_access_threshold_none_or_zero_is_off(sdk, access):
    start()
    table = make_table()
    lookup(table, tf.constant([1], tf.int64), access_and_evict_config=_config(access))
    assert table.history is None


def test_all_lookups_of_a_table_need_the_same_thresholds(sdk):
    start()
    table = make_table()
    lookup(table, tf.constant([1], tf.int64), access_and_evict_config=_config(2))
    with pytest.raises(ValueError, match="same access_threshold"):
        lookup(table, tf.constant([1], tf.int64), access_and_evict_config=_config(3))
    with pytest.raises(ValueError, match="same access_threshold"):
        lookup(table, tf.constant([1], tf.int64))


def test_feature_specs_bring_thresholds_and_timestamp(sdk):
    from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
    from mx_rec.core.embedding import sparse_lookup
    start()
    specs = [FeatureSpec("time", is_timestamp=True),
             FeatureSpec("f", table_name="t", access_threshold=2, eviction_threshold=5, faae_coefficient=1)]
    batch = {"f": ids_placeholder(), "time": tf.compat.v1.placeholder(tf.int64, [])}
    insert = get_asc_insert_func(tgt_key_specs=specs)
    insert(batch)
    table = make_table()
    out = sparse_lookup(table, specs[1], batch=batch)
    sess = session()
    assert sess.run(out, {batch["f"]: [1, 2, 2], batch["time"]: 10}).any(axis=1).tolist() == [False, True, True]
    assert sess.run(table.history.clock()) == 10
    with pytest.raises(tf.errors.InvalidArgumentError, match="timestamp of a batch must be > 0"):
        sess.run(out, {batch["f"]: [1], batch["time"]: 0})
    with pytest.raises(OSError, match="training dataset with a timestamp already"):
        insert(batch)


def test_eviction_drops_what_was_not_seen_and_reuses_rows_first(sdk):
    start()
    table, ids, time = make_table(rows=4), ids_placeholder(), _clock()
    out = lookup(table, ids, access_and_evict_config=_config(1, 10))
    evict = table.evict()
    optimizer_rows = table.add_state("Opt_state", "state", 0.5)
    sess = session()
    sess.run(out, {ids: [1, 2, 3], time: 100})
    sess.run(table.variable.scatter_add(tf.IndexedSlices(tf.ones([3, 3]) * 50.0, [0, 1, 2])))
    sess.run(optimizer_rows.variable.assign(tf.ones([4, 3])))
    sess.run(out, {ids: [2], time: 109})
    assert sess.run(evict) == 0
    sess.run(out, {ids: [2], time: 110})
    assert sess.run(evict) == 2 and keys_of(sess, table) == {2: 1}
    assert sess.run(evict) == 0
    got = sess.run(out, {ids: [8, 9, 7], time: 111})
    assert sorted(keys_of(sess, table).values()) == [0, 1, 2, 3]
    assert keys_of(sess, table)[7] == 3 and abs(got).max() < 20
    # The optimizer's states of freed rows are not reset (rec_sdk_api 5.1).
    assert (sess.run(optimizer_rows.variable) == 1).all()
    # An evicted id starts to count again.
    keys, values = sess.run(table.history.export())
    assert sorted(keys.tolist()) == [-1, 2, 7, 8, 9]


def test_freed_rows_of_an_unknown_initializer_take_their_initial_value_again(sdk):
    start()
    table, ids, time = make_table(initializer=tf.compat.v1.ones_initializer()), ids_placeholder(), _clock()
    out = lookup(table, ids, access_and_evict_config=_config(1, 10))
    evict = table.evict()
    sess = session()
    sess.run(out, {ids: [1], time: 100})
    sess.run(table.variable.assign(tf.zeros([20, 3])))
    sess.run(out, {ids: [2], time: 200})
    sess.run(evict)
    assert sess.run(table.variable)[0].tolist() == [1, 1, 1]


def _train(hook, steps, times, tmp_path, count=True):
    """Runs steps under a hook; returns the keys in use after each."""
    from mx_rec.graph.merge_lookup import do_merge_lookup
    from mx_rec.graph.modifier import GraphModifierHook
    table, ids, time = make_table(), ids_placeholder(), _clock()
    out = lookup(table, ids, access_and_evict_config=_config(1, 10))
    do_merge_lookup(is_train=True)
    step = tf.compat.v1.train.get_or_create_global_step()
    with tf.control_dependencies([out]):
        train = tf.compat.v1.assign_add(step, 1 if count else 0)
    used = []
    with tf.compat.v1.train.MonitoredSession(hooks=[GraphModifierHook(), hook]) as sess:
        for number in range(steps):
            sess.run(train, {ids: [number], time: times[number]})
            used.append(sorted(keys_of(sess._tf_sess(), table)))
    return used


def test_evict_hook_by_step(sdk, tmp_path):
    from mx_rec.core.feature_process import EvictHook
    start()
    used = _train(EvictHook(evict_enable=True, evict_step_interval=3), 6, [1, 2, 20, 21, 22, 23], tmp_path)
    assert used == [[0], [0, 1], [2], [2, 3], [2, 3, 4], [2, 3, 4, 5]]


def test_evict_hook_by_time(sdk, tmp_path, monkeypatch):
    from mx_rec.core.feature_process import EvictHook
    start()
    ticks = itertools.count(1000, 4)
    monkeypatch.setattr("rec_sdk_cpu.mx_rec.core.feature_process.time",
                        types.SimpleNamespace(time=lambda: next(ticks)))
    used = _train(EvictHook(evict_enable=True, evict_time_interval=10), 4, [1, 20, 40, 60], tmp_path)
    assert used == [[0], [0, 1], [2], [2, 3]]


def test_evict_hook_with_a_global_step_that_never_moves_triggers_every_step(sdk, tmp_path):
    from mx_rec.core.feature_process import EvictHook
    start()
    used = _train(EvictHook(evict_enable=True, evict_step_interval=5), 2, [1, 20], tmp_path, count=False)
    assert used == [[0], [1]]


def test_evict_hook_is_off_by_default(sdk, tmp_path):
    from mx_rec.core.feature_process import EvictHook
    start()
    assert _train(EvictHook(evict_step_interval=1), 2, [1, 20], tmp_path) == [[0], [0, 1]]


def test_evict_hook_must_come_after_graph_modifier_hook(sdk):
    from mx_rec.core.feature_process import EvictHook
    start()
    make_table()
    with pytest.raises(RuntimeError, match="after GraphModifierHook"):
        EvictHook(evict_enable=True).begin()


def test_eviction_with_dynamic_expansion_is_refused(sdk):
    from mx_rec.core.feature_process import EvictHook
    start(use_dynamic_expansion=True)
    _clock()
    with pytest.raises(ValueError, match="not supported with dynamic expansion"):
        lookup(make_table(), tf.constant([1], tf.int64), access_and_evict_config=_config(1, 10))
    with pytest.raises(ValueError, match="not supported with dynamic expansion"):
        EvictHook(evict_enable=True).begin()


def test_history_is_saved_and_restored_with_the_table(sdk, tmp_path):
    start()
    table, ids, time = make_table(), ids_placeholder(), _clock()
    out = lookup(table, ids, access_and_evict_config=_config(2, 10))
    saver = tf.compat.v1.train.Saver([])
    sess = session()
    sess.run(out, {ids: [3, 4, 4], time: 77})
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 1)
    directory = sparse_files.sparse_directory(path)
    assert sparse_files.read_history(directory, "t").tolist() == [[-1, 0, 77], [3, 1, 77], [4, 2, 77]]
    sparse_files.check(directory)
    assert sparse_files.states(directory, "t") == ["embedding"]
    other = session()
    other.run(out, {ids: [9, 9], time: 500})
    saver.restore(other, path)
    assert keys_of(other, table) == {4: 0} and other.run(table.history.clock()) == 77
    assert other.run(out, {ids: [3], time: 78}).any()


def test_a_checkpoint_without_history_counts_its_keys_as_admitted(sdk, tmp_path):
    start()
    with tf.Graph().as_default():
        table = make_table()
        out = lookup(table, tf.constant([5, 6], tf.int64))
        saver = tf.compat.v1.train.Saver([])
        sess = session()
        sess.run(out)
        path = saver.save(sess, str(tmp_path / "model.ckpt"), 1)
    assert not os.path.exists(os.path.join(sparse_files.sparse_directory(path), "t", "history"))
    table, ids, time = make_table(), ids_placeholder(), _clock()
    out = lookup(table, ids, access_and_evict_config=_config(100, 10))
    evict = table.evict()
    saver = tf.compat.v1.train.Saver([])
    sess = session()
    saver.restore(sess, path)
    got = sess.run(out, {ids: [5, 7], time: 9999})
    assert got[0].any() and not got[1].any()
    # Its time is not known before it is seen, so 6 stays.
    assert sess.run(evict) == 0
    np.testing.assert_array_equal(sorted(keys_of(sess, table)), [5, 6])
