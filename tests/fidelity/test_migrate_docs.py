"""docs/migrate.md: its files are written, its commands run as written, and what it quotes is really printed."""
import importlib.util
import os
import re
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT


def _page():
    with open(os.path.join(PROJECT, "docs", "migrate.md"), encoding="utf-8") as stream:
        return stream.read()


def _files(page):
    """{name: text} of the code blocks that begin with the name of a file."""
    return {match.group(1): match.group(0)[len("```python\n"):-len("```")]
            for match in re.finditer(r"```python\n# (\w+\.py)\n.*?```", page, re.DOTALL)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("migrate")
    for name, text in _files(_page()).items():
        (made / name).write_text(text)
    return made


def _run(command, folder):
    assert command in re.findall(r"^    (python .*)$", _page(), re.MULTILINE), "not a command of the page"
    names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "JOB_ID")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment.update(PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="2")
    return subprocess.run([sys.executable] + command.split()[1:], cwd=str(folder), env=environment, text=True,
                          capture_output=True, check=False)


def _quoted(line):
    assert "    " + line in _page().splitlines(), "the page does not quote %r" % line
    return line


@pytest.mark.long
def test_bring_your_own_program(folder):
    refused = _run("python -m rec_sdk_cpu clicks.py", folder)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == _quoted(
        'ModuleNotFoundError: SDK generation G3 has no mx_rec.util.communication; in its place: '
        'rec_sdk_common.communication.hccl.hccl_info; run with --generation G2, or install(generation="G2")')
    traced = _run("python -m rec_sdk_cpu --generation G2 --trace clicks.py", folder)
    assert traced.returncode == 0, traced.stderr
    assert traced.stdout.splitlines()[2:] == [_quoted("step 30 loss 0.1 rows 50 of 100")]
    report = traced.stderr.splitlines()
    for line in ("  mx_rec.util.communication.hccl_ops.get_rank_id() (clicks.py:17)",
                 "    G3: is not there; use rec_sdk_common.communication.hccl.hccl_info",
                 "  - Results vary from run to run, here and on a device: the dense optimizer updates weight while the "
                 "gradients of the"):
        assert _quoted(line) in report, traced.stderr
    assert _run("python ordered.py", folder).returncode == 0
    moved = _run("python -m rec_sdk_cpu --trace clicks_g3.py", folder)
    assert moved.returncode == 0 and moved.stdout.splitlines()[-1] == "step 30 loss 0.1 rows 50 of 100", moved.stderr
    assert "Results vary" not in moved.stderr and "G2: is not there" in moved.stderr
    if importlib.util.find_spec("horovod") is not None:
        ranks = _run("python -m rec_sdk_cpu --ranks 2 clicks_g3.py", folder)
        last = _quoted("step 30 loss 0.0 rows 25 of 100").split()
        found = ranks.stdout.splitlines()[-1].split()
        # The ranks' dense gradients are not summed, so the last digit of the loss may differ.
        assert ranks.returncode == 0 and found[:3] + found[4:] == last[:3] + last[4:], ranks.stdout + ranks.stderr


@pytest.mark.long
def test_move_a_plain_estimator(folder):
    plain = _run("python plain.py", folder)
    assert plain.returncode == 0, plain.stderr
    moved = _run("python -m rec_sdk_cpu --trace moved.py", folder)
    assert moved.returncode == 0, moved.stderr
    assert plain.stdout.strip() == moved.stdout.strip() == _quoted("loss 0.4558 first 0.7477")
    assert "Migration report of moved.py" in moved.stderr
