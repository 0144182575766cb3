"""Stand-in for the G2 rank helpers ``mx_rec.util.communication.hccl_ops`` (rec_sdk_api 1.3)."""
from rec_sdk_cpu.core.ranks import get_device_id, get_local_rank_size, get_rank_id, get_rank_size

__all__ = ["get_device_id", "get_local_rank_size", "get_rank_id", "get_rank_size"]
