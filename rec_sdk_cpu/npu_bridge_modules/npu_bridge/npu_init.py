"""Stands in for ``npu_bridge.npu_init``, which migrated scripts import all from (npu_bridge_api 1.1, 1.7).

Importing the real module patches ``tf.Session`` so that every session runs on the device. A CPU needs no such patch,
and this module changes nothing in TensorFlow.
"""
import importlib
import os
from typing import Any, Iterable, List, Optional, Tuple

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from rec_sdk_cpu.core import notices
from rec_sdk_cpu.npu_bridge_modules import absent, device_options
from rec_sdk_cpu.npu_bridge_modules.hccl.manage.api import (
    get_local_rank_id,
    get_local_rank_size,
    get_rank_id,
    get_rank_size,
)
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator import npu_ops
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_plugin, npu_scope, npu_strategy, util
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import (
    DumpConfig,
    DynamicInputConfig,
    MemoryConfig,
    NPURunConfig,
    ProfilingConfig,
)
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_estimator import NPUEstimator, NPUEstimatorSpec
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_hook import (
    NPUBroadcastGlobalVariablesHook,
    NPUCheckpointSaverHook,
    SetIterationsVarHook,
)
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_optimizer import (
    NPUDistributedOptimizer,
    NPUOptimizer,
    npu_allreduce,
    npu_distributed_optimizer_wrapper,
)
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu_unary_ops import npu_unary_ops
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops
from rec_sdk_cpu.npu_bridge_modules.process_state import RankInfo, state

_LAZY = ("ExponentialUpdateLossScaleManager", "FixedLossScaleManager", "NPULossScaleOptimizer")

# Names of _LAZY are served by __getattr__ below.
__all__ = [  # noqa: F822
    "DumpConfig", "DynamicInputConfig", "ExponentialUpdateLossScaleManager", "FixedLossScaleManager", "MemoryConfig",
    "NPUBroadcastGlobalVariablesHook", "NPUCheckpointSaverHook", "NPUDistributedOptimizer", "NPUEstimator",
    "NPUEstimatorSpec", "NPULossScaleOptimizer", "NPUOptimizer", "NPURunConfig", "ProfilingConfig", "RewriterConfig",
    "SetIterationsVarHook", "close_session", "config_pb2", "get_local_rank_id", "get_local_rank_size",
    "get_npu_local_rank_id", "get_npu_local_rank_size", "get_npu_rank_id", "get_npu_rank_size", "get_rank_id",
    "get_rank_size", "hccl_ops", "init_resource", "npu_allreduce", "npu_config_proto",
    "npu_distributed_optimizer_wrapper", "npu_hooks_append", "npu_ops", "npu_plugin", "npu_run_config_init",
    "npu_scope", "npu_strategy", "npu_unary_ops", "os", "rewriter_config_pb2", "shutdown_resource", "tf", "util",
]


def npu_hooks_append(hooks_list: Iterable[tf.estimator.SessionRunHook] = ()) -> List[tf.estimator.SessionRunHook]:
    """Adds the hook that broadcasts the variables of rank 0.

    Args:
        hooks_list: a list is extended in place; anything else, a tuple too, is discarded.

    Returns:
        the list that was given, or a new one; its last element is an NPUBroadcastGlobalVariablesHook.

    Source: npu_bridge_api 1.7.
    """
    hooks = hooks_list if isinstance(hooks_list, list) else []
    hooks.append(NPUBroadcastGlobalVariablesHook(0, int(os.getenv("RANK_ID", "0"))))
    return hooks


def npu_config_proto(config_proto: Optional[tf.compat.v1.ConfigProto] = None) -> tf.compat.v1.ConfigProto:
    """Prepares a session's configuration for the device, once: a second call adds nothing.

    Args:
        config_proto: changed in place; None, or anything that is no ConfigProto, = a new one.

    Returns:
        the configuration that was given, or the new one, with an ``NpuOptimizer`` entry, soft placement, and
        remapping, memory optimisation and JIT off.

    Source: npu_bridge_api 1.1, 1.7.
    """
    config = config_proto
    if not isinstance(config, tf.compat.v1.ConfigProto):
        if config is not None:
            notices.tell("npu_config_proto", "npu_config_proto(%r): what is no ConfigProto is dropped, and a new one "
                         "is made, here and on a device", config)
        config = tf.compat.v1.ConfigProto()
    config.allow_soft_placement = True
    config.log_device_placement = False
    rewrite_options = config.graph_options.rewrite_options
    rewrite_options.remapping = RewriterConfig.OFF
    if all(entry.name != device_options.NPU_OPTIMIZER for entry in rewrite_options.custom_optimizers):
        rewrite_options.custom_optimizers.add().name = device_options.NPU_OPTIMIZER
        rewrite_options.memory_optimization = RewriterConfig.OFF
    config.graph_options.optimizer_options.global_jit_level = config_pb2.OptimizerOptions.OFF
    return config


def npu_run_config_init(run_config: Optional[tf.estimator.RunConfig] = None) -> tf.estimator.RunConfig:
    """Prepares a stock RunConfig for the device; for stock and canned estimators.

    Args:
        run_config: changed in place; None = a new one.

    Returns:
        the RunConfig that was given, or the new one, with its session_config prepared by :func:`npu_config_proto`.

    Raises:
        ValueError: something else than a RunConfig.

    Source: npu_bridge_api 1.7.
    """
    config = tf.compat.v1.estimator.RunConfig() if run_config is None else run_config
    if not isinstance(config, tf.estimator.RunConfig):
        raise ValueError("run_config must be a tf.estimator.RunConfig, but %r was given" % (run_config,))
    config._session_config = npu_config_proto(config.session_config)
    return config


def init_resource(config: Optional[tf.compat.v1.ConfigProto] = None) -> Tuple[tf.compat.v1.Session, tf.Operation]:
    """Opens a session, starts the device in it and records the rank numbers.

    Args:
        config: the session's configuration, changed in place by :func:`npu_config_proto`.

    Returns:
        the session, and the op that :func:`shutdown_resource` takes.

    Source: npu_bridge_api 1.7.
    """
    start, stop = npu_ops.initialize_system(), npu_ops.shutdown_system()
    session = tf.compat.v1.Session(config=npu_config_proto(config))
    session.run(start)
    state.ranks = RankInfo(get_rank_id(), get_rank_size(), get_local_rank_id(), get_local_rank_size())
    return session, stop


def shutdown_resource(sess: tf.compat.v1.Session, npu_shutdown: tf.Operation) -> None:
    """Stops the device that :func:`init_resource` started; the recorded rank numbers remain.

    Args:
        sess: its session.
        npu_shutdown: its op.

    Source: npu_bridge_api 1.7.
    """
    sess.run(npu_shutdown)


def close_session(sess: tf.compat.v1.Session) -> None:
    """Closes the session of :func:`init_resource` (npu_bridge_api 1.7)."""
    sess.close()


def get_npu_rank_id() -> int:
    """Returns the rank that :func:`init_resource` recorded; NameError without it (npu_bridge_api 1.7)."""
    return _ranks("get_npu_rank_id").rank_id


def get_npu_rank_size() -> int:
    """Returns the number of ranks; see :func:`get_npu_rank_id`."""
    return _ranks("get_npu_rank_size").rank_size


def get_npu_local_rank_id() -> int:
    """Returns the rank on this host; see :func:`get_npu_rank_id`."""
    return _ranks("get_npu_local_rank_id").local_rank_id


def get_npu_local_rank_size() -> int:
    """Returns the number of ranks on this host; see :func:`get_npu_rank_id`."""
    return _ranks("get_npu_local_rank_size").local_rank_size


def _ranks(function: str) -> RankInfo:
    if state.ranks is None:
        raise NameError("%s() reads what init_resource() records, and init_resource() was never called" % function)
    return state.ranks


def __getattr__(name: str) -> Any:
    # The loss-scale classes load tf.contrib, so they are fetched when first asked for.
    if name in _LAZY:
        return getattr(importlib.import_module("rec_sdk_cpu.npu_bridge_modules.loss_scale"), name)
    raise absent.error("npu_bridge.npu_init", name)
