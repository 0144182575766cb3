"""Stand-in for ``mx_rec.optimizers.base`` (rec_sdk_api 12)."""
from rec_sdk_cpu.core.customized_optimizer import CustomizedOptimizer, control_update_op_decorator, custom_update_op

__all__ = ["CustomizedOptimizer", "control_update_op_decorator", "custom_update_op"]
