"""The stand-in's side of Ascend's TF Adapter for TensorFlow 1.15: packages ``npu_bridge`` and ``hccl``.

The profile reproduced is 2026-07 (npu_bridge_api section 0). Each real module is one file here, under the same name
below this package; :func:`modules` is the table that :func:`rec_sdk_cpu.install` registers. What a CPU cannot do, and
no Estimator program needs, is absent (see :mod:`rec_sdk_cpu.npu_bridge_modules.absent`), so that using it fails at
once.
"""
from typing import Dict

_REAL_MODULES = (
    "npu_bridge",
    "npu_bridge.npu_init",
    "npu_bridge.estimator",
    "npu_bridge.estimator.npu_ops",
    "npu_bridge.estimator.npu_unary_ops",
    "npu_bridge.estimator.npu",
    "npu_bridge.estimator.npu.npu_common",
    "npu_bridge.estimator.npu.npu_config",
    "npu_bridge.estimator.npu.npu_estimator",
    "npu_bridge.estimator.npu.npu_hook",
    "npu_bridge.estimator.npu.npu_loss_scale_manager",
    "npu_bridge.estimator.npu.npu_loss_scale_optimizer",
    "npu_bridge.estimator.npu.npu_optimizer",
    "npu_bridge.estimator.npu.npu_plugin",
    "npu_bridge.estimator.npu.npu_scope",
    "npu_bridge.estimator.npu.npu_strategy",
    "npu_bridge.estimator.npu.util",
    "npu_bridge.hccl",
    "npu_bridge.hccl.hccl_ops",
    "hccl",
    "hccl.manage",
    "hccl.manage.api",
    "hccl.split",
    "hccl.split.api",
)



def modules() -> Dict[str, str]:
    """Returns {real module name: dotted path of the file that stands in for it}."""
    return {name: "%s.%s" % (__name__, name) for name in _REAL_MODULES}
