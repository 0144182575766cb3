"""What a rank's process does before its program: environment, cores, the line to the launcher."""
import os
import subprocess
import sys

import pytest

from estimator_app.launch import rank
from feature_specs.files import PROJECT


def test_horovods_variables_become_mpis():
    environment = {"HOROVOD_RANK": "5", "HOROVOD_SIZE": "8", "HOROVOD_LOCAL_RANK": "1", "HOROVOD_LOCAL_SIZE": "4",
                   "OMPI_COMM_WORLD_RANK": "0", "JOB_ID": "7"}
    before = dict(environment)
    rank.complete(environment)
    assert environment == dict(before, OMPI_COMM_WORLD_RANK="5", OMPI_COMM_WORLD_SIZE="8", RANK_ID="5", RANK_SIZE="8",
                               OMPI_COMM_WORLD_LOCAL_RANK="1", OMPI_COMM_WORLD_LOCAL_SIZE="4")


@pytest.mark.parametrize("number, address", [(0, "192.0.2.10"), (7, "192.0.2.10"), (8, "192.0.2.11"),
                                             (15, "192.0.2.11")])
def test_a_rank_takes_the_address_of_its_host(number, address):
    environment = {"OMPI_COMM_WORLD_RANK": str(number), "OMPI_COMM_WORLD_LOCAL_SIZE": "8",
                   "ESTIMATOR_WORKER_IPS": "192.0.2.10,192.0.2.11"}
    rank.complete(environment)
    assert environment["CM_WORKER_IP"] == address and "RANK_ID" not in environment


def test_on_one_host_nothing_is_added():
    environment = {"OMPI_COMM_WORLD_RANK": "3", "CM_WORKER_IP": "192.0.2.10"}
    rank.complete(environment)
    assert environment == {"OMPI_COMM_WORLD_RANK": "3", "CM_WORKER_IP": "192.0.2.10"}


@pytest.mark.parametrize("cores, ranks", [(8, 2), (5, 2), (4, 4), (7, 3), (2, 4), (1, 3)])
def test_ranks_share_the_cores_evenly(cores, ranks):
    shares = [rank.own_cores(list(range(10, 10 + cores)), number, ranks) for number in range(ranks)]
    assert sorted(set(sum(shares, []))) == list(range(10, 10 + cores)) and min(map(len, shares)) >= 1
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if cores >= ranks:
        assert len(sum(shares, [])) == cores


def run(tmp_path, code, **environment):
    (tmp_path / "program.py").write_text(code)
    return subprocess.run([sys.executable, "-m", "estimator_app.launch.rank", "program", "a", "--b"], text=True,
                          capture_output=True, timeout=60,
                          env=dict(os.environ, PYTHONPATH="%s:%s" % (PROJECT, tmp_path), **environment))


@pytest.mark.parametrize("end, status", [("", 0), ("sys.exit(7)", 7), ("sys.exit()", 0), ("sys.exit('why')", 1),
                                         ("raise KeyboardInterrupt", 130), ("raise ValueError('x')", 1)])
def test_the_program_runs_as_main_and_its_status_is_the_ranks(tmp_path, end, status):
    done = run(tmp_path, "import sys\nprint(__name__, sys.argv[1:])\n" + end)
    assert (done.returncode, done.stdout) == (status, "__main__ ['a', '--b']\n")
    assert ("why" in done.stderr) == ("why" in end) and ("ValueError: x" in done.stderr) == ("ValueError" in end)


def test_the_environment_is_complete_and_nothing_heavy_is_loaded_before_the_program(tmp_path):
    done = run(tmp_path, "import os, sys\nprint(os.environ['OMPI_COMM_WORLD_RANK'], len(os.sched_getaffinity(0)),\n"
                         "      [name for name in ('numpy', 'tensorflow', 'mx_rec') if name in sys.modules])",
               HOROVOD_RANK="1", HOROVOD_SIZE="2", HOROVOD_LOCAL_RANK="1",
               HOROVOD_LOCAL_SIZE=str(len(os.sched_getaffinity(0))))
    assert done.stdout == "1 1 []\n"


def test_a_launcher_that_cannot_be_reached(tmp_path):
    done = run(tmp_path, "print('ran')", ESTIMATOR_LAUNCHER="127.0.0.1:1:token", OMPI_COMM_WORLD_RANK="9")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: rank 9 on host ") and done.stderr.count("\n") == 1
    assert "cannot reach the launcher at 127.0.0.1:1 (Connection refused)" in done.stderr
