"""Stand-in for ``mx_rec.optimizers.base`` (rec_sdk_api 12)."""
from typing import Any

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.core.customized_optimizer import CustomizedOptimizer, control_update_op_decorator, custom_update_op

__all__ = ["CustomizedOptimizer", "control_update_op_decorator", "custom_update_op"]


def __getattr__(name: str) -> Any:
    raise missing.error("module 'mx_rec.optimizers.base' has no attribute %r%s" % (
        name, ": installing the stand-in makes this patch" if name == "patch_for_optimizer" else ""))
