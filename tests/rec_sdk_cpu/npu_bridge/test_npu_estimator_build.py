"""NPUEstimator's construction (npu_bridge_api 2.1) and what the device refuses only then (1.3, 1.4)."""
import json
import os
import re

import pytest
import tensorflow as tf

from feature_specs.files import PROJECT
from rec_sdk_cpu.npu_bridge_modules.npu_bridge import npu_init
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import (
    DumpConfig,
    DynamicInputConfig,
    ExperimentalConfig,
    GraphMemoryOptimizeConfig,
    MemoryConfig,
    NPURunConfig,
    ProfilingConfig,
)
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_estimator import NPUEstimator

_PATH = os.path.join(PROJECT, "rec_sdk_cpu", "contracts",
                     "npu_bridge.json")
with open(_PATH) as stream:
    CONTRACT = json.load(stream)


def model_fn(features, labels, mode):
    raise AssertionError("not called here")


def build(tmp_path, function=model_fn, **kwargs):
    params = kwargs.pop("params", None)
    return NPUEstimator(function, model_dir=str(tmp_path), config=NPURunConfig(**kwargs), params=params)


def rewrite(config):
    return config.session_config.graph_options.rewrite_options


def parameter_map(config):
    entry = rewrite(config).custom_optimizers[0]
    values = {}
    for key, value in entry.parameter_map.items():
        field = value.WhichOneof("value")
        content = getattr(value, field)
        values[key] = [field, content.decode() if field == "s" else content]
    return values


@pytest.mark.parametrize("config", [None, tf.compat.v1.estimator.RunConfig(), {}])
def test_config_must_be_an_npu_run_config(config):
    with pytest.raises(ValueError, match="`config` must be provided with type `NPUConfigs`"):
        NPUEstimator(model_fn, config=config)


def test_model_fn_needs_an_argument_named_features(tmp_path):
    with pytest.raises(ValueError, match="features"):
        build(tmp_path, lambda x, labels, mode: None)
    with pytest.raises(ValueError, match="model_fn"):
        build(tmp_path, None)


def test_params_need_a_model_fn_that_takes_them(tmp_path):
    with pytest.raises(ValueError, match="params"):
        build(tmp_path, params={"a": 1})
    build(tmp_path, params={})


def test_params_are_copied_and_may_be_any_object(tmp_path):
    class Namespace:
        rate = [1]

    given = Namespace()
    given.rate = [2]
    estimator = build(tmp_path, lambda features, params: None, params=given)
    assert estimator.params is not given and estimator.params.rate == [2]


def test_defaults_emit_what_the_contract_records(tmp_path):
    expected = CONTRACT["emitted_with_all_defaults"]["2026-07"]
    config = build(tmp_path).config
    assert list(rewrite(config).optimizers) == expected["optimizers"]
    assert [entry.name for entry in rewrite(config).custom_optimizers] == ["NpuOptimizer"]
    assert parameter_map(config) == expected["parameter_map"]


def test_session_opens_with_the_written_configuration(tmp_path):
    config = build(tmp_path).config
    with tf.compat.v1.Session(config=config.session_config) as session:
        assert session.run(tf.reduce_sum(tf.matmul(tf.ones([2, 2]), tf.ones([2, 2])) + 1.0)) == 12.0


def test_every_part_lands_under_its_key_with_its_field(tmp_path):
    config = build(
        tmp_path, precision_mode="allow_mix_precision", modify_mixlist="l.json", aoe_mode="2", aicore_num="1|1",
        graph_memory_max_size=5, local_rank_id=1, session_device_id=2, hccl_timeout=9, topo_sorting_mode=1,
        insert_op_file=b"f", op_compiler_cache_mode="enable", dynamic_input=True, compile_dynamic_mode=True,
        profiling_config=ProfilingConfig(True), memory_config=MemoryConfig(1, 2, "m", 1),
        dump_config=DumpConfig(True, str(tmp_path), "0|3-5"), dynamic_input_config=DynamicInputConfig("x", "1", 1, 0),
        experimental_config=ExperimentalConfig(
            logical_device_id="0", enable_graph_parallel=True, graph_compiler_cache_dir="c",
            graph_memory_optimize_config=GraphMemoryOptimizeConfig(graph_slice="auto"))).config
    written = parameter_map(config)
    fields = CONTRACT["parameter_map_fields"]["2026-07"]
    assert {key: value[0] for key, value in written.items()} == {key: fields[key] for key in written}
    expected = {"work_path": "./", "profiling_mode": True, "profiling_options": "", "graph_slice": "auto",
                "atomic_clean_policy": 1, "dump_step": "0|3-5", "dump_mode": "output", "compile_hybrid_mode": 0,
                "experimental_logical_device_id": "0", "insert_op_file": "f", "graph_memory_max_size": "5",
                "session_device_id": 2, "enable_dump": True}
    for key, value in expected.items():
        assert written[key][1] == value


def test_both_size_variables_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "1")
    monkeypatch.setenv("CM_WORKER_SIZE", "1")
    with pytest.raises(ValueError, match="RANK_SIZE and CM_WORK_SIZE cannot be configured at the same time"):
        build(tmp_path)


def test_job_and_task_come_from_tf_config(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"task": {"type": "worker", "index": 0}}))
    assert parameter_map(build(tmp_path).config)["job"] == ["s", "worker"]


def test_given_session_config_is_mutated_in_place_and_doubled_when_shared(tmp_path):
    proto = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    config = NPURunConfig(session_config=proto)
    NPUEstimator(model_fn, model_dir=str(tmp_path), config=config)
    assert len(proto.graph_options.rewrite_options.custom_optimizers) == 1
    NPUEstimator(model_fn, model_dir=str(tmp_path), config=config)
    assert [entry.name for entry in proto.graph_options.rewrite_options.custom_optimizers] == ["NpuOptimizer"] * 2
    assert len(proto.graph_options.rewrite_options.optimizers) == 18


def test_proto_of_npu_config_proto_gets_a_second_entry(tmp_path):
    proto = npu_init.npu_config_proto()
    NPUEstimator(model_fn, model_dir=str(tmp_path), config=NPURunConfig(session_config=proto))
    assert len(proto.graph_options.rewrite_options.custom_optimizers) == 2


def test_without_session_config_the_callers_config_stays_untouched(tmp_path):
    config = NPURunConfig()
    first = NPUEstimator(model_fn, model_dir=str(tmp_path), config=config)
    second = NPUEstimator(model_fn, model_dir=str(tmp_path), config=config)
    assert config.session_config is None
    assert len(rewrite(first.config).custom_optimizers) == len(rewrite(second.config).custom_optimizers) == 1
    assert not first.config.session_config.allow_soft_placement


@pytest.mark.parametrize("kwargs", [
    {"op_compiler_cache_mode": True}, {"precision_mode": 5}, {"enable_data_pre_proc": "x"}, {"hcom_parallel": "x"},
    {"local_rank_id": "0"}, {"session_device_id": 1.5}, {"enable_small_channel": "1"}, {"deterministic": "1"},
    {"stream_sync_timeout": None}, {"input_fusion_size": None}, {"frozen_variable": None}, {"insert_op_file": "text"},
])
def test_wrong_types_surface_when_the_estimator_is_built(tmp_path, kwargs):
    NPURunConfig(**kwargs)
    with pytest.raises(TypeError):
        build(tmp_path, **kwargs)


@pytest.mark.parametrize("kwargs", [{"profiling_config": {}}, {"memory_config": {}}])
def test_wrong_classes_surface_as_attribute_errors(tmp_path, kwargs):
    with pytest.raises(AttributeError):
        build(tmp_path, **kwargs)


@pytest.mark.parametrize("kwargs, text", [
    ({"precision_mode": "nonsense"}, "precision_mode must be one of"),
    ({"precision_mode_v2": "nonsense"}, "precision_mode_v2 must be one of"),
    ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, "exclude each other"),
    ({"modify_mixlist": "l.json"}, "mixed-precision"),
    ({"modify_mixlist": "l.json", "precision_mode": "force_fp32"}, "mixed-precision"),
    ({"enable_exception_dump": 7}, "enable_exception_dump"),
    ({"jit_compile": "yes"}, "jit_compile"),
    ({"dump_config": DumpConfig(dump_mode="both")}, "dump_mode"),
    ({"dump_config": DumpConfig(dump_debug_mode="x")}, "dump_debug_mode"),
    ({"dump_config": DumpConfig(dump_data="x")}, "dump_data"),
    ({"dump_config": DumpConfig(True)}, "dump_path"),
    ({"dump_config": DumpConfig(True, "no_such_directory")}, "dump_path"),
    ({"dump_config": DumpConfig(True, ".", enable_dump_debug=True)}, "exclude each other"),
])
def test_what_the_device_refuses_at_session_creation_is_refused_here(tmp_path, kwargs, text):
    NPURunConfig(**kwargs)
    with pytest.raises(ValueError, match=text):
        build(tmp_path, **kwargs)


@pytest.mark.parametrize("mode", ["force_fp32", "allow_fp32_to_fp16", "force_fp16", "must_keep_origin_dtype",
                                  "allow_mix_precision", "cube_fp16in_fp32out", "allow_mix_precision_fp16",
                                  "allow_mix_precision_bf16", "allow_fp32_to_bf16"])
def test_precision_modes(tmp_path, mode):
    assert parameter_map(build(tmp_path, precision_mode=mode).config)["precision_mode"] == ["s", mode]


def test_model_dir_in_both_places_must_agree(tmp_path):
    with pytest.raises(ValueError, match="`model_dir` are set both"):
        NPUEstimator(model_fn, model_dir=str(tmp_path / "a"), config=NPURunConfig(model_dir=str(tmp_path / "b")))
    same = NPUEstimator(model_fn, model_dir=str(tmp_path), config=NPURunConfig(model_dir=str(tmp_path)))
    only = NPUEstimator(model_fn, config=NPURunConfig(model_dir=str(tmp_path)))
    assert same.model_dir == only.model_dir == str(tmp_path)


def test_model_dir_in_no_place_is_a_new_name_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {NPUEstimator(model_fn, config=NPURunConfig()).model_dir for _ in range(2)}
    assert len(names) == 2
    for name in names:
        assert os.path.dirname(name) == str(tmp_path)
        assert re.match(r"model_dir_[0-9A-Za-z]{10}\Z", os.path.basename(name))


def test_warm_start_from_the_environment(tmp_path, monkeypatch):
    assert build(tmp_path)._warm_start_settings is None
    monkeypatch.setenv("RESTORE_FROM", "second")
    assert build(tmp_path)._warm_start_settings.ckpt_to_initialize_from == "second"
    monkeypatch.setenv("LOCAL_CHECKPOINT_DIR", "first")
    assert build(tmp_path)._warm_start_settings.ckpt_to_initialize_from == "first"
    explicit = NPUEstimator(model_fn, model_dir=str(tmp_path), config=NPURunConfig(), warm_start_from="given")
    assert explicit._warm_start_settings.ckpt_to_initialize_from == "given"


def test_subclasses_may_override_what_tensorflow_protects(tmp_path):
    class Child(NPUEstimator):
        def train(self, *args, **kwargs):
            return "mine"

    assert Child(model_fn, model_dir=str(tmp_path), config=NPURunConfig()).train() == "mine"


@pytest.mark.parametrize("kwargs, text", [
    ({"iterations_per_loop": 3}, "save_checkpoints_steps=100"),
    ({"iterations_per_loop": 3, "save_checkpoints_steps": 10}, "multiple of iterations_per_loop=3"),
    ({"iterations_per_loop": 2, "enable_data_pre_proc": False}, "enable_data_pre_proc"),
])
def test_iterations_per_loop_guards_of_the_configuration(tmp_path, kwargs, text):
    with pytest.raises(ValueError, match=text):
        build(tmp_path, **kwargs)


@pytest.mark.parametrize("kwargs", [
    {"iterations_per_loop": 5}, {"iterations_per_loop": 3, "save_checkpoints_steps": 9},
    {"iterations_per_loop": 3, "save_checkpoints_steps": 0}, {"iterations_per_loop": 3, "save_checkpoints_secs": 7},
])
def test_iterations_per_loop_edges_of_the_configuration(tmp_path, kwargs):
    build(tmp_path, **kwargs)
