"""Job identity (npu_bridge_api 2.5): a process-wide singleton, so each case is a process of its own."""
import os
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_common, util

# The singleton is in npu_common alone: without TensorFlow's import a case takes milliseconds.
PRELUDE = """
import os
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_common
"""


def run(code, **environment):
    unset = ("JOB_ID", "RANK_SIZE", "CM_WORKER_SIZE", "RANK_ID", "POD_NAME")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    env.update(environment, PYTHONPATH=PROJECT, TF_CPP_MIN_LOG_LEVEL="3")
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, text=True, capture_output=True,
                          timeout=100)


def test_missing_job_id_is_remembered_for_the_whole_process():
    result = run("""
import os
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.npu_init import NPUEstimator, NPURunConfig
for job_id in (None, "10086"):
    if job_id:
        os.environ["JOB_ID"] = job_id
    try:
        NPUEstimator(lambda features: None, config=NPURunConfig(model_dir="m"))
    except ValueError as error:
        print(error)
""")
    assert result.stdout.count("Load job info failed, please check whether `JOB_ID` is set") == 2, result.stderr


def test_identity_is_read_once():
    result = run(PRELUDE + """
first = npu_common.NPUBasics("")
os.environ.update(RANK_SIZE="4", RANK_ID="3", JOB_ID="2")
assert npu_common.NPUBasics("") is first
print(tuple(first.jobinfo))
""", JOB_ID="1", RANK_SIZE="2", RANK_ID="1")
    assert result.stdout.strip() == "('1', 2, 1)", result.stderr


def test_empty_job_id_counts_as_missing():
    assert run(PRELUDE + "print(npu_common.NPUBasics('').jobinfo)", JOB_ID="").stdout.strip() == "None"


def test_both_size_variables_are_refused(monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "2")
    assert util.get_ranksize() == 2
    monkeypatch.setenv("CM_WORKER_SIZE", "2")
    with pytest.raises(ValueError, match="RANK_SIZE and CM_WORK_SIZE cannot be configured at the same time"):
        npu_common.NPUBasics("")
    monkeypatch.delenv("RANK_SIZE")
    assert util.get_ranksize() == 2


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_size_must_be_a_positive_number(monkeypatch, text):
    monkeypatch.setenv("RANK_SIZE", text)
    with pytest.raises(ValueError, match="RANK_SIZE"):
        util.get_ranksize()


def test_defaults_and_pod_name(monkeypatch):
    assert (util.get_ranksize(), npu_common.read_rank_id()) == (1, 0)
    monkeypatch.setenv("RANK_ID", "2")
    assert npu_common.read_rank_id() == 2
    monkeypatch.setenv("POD_NAME", "5")
    assert npu_common.read_rank_id() == 5
    monkeypatch.setenv("POD_NAME", "\u00b2")
    assert npu_common.read_rank_id() == 2
    monkeypatch.setenv("POD_NAME", "worker-x")
    assert npu_common.read_rank_id() == 2


def test_job_start_file_counts_only_when_it_can_be_read(tmp_path):
    path = tmp_path / "job.json"
    assert npu_common.NPUBasics(str(path)).jobinfo.job_id == "10086"
    npu_common.state.basics = None
    path.write_text("{}")
    with pytest.raises(NotImplementedError, match="JOB_ID"):
        npu_common.NPUBasics(str(path))


def test_parameter_server_mode_is_accepted_with_all_its_parts():
    result = run("""
import tensorflow as tf
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import NPURunConfig
strategy = tf.distribute.experimental.ParameterServerStrategy()
print(NPURunConfig(distribute=strategy, mix_compile_mode=True).train_distribute is strategy)
""", TF_CONFIG='{"cluster": {"chief": ["a:1"], "ps": ["b:1"]}, "task": {"type": "chief", "index": 0}}')
    assert result.stdout.strip() == "True", result.stderr


def test_modules_work_under_their_real_names():
    result = run("""
import importlib, sys
from rec_sdk_cpu.npu_bridge_modules import modules
MODULES = modules()
for name, path in MODULES.items():
    sys.modules[name] = importlib.import_module(path)
from npu_bridge.npu_init import *
from npu_bridge.estimator.npu import npu_config
from npu_bridge.estimator.npu.npu_loss_scale_manager import FixedLossScaleManager as same
from hccl.manage.api import get_rank_size as hccl_rank_size
import npu_bridge.hccl.hccl_ops as ops
assert npu_config.NPURunConfig is NPURunConfig and ops is hccl_ops and same is FixedLossScaleManager
assert hccl_rank_size is get_rank_size
assert issubclass(FixedLossScaleManager, tf.contrib.mixed_precision.FixedLossScaleManager)
for name in ("npu_bridge.estimator.npu.keras_to_npu", "npu_bridge.estimator.npu.npu_convert_dropout"):
    try:
        importlib.import_module(name)
    except ImportError:
        print("absent")
""")
    assert result.stdout.split() == ["absent", "absent"], result.stderr
