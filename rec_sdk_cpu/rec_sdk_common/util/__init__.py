"""Stand-in for the package ``rec_sdk_common.util``."""
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops

__all__ = ["hccl_ops"]
