"""Stand-in for the package ``rec_sdk_common.communication.hccl``."""
from rec_sdk_cpu.rec_sdk_common.communication.hccl.hccl_info import (
    get_device_id,
    get_local_rank_size,
    get_min_device_id,
    get_rank_id,
    get_rank_size,
)

__all__ = ["get_device_id", "get_local_rank_size", "get_min_device_id", "get_rank_id", "get_rank_size"]
