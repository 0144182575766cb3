import os

import pytest

from feature_specs import cores


@pytest.mark.parametrize("files, expected", [
    ({}, 16), ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 16), ({"/sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
    ({"/sys/fs/cgroup/cpu.max": "50000 100000"}, 1), ({"/sys/fs/cgroup/cpu.max": "9900000 100000"}, 16),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 16),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 4),
    ({"/sys/fs/cgroup/cpu.max": "nonsense"}, 16)])
def test_cores_are_those_that_the_process_may_use(monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(cores, "_read", lambda path: files.get(path, ""))
    assert cores.usable_cores() == expected
