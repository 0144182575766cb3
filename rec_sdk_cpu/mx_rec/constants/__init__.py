"""Stand-in for the package ``mx_rec.constants``."""
from rec_sdk_cpu.core.constants import ASCEND_TIMESTAMP

__all__ = ["ASCEND_TIMESTAMP"]
