"""Stands in for ``npu_bridge.estimator.npu.npu_loss_scale_manager``.

The classes are in :mod:`rec_sdk_cpu.npu_bridge_modules.loss_scale`.
"""
import importlib
from typing import Any

__all__ = ["ExponentialUpdateLossScaleManager", "FixedLossScaleManager"]  # noqa: F822


def __getattr__(name: str) -> Any:
    # The classes load tf.contrib, so they are fetched when first asked for.
    if name in __all__:
        return getattr(importlib.import_module("rec_sdk_cpu.npu_bridge_modules.loss_scale"), name)
    raise AttributeError("module 'npu_bridge.estimator.npu.npu_loss_scale_manager' has no attribute %r" % name)
