"""Starts the ranks of these tests: each number of ranks once, for all cases."""
import importlib.util
import os
import subprocess
import sys
from typing import Dict, List

import pytest

from feature_specs.files import PROJECT

# The order in which checkpoints go from one number of ranks to the next, and where each takes them from.
JOURNEY = (("one", 1, None), ("four", 4, "one"), ("two", 2, "four"), ("last", 1, "two"))
WATCHDOG_SECONDS = 120
LAUNCH_SECONDS = 1200


def needs_horovod() -> None:
    """Skips where several ranks cannot run."""
    if importlib.util.find_spec("horovod") is None:
        pytest.skip("several ranks need Horovod: bash run_estimator.sh setup --distributed")


def environment(**more: str) -> Dict[str, str]:
    """Returns the environment of a launched process: no ranks announced, the project importable."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("OMPI_", "HOROVOD_", "RANK_", "CM_"))}
    path = os.pathsep.join(part for part in (PROJECT, os.environ.get("PYTHONPATH", "")) if part)
    return dict(kept, PYTHONPATH=path, TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS="ignore",
                HCCL_EXEC_TIMEOUT=str(WATCHDOG_SECONDS), **more)


def launch(command: List[str], ranks: int, seconds: float = LAUNCH_SECONDS, cwd: str = PROJECT,
           **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command on some ranks, one of them without the launcher, and returns how it ended."""
    prefix = [] if ranks == 1 else [sys.executable, "-m", "rec_sdk_cpu.rank_launcher", "--ranks", str(ranks), "--"]
    return subprocess.run(prefix + command, env=dict(environment(), **variables), cwd=cwd, timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def ranks_can_run() -> None:
    needs_horovod()


@pytest.fixture(scope="session")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """{stage: folder with what its ranks left}."""
    needs_horovod()
    folders: Dict[str, str] = {}
    for stage, ranks, earlier in JOURNEY:
        folders[stage] = os.path.realpath(str(tmp_path_factory.mktemp(stage)))
        command = [sys.executable, "-m", "tests.rec_sdk_cpu.ranks.program", folders[stage]]
        ended = launch(command + ([folders[earlier]] if earlier else []), ranks)
        assert ended.returncode == 0, ended.stdout
    return folders


def folder_of(journey: Dict[str, str], ranks: int) -> str:
    """Returns the folder of a number of ranks."""
    return journey[next(stage for stage, number, _ in JOURNEY if number == ranks)]

