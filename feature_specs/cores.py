"""The cores that this process may use."""
import os

_QUOTA_V2 = "/sys/fs/cgroup/cpu.max"
_QUOTA_V1, _PERIOD_V1 = "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"


def usable_cores() -> int:
    """Returns the cores that this process may use: its affinity, and a container's CPU quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = map(float, _read(_QUOTA_V2).split() or (_read(_QUOTA_V1), _read(_PERIOD_V1)))
    except ValueError:
        return cores
    return max(1, min(cores, round(quota / period))) if quota > 0 and period > 0 else cores


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
