"""What one process remembers between calls: job identity, HCCL's state, recorded ranks, the device's overflow mode."""
from typing import Any, NamedTuple, Optional


class RankInfo(NamedTuple):
    """The rank numbers that ``init_resource`` records (npu_bridge_api 1.7)."""

    rank_id: int
    rank_size: int
    local_rank_id: int
    local_rank_size: int


class ProcessState:
    """Mutable, process-wide; the real packages keep the same things in module globals and native singletons."""

    def __init__(self) -> None:
        self.basics: Optional[Any] = None
        self.hccl_ready = False
        self.ranks: Optional[RankInfo] = None
        # 1 = INF/NAN mode, the default of Atlas A2 and later (npu_bridge_api 1.4) and how a CPU computes anyway.
        self.saturation_mode = 1


state = ProcessState()


def reset() -> None:
    """Forgets everything, as a new process would: for tests, and for programs that change JOB_ID or RANK_SIZE."""
    state.__init__()  # type: ignore[misc]
