"""Stand-in for the G3 rank helpers ``rec_sdk_common.communication.hccl.hccl_info`` (rec_sdk_api 1.3)."""
from typing import Dict

from rec_sdk_cpu.core.ranks import get_device_id, get_local_rank_size, get_rank_id, get_rank_size


def get_rank_to_device_dict() -> Dict[int, int]:
    """Returns {rank on this host: logical device}; a CPU has one device for each rank."""
    return {rank: rank for rank in range(get_local_rank_size())}


def get_min_device_id() -> int:
    """Returns the smallest logical device of this host."""
    return min(get_rank_to_device_dict())


__all__ = ["get_device_id", "get_local_rank_size", "get_min_device_id", "get_rank_id", "get_rank_size",
           "get_rank_to_device_dict"]
