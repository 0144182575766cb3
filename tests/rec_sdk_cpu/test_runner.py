"""``python -m rec_sdk_cpu``: a program runs as it would by itself, on one rank, without any environment."""
import os
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT

_RANKS = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "JOB_ID")
PROGRAM = """
import json, os, sys
from helper import GREETING
from mx_rec.util.initialize import init, ConfigInitializer
init(train_steps=5)
from mx_rec.constants import constants
print(json.dumps({"main": __name__, "arguments": sys.argv[1:], "file": os.path.basename(__file__),
                  "first": os.path.basename(sys.path[0]), "greeting": GREETING,
                  "steps": ConfigInitializer.get_instance().train_steps, "job": os.environ["JOB_ID"],
                  "limit": constants.MAX_VOCABULARY_SIZE}))
"""


def run(*arguments, cwd, **environment):
    cleared = {name: value for name, value in os.environ.items() if name not in _RANKS}
    cleared.update(PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="2", **environment)
    return subprocess.run([sys.executable, "-m", "rec_sdk_cpu"] + [str(item) for item in arguments], cwd=str(cwd),
                          env=cleared, capture_output=True, text=True, check=False)


def test_a_program_runs_as_main_with_its_own_arguments(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "helper.py").write_text("GREETING = 'hello'\n")
    (tmp_path / "mine" / "program.py").write_text(PROGRAM)
    result = run("--generation", "G2", "mine/program.py", "--trace", "x", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == (
        '{"main": "__main__", "arguments": ["--trace", "x"], "file": "program.py", "first": "mine", '
        '"greeting": "hello", "steps": 5, "job": "10086", "limit": 10000000000}')


@pytest.mark.parametrize("body, status, text", [
    ("import sys; sys.exit(3)", 3, ""),
    pytest.param("raise KeyError('own')", 1, "KeyError: 'own'", marks=pytest.mark.long),
    ("from mx_rec.util.log import logger", 1, "in its place: rec_sdk_common.log"),
])
def test_exits_and_exceptions_of_the_program_pass_through(tmp_path, body, status, text):
    (tmp_path / "program.py").write_text(body + "\n")
    result = run("program.py", cwd=tmp_path)
    assert result.returncode == status and text in result.stderr


def test_a_missing_program_is_one_line(tmp_path):
    result = run("nothing.py", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == ("rec_sdk_cpu: nothing.py is not a file; give the Python file to run, and its arguments "
                             "after it\n")


def test_the_real_packages_are_not_pushed_aside_unasked(tmp_path):
    (tmp_path / "mx_rec").mkdir()
    (tmp_path / "mx_rec" / "__init__.py").write_text("")
    (tmp_path / "program.py").write_text("import mx_rec; print(mx_rec.__version__)\n")
    refused = run("program.py", cwd=tmp_path)
    assert refused.returncode == 2 and "the real mx_rec can be imported here" in refused.stderr
    assert run("--force", "program.py", cwd=tmp_path).stdout.strip() == "6.0.RC3"


@pytest.mark.long
def test_one_rank_needs_no_environment_and_uninstall_takes_it_back(tmp_path):
    (tmp_path / "program.py").write_text("""
import os, rec_sdk_cpu
rec_sdk_cpu.uninstall()
assert "OMPI_COMM_WORLD_SIZE" not in os.environ
rec_sdk_cpu.install()
from mx_rec.util import init
from rec_sdk_common.communication.hccl import get_rank_id, get_rank_size, get_device_id, get_min_device_id
init()
print(get_rank_id(), get_rank_size(), get_device_id(), get_min_device_id())
""")
    assert run("program.py", cwd=tmp_path).stdout.strip() == "0 1 0 0"


@pytest.mark.long
def test_half_an_environment_is_refused_as_on_a_device(tmp_path):
    (tmp_path / "program.py").write_text("from mx_rec.util import init; init()\n")
    result = run("program.py", cwd=tmp_path, OMPI_COMM_WORLD_RANK="0")
    assert result.returncode == 1 and "RANK_SIZE has not been exported" in result.stderr
