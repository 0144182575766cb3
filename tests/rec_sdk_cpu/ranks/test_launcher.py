"""The launcher: environment, output, signals, a rank that dies; and the watchdog that ends a hang."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from feature_specs.files import PROJECT
from tests.rec_sdk_cpu.ranks.conftest import environment, launch, needs_horovod

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

START = """
import os, sys, time, signal
import rec_sdk_cpu
rec_sdk_cpu.install()
import tensorflow as tf
from mx_rec.util.initialize import init
from rec_sdk_cpu.core import collectives
rank = int(os.environ["RANK_ID"])
init(max_steps=-1)
session = tf.compat.v1.Session()
"""


@pytest.fixture
def run(tmp_path, ranks_can_run):
    def started(body, ranks=2, seconds=100.0, **variables):
        path = tmp_path / "program.py"
        path.write_text(START + body)
        return launch([sys.executable, str(path)], ranks, seconds, **variables)
    return started


def test_a_rank_that_does_not_come_is_named(run):
    ended = run("""
waiting = collectives.allreduce(tf.constant(1.0), "sum", "of_the_test")
if rank == 1:
    time.sleep(60)
session.run(waiting)
""", HCCL_EXEC_TIMEOUT="4")
    assert ended.returncode == 70
    assert re.search(r"rank 0 of 2: collective rec_sdk_cpu\.of_the_test\.0 has waited \d+ s \(HCCL_EXEC_TIMEOUT\); "
                     r"rank 1 did not come; all ranks must run the same graph", ended.stdout)
    assert ended.stdout.rstrip().endswith("rank 0 of 2 ended with exit status 70; the other ranks were ended")


def test_ranks_in_different_collectives_are_named(run):
    ended = run("""
first = collectives.allreduce(tf.constant(1.0), "sum", "first")
second = collectives.allreduce(tf.constant(1.0), "sum", "second")
session.run([second, first][rank])
""", HCCL_EXEC_TIMEOUT="4")
    assert ended.returncode == 70
    assert ("rank 1 waits in rec_sdk_cpu.first.0" in ended.stdout) or (
        "rank 0 waits in rec_sdk_cpu.second.0" in ended.stdout)
    assert " has waited " in ended.stdout and "did not come" not in ended.stdout


def test_a_collective_that_is_slow_but_moves_is_left_alone(run):
    ended = run("""
waiting = collectives.allreduce(tf.constant(1.0), "sum", "slow")
for _ in range(4):
    time.sleep(1.5 * rank)
    session.run(waiting)
print("done")
""", HCCL_EXEC_TIMEOUT="3")
    assert (ended.returncode, ended.stdout.count("done")) == (0, 1)


def test_a_wrong_timeout_is_refused(run):
    ended = run("", HCCL_EXEC_TIMEOUT="soon")
    assert ended.returncode == 1 and "HCCL_EXEC_TIMEOUT must be a positive number of seconds" in ended.stdout


def test_a_killed_rank_is_named_and_the_others_end(run):
    begin = time.monotonic()
    ended = run("""
waiting = collectives.allreduce(tf.constant(1.0), "sum", "loop")
while True:
    session.run(waiting)
    if rank == 2:
        os.kill(os.getpid(), signal.SIGKILL)
""", ranks=4)
    assert ended.returncode == 128 + signal.SIGKILL and time.monotonic() - begin < 60
    assert "rank 2 of 4 was killed by SIGKILL; the other ranks were ended" in ended.stdout


def test_the_output_of_a_rank_that_fails_is_shown(run):
    ended = run("""
print("hello of rank %d" % rank, flush=True)
if rank == 1:
    raise ValueError("a mistake of rank 1")
session.run(collectives.allreduce(tf.constant(1.0), "sum", "waiting"))
""")
    assert ended.returncode == 1 and "[rank 1] ValueError: a mistake of rank 1" in ended.stdout
    # Rank 0, which loses its peer, may be the first to end.
    assert re.search(r"rank [01] of 2 ended with exit status 1; the other ranks were ended\n", ended.stdout)
    assert "\nhello of rank 0\n" in "\n" + ended.stdout


def test_ranks_have_the_environment_of_an_npu_host(run):
    ended = run("""
from rec_sdk_common.communication.hccl.hccl_info import get_rank_id, get_rank_size, get_local_rank_size, get_device_id
names = ("RANK_ID", "RANK_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "JOB_ID")
line = [os.environ[name] for name in names] + [get_rank_id(), get_rank_size(), get_local_rank_size(), get_device_id()]
print(line)
""", ranks=2)
    assert ended.returncode == 0, ended.stdout
    assert "['0', '2', '0', '2', '2', '10086', 0, 2, 2, 0]" in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_every_rank_once_and_leaves_nothing(tmp_path, number, ranks_can_run):
    path = tmp_path / "program.py"
    path.write_text(START + """
stopped = []
for one in (signal.SIGINT, signal.SIGTERM):
    signal.signal(one, lambda number, frame: stopped.append(number))
agreed = collectives.Agreement("stop")
open(sys.argv[1] + "/started%d" % rank, "w").write(str(os.getpid()))
while agreed.all(session, not stopped):
    time.sleep(0.02)
time.sleep(0.5)
open(sys.argv[1] + "/saved%d" % rank, "w").write(str(len(stopped)))
""")
    launcher = subprocess.Popen(
        [sys.executable, "-m", "rec_sdk_cpu.rank_launcher", "--ranks", "2", "--", sys.executable, str(path),
         str(tmp_path)], env=environment(), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 100
        while not all((tmp_path / ("started%d" % rank)).exists() for rank in range(2)):
            assert time.monotonic() < end and launcher.poll() is None
            time.sleep(0.1)
        time.sleep(0.5)
        launcher.send_signal(number)
        assert launcher.wait(60) == 0
    finally:
        launcher.kill()
    for rank in range(2):
        assert (tmp_path / ("saved%d" % rank)).read_text() == "1"
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / ("started%d" % rank)).read_text()), 0)


def test_the_runner_starts_ranks(tmp_path, ranks_can_run):
    path = tmp_path / "program.py"
    path.write_text(START.replace("import rec_sdk_cpu\nrec_sdk_cpu.install()\n", "")
                    + "print(session.run(collectives.allreduce(tf.constant(2), 'sum', 'x')), sys.argv[1:])\n")
    ended = launch([sys.executable, "-m", "rec_sdk_cpu", "--ranks", "2", str(path), "--ranks", "x"], 1, 100)
    assert (ended.returncode, ended.stdout.count("4 ['--ranks', 'x']")) == (0, 1), ended.stdout


def test_one_rank_does_not_import_horovod(tmp_path):
    path = tmp_path / "program.py"
    path.write_text("import sys\nfrom mx_rec.util.initialize import init\ninit(max_steps=-1)\n"
                    "import mx_rec.core.embedding\nassert not [m for m in sys.modules if 'horovod' in m]\n")
    ended = launch([sys.executable, "-m", "rec_sdk_cpu", str(path)], 1, 100)
    assert ended.returncode == 0, ended.stdout


def test_ranks_without_horovod_are_refused_with_a_line(tmp_path):
    (tmp_path / "horovod.py").write_text("raise ImportError('no horovod here')\n")
    ended = launch([sys.executable, "-c", "pass"], 2, 60, PYTHONPATH=os.pathsep.join([str(tmp_path), PROJECT]))
    assert ended.returncode == 1
    assert "2 ranks on CPUs need Horovod (no horovod here)" in ended.stdout and len(ended.stdout.splitlines()) == 1


@pytest.mark.parametrize("arguments, message", [
    (["--ranks", "1", "--", "x"], "--ranks must be in"), (["--ranks", "2"], "the command is missing")])
def test_command_lines_that_are_refused(arguments, message, capsys):
    from rec_sdk_cpu import rank_launcher
    with pytest.raises(SystemExit) as ended:
        rank_launcher.main(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_a_command_that_does_not_exist(tmp_path):
    needs_horovod()
    ended = launch([str(tmp_path / "nothing")], 2, 60)
    assert ended.returncode == 1 and "nothing cannot be started: No such file or directory" in ended.stdout
