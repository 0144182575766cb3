"""Stand-in for the package ``mx_rec.util``."""
from rec_sdk_cpu.core.config import ConfigInitializer, init, terminate_config_initializer
from rec_sdk_cpu.mx_rec.util.ops import import_host_pipeline_ops
from rec_sdk_cpu.mx_rec.util.variable import get_dense_and_sparse_variable
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops

__all__ = ["ConfigInitializer", "get_dense_and_sparse_variable", "hccl_ops", "import_host_pipeline_ops", "init",
           "terminate_config_initializer"]
