"""What a machine offers: the cores that this process may use, and the settings that follow from them."""
import os
from typing import Optional

_QUOTA_V2 = "/sys/fs/cgroup/cpu.max"
_QUOTA_V1, _PERIOD_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"
_BATCHES_PER_THREAD, _MOST_BATCHES = 4, 64
_SMALL_BATCH = 64


def usable_cores() -> int:
    """Returns the cores that this process may use: its affinity, and a container's CPU quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return cores if quota is None else max(1, min(cores, round(quota)))


def threads(configured: int) -> int:
    """Returns the number of threads: as configured, or with 0 one per usable core."""
    return configured or usable_cores()


def intra_op_threads(configured: int, batch_size: int) -> int:
    """Returns the threads that share one op: as configured; with 0 one for small batches, else one per core.

    At small batches every op is over sooner than another thread wakes up.

    Args:
        configured: the setting.
        batch_size: rows per training step.
    """
    return configured or (1 if batch_size <= _SMALL_BATCH else usable_cores())


def prefetch(configured: int, thread_count: int) -> int:
    """Returns the batches prepared ahead: as configured, or with 0 four per thread, at most 64.

    Args:
        configured: the setting.
        thread_count: threads that prepare batches.
    """
    return configured or min(_MOST_BATCHES, _BATCHES_PER_THREAD * thread_count)


def _quota() -> Optional[float]:
    """Returns the CPU quota of the container in cores, or None."""
    text = _read(_QUOTA_V2).split()
    if len(text) != 2:
        text = [_read(_QUOTA_V1), _read(_PERIOD_V1)]
    try:
        quota, period = float(text[0]), float(text[1])
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
