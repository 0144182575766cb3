"""What all tests share: the CPU stand-in under the real names, and quiet TensorFlow."""
import os
import signal
import warnings

import pytest
from hypothesis import settings

# No wall-clock deadline: on a busy machine one slow example would fail a correct test. In CI the examples are the same
# ones at every run, so that a red build is always the change's doing; elsewhere they are new each time.
settings.register_profile("project", deadline=None)
settings.register_profile("project-ci", deadline=None, derandomize=True, database=None)
settings.load_profile("project-ci" if os.environ.get("CI") else "project")

# A shell starts a background process with Ctrl-C ignored, and its children inherit that: tests that send the signal
# would wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
for _name, _value in (("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1"),
                      ("OMPI_COMM_WORLD_LOCAL_SIZE", "1"), ("JOB_ID", "10086")):
    os.environ.setdefault(_name, _value)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tensorflow as tf

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)


@pytest.fixture
def sdk():
    """The stand-in, installed and initialised anew; removed again after the test."""
    import rec_sdk_cpu
    from rec_sdk_cpu.core import config

    rec_sdk_cpu.install()
    config.reset()
    config.init()
    with tf.Graph().as_default():
        yield rec_sdk_cpu
    config.reset()


@pytest.fixture
def census_dir():
    """The folder of the real data, or a skip that says why."""
    path = os.environ.get("CENSUS_KDD_DIR")
    if not path or not os.path.isdir(path):
        pytest.skip("CENSUS_KDD_DIR does not name the folder of the real census files")
    return path
