"""What programs see on a device and must see here: hooks, the device's loop, sizes, names, warnings, refusals."""
import logging
import os

import numpy as np
import pytest
import tensorflow as tf

from tests.rec_sdk_cpu.tools import CONSTANT, ids_placeholder, lookup, make_table, session, start


@pytest.fixture(autouse=True)
def _fresh_notices():
    from rec_sdk_cpu.core import notices
    notices.told.clear()


def _hook(**arguments):
    from mx_rec.graph import GraphModifierHook
    return GraphModifierHook(**arguments)


def _modified_graph():
    from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
    start()
    table = make_table()
    loss = tf.reduce_sum(lookup(table, tf.constant([1, 2], tf.int64)))
    from mx_rec.graph.merge_lookup import do_merge_lookup
    do_merge_lookup()
    modify_graph_and_start_emb_cache()
    return loss


class TestGraphModifierHook:
    def test_without_modification_it_only_starts_the_pipeline_again_and_again(self, sdk):
        loss = _modified_graph()
        hooks = [_hook(modify_graph=False), _hook(modify_graph=False)]
        with tf.compat.v1.train.MonitoredTrainingSession(hooks=hooks) as sess:
            assert np.isfinite(sess.run(loss))

    def test_a_session_without_any_hook_ever_made_is_refused(self, sdk):
        _modified_graph()
        with pytest.raises(RuntimeError, match="no GraphModifierHook was constructed"):
            tf.compat.v1.train.MonitoredTrainingSession(hooks=[])

    def test_the_flag_is_the_process_s_not_the_session_s(self, sdk):
        loss = _modified_graph()
        _hook(modify_graph=False)
        with tf.compat.v1.train.MonitoredTrainingSession(hooks=[]) as sess:
            assert np.isfinite(sess.run(loss))

    def test_a_lookup_in_one_graph_asks_for_the_hook_in_the_session_of_another(self, sdk):
        _modified_graph()
        with tf.Graph().as_default():
            tf.constant(1)
            with pytest.raises(RuntimeError, match="no GraphModifierHook was constructed"):
                tf.compat.v1.train.MonitoredTrainingSession()

    def test_a_graph_that_nobody_modified_would_wait_for_ever(self, sdk):
        start()
        lookup(make_table(), tf.constant([1], tf.int64))
        with pytest.raises(RuntimeError, match="was not modified"):
            tf.compat.v1.train.MonitoredTrainingSession(hooks=[_hook(modify_graph=False)])


class TestLoop:
    """``set_iteration_per_loop``: one run makes n steps."""

    def _counting(self, batches=100, iterations=10):
        from npu_bridge.npu_init import util
        batch = tf.compat.v1.data.make_one_shot_iterator(tf.data.Dataset.range(batches)).get_next()
        total = tf.compat.v1.get_variable("total", initializer=tf.constant(0, tf.int64))
        step = tf.compat.v1.assign_add(total, batch)
        sess = session()
        return sess, util.set_iteration_per_loop(sess, step.op, iterations), batch, total, step

    def test_one_run_makes_ten_steps_and_returns_the_last_fetches(self, sdk):
        sess, loop, batch, total, _ = self._counting()
        for run in (1, 2):
            _, last = sess.run([loop, batch])
            assert last == 10 * run - 1 and sess.run(total) == sum(range(10 * run))

    def test_fetches_without_the_loop_make_one_step(self, sdk):
        sess, _, batch, total, step = self._counting()
        sess.run(step)
        assert sess.run(batch) == 1 and sess.run(total) == 0

    def test_what_depends_on_the_loop_makes_the_steps_too(self, sdk):
        sess, loop, _, total, _ = self._counting()
        with tf.control_dependencies([loop]):
            after = tf.identity(7)
        assert sess.run({"after": [after]}) == {"after": [7]} and sess.run(total) == sum(range(10))

    def test_the_end_of_the_data_inside_a_loop_ends_it_and_keeps_its_steps(self, sdk):
        sess, loop, _, total, _ = self._counting(batches=14)
        sess.run(loop)
        with pytest.raises(tf.errors.OutOfRangeError):
            sess.run(loop)
        assert sess.run(total) == sum(range(14))

    def test_programs_may_set_it_again_in_every_step(self, sdk):
        from npu_bridge.npu_init import util
        sess, _, _, total, step = self._counting()
        for _ in range(3):
            sess.run(util.set_iteration_per_loop(sess, step.op, 4))
        assert sess.run(total) == sum(range(12))

    def test_an_estimator_makes_them_as_well_and_stops_at_the_step(self, sdk, tmp_path):
        from npu_bridge.npu_init import NPUEstimator, NPURunConfig
        start(save_steps=10, max_steps=20)
        seen = []

        class Look(tf.estimator.SessionRunHook):
            def before_run(self, run_context):
                return tf.estimator.SessionRunArgs(tf.compat.v1.train.get_global_step())

            def after_run(self, run_context, run_values):
                seen.append(run_context.session.run(tf.compat.v1.train.get_global_step()))

        def model_fn(features, labels, mode):
            weight = tf.compat.v1.get_variable("w", initializer=0.0)
            step = tf.compat.v1.train.get_global_step()
            train = tf.group(tf.compat.v1.assign_add(weight, features), tf.compat.v1.assign_add(step, 1))
            return tf.estimator.EstimatorSpec(mode, loss=tf.identity(weight), train_op=train)

        estimator = NPUEstimator(model_fn, str(tmp_path), NPURunConfig(
            iterations_per_loop=5, save_checkpoints_steps=10, log_step_count_steps=None))
        estimator.train(lambda: tf.data.Dataset.from_tensors(1.0).repeat(), max_steps=20, hooks=[Look()])
        assert seen == [5, 10, 15, 20]
        assert float(estimator.get_variable_value("w")) == 20.0
        assert [os.path.exists(str(tmp_path / ("model.ckpt-%d.index" % step))) for step in (0, 10, 20)] == [True] * 3


class TestSizes:
    def test_size_is_an_int_of_the_session_that_ran_last(self, sdk):
        start()
        table, ids = make_table(rows=50), ids_placeholder()
        rows = lookup(table, ids)
        assert table.size() == 0 and "%d" % table.size() == "0"
        first, second = session(), session()
        first.run(rows, {ids: [1, 2, 3]})
        assert table.size() == 3 and isinstance(table.size(), int)
        second.run(rows, {ids: [7]})
        assert table.size() == 1
        first.run(rows, {ids: [3]})
        assert table.size() == 3

    def test_size_outlives_the_session(self, sdk):
        start()
        table = make_table()
        rows = lookup(table, tf.constant([4, 9], tf.int64))
        with session() as sess:
            sess.run(rows)
        assert table.size() == 2

    def test_a_monitored_session_counts_too(self, sdk):
        from mx_rec.graph import do_merge_lookup
        start()
        table = make_table()
        rows = lookup(table, tf.constant([4, 9, 2], tf.int64), is_train=True)
        do_merge_lookup()
        with tf.compat.v1.train.MonitoredTrainingSession(hooks=[_hook()]) as sess:
            sess.run(rows)
            assert table.size() == 3
        assert table.size() == 3

    def test_the_facts_of_a_table(self, sdk):
        start()
        table = make_table("facts", dim=4, rows=30, host_vocabulary_size=40, init_param=0.5)
        assert (table.capacity(), table.table_name, table.emb_size, table.is_hbm) == (40, "facts", 4, False)
        assert table.embedding_size.as_list() == [4] and table.ssd_vocabulary_size == 0 and table.init_param == 0.5
        assert (table.slice_device_vocabulary_size, table.slice_host_vocabulary_size) == (30, 40)
        assert table.slice_ssd_vocabulary_size == 0 and table.rank_size == 1 and table.padding_keys_mask is False
        assert table.key_dtype is tf.int64 and table.is_grad is False
        assert table.multi_lookup_times == {True: 0, False: 0}
        lookup(table, tf.constant([1], tf.int64))
        assert table.is_grad is True and table.multi_lookup_times == {True: 1, False: 0}
        assert table.get_default_lookup_name() == "sparse_lookup_1"


class TestDenseNames:
    """Names of dense variables: sheet 5.3 and 12, from the genuine file's logic."""

    def _names(self, saver):
        return sorted(variable.op.name for variable in saver._var_list)

    def _train(self, dense_first, name="LazyAdam"):
        from mx_rec.optimizers.lazy_adam import create_hash_optimizer
        start()
        table = make_table(initializer=CONSTANT(0.5))
        weight = tf.compat.v1.get_variable("w", [3], initializer=CONSTANT(1.0))
        loss = tf.reduce_sum(lookup(table, tf.constant([1, 2], tf.int64)) * weight)
        dense = tf.compat.v1.train.AdamOptimizer(0.1)
        sparse = create_hash_optimizer(0.1, name=name)
        updates = [lambda: dense.apply_gradients(dense.compute_gradients(loss, [weight])),
                   lambda: sparse.apply_gradients(zip(tf.gradients(loss, [table.variable]), [table.variable]))]
        train = tf.group(*[make() for make in (updates if dense_first else updates[::-1])])
        return table, train

    @pytest.mark.parametrize("dense_first", [True, False])
    def test_lazy_adams_powers_stand_beside_those_of_a_dense_adam(self, sdk, dense_first):
        self._train(dense_first)
        assert self._names(tf.compat.v1.train.Saver()) == [
            "beta1_power", "beta1_power_1", "beta2_power", "beta2_power_1", "global_step", "w", "w/Adam", "w/Adam_1"]

    def test_states_carry_the_number_of_the_optimizer_and_folders_its_type(self, sdk):
        from mx_rec.optimizers.base import CustomizedOptimizer
        CustomizedOptimizer.name_counter.clear()
        table, _ = self._train(True, name="Mine")
        assert sorted(table.states()) == ["LazyAdam_momentum", "LazyAdam_velocity", "embedding"]
        assert table.states()["LazyAdam_momentum"].variable.op.name == "t/Mine_0/momentum"

    def test_a_checkpoint_with_the_sdks_names_is_trained_on(self, sdk, tmp_path):
        from tests.rec_sdk_cpu.tools import write_sparse
        # As the device writes it: the dense file with the SDK's names, by stock TensorFlow, and the table's folder.
        with tf.Graph().as_default():
            values = {"beta1_power": 0.9 ** 3, "beta2_power": 0.999 ** 3, "beta1_power_1": 0.9 ** 3,
                      "beta2_power_1": 0.999 ** 3, "w": [2.0, 2.0, 2.0], "w/Adam": [0.1] * 3, "w/Adam_1": [0.2] * 3}
            variables = [tf.compat.v1.get_variable("global_step", initializer=tf.constant(2, tf.int64))] + [
                tf.compat.v1.get_variable(name, initializer=tf.constant(value, tf.float32))
                for name, value in sorted(values.items())]
            sdk.uninstall()
            saver = tf.compat.v1.train.Saver(variables)
            with tf.compat.v1.Session() as sess:
                sess.run(tf.compat.v1.global_variables_initializer())
                path = saver.save(sess, str(tmp_path / "model.ckpt"), global_step=2)
            sdk.install()
        rows = np.full([2, 3], 0.25, np.float32)
        write_sparse(str(tmp_path / "sparse-model.ckpt-2"), "t", [1, 2], rows,
                     {"LazyAdam_momentum": 0 * rows, "LazyAdam_velocity": 0 * rows + 1})
        table, train = self._train(True)
        saver = tf.compat.v1.train.Saver()
        with tf.compat.v1.Session() as sess:
            sess.run(tf.compat.v1.global_variables_initializer())
            saver.restore(sess, path)
            sess.run(train)
            # m = 0.1 g, v = 0.999 + 0.001 g^2 with g = w = 2; the powers are those of the third step.
            rate = 0.1 * np.sqrt(1 - 0.999 ** 3) / (1 - 0.9 ** 3)
            wanted = 0.25 - rate * 0.2 / (np.sqrt(0.999 + 0.004) + 1e-8)
            index = dict(zip(*[part.tolist() for part in sess.run(table.exported)]))
            np.testing.assert_allclose(sess.run(table.variable)[[index[1], index[2]]], wanted, rtol=1e-5)


class TestWarnings:
    """Passed by the SDK's checks: one warning says what later code or the device does with it."""

    def _told(self, caplog, call):
        with caplog.at_level(logging.WARNING, "rec_sdk_cpu"):
            for _ in range(2):
                result = call()
        assert len(caplog.records) == 1, caplog.text
        return result, caplog.text

    @pytest.mark.parametrize("given", ["int64", np.int64])
    def test_key_dtypes_that_equal_tensorflows(self, sdk, caplog, given):
        start()
        names = iter("ab")
        _, text = self._told(caplog, lambda: _table(next(names), key_dtype=given))
        assert "pass tf.int64" in text

    def test_value_dtype_by_name(self, sdk, caplog):
        start()
        names = iter("ab")
        _, text = self._told(caplog, lambda: _table(next(names), value_dtype="float32"))
        assert "pass tf.float32" in text

    def test_a_newline_behind_a_table_name_is_dropped(self, sdk, caplog):
        start()
        with caplog.at_level(logging.WARNING, "rec_sdk_cpu"):
            assert _table("a\n").table_name == "a"
        assert "becomes 'a'" in caplog.text

    def test_a_table_named_underscore_lives_in_a_scope_only(self, sdk, caplog):
        start()
        with tf.compat.v1.variable_scope("mlp"), caplog.at_level(logging.WARNING, "rec_sdk_cpu"):
            assert _table("_").variable.op.name == "mlp/_"
        assert "outside a variable scope" in caplog.text

    def test_dots_alone_pass_the_first_check_and_fail_the_next(self, sdk):
        start()
        with pytest.raises(ValueError, match="no letter, digit or underscore"):
            _table("...")

    def test_a_blank_in_the_name_of_a_lookup(self, sdk, caplog):
        start()
        table = make_table()
        ids = tf.constant([1], tf.int64)
        output, text = self._told(caplog, lambda: lookup(table, ids, name="a b"))
        assert output.op.name.startswith("a_b") and "refuses it as the name of a scope" in text

    def test_unknown_keys_of_the_thresholds(self, sdk, caplog):
        start()
        table, ids = make_table(), tf.constant([1], tf.int64)
        _, text = self._told(caplog, lambda: lookup(table, ids, access_and_evict_config={"acces": 2}))
        assert "ignores the keys ['acces']" in text and table.history is None

    def test_an_int_placeholder_as_learning_rate(self, sdk, caplog):
        from mx_rec.optimizers import create_hash_optimizer
        start()
        rate = tf.compat.v1.placeholder(tf.int32, [])
        _, text = self._told(caplog, lambda: create_hash_optimizer(learning_rate=rate))
        assert "its range is not checked" in text
        with pytest.raises(ValueError, match="learning_rate"):
            create_hash_optimizer(learning_rate=tf.constant(1))

    def test_distribute_and_npu_config_proto_take_anything(self, sdk, caplog):
        from npu_bridge.npu_init import NPURunConfig, npu_config_proto
        config, text = self._told(caplog, lambda: NPURunConfig(distribute=3))
        assert config.train_distribute is None and "ParameterServerStrategy" in text
        caplog.clear()
        proto, text = self._told(caplog, lambda: npu_config_proto("x"))
        assert proto.graph_options.rewrite_options.custom_optimizers[0].name == "NpuOptimizer" and "a new one" in text


def _table(name, **arguments):
    from mx_rec.core import create_table
    return create_table(**dict({"key_dtype": tf.int64, "dim": 4, "name": name, "emb_initializer": CONSTANT(0.1)},
                               **arguments))


class TestRefusals:
    """Refused by the SDK, whether or not it would matter on a CPU."""

    def test_disks_below_a_link_or_with_dots(self, sdk, tmp_path):
        start()
        (tmp_path / "real" / "a..b").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "real")
        (tmp_path / "real" / "in").mkdir()
        for path, text in (("link/in", "symbolic link"), ("real/a..b", "contains '..'"), ("none", "not an existing")):
            with pytest.raises(ValueError, match=text):
                _table("t", host_vocabulary_size=9, ssd_vocabulary_size=9, ssd_data_path=[str(tmp_path / path)])
        assert _table("t", host_vocabulary_size=9, ssd_vocabulary_size=9, ssd_data_path=[str(tmp_path / "real" / "in")])

    def test_merging_takes_a_shape_as_dim(self, sdk):
        start(use_dynamic_expansion=True)
        with pytest.raises(AttributeError, match="num_elements"):
            _table("t", enable_merge=True)
        assert _table("t", enable_merge=True, dim=tf.TensorShape([4])).emb_size == 4

    @pytest.mark.parametrize("name", ["save_checkpoint_due_time", "save_delta_checkpoints_secs",
                                      "restore_model_version"])
    def test_none_is_no_number_of_init(self, sdk, name):
        with pytest.raises(ValueError, match=name):
            start(**{name: None})

    @pytest.mark.parametrize("name", [
        "enable_data_pre_proc", "hcom_parallel", "is_tailing_optimization", "enable_small_channel",
        "enable_compress_weight", "hcom_multi_mode", "deterministic", "event_sync_timeout", "external_weight",
        "variable_placement", "device_type"])
    def test_none_for_options_that_the_estimator_writes(self, sdk, tmp_path, name):
        from npu_bridge.npu_init import NPUEstimator, NPURunConfig
        with pytest.raises(TypeError, match=name):
            NPUEstimator(lambda features: None, str(tmp_path), NPURunConfig(**{name: None}))


class TestOps:
    def test_set_threshold_changes_and_stops_the_counting(self, sdk):
        from mx_rec.constants.constants import LIBREC_CPU_SO
        from mx_rec.util import import_host_pipeline_ops
        start()
        ops, ids, value = import_host_pipeline_ops(LIBREC_CPU_SO), ids_placeholder(), tf.compat.v1.placeholder(tf.int32)
        change = ops.set_threshold(value, emb_name="t")
        table = make_table(initializer=CONSTANT(1.0))
        rows = lookup(table, ids, access_and_evict_config={"access_threshold": 5})
        sess = session()

        def admitted(batch):
            return sess.run(rows, {ids: batch})[:, 0].tolist()

        assert admitted([3, 3]) == [0.0, 0.0]
        assert sess.run(change, {value: 0}) == 0
        assert admitted([3, 3, 3, 3]) == [0.0] * 4
        sess.run(change, {value: 3})
        assert admitted([3, 4]) == [1.0, 0.0]
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be >= 0"):
            sess.run(change, {value: -1})

    def test_a_threshold_for_all_tables(self, sdk):
        from mx_rec.util import import_host_pipeline_ops
        start()
        change = import_host_pipeline_ops("libasc_ops.so").set_threshold(tf.constant(1, tf.int32))
        rows = lookup(make_table(initializer=CONSTANT(1.0)), tf.constant([8], tf.int64),
                      access_and_evict_config={"access_threshold": 100})
        sess = session()
        assert not sess.run(rows).any()
        sess.run(change)
        assert sess.run(rows).all()

    def test_channels(self, sdk):
        from mx_rec.core.asc import FeatureSpec, get_asc_insert_func
        from mx_rec.util import ConfigInitializer, import_host_pipeline_ops
        start()
        parameters = ConfigInitializer.get_instance().train_params_config
        assert parameters.get_training_mode_channel_id(True) is None
        for is_training in (True, False):
            get_asc_insert_func(FeatureSpec("f"), is_training=is_training)({"f": tf.constant([1], tf.int64)})
        channels = [parameters.get_training_mode_channel_id(mode) for mode in (True, False)]
        assert channels == [0, 1]
        ops = import_host_pipeline_ops("librecsdk_tf_rec_v1_cpu_ops.so")
        session().run([ops.clear_channel(channel) for channel in channels])
        with pytest.raises(ValueError, match="channel_id"):
            ops.clear_channel(2)


def test_enums_are_found_by_value(sdk):
    from mx_rec.constants.constants import All2allGradientsOp, BaseEnum

    class Mode(BaseEnum):
        TRAIN = "train"

    class Other(BaseEnum):
        ALSO = "train"

    assert Mode.mapping("train") is Mode.TRAIN is Mode.mapping(Other.ALSO)
    with pytest.raises(KeyError, match="Mode has no member of value 'x'"):
        Mode.mapping("x")
    assert All2allGradientsOp.mapping("sum_gradients") is All2allGradientsOp.SUM_GRADIENTS


def test_files_are_checked_as_the_sdk_checks_them(sdk, tmp_path):
    from mx_rec.saver.patch import validate_save_path
    from mx_rec.saver.saver import validate_read_file
    good = tmp_path / "vocabulary.pkl"
    good.write_bytes(b"x")
    good.chmod(0o640)
    validate_read_file(str(good))
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "empty").write_bytes(b"")
    for path, text in (("link", "soft link"), ("empty", "file size 0")):
        with pytest.raises(ValueError, match=text):
            validate_read_file(str(tmp_path / path))
    good.chmod(0o666)
    with pytest.raises(ValueError, match="chmod go-w"):
        validate_read_file(str(good))
    validate_save_path(str(tmp_path / "new"))
    for bad in (str(tmp_path / "link"), "", 3):
        with pytest.raises(ValueError, match="save_path"):
            validate_save_path(bad)


def test_dropout_of_an_int_one_keeps_everything(sdk):
    from npu_bridge.npu_init import npu_ops
    x = tf.ones([4, 3])
    assert npu_ops.dropout(x, 1) is x and npu_ops.dropout(x, 1.0) is x
