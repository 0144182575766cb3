"""NPURunConfig's rules (npu_bridge_api 1.2, 1.3): the accepted edge and the refused case of each."""
import json

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import (
    DumpConfig,
    DynamicInputConfig,
    ExperimentalConfig,
    MemoryConfig,
    NPURunConfig,
    ProfilingConfig,
)

CLUSTER = {"cluster": {"chief": ["a:1"], "ps": ["b:1"]}, "task": {"type": "chief", "index": 0}}


class ParameterServerStrategy:
    """Stands for TensorFlow's class, which would start servers."""

    extended = None


@pytest.mark.parametrize("kwargs, error, text", [
    ({"iterations_per_loop": 0}, ValueError, "must be positive"),
    ({"iterations_per_loop": -1}, ValueError, "must be positive"),
    ({"iterations_per_loop": 1.0}, TypeError, "must be int"),
    ({"iterations_per_loop": np.int64(1)}, TypeError, "must be int"),
    ({"mix_compile_mode": 1}, TypeError, "mix_compile_mode"),
    ({"mix_compile_mode": True, "iterations_per_loop": 2}, ValueError, "mix_compile_mode"),
    ({"horovod_mode": 1}, ValueError, "horovod_mode"),
    ({"graph_run_mode": 2}, ValueError, "graph_run_mode"),
    ({"graph_run_mode": -1}, ValueError, "graph_run_mode"),
    ({"graph_run_mode": "1"}, TypeError, "graph_run_mode"),
    ({"enable_exception_dump": -1}, ValueError, "enable_exception_dump"),
    ({"enable_exception_dump": None}, TypeError, "enable_exception_dump"),
    ({"dump_config": {}}, ValueError, "DumpConfig"),
    ({"dynamic_input_config": 3}, ValueError, "DynamicInputConfig"),
    ({"experimental_config": {}}, ValueError, "ExperimentalConfig"),
    ({"jit_compile": True}, TypeError, "Expected str"),
    ({"save_checkpoints_steps": 1, "save_checkpoints_secs": 1}, ValueError, "both"),
    ({"save_checkpoints_steps": -1}, ValueError, "save_checkpoints_steps"),
    ({"log_step_count_steps": 0}, ValueError, "log_step_count_steps"),
    ({"session_config": {}}, ValueError, "ConfigProto"),
    ({"no_such_argument": 1}, TypeError, "no_such_argument"),
    ({"auto_tune_mode": "GA"}, TypeError, "auto_tune_mode"),
    ({"device_fn": None}, TypeError, "device_fn"),
    ({"protocol": None}, TypeError, "protocol"),
    ({"experimental_distribute": None}, TypeError, "experimental_distribute"),
    ({"experimental_max_worker_delay_secs": 1}, TypeError, "experimental_max_worker_delay_secs"),
    ({"session_creation_timeout_secs": 1}, TypeError, "session_creation_timeout_secs"),
    ({"distribute": ParameterServerStrategy()}, ValueError, '"cluster" and "distribute" must all be set in ps mode'),
])
def test_refused(kwargs, error, text):
    with pytest.raises(error, match=text):
        NPURunConfig(**kwargs)


@pytest.mark.parametrize("kwargs", [
    {"iterations_per_loop": 1}, {"iterations_per_loop": True}, {"mix_compile_mode": True}, {"horovod_mode": True},
    {"graph_run_mode": 0}, {"graph_run_mode": 1}, {"enable_exception_dump": 0}, {"enable_exception_dump": 7},
    {"dump_config": DumpConfig()}, {"experimental_config": ExperimentalConfig()}, {"log_step_count_steps": None},
    {"dynamic_input_config": DynamicInputConfig("x:-1", "1;2", 1, 0)}, {"profiling_config": {}},
    {"memory_config": {}}, {"memory_config": MemoryConfig()}, {"profiling_config": ProfilingConfig()},
    {"jit_compile": "true"}, {"precision_mode": "nonsense"},
    {"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, {"session_config": tf.compat.v1.ConfigProto()},
])
def test_accepted(kwargs):
    NPURunConfig(**kwargs)


@pytest.mark.parametrize("kwargs, steps, secs", [
    ({}, 100, None),
    ({"save_checkpoints_steps": None, "save_checkpoints_secs": None}, 100, None),
    ({"save_checkpoints_steps": 0}, 0, None),
    ({"save_checkpoints_steps": 7}, 7, None),
    ({"save_checkpoints_secs": 60}, None, 60),
])
def test_checkpoint_interval(kwargs, steps, secs):
    config = NPURunConfig(**kwargs)
    assert (config.save_checkpoints_steps, config.save_checkpoints_secs) == (steps, secs)


def test_each_rank_is_a_local_chief():
    config = NPURunConfig()
    assert config.is_chief and config.task_type == "worker" and config.num_worker_replicas == 1
    assert config.save_summary_steps == 0


def test_dynamic_input_config_needs_its_fourth_argument():
    with pytest.raises(TypeError):
        DynamicInputConfig("x:-1", "1;2", 1)


def test_cluster_without_strategy_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(CLUSTER))
    with pytest.raises(ValueError, match="must all be set in ps mode"):
        NPURunConfig()


def test_cluster_with_strategy_needs_mix_compile_mode(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(CLUSTER))
    with pytest.raises(ValueError, match='"mix_compile_mode" can only be True with "cluster" is set'):
        NPURunConfig(distribute=ParameterServerStrategy())


def test_tf_config_without_cluster_is_allowed(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"task": {"type": "worker", "index": 0}}))
    assert NPURunConfig().is_chief


def test_public_and_private_names():
    config = NPURunConfig(iterations_per_loop=2, precision_mode="force_fp16", hcom_parallel=False,
                          stream_sync_timeout=5, HCCL_algorithm="level0:ring")
    assert config.iterations_per_loop == 2 and config.stream_sync_timeout == 5
    assert config._precision_mode == "force_fp16" and config._hcom_parallel is False
    assert config._HCCL_algorithm == "level0:ring"
    for name in ("mix_compile_mode", "enable_data_pre_proc", "is_tailing_optimization", "horovod_mode",
                 "graph_run_mode", "op_debug_level", "enable_scope_fusion_passes", "enable_exception_dump",
                 "variable_format_optimize", "topo_sorting_mode", "aoe_config_file", "insert_op_file",
                 "event_sync_timeout"):
        assert hasattr(config, name) and not hasattr(config, "_" + name)


def test_replace_takes_tensorflows_properties_only_and_keeps_the_devices():
    config = NPURunConfig(precision_mode="force_fp16", iterations_per_loop=4)
    other = config.replace(model_dir="m", save_checkpoints_steps=8)
    assert isinstance(other, NPURunConfig) and other.model_dir == "m" and other.save_checkpoints_steps == 8
    assert other._precision_mode == "force_fp16" and other.iterations_per_loop == 4
    with pytest.raises(ValueError, match="iterations_per_loop"):
        config.replace(iterations_per_loop=2)
