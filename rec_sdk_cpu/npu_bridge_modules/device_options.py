"""Writes an NPURunConfig's options into a session's configuration, as the ``NpuOptimizer`` entry an NPU reads.

Stock TensorFlow ignores the two optimizer names it does not know, so the same configuration opens a session on a CPU.
What the device's native code refuses when the session opens is refused by :func:`check` instead.
Source: npu_bridge_api 1.3, 1.4, 1.5, 2.1 and the signatures file's parameter map.
"""
import json
import os
from typing import Any, Optional

import tensorflow as tf

PRECISION_MODES = ("force_fp32", "allow_fp32_to_fp16", "force_fp16", "must_keep_origin_dtype", "allow_mix_precision",
                   "cube_fp16in_fp32out", "allow_mix_precision_fp16", "allow_mix_precision_bf16",
                   "allow_fp32_to_bf16")
PRECISION_MODES_V2 = ("fp16", "origin", "cube_fp16in_fp32out", "mixed_float16", "mixed_bfloat16", "cube_hif8",
                      "mixed_hif8")
OPTIMIZERS = ("pruning", "function", "constfold", "shape", "arithmetic", "loop", "dependency", "layout",
              "GradFusionOptimizer")
NPU_OPTIMIZER = "NpuOptimizer"

# Options of the configuration by protobuf field; the key in the map is the name without the leading underscore.
_BOOLS = ("mix_compile_mode", "variable_format_optimize",
          "_enable_reduce_precision",
          "_dynamic_input", "_compile_dynamic_mode", "_oo_constant_folding", "_input_batch_cpy",
          "_all_tensor_not_empty")
_INTS = ("iterations_per_loop", "graph_run_mode", "op_debug_level", "enable_exception_dump", "topo_sorting_mode",
         "_local_rank_id", "_session_device_id", "_hccl_timeout",
         "_op_wait_timeout", "_op_execute_timeout", "_graph_max_parallel_model_num",
         "_export_compile_stat")
_STRINGS = ("enable_scope_fusion_passes", "aoe_config_file", "_precision_mode", "_precision_mode_v2",
            "_stream_max_parallel_num", "_op_select_implmode", "_optypelist_for_implmode", "_aoe_mode", "_work_path",
            "_buffer_optimize", "_fusion_switch_file", "_compress_weight_conf", "_op_compiler_cache_mode",
            "_op_compiler_cache_dir", "_debug_dir", "_dynamic_graph_execute_mode", "_dynamic_inputs_shape_range",
            "_local_device_list", "_distribute_config", "_modify_mixlist", "_op_precision_mode",
            "_soc_config", "_HCCL_algorithm", "_customize_dtypes", "_op_debug_config",
            "_jit_compile", "_ac_parallel_enable", "_quant_dumpable", "_aicore_num", "_shape_generalization_mode",
            "_auto_multistream_parallel_mode", "_oo_level", "_optimization_switch")
# Written even when None, which is a TypeError in protobuf: the 2026 profile does not guard them.
_UNGUARDED = (("stream_sync_timeout", "i"), ("_input_fusion_size", "i"), ("_frozen_variable", "b"),
              ("enable_data_pre_proc", "b"), ("_hcom_parallel", "b"), ("is_tailing_optimization", "b"),
              ("_enable_small_channel", "i"), ("_enable_compress_weight", "b"), ("_hcom_multi_mode", "b"),
              ("_deterministic", "i"), ("event_sync_timeout", "i"), ("_external_weight", "b"),
              ("_variable_placement", "s"), ("_device_type", "s"))


def check(config: Any) -> None:
    """Refuses the option values that the device's native code refuses when a session opens.

    Args:
        config: an NPURunConfig.

    Raises:
        ValueError: a value is not one of those allowed, or two options exclude each other.

    Source: npu_bridge_api 1.3, 1.4 and the DumpConfig rules of 1.5, entries marked as checked in C++.
    """
    _check_precision(config)
    if config.enable_exception_dump not in (0, 1, 2):
        raise ValueError("enable_exception_dump must be 0, 1 or 2, but %r was given" % config.enable_exception_dump)
    _check_choice("jit_compile", config._jit_compile, ("true", "false", "auto"))
    if config._dump_config is not None:
        _check_dump(config._dump_config)


def write(config: Any, session_config: tf.compat.v1.ConfigProto) -> None:
    """Appends the optimizer list and one ``NpuOptimizer`` entry to a ConfigProto, in place.

    Nothing is looked for or replaced: a ConfigProto that has been here before ends up with two entries, as on an NPU.

    Args:
        config: an NPURunConfig.
        session_config: the ConfigProto to extend.

    Raises:
        TypeError: an option's type does not fit its field.
        AttributeError: profiling_config or memory_config is of another class.

    Source: npu_bridge_api 2.1 step 3; signatures file, parameter map of 2026-07.
    """
    rewrite_options = session_config.graph_options.rewrite_options
    rewrite_options.optimizers.extend(OPTIMIZERS)
    entry = rewrite_options.custom_optimizers.add()
    entry.name = NPU_OPTIMIZER
    task = json.loads(os.environ.get("TF_CONFIG") or "{}").get("task", {})
    _put(entry, "use_off_line", "b", True)
    _put(entry, "min_group_size", "b", True)
    _put(entry, "job", "s", task.get("type", "localhost"))
    _put(entry, "task_index", "i", int(task.get("index", 0)))
    for names, field in ((_BOOLS, "b"), (_INTS, "i"), (_STRINGS, "s")):
        for name in names:
            _put(entry, name.lstrip("_"), field, getattr(config, name))
    for name, field in _UNGUARDED:
        value = getattr(config, name)
        if value is None:
            raise TypeError("%s: None has the wrong type; leave the argument out to have its default"
                            % name.lstrip("_"))
        _put(entry, name.lstrip("_"), field, value)
    for name in ("graph_memory_max_size", "variable_memory_max_size"):
        size = getattr(config, "_" + name)
        _put(entry, name, "s", None if size is None else str(size))
    if config.insert_op_file is not None:
        # The real code does not encode it, so that only bytes pass.
        entry.parameter_map["insert_op_file"].s = config.insert_op_file
    if config._aoe_mode is not None and config._work_path is None:
        _put(entry, "work_path", "s", "./")
    _write_parts(entry, config)


def _write_parts(entry: Any, config: Any) -> None:
    if config._profiling_config is not None:
        profiling = config._profiling_config
        _put(entry, "profiling_mode", "b", profiling._enable_profiling)
        _put(entry, "profiling_options", "s", profiling._profiling_options or "")
    dump = config._dump_config
    _put(entry, "enable_dump", "b", dump is not None and dump._enable_dump)
    _put(entry, "enable_dump_debug", "b", dump is not None and dump._enable_dump_debug)
    if dump is not None and (dump._enable_dump or dump._enable_dump_debug):
        used = ("dump_path", "dump_step", "dump_mode", "dump_data", "dump_layer") if dump._enable_dump else (
            "dump_path", "dump_debug_mode")
        for name in used:
            _put(entry, name, "s", getattr(dump, "_" + name))
    if config._dynamic_input_config is not None:
        for name, field in (("input_shape", "s"), ("dynamic_dims", "s"), ("dynamic_node_type", "i"),
                            ("compile_hybrid_mode", "i")):
            _put(entry, name, field, getattr(config._dynamic_input_config, "_" + name))
    if config._memory_config is not None:
        for name, field in (("atomic_clean_policy", "i"), ("static_memory_policy", "i"),
                            ("memory_optimization_policy", "s"), ("variable_use_1g_huge_page", "i")):
            _put(entry, name, field, getattr(config._memory_config, "_" + name))
    _write_experimental(entry, config._experimental_config)


def _write_experimental(entry: Any, experimental: Optional[Any]) -> None:
    if experimental is None:
        # The all-defaults map holds this one key of ExperimentalConfig (signatures file).
        _put(entry, "experimental_logical_device_cluster_deploy_mode", "s", "LB")
        return
    for name in ("logical_device_cluster_deploy_mode", "logical_device_id", "model_deploy_mode",
                 "model_deploy_devicelist", "accelerate_train_mode"):
        _put(entry, "experimental_" + name, "s", getattr(experimental, "_" + name))
    _put(entry, "enable_graph_parallel", "b", experimental._enable_graph_parallel)
    for name in ("graph_parallel_option_path", "graph_compiler_cache_dir", "resource_config_path"):
        _put(entry, name, "s", getattr(experimental, "_" + name))
    if experimental._graph_memory_optimize_config is not None:
        _put(entry, "graph_slice", "s", experimental._graph_memory_optimize_config._graph_slice)


def _put(entry: Any, key: str, field: str, value: Any) -> None:
    if value is None:
        return
    try:
        setattr(entry.parameter_map[key], field, tf.compat.as_bytes(value) if field == "s" else value)
    except TypeError as error:
        raise TypeError("%s: %s" % (key, error)) from error


def _check_precision(config: Any) -> None:
    mode, mode_v2 = config._precision_mode, config._precision_mode_v2
    if mode is not None and mode_v2 is not None:
        raise ValueError("precision_mode (%r) and precision_mode_v2 (%r) exclude each other; set one" % (mode, mode_v2))
    # A value that is no text is left to the protobuf field, whose TypeError the real package raises.
    if isinstance(mode, str):
        _check_choice("precision_mode", mode, PRECISION_MODES)
    if isinstance(mode_v2, str):
        _check_choice("precision_mode_v2", mode_v2, PRECISION_MODES_V2)
    if config._modify_mixlist is not None and not str(mode or "").startswith("allow_mix_precision") and not str(
            mode_v2 or "").startswith("mixed_"):
        raise ValueError("modify_mixlist needs a mixed-precision mode, but precision_mode is %r and precision_mode_v2 "
                         "is %r" % (mode, mode_v2))


def _check_dump(dump: Any) -> None:
    _check_choice("dump_mode", dump._dump_mode, ("input", "output", "all"))
    _check_choice("dump_debug_mode", dump._dump_debug_mode, ("aicore_overflow", "atomic_overflow", "all"))
    _check_choice("dump_data", dump._dump_data, ("tensor", "stats"))
    if dump._enable_dump and dump._enable_dump_debug:
        raise ValueError("enable_dump and enable_dump_debug exclude each other; set one")
    path = dump._dump_path
    if (dump._enable_dump or dump._enable_dump_debug) and not (
            isinstance(path, str) and os.path.isdir(path) and os.access(path, os.W_OK)):
        raise ValueError("dump_path must be an existing writable directory when a dump is on, but it is %r" % (path,))


def _check_choice(name: str, value: Any, allowed: Any) -> None:
    if value not in allowed:
        raise ValueError("%s must be one of %s, but %r was given" % (name, ", ".join(allowed), value))
