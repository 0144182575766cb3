import pytest

from estimator_app.config import Config
from estimator_app.training import machine
from feature_specs.errors import ConfigError


@pytest.fixture
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(machine, "usable_cores", lambda: 16)


def test_threads_follow_the_cores_unless_they_are_set(sixteen_cores):
    assert machine.threads(0) == 16 and machine.threads(3) == 3


def test_small_batches_use_one_thread_per_op_unless_it_is_set(sixteen_cores):
    assert machine.intra_op_threads(0, 32) == 1 and machine.intra_op_threads(0, 512) == 16
    assert machine.intra_op_threads(3, 32) == 3


def test_prefetch_follows_the_threads_unless_it_is_set():
    assert machine.prefetch(0, 2) == 8 and machine.prefetch(0, 99) == 64 and machine.prefetch(5, 16) == 5
    assert Config().prefetch == 0 and Config(prefetch=3).prefetch == 3
    with pytest.raises(ConfigError, match="prefetch -1"):
        Config(prefetch=-1)
