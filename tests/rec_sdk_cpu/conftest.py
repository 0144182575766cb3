"""The stand-in for its own tests: installed, but not initialised, because each test initialises it its own way."""
import pytest
import tensorflow as tf


@pytest.fixture
def sdk():
    """The stand-in, installed, with no trace of an earlier ``init``."""
    import rec_sdk_cpu
    from rec_sdk_cpu.core import config

    rec_sdk_cpu.install()
    config.reset()
    with tf.Graph().as_default():
        yield rec_sdk_cpu
    config.reset()


@pytest.fixture(autouse=True)
def _without_patches(request):
    """Takes the stand-in out for tests of its modules that do not install it, and puts it back."""
    import rec_sdk_cpu

    present = rec_sdk_cpu.is_installed() and "sdk" not in request.fixturenames
    if present:
        rec_sdk_cpu.uninstall()
    yield
    if present:
        rec_sdk_cpu.install()
