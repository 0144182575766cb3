"""Stand-in for the package ``rec_sdk_common.log`` (rec_sdk_api 12)."""
from rec_sdk_cpu.rec_sdk_common.log.log import LoggingProxy as logger  # noqa: N813 - the SDK's own name

__all__ = ["logger"]
