"""Stand-in for the package ``mx_rec.util.tf_version_adapter`` (rec_sdk_api 0, generation G2)."""
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator import npu_ops
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_hook import NPUCheckpointSaverHook
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops

__all__ = ["NPUCheckpointSaverHook", "hccl_ops", "npu_ops"]
