import pytest

from tests.entry.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


@pytest.fixture
def ready(sandbox):
    """A sandbox whose environment is set up."""
    sandbox.fake("python3.7")
    assert sandbox.run("setup").returncode == 0
    sandbox.forget()
    return sandbox
