"""The SDK's rules of use under NPUEstimator: step contract, hooks, if_load, warm start, real Estimator runs."""
import os
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.core import estimator_rules, sparse_files
from tests.rec_sdk_cpu.tools import lookup, make_table, start


def _input_fn():
    data = tf.data.Dataset.from_tensor_slices({"ids": np.arange(40).reshape(10, 4), "label": np.ones([10, 1], "f")})
    return data.repeat(4).batch(2, drop_remainder=True).prefetch(1)


def _model_fn(features, labels, mode, params):
    from mx_rec.optimizers.lazy_adam import create_hash_optimizer
    train = mode == tf.estimator.ModeKeys.TRAIN
    table = make_table(params.get("table", "t"), rows=60)
    score = tf.reduce_sum(lookup(table, features["ids"], is_train=train), axis=[1, 2], keepdims=True)[:, 0]
    score *= tf.compat.v1.get_variable("w", initializer=1.0)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={"score": score})
    loss = tf.reduce_mean(tf.square(score - features["label"]))
    if not train:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    dense = tf.compat.v1.train.GradientDescentOptimizer(0.01)
    pairs = dense.compute_gradients(loss, tf.compat.v1.trainable_variables())
    gradient = tf.gradients(loss, [table.variable])[0]
    updates = [dense.apply_gradients(pairs), create_hash_optimizer(0.01).apply_gradients([(gradient, table.variable)])]
    with tf.control_dependencies(updates):
        step = tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=step)


def _estimator(directory, save_steps=4, **arguments):
    from npu_bridge.npu_init import NPUEstimator, NPURunConfig
    return NPUEstimator(_model_fn, config=NPURunConfig(model_dir=str(directory), save_checkpoints_steps=save_steps),
                        **arguments)


def _hook(**arguments):
    from mx_rec.graph.modifier import GraphModifierHook
    return GraphModifierHook(**arguments)


def _run(directory, eval_steps=3, max_steps=8, save_steps=4):
    estimator = _estimator(directory, save_steps)
    tf.estimator.train_and_evaluate(
        estimator, tf.estimator.TrainSpec(_input_fn, max_steps=max_steps, hooks=[_hook()]),
        tf.estimator.EvalSpec(_input_fn, steps=eval_steps, hooks=[_hook()], throttle_secs=0, start_delay_secs=0))
    return estimator


RIGHT = {"max_steps": 8, "train_steps": 4, "save_steps": 4, "eval_steps": 3}


def test_the_right_numbers_train_and_predict(sdk, tmp_path):
    start(**RIGHT)
    estimator = _run(tmp_path)
    assert sorted(name for name in os.listdir(str(tmp_path)) if name.startswith("sparse")) == [
        "sparse-model.ckpt-0", "sparse-model.ckpt-4", "sparse-model.ckpt-8"]
    assert len(list(estimator.predict(_input_fn, hooks=[_hook()]))) == 40


@pytest.mark.parametrize("change, problem", [
    ({"save_steps": 5, "train_steps": 5}, "saves a checkpoint every 4 steps"),
    ({"save_steps": -1, "train_steps": -1}, "saves a checkpoint every 4 steps"),
    ({"max_steps": 9}, "trains to max_steps=8"), ({"train_steps": 3}, "train_steps == save_steps"),
    ({"eval_steps": 4}, "eval_steps == EvalSpec.steps"), ({"eval_steps": -1}, "eval_steps == EvalSpec.steps")])
def test_numbers_that_would_hang_a_cluster_are_refused(sdk, tmp_path, change, problem):
    start(**dict(RIGHT, **change))
    with pytest.raises(ValueError, match=problem):
        _run(tmp_path)


def test_evaluate_alone_needs_its_number_of_batches(sdk, tmp_path):
    start(**RIGHT)
    estimator = _run(tmp_path)
    with pytest.raises(ValueError, match="eval_steps=3"):
        estimator.evaluate(_input_fn, steps=2, hooks=[_hook()])
    with pytest.raises(ValueError, match="eval_steps=3"):
        estimator.evaluate(_input_fn, hooks=[_hook()])


def test_numbers_without_a_limit_hold_for_train_alone(sdk, tmp_path):
    start(max_steps=-1, save_steps=4)
    _estimator(tmp_path).train(_input_fn, max_steps=4, hooks=[_hook()])


def test_steps_beyond_max_steps_are_refused(sdk, tmp_path):
    start(**RIGHT)
    with pytest.raises(ValueError, match="steps=9"):
        _estimator(tmp_path).train(_input_fn, steps=9, hooks=[_hook()])


def test_without_init_an_estimator_is_not_checked(sdk):
    estimator_rules.check_training(tf.estimator.RunConfig(save_checkpoints_steps=3), None, 5)
    estimator_rules.check_evaluation(7)
    estimator_rules.check_train_and_evaluate(tf.estimator.EvalSpec(_input_fn, steps=3))


def test_a_tensor_lookup_without_any_hook(sdk, tmp_path):
    start(max_steps=4, save_steps=4)
    with pytest.raises(RuntimeError, match="no GraphModifierHook was constructed"):
        _estimator(tmp_path).train(_input_fn, max_steps=4)


def test_a_graph_whose_hooks_lack_the_modifier(sdk, tmp_path):
    start(max_steps=4, save_steps=4)
    _hook()
    with pytest.raises(RuntimeError, match="was not modified"):
        _estimator(tmp_path).train(_input_fn, max_steps=4)


def test_modify_graph_false_does_not_serve_tensor_lookups(sdk, tmp_path):
    start(max_steps=4, save_steps=4)
    with pytest.raises(RuntimeError, match="modify_graph=True"):
        _estimator(tmp_path).train(_input_fn, max_steps=4, hooks=[_hook(modify_graph=False)])


def test_feature_spec_lookups_without_a_started_pipeline(sdk):
    from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
    from mx_rec.core.embedding import sparse_lookup
    start()
    spec, batch = FeatureSpec("f", table_name="t"), {"f": tf.constant([1], tf.int64)}
    get_asc_insert_func(tgt_key_specs=spec)(batch)
    out = sparse_lookup(make_table(), spec, batch=batch)
    with pytest.raises(RuntimeError, match="KeyProcess not running."):
        tf.compat.v1.train.MonitoredSession()
    with tf.compat.v1.train.MonitoredSession(hooks=[_hook(modify_graph=False)]) as session:
        assert session.run(out).shape == (1, 3)


def test_lookups_must_be_merged_before_the_graph_is_modified(sdk):
    from mx_rec.graph.merge_lookup import do_merge_lookup
    from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
    start()
    lookup(make_table(), tf.constant([1], tf.int64))
    with pytest.raises(RuntimeError, match="do_merge_lookup"):
        modify_graph_and_start_emb_cache()
    do_merge_lookup(is_train=True)
    modify_graph_and_start_emb_cache()
    with pytest.raises(RuntimeError, match="Cannot build new sparse forward graph"):
        lookup(next(iter(_tables())), tf.constant([1], tf.int64))


def _tables():
    from rec_sdk_cpu.core import graph_state
    return graph_state.of().tables.values()


def test_get_initializer_and_target_batch_are_the_iterators_own(sdk):
    from mx_rec.graph.merge_lookup import do_merge_lookup
    from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
    from mx_rec.util.initialize import ConfigInitializer
    start()
    data = tf.data.Dataset.from_tensor_slices({"ids": np.arange(6), "label": np.arange(6)}).batch(2).prefetch(1)
    iterator = tf.compat.v1.data.make_initializable_iterator(data)
    batch = iterator.get_next()
    out = lookup(make_table(), batch["ids"])
    do_merge_lookup()
    modify_graph_and_start_emb_cache()
    parameters = ConfigInitializer.get_instance().train_params_config
    initializer = parameters.get_initializer(True)
    assert initializer is iterator.initializer and parameters.get_initializer(False) is None
    assert parameters.get_target_batch(True) is batch
    with tf.compat.v1.Session() as session:
        session.run([tf.compat.v1.global_variables_initializer(), initializer])
        assert session.run(out).shape == (2, 3)


@pytest.mark.parametrize("make", [lambda hooks: hooks.LookupSubgraphSlicerHook(["StringToNumber"]),
                                  lambda hooks: hooks.OrphanLookupKeySlicerHook()])
def test_slicer_hooks_come_before_graph_modifier_hook(sdk, make):
    import mx_rec.graph.hooks as hooks
    start()
    lookup(make_table(), tf.constant([1], tf.int64), is_train=False)
    slicer = make(hooks)
    slicer.begin()
    _hook().begin()
    with pytest.raises(RuntimeError, match="must come before GraphModifierHook"):
        slicer.begin()


@pytest.mark.parametrize("op_types", [[], "StringToNumber", [1], None])
def test_slicer_hook_checks_its_op_types(sdk, op_types):
    from mx_rec.graph.hooks import LookupSubgraphSlicerHook
    start()
    with pytest.raises(ValueError, match="op_types"):
        LookupSubgraphSlicerHook(op_types)


def test_if_load_without_a_checkpoint_is_refused_and_with_one_it_trains(sdk, tmp_path):
    from rec_sdk_cpu.core import config
    start(max_steps=4, save_steps=4, if_load=True)
    with pytest.raises(RuntimeError, match="if_load=True"):
        _estimator(tmp_path).train(_input_fn, max_steps=4, hooks=[_hook()])
    config.reset()
    start(max_steps=4, save_steps=4)
    _estimator(tmp_path / "b").train(_input_fn, max_steps=4, hooks=[_hook()])
    config.reset()
    start(max_steps=8, save_steps=4, if_load=True)
    _estimator(tmp_path / "b").train(_input_fn, max_steps=8, hooks=[_hook()])


_SOURCE = []


def _source(directory):
    """Puts a trained model into a directory, {id: row} of its table; trained once for all tests."""
    from rec_sdk_cpu.core import config
    if not _SOURCE:
        _SOURCE.append(tempfile.TemporaryDirectory())
        start(max_steps=4, save_steps=4)
        _estimator(_SOURCE[0].name + "/model").train(_input_fn, max_steps=4, hooks=[_hook()])
        config.reset()
    shutil.copytree(_SOURCE[0].name + "/model", str(directory))
    # Paths in the state file are absolute.
    state = directory / "checkpoint"
    state.write_text(state.read_text().replace(_SOURCE[0].name + "/model", str(directory)))
    start(max_steps=4, save_steps=4)
    return dict(zip(*_rows(directory, 4)))


def _rows(directory, step, table="t"):
    keys, rows = sparse_files.read_table(str(directory / ("sparse-model.ckpt-%d" % step)), table)
    return keys.tolist(), [row.tolist() for row in rows]


@pytest.mark.parametrize("names, loaded", [
    (None, True), ("t", True), (["w", "t"], True), (["w"], False)] + [
        pytest.param(names, loaded, marks=pytest.mark.long) for names, loaded in (
            (".*", True), (["t"], True), ("w", False))])
def test_warm_start_loads_the_tables_that_are_named(sdk, tmp_path, names, loaded):
    expected = _source(tmp_path / "a")
    settings = str(tmp_path / "a") if names is None else tf.estimator.WarmStartSettings(str(tmp_path / "a"), names)
    estimator = _estimator(tmp_path / "b", warm_start_from=settings)
    estimator.train(_input_fn, max_steps=4, hooks=[_hook()])
    keys, rows = _rows(tmp_path / "b", 0)
    assert dict(zip(keys, rows)) == (expected if loaded else {})


def test_warm_start_from_several_checkpoints(sdk, tmp_path):
    expected = _source(tmp_path / "a")
    settings = tf.estimator.WarmStartSettings([str(tmp_path / "a"), str(tmp_path / "a")], [["w"], ["t"]],
                                              var_name_to_prev_var_name=[None, None])
    _estimator(tmp_path / "b", warm_start_from=settings).train(_input_fn, max_steps=4, hooks=[_hook()])
    assert dict(zip(*_rows(tmp_path / "b", 0))) == expected


def test_a_checkpoint_of_the_run_itself_comes_before_the_warm_start(sdk, tmp_path):
    from rec_sdk_cpu.core import config
    _source(tmp_path / "a")
    for steps in (4, 8):
        config.reset()
        start(max_steps=steps, save_steps=4)
        _estimator(tmp_path / "b", warm_start_from=str(tmp_path / "a")).train(_input_fn, max_steps=steps,
                                                                             hooks=[_hook()])
    first, second = dict(zip(*_rows(tmp_path / "b", 4))), dict(zip(*_rows(tmp_path / "b", 8)))
    assert sorted(first) == sorted(second) and first != second
    start_values = dict(zip(*_rows(tmp_path / "a", 4)))
    distance = [np.abs(np.subtract(values[0], start_values[0])).max() for values in (first, second)]
    assert distance[1] > distance[0]


@pytest.mark.parametrize("hooks", [None, ()])
def test_warm_start_needs_a_mutable_list_of_hooks(sdk, tmp_path, hooks):
    _source(tmp_path / "a")
    with pytest.raises(ValueError, match="a list"):
        _estimator(tmp_path / "b", warm_start_from=str(tmp_path / "a")).train(_input_fn, max_steps=4, hooks=hooks)


def test_warm_start_is_not_for_dynamic_expansion(sdk):
    start(use_dynamic_expansion=True)
    make_table()
    with pytest.raises(ValueError, match="not supported with dynamic expansion"):
        estimator_rules.prepare_warm_start("anything", ".*")
