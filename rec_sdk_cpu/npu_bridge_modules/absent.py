"""Names of the real packages that the CPU stand-in does not have, and why: using one must fail with a reason."""
from typing import Dict

from rec_sdk_cpu.core import missing

_OUTFEED = "it moves tensors from the device to the host; on a CPU fetch them, or use NPUEstimatorSpec(host_call=...)"
_KERAS = "Keras on NPUs is not part of the stand-in; use NPUEstimator"
_NO_SEMANTICS = "it only configures the device's compiler or runtime, which a CPU has not"
_CLOSED = "its behaviour is not documented (the hccl package is closed); the stand-in has one group, all ranks"

_ABSENT: Dict[str, Dict[str, str]] = {
    "npu_bridge.npu_init": {
        "KerasDistributeOptimizer": _KERAS,
        "NPUBroadcastGlobalVariablesCallback": _KERAS,
        "NPUOutputTensorHook": "use tf.estimator.LoggingTensorHook, which runs on either device",
        "NpuEmptyHook": _NO_SEMANTICS,
        "TellMeStepOrLossHook": _NO_SEMANTICS,
        "backend": _KERAS,
        "create_group": _CLOSED,
        "decorator_tf_session": _NO_SEMANTICS,
        "destroy_group": _CLOSED,
        "experimental_options": _NO_SEMANTICS,
        "get_group_rank_from_world_rank": _CLOSED,
        "get_world_rank_from_group_rank": _CLOSED,
        "keras_to_npu": _KERAS,
        "npu_callbacks_append": _KERAS,
        "npu_clear_session": _KERAS,
        "npu_cpu_ops": _NO_SEMANTICS,
        "npu_graph_options": "use npu_config_proto, which sets the graph options too",
        "npu_keras_optimizer": _KERAS,
        "npu_optimizer_options": "use npu_config_proto, which sets the optimizer options too",
        "npu_rnn": "use tf.nn.dynamic_rnn",
        "npu_tf_optimizer": "use npu_distributed_optimizer_wrapper",
        "profiler": _NO_SEMANTICS,
        "scoped_graph_manager": _NO_SEMANTICS,
        "set_keras_session_npu_config": _KERAS,
        "set_split_strategy_by_idx": _CLOSED,
        "set_split_strategy_by_size": _CLOSED,
    },
    "npu_bridge.estimator.npu_ops": {
        "outfeed_dequeue_op": _OUTFEED,
        "outfeed_enqueue_op": _OUTFEED,
        "stop_outfeed_dequeue_op": _OUTFEED,
    },
    "npu_bridge.estimator.npu.npu_hook": {
        "NPUOutputTensorHook": "use tf.estimator.LoggingTensorHook, which runs on either device",
        "NPUShutDownHook": _NO_SEMANTICS,
        "TellMeStepOrLossHook": _NO_SEMANTICS,
    },
    "npu_bridge.estimator.npu.npu_optimizer": {"KerasDistributeOptimizer": _KERAS},
    "npu_bridge.estimator.npu.npu_plugin": {
        "npu_resource_init": "use init_resource, which opens the session too",
        "npu_resource_shutdown": "use shutdown_resource",
        "npu_close": _NO_SEMANTICS,
    },
    "npu_bridge.estimator.npu.util": {
        "set_graph_exec_config": _NO_SEMANTICS,
        "variable_initializer_in_host": _NO_SEMANTICS,
        "keep_tensors_dtypes": _NO_SEMANTICS,
        "npu_compile": _NO_SEMANTICS,
    },
    "npu_bridge.hccl.hccl_ops": {
        "gather_all_to_all_v": "it takes addresses in device memory; use all_to_all_v",
    },
    "hccl.manage.api": {
        "create_group": _CLOSED,
        "destroy_group": _CLOSED,
        "get_group_rank_from_world_rank": _CLOSED,
        "get_world_rank_from_group_rank": _CLOSED,
    },
    "hccl.split.api": {"set_split_strategy_by_idx": _CLOSED, "set_split_strategy_by_size": _CLOSED},
}


def names(module: str) -> Dict[str, str]:
    """Returns {absent name: reason} of one real module."""
    return dict(_ABSENT.get(module, {}))


def error(module: str, name: str) -> Exception:
    """Returns the error for an unknown attribute, to be raised by a module's ``__getattr__``.

    Args:
        module: real module name.
        name: the attribute asked for.
    """
    reason = _ABSENT.get(module, {}).get(name)
    if reason is None:
        return missing.error("module %r has no attribute %r" % (module, name), depth=2)
    return missing.error("%s.%s is not provided by the CPU stand-in: %s" % (module, name, reason), depth=2)
