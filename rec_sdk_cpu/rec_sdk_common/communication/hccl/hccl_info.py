"""Stand-in for the G3 rank helpers ``rec_sdk_common.communication.hccl.hccl_info`` (rec_sdk_api 1.3)."""
from rec_sdk_cpu.core.ranks import get_device_id, get_local_rank_size, get_rank_id, get_rank_size

__all__ = ["get_device_id", "get_local_rank_size", "get_rank_id", "get_rank_size"]
