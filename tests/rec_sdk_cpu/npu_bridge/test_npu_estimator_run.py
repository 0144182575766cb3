"""NPUEstimator at work on a tiny model: train, evaluate, predict, export, hooks (npu_bridge_api 2.2-2.6)."""
import inspect
import os
import sys

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.npu_bridge_modules.export_patch import patched_export_all_saved_models
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_hook
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import NPURunConfig
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_estimator import NPUEstimator, NPUEstimatorSpec
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.npu_init import npu_hooks_append

TRAIN, EVAL = tf.estimator.ModeKeys.TRAIN, tf.estimator.ModeKeys.EVAL


class Marker(tf.estimator.SessionRunHook):
    """A hook of the user's."""


def estimator_of(model_fn, tmp_path, **kwargs):
    return NPUEstimator(model_fn, model_dir=str(tmp_path / "model"), config=NPURunConfig(**kwargs))


def spec_of(estimator, input_fn, mode):
    """The spec that TensorFlow gets from the wrapped model_fn; nothing is run."""
    with tf.Graph().as_default():
        tf.compat.v1.train.create_global_step()
        features, labels = tf.compat.v1.data.make_one_shot_iterator(input_fn()).get_next()
        return estimator._call_model_fn(features, labels, mode, estimator.config)


def kinds(hooks):
    return [type(hook) for hook in hooks]


def test_train_evaluate_predict_export(tmp_path, linear):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, save_checkpoints_steps=20, log_step_count_steps=None)
    assert estimator.train(input_fn, max_steps=60) is estimator
    metrics = estimator.evaluate(input_fn, steps=2)
    assert metrics["global_step"] == 60 and metrics["loss"] < 1e-3 and metrics["mae"] < 0.05
    rows = list(estimator.predict(lambda: tf.data.Dataset.from_tensors({"x": [[10.0]]})))
    np.testing.assert_allclose(rows[0]["y"], [20.0], atol=0.3)
    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn({"x": tf.constant([[1.0]])})
    path = estimator.export_saved_model(str(tmp_path / "export"), receiver).decode()
    assert os.path.dirname(path) == str(tmp_path / "export")
    assert os.path.exists(os.path.join(path, "saved_model.pb"))


def test_train_and_evaluate_and_add_metrics(tmp_path, linear):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, save_checkpoints_steps=10)
    augmented = tf.estimator.add_metrics(estimator, lambda labels: {"mean": tf.compat.v1.metrics.mean(labels)})
    assert type(augmented) is not NPUEstimator
    metrics, _ = tf.estimator.train_and_evaluate(
        estimator, tf.estimator.TrainSpec(input_fn, max_steps=20),
        tf.estimator.EvalSpec(input_fn, steps=1, throttle_secs=0))
    assert metrics["global_step"] == 20
    assert augmented.evaluate(input_fn, steps=2)["mean"] == 5.0


def test_without_saving_train_and_evaluate_raises_as_on_a_rank_that_does_not_save(tmp_path, linear):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, save_checkpoints_steps=0)
    with pytest.raises(ValueError, match="There should be a CheckpointSaverHook to use saving_listeners"):
        tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(input_fn, max_steps=2),
                                        tf.estimator.EvalSpec(input_fn, steps=1, throttle_secs=0))


def test_public_methods_have_tensorflows_signatures():
    for name in ("train", "evaluate", "predict", "export_saved_model", "export_savedmodel"):
        assert inspect.signature(getattr(NPUEstimator, name)) == inspect.signature(
            getattr(tf.compat.v1.estimator.Estimator, name))


@pytest.mark.parametrize("keep, kept", [(2, 2), (5, 4)])
def test_keep_checkpoint_max_counts(tmp_path, linear, keep, kept):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, save_checkpoints_steps=2, keep_checkpoint_max=keep)
    estimator.train(input_fn, max_steps=6)
    assert len([name for name in os.listdir(estimator.model_dir) if name.endswith(".index")]) == kept


def test_0_steps_save_nothing(tmp_path, linear):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, save_checkpoints_steps=0)
    estimator.train(input_fn, max_steps=3)
    assert tf.train.latest_checkpoint(estimator.model_dir) is None


def test_saver_goes_through_tensorflows_saver(tmp_path, linear, monkeypatch):
    model_fn, input_fn = linear
    called = []
    for name in ("__init__", "build", "save"):
        original = getattr(tf.compat.v1.train.Saver, name)

        def recorded(self, *args, _name=name, _original=original, **kwargs):
            called.append((_name, type(self)))
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(tf.compat.v1.train.Saver, name, recorded)
    estimator_of(model_fn, tmp_path, save_checkpoints_steps=2).train(input_fn, max_steps=2)
    for name in ("__init__", "build", "save"):
        assert (name, npu_hook.NPUSaver) in called


def test_saver_is_unsharded_covers_slots_and_is_not_the_scaffolds(tmp_path, linear):
    _, input_fn = linear

    def model_fn(features, labels):
        weight = tf.compat.v1.get_variable("weight", [1, 1])
        loss = tf.reduce_sum(tf.matmul(features["x"], weight))
        train_op = tf.compat.v1.train.AdamOptimizer().minimize(loss, tf.compat.v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(TRAIN, loss=loss, train_op=train_op)

    spec = spec_of(estimator_of(model_fn, tmp_path), input_fn, TRAIN)
    saver = spec.training_hooks[0]._saver
    assert spec.scaffold.saver is None and not saver._sharded and saver._is_built
    assert {variable.op.name for variable in saver._var_list} >= {"weight", "weight/Adam", "global_step"}


def test_hook_order_with_everything_on(tmp_path, linear, monkeypatch):
    model_fn, input_fn = linear
    monkeypatch.setenv("RANK_SIZE", "2")

    def npu_model_fn(features, labels, mode, params):
        spec = model_fn(features, labels, mode, params)
        return NPUEstimatorSpec(mode, loss=spec.loss, train_op=spec.train_op, training_hooks=[Marker()],
                                evaluation_hooks=[Marker()],
                               host_call=(lambda loss: tf.identity(loss), [spec.loss]))

    estimator = estimator_of(npu_model_fn, tmp_path, iterations_per_loop=5)
    spec = spec_of(estimator, input_fn, TRAIN)
    assert kinds(spec.training_hooks) == [
        npu_hook.NPUBroadcastGlobalVariablesHook, npu_hook.NPUCheckpointSaverHook,
        npu_hook.NPUInfeedOutfeedSessionHook, npu_hook.NPULogOutfeedSessionHook, npu_hook.SetIterationsVarHook, Marker]
    assert spec.train_op.name == "IterationOp"
    assert spec.training_hooks[3]._output_stream is sys.stderr
    assert kinds(spec_of(estimator, input_fn, EVAL).evaluation_hooks) == [
        npu_hook.NPUInfeedOutfeedSessionHook, npu_hook.NPULogOutfeedSessionHook, Marker]


@pytest.mark.parametrize("kwargs, rank_size, expected", [
    ({}, "1", [npu_hook.NPUCheckpointSaverHook]),
    ({"save_checkpoints_steps": 0}, "1", []),
    ({}, "2", [npu_hook.NPUBroadcastGlobalVariablesHook, npu_hook.NPUCheckpointSaverHook]),
    ({"horovod_mode": True}, "2", [npu_hook.NPUCheckpointSaverHook]),
    ({"save_checkpoints_secs": 60}, "1", [npu_hook.NPUCheckpointSaverHook]),
])
def test_hooks_of_a_plain_spec(tmp_path, linear, monkeypatch, kwargs, rank_size, expected):
    model_fn, input_fn = linear
    monkeypatch.setenv("RANK_SIZE", rank_size)
    estimator = estimator_of(model_fn, tmp_path, **kwargs)
    spec = spec_of(estimator, input_fn, TRAIN)
    assert kinds(spec.training_hooks) == expected
    assert spec.train_op.name != "IterationOp"
    assert kinds(spec_of(estimator, input_fn, EVAL).evaluation_hooks) == []


def test_spec_without_host_call_still_gets_the_log_hook(tmp_path, linear):
    model_fn, input_fn = linear

    def npu_model_fn(features, labels, mode, params):
        spec = model_fn(features, labels, mode, params)
        return NPUEstimatorSpec(mode, loss=spec.loss, train_op=spec.train_op)

    estimator = estimator_of(npu_model_fn, tmp_path)
    assert kinds(spec_of(estimator, input_fn, TRAIN).training_hooks) == [
        npu_hook.NPUCheckpointSaverHook, npu_hook.NPULogOutfeedSessionHook]
    assert kinds(spec_of(estimator, input_fn, EVAL).evaluation_hooks) == [npu_hook.NPULogOutfeedSessionHook]


def test_hooks_of_the_call_come_before_the_injected_ones(tmp_path, linear):
    model_fn, input_fn = linear
    begun = []

    class Recorder(tf.estimator.SessionRunHook):
        def begin(self):
            begun.append("call")

    class Saving(npu_hook.NPUCheckpointSaverHook):
        def begin(self):
            begun.append("saver")
            super().begin()

    original = npu_hook.NPUCheckpointSaverHook
    npu_hook.NPUCheckpointSaverHook = Saving
    try:
        estimator_of(model_fn, tmp_path).train(input_fn, hooks=[Recorder()], steps=1)
    finally:
        npu_hook.NPUCheckpointSaverHook = original
    assert begun == ["call", "saver"]


@pytest.mark.parametrize("mode", [TRAIN, EVAL])
def test_other_spec_types_are_refused(tmp_path, linear, mode):
    estimator = estimator_of(lambda features: {"loss": 1}, tmp_path)
    with pytest.raises(RuntimeError, match="EstimatorSpec"):
        spec_of(estimator, linear[1], mode)


def test_model_fn_gets_only_what_it_declares(tmp_path, linear):
    seen = []

    def model_fn(features, config):
        seen.append(config)
        return tf.estimator.EstimatorSpec("infer", predictions={"y": features["x"]})

    estimator = estimator_of(model_fn, tmp_path)
    spec_of(estimator, linear[1], "infer")
    assert len(seen) == 1 and isinstance(seen[0], NPURunConfig)
    assert seen[0].model_dir == estimator.model_dir and seen[0].iterations_per_loop == 1


def test_host_call_runs_with_each_step(tmp_path, linear):
    model_fn, input_fn = linear
    values = []

    def npu_model_fn(features, labels, mode, params):
        spec = model_fn(features, labels, mode, params)
        return NPUEstimatorSpec(mode, loss=spec.loss, train_op=spec.train_op, host_call=(
            lambda loss: tf.compat.v1.py_func(values.append, [loss], [], stateful=True), {"loss": spec.loss}))

    estimator_of(npu_model_fn, tmp_path).train(input_fn, steps=3)
    assert len(values) == 3 and values[0] > values[-1]


@pytest.mark.parametrize("host_call, error", [
    (lambda: 0, ValueError), ((1, 2, 3), ValueError), ((1, []), TypeError), ((lambda a: a, "x"), ValueError),
    ((lambda a: a, []), RuntimeError), ((lambda a: a, [1, 2]), RuntimeError),
])
def test_host_call_refused(host_call, error):
    with pytest.raises(error, match="host_call"):
        NPUEstimatorSpec(TRAIN, loss=tf.constant(1.0), train_op=tf.no_op(), host_call=host_call)


@pytest.mark.parametrize("host_call", [(lambda a: a, [1]), [lambda a: a, (1,)], (lambda a: a, {"a": 1}),
                                       (lambda *a: a, [1, 2]), None])
def test_host_call_accepted(host_call):
    spec = NPUEstimatorSpec(TRAIN, loss=tf.constant(1.0), train_op=tf.no_op(), host_call=host_call)
    assert spec.host_call is host_call


def test_estimator_specs_own_checks_apply():
    with pytest.raises(ValueError, match="loss"):
        NPUEstimatorSpec(TRAIN, train_op=tf.no_op())


def test_device_loop_on_a_cpu_makes_single_steps(tmp_path, linear):
    model_fn, input_fn = linear
    runs = []

    class Counter(tf.estimator.SessionRunHook):
        def after_run(self, run_context, run_values):
            runs.append(1)

    estimator = estimator_of(model_fn, tmp_path, iterations_per_loop=5, save_checkpoints_steps=10)
    estimator.train(input_fn, hooks=[Counter()], max_steps=30)
    assert len(runs) == 30
    names = {name for name, _ in tf.train.list_variables(estimator.model_dir)}
    assert not any(name.startswith("npu_runconfig") for name in names)


@pytest.mark.parametrize("kwargs", [{"steps": 7}, {"max_steps": 12}])
def test_steps_must_be_multiples_of_the_loop(tmp_path, linear, kwargs):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, iterations_per_loop=5)
    with pytest.raises(ValueError, match="multiple of iterations_per_loop=5"):
        estimator.train(input_fn, **kwargs)


def test_device_loop_needs_a_dataset(tmp_path, linear):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, iterations_per_loop=5)
    with pytest.raises(ValueError, match=r"must return a tf\.data\.Dataset"):
        estimator.train(lambda: tf.compat.v1.data.make_one_shot_iterator(input_fn()).get_next(), steps=5)
    estimator_of(model_fn, tmp_path).train(
        lambda: tf.compat.v1.data.make_one_shot_iterator(input_fn()).get_next(), steps=1)


def test_device_loop_refuses_strings(tmp_path, linear):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path, iterations_per_loop=5)
    with pytest.raises(ValueError, match="strings"):
        estimator.train(lambda: input_fn().map(lambda x, y: (dict(x, s=tf.constant(["a"])), y)), steps=5)


def test_set_iterations_hook_makes_and_sets_local_resource_variables():
    hook = npu_hook.SetIterationsVarHook(4)
    hook.begin()
    variables = tf.compat.v1.local_variables()
    assert {variable.op.name for variable in variables} == {
        "npu_runconfig/" + name for name in ("iterations_per_loop", "loop_cond", "zero", "one")}
    assert {(variable.dtype, variable.op.type) for variable in variables} == {(tf.int64, "VarHandleOp")}
    assert tf.compat.v1.global_variables() == []
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.local_variables_initializer())
        hook.after_create_session(session, None)
        values = {variable.op.name.split("/")[1]: value for variable, value in zip(variables, session.run(variables))}
    assert values == {"iterations_per_loop": 4, "loop_cond": 0, "zero": 0, "one": 1}


def test_broadcast_hook_does_nothing_on_one_rank_and_refuses_two(linear, tmp_path, monkeypatch):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path)
    estimator.train(input_fn, hooks=npu_hooks_append([]), steps=1)
    monkeypatch.setenv("RANK_SIZE", "2")
    with pytest.raises(RuntimeError, match="one rank"):
        estimator.train(input_fn, hooks=npu_hooks_append([]), steps=1)


def test_patched_export_writes_straight_into_the_directory(tmp_path, linear, monkeypatch):
    model_fn, input_fn = linear
    estimator = estimator_of(model_fn, tmp_path)
    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn({"x": tf.constant([[1.0]])})
    monkeypatch.setattr(tf.compat.v1.estimator.Estimator, "_export_all_saved_models", patched_export_all_saved_models)
    target = tmp_path / "serving"
    with pytest.raises(ValueError, match="Couldn't find trained model"):
        estimator.export_saved_model(str(target), receiver)
    estimator.train(input_fn, steps=2)
    extra = tmp_path / "note.txt"
    extra.write_text("x")
    assert estimator.export_saved_model(str(target), receiver, assets_extra={"a/note.txt": str(extra)}) == str(
        target).encode()
    assert (target / "saved_model.pb").exists() and (target / "assets.extra" / "a" / "note.txt").exists()
    with pytest.raises(AssertionError):
        estimator.export_saved_model(str(target), receiver)
    (tmp_path / "empty").mkdir()
    estimator.export_saved_model(str(tmp_path / "empty"), receiver)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        model = tf.compat.v1.saved_model.load(session, ["serve"], str(target))
        signature = model.signature_def["serving_default"]
        result = session.run(signature.outputs["y"].name, {signature.inputs["x"].name: [[2.0]]})
        weight = session.run("weight:0")
    np.testing.assert_allclose(result, 2.0 * weight)
