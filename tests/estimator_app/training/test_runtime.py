"""What follows from the machine's cores."""
import dataclasses
import importlib

import pytest

from estimator_app.config import Config


@pytest.fixture
def runtime(sdk, monkeypatch):
    del sdk
    module = importlib.import_module("estimator_app.training.runtime")
    monkeypatch.setattr(module, "usable_cores", lambda: 16)
    return module


def test_threads_follow_the_cores_unless_they_are_set(runtime, tmp_path):
    def threads(**changes):
        session = runtime.run_config(dataclasses.replace(Config(model_dir=str(tmp_path)), **changes), 0).session_config
        return session.intra_op_parallelism_threads, session.inter_op_parallelism_threads

    # At small batches every op is over sooner than another thread wakes up.
    assert threads(batch_size=32) == (1, 16) and threads(batch_size=512) == (16, 16)
    assert threads(batch_size=32, threads=3) == (3, 3)
