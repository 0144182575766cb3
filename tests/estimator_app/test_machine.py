import os

import pytest

from estimator_app import machine
from estimator_app.config import Config
from feature_specs.errors import ConfigError


@pytest.fixture
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


@pytest.mark.parametrize("files, cores", [
    ({}, 16), ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 16), ({"/sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
    ({"/sys/fs/cgroup/cpu.max": "50000 100000"}, 1), ({"/sys/fs/cgroup/cpu.max": "9900000 100000"}, 16),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 16),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 4),
    ({"/sys/fs/cgroup/cpu.max": "nonsense"}, 16)])
def test_cores_are_those_that_the_process_may_use(sixteen_cores, monkeypatch, files, cores):
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    assert machine.usable_cores() == cores
    assert machine.threads(0) == cores and machine.threads(3) == 3


def test_small_batches_use_one_thread_per_op_unless_it_is_set(sixteen_cores, monkeypatch):
    monkeypatch.setattr(machine, "_read", lambda _: "")
    assert machine.intra_op_threads(0, 32) == 1 and machine.intra_op_threads(0, 512) == 16
    assert machine.intra_op_threads(3, 32) == 3


def test_prefetch_follows_the_threads_unless_it_is_set():
    assert machine.prefetch(0, 2) == 8 and machine.prefetch(0, 99) == 64 and machine.prefetch(5, 16) == 5
    assert Config().prefetch == 0 and Config(prefetch=3).prefetch == 3
    with pytest.raises(ConfigError, match="prefetch -1"):
        Config(prefetch=-1)
