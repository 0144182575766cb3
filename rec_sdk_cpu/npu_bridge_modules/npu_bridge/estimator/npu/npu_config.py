"""Stands in for ``npu_bridge.estimator.npu.npu_config``: the run configuration and its parts, profile 2026-07.

The argument list, the checks and the attribute names are those of npu_bridge_api 1.2, 1.3 and 1.5. Options that steer
the device are kept and written into the session's configuration by NPUEstimator; on a CPU they change nothing else.
"""
import enum
import json
import os
from typing import Any, Dict, Optional

import tensorflow as tf

from rec_sdk_cpu.core import notices

_STEPS_IF_UNSET = 100
# Kept under their own name; every other option of the device is kept as ``_name`` (npu_bridge_api 1.3).
_PUBLIC = frozenset((
    "iterations_per_loop", "mix_compile_mode", "enable_data_pre_proc", "is_tailing_optimization", "horovod_mode",
    "graph_run_mode", "op_debug_level", "enable_scope_fusion_passes", "enable_exception_dump",
    "variable_format_optimize", "topo_sorting_mode", "aoe_config_file", "insert_op_file", "stream_sync_timeout",
    "event_sync_timeout"))
_RUN_CONFIG = ("model_dir", "tf_random_seed", "save_summary_steps", "save_checkpoints_steps", "save_checkpoints_secs",
               "session_config", "keep_checkpoint_max", "keep_checkpoint_every_n_hours", "log_step_count_steps",
               "train_distribute", "eval_distribute")


class NpuExecutePlacement(enum.Enum):
    """Where ops run; only the documented member is here (signatures file, ``npu_variable_scope``)."""

    ALL = "all"


class _Options:
    """Keeps the constructor's arguments as private attributes, as the real classes do."""

    def _keep(self, given: Dict[str, Any]) -> None:
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, "_" + name, value)

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__, ", ".join(
            "%s=%r" % (name[1:], value) for name, value in sorted(vars(self).items())))


class ProfilingConfig(_Options):
    """Profiling of the device.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, enable_profiling: bool = False, profiling_options: Optional[str] = None) -> None:
        """Keeps the options.

        Args:
            enable_profiling: whether to profile.
            profiling_options: JSON text; None counts as "".
        """
        self._keep(locals())


class DumpConfig(_Options):
    """Dump of op inputs and outputs; its values are checked when NPUEstimator is built.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, enable_dump: bool = False, dump_path: Optional[str] = None, dump_step: Optional[str] = None,
                 dump_mode: str = "output", enable_dump_debug: bool = False, dump_debug_mode: str = "all",
                 dump_data: str = "tensor", dump_layer: Optional[str] = None) -> None:
        """Keeps the options.

        Args:
            enable_dump: dump op data; not together with enable_dump_debug.
            dump_path: existing writable directory, needed by either kind of dump.
            dump_step: steps, like "0|3-5|10"; None = all.
            dump_mode: "input", "output" or "all".
            enable_dump_debug: dump on overflow.
            dump_debug_mode: "aicore_overflow", "atomic_overflow" or "all".
            dump_data: "tensor" or "stats".
            dump_layer: names of the ops to dump; None = all.
        """
        self._keep(locals())


class DynamicInputConfig(_Options):
    """Gears of dynamic input shapes.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, input_shape: str, dynamic_dims: str, dynamic_node_type: int, compile_hybrid_mode: int) -> None:
        """Keeps the options.

        Args:
            input_shape: shapes of the inputs, -1 where dynamic.
            dynamic_dims: the gears.
            dynamic_node_type: kind of the input nodes.
            compile_hybrid_mode: whether static and dynamic graphs are compiled together; required since 2026.
        """
        self._keep(locals())


class MemoryConfig(_Options):
    """Memory policy of the device.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, atomic_clean_policy: int = 0, static_memory_policy: int = 0,
                 memory_optimization_policy: Optional[str] = None, variable_use_1g_huge_page: int = 0) -> None:
        """Keeps the options.

        Args:
            atomic_clean_policy: how the memory of atomic ops is cleared.
            static_memory_policy: how static memory is allotted.
            memory_optimization_policy: which optimisation runs.
            variable_use_1g_huge_page: whether variables use huge pages.
        """
        self._keep(locals())


class GraphMemoryOptimizeConfig(_Options):
    """Graph-level memory optimisation, part of :class:`ExperimentalConfig` (signatures file)."""

    def __init__(self, recompute: Optional[str] = None, graph_slice: Optional[str] = None) -> None:
        """Keeps the options.

        Args:
            recompute: recomputation mode.
            graph_slice: slicing mode.
        """
        self._keep(locals())


class ExperimentalConfig(_Options):
    """Experimental options of the device.

    Source: npu_bridge_api 1.5.
    """

    def __init__(self, logical_device_cluster_deploy_mode: str = "LB", logical_device_id: Optional[str] = None,
                 model_deploy_mode: Optional[str] = None, model_deploy_devicelist: Optional[str] = None,
                 graph_memory_optimize_config: Optional[GraphMemoryOptimizeConfig] = None,
                 enable_graph_parallel: Optional[bool] = None, graph_parallel_option_path: Optional[str] = None,
                 graph_compiler_cache_dir: Optional[str] = None, resource_config_path: Optional[str] = None,
                 accelerate_train_mode: Optional[str] = None) -> None:
        """Keeps the options; see the parameter names, which are those of the ``NpuOptimizer`` entry."""
        self._keep(locals())


class NPURunConfig(tf.compat.v1.estimator.RunConfig):
    """Run configuration of NPUEstimator; pass keywords only, as positions differ between releases.

    ``save_checkpoints_steps`` and ``save_checkpoints_secs`` both None mean every 100 steps; 0 steps mean no saving.
    Properties of RunConfig that the real class does not take (device_fn, protocol, experimental_distribute,
    experimental_max_worker_delay_secs, session_creation_timeout_secs) are a TypeError. ``replace`` is TensorFlow's:
    it takes RunConfig's own properties only, and the options of the device survive it. Values that the real device
    refuses when the session opens (precision_mode and others) are refused when NPUEstimator is built.

    Source: npu_bridge_api 1.2, 1.3.
    """

    def __init__(self, iterations_per_loop: int = 1, profiling_config: Optional[ProfilingConfig] = None,
                 model_dir: Optional[str] = None, tf_random_seed: Optional[int] = None, save_summary_steps: int = 0,
                 save_checkpoints_steps: Optional[int] = None, save_checkpoints_secs: Optional[int] = None,
                 session_config: Optional[tf.compat.v1.ConfigProto] = None, keep_checkpoint_max: Optional[int] = 5,
                 keep_checkpoint_every_n_hours: int = 10000, log_step_count_steps: Optional[int] = 100,
                 distribute: Any = None, enable_data_pre_proc: bool = True, precision_mode: Optional[str] = None,
                 enable_reduce_precision: bool = False, variable_format_optimize: Optional[bool] = None,
                 mix_compile_mode: bool = False, hcom_parallel: bool = True, graph_memory_max_size: Any = None,
                 variable_memory_max_size: Any = None, dump_config: Optional[DumpConfig] = None,
                 stream_max_parallel_num: Optional[str] = None, is_tailing_optimization: bool = False,
                 horovod_mode: bool = False, graph_run_mode: int = 1, op_debug_level: Optional[int] = None,
                 enable_scope_fusion_passes: Optional[str] = None, enable_exception_dump: int = 2,
                 op_select_implmode: Optional[str] = None, optypelist_for_implmode: Optional[str] = None,
                 dynamic_input_config: Optional[DynamicInputConfig] = None, aoe_mode: Optional[str] = None,
                 work_path: Optional[str] = None, buffer_optimize: str = "l2_optimize", enable_small_channel: int = 0,
                 fusion_switch_file: Optional[str] = None, enable_compress_weight: bool = False,
                 compress_weight_conf: Optional[str] = None, op_compiler_cache_mode: Optional[str] = None,
                 op_compiler_cache_dir: Optional[str] = None, debug_dir: Optional[str] = None,
                 hcom_multi_mode: bool = False, dynamic_input: Optional[bool] = None,
                 dynamic_graph_execute_mode: str = "dynamic_execute", dynamic_inputs_shape_range: Optional[str] = None,
                 train_distribute: Any = None, eval_distribute: Any = None, local_rank_id: Optional[int] = None,
                 local_device_list: Optional[str] = None, session_device_id: Optional[int] = None,
                 distribute_config: Optional[str] = None, modify_mixlist: Optional[str] = None,
                 op_precision_mode: Optional[str] = None, device_type: str = "default_device_type",
                 soc_config: Optional[str] = None, hccl_timeout: Optional[int] = None,
                 op_wait_timeout: Optional[int] = None, op_execute_timeout: Optional[int] = None,
                 HCCL_algorithm: Optional[str] = None,  # noqa: N803 (the real name)
                 customize_dtypes: Optional[str] = None, op_debug_config: Optional[str] = None,
                 memory_config: Optional[MemoryConfig] = None,
                 experimental_config: Optional[ExperimentalConfig] = None, topo_sorting_mode: Optional[int] = None,
                 aoe_config_file: Optional[str] = None, insert_op_file: Optional[bytes] = None,
                 stream_sync_timeout: int = -1, event_sync_timeout: int = -1, external_weight: bool = False,
                 deterministic: int = 0, frozen_variable: bool = False, variable_placement: str = "Device",
                 jit_compile: str = "auto", precision_mode_v2: Optional[str] = None,
                 ac_parallel_enable: Optional[str] = None, quant_dumpable: Optional[str] = None,
                 input_fusion_size: int = 131072, compile_dynamic_mode: Optional[bool] = None,
                 graph_max_parallel_model_num: int = 1, export_compile_stat: int = 1, aicore_num: Optional[str] = None,
                 oo_constant_folding: bool = True, input_batch_cpy: bool = False,
                 shape_generalization_mode: str = "STRICT", all_tensor_not_empty: bool = False,
                 auto_multistream_parallel_mode: Optional[str] = None, oo_level: str = "O3",
                 optimization_switch: Optional[str] = None) -> None:
        """Checks and keeps the options.

        Args:
            iterations_per_loop: steps per session run on the device, > 0.
            model_dir: directory of checkpoints and summaries.
            save_checkpoints_steps: steps between checkpoints, 0 = never.
            save_checkpoints_secs: seconds between checkpoints.
            session_config: mutated in place by NPUEstimator, so give each estimator a fresh one.
            mix_compile_mode: leave ops that the device lacks on the host.
            horovod_mode: Horovod reduces and broadcasts; no broadcast hook is added.
            graph_run_mode: 1 = training, 0 = online inference.
            enable_exception_dump: 0, 1 or 2.
            jit_compile: "true", "false" or "auto".
            distribute: a ParameterServerStrategy, only with a cluster in TF_CONFIG.

        The other arguments are options of the device or RunConfig's own.

        Raises:
            TypeError: a value of the wrong type where the real class checks it.
            ValueError: a value out of range, or a combination that is not allowed.

        Source: npu_bridge_api 1.2, 1.3.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        _check_iterations(iterations_per_loop, mix_compile_mode)
        if not isinstance(horovod_mode, bool):
            raise ValueError("horovod_mode must be bool, but %r was given" % (horovod_mode,))
        _check_run_mode(graph_run_mode)
        if not isinstance(enable_exception_dump, int):
            raise TypeError("enable_exception_dump must be int, but %r was given" % (enable_exception_dump,))
        if enable_exception_dump < 0:
            raise ValueError("enable_exception_dump must not be negative, but %r was given" % enable_exception_dump)
        for name, kind in (("dump_config", DumpConfig), ("dynamic_input_config", DynamicInputConfig),
                           ("experimental_config", ExperimentalConfig)):
            if given[name] is not None and not isinstance(given[name], kind):
                raise ValueError("%s must be provided with type %s, but %r was given"
                                 % (name, kind.__name__, given[name]))
        if not isinstance(jit_compile, str):
            raise TypeError('Expected str for jit_compile ("true", "false" or "auto"), but %r was given'
                            % (jit_compile,))
        _check_cluster(distribute, mix_compile_mode)
        for name, value in given.items():
            if name in _PUBLIC:
                setattr(self, name, value)
            elif name not in _RUN_CONFIG:
                setattr(self, "_" + name, value)
        own = {name: given[name] for name in _RUN_CONFIG}
        if save_checkpoints_steps is None and save_checkpoints_secs is None:
            own["save_checkpoints_steps"] = _STEPS_IF_UNSET
        if _is_parameter_server(distribute):
            own["train_distribute"] = distribute
        super().__init__(**own)


def _check_iterations(iterations_per_loop: int, mix_compile_mode: bool) -> None:
    if not isinstance(iterations_per_loop, int):
        raise TypeError("iterations_per_loop must be int, but %r (%s) was given"
                        % (iterations_per_loop, type(iterations_per_loop).__name__))
    if iterations_per_loop < 1:
        raise ValueError("iterations_per_loop must be positive, but %d was given" % iterations_per_loop)
    if not isinstance(mix_compile_mode, bool):
        raise TypeError("mix_compile_mode must be bool, but %r was given" % (mix_compile_mode,))
    if mix_compile_mode and iterations_per_loop > 1:
        raise ValueError("iterations_per_loop must be 1 with mix_compile_mode, but %d was given" % iterations_per_loop)


def _check_run_mode(graph_run_mode: int) -> None:
    if not isinstance(graph_run_mode, int):
        raise TypeError("graph_run_mode must be int, but %r was given" % (graph_run_mode,))
    if graph_run_mode not in (0, 1):
        raise ValueError("graph_run_mode must be 0 (online inference) or 1 (training), but %d was given"
                         % graph_run_mode)


def _is_parameter_server(distribute: Any) -> bool:
    return type(distribute).__name__.startswith("ParameterServerStrategy")


def _check_cluster(distribute: Any, mix_compile_mode: bool) -> None:
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster")
    is_ps = _is_parameter_server(distribute)
    if distribute is not None and not is_ps:
        notices.tell("distribute", "NPURunConfig(distribute=%r): anything passes here and on a device; only a "
                     "ParameterServerStrategy, with a cluster in TF_CONFIG, has an effect", distribute)
    if bool(cluster) != is_ps:
        raise ValueError('"cluster" and "distribute" must all be set in ps mode; found %s. Training over HCCL '
                         "(all-reduce) uses neither: leave the cluster out of TF_CONFIG" % (
                             "a cluster in TF_CONFIG and no distribute" if cluster else
                             "distribute and no cluster in TF_CONFIG"))
    if cluster and not mix_compile_mode:
        raise ValueError('"mix_compile_mode" can only be True with "cluster" is set')
