"""Stand-in for ``mx_rec.util.log`` of the generations G1 and G2 (rec_sdk_api 0, 12)."""
from rec_sdk_cpu.rec_sdk_common.log import logger

__all__ = ["logger"]
