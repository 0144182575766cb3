"""The processes of a launch: signals, output, which rank failed first, exit status; nothing stays behind."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from estimator_app.launch import processes
from estimator_app.launch.environment import LaunchOptions, compose
from estimator_app.launch.hosts import Placement, this_host
from estimator_app.launch.runners import command_line
from feature_specs.errors import UserError
from feature_specs.files import PROJECT

MODULE = "tests.estimator_app.launch.rank_program"
IDENTITY = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")
LAUNCHER = """
import json, os, sys
from estimator_app.launch.hosts import Placement
from estimator_app.launch.processes import run_ranks
sys.exit(run_ranks(json.loads(sys.argv[1]), dict(os.environ), Placement(("localhost",), int(sys.argv[2]))))
"""


def environment():
    values = {name: value for name, value in os.environ.items() if name not in IDENTITY}
    return dict(values, PYTHONPATH=PROJECT)


def stand_in(ranks, folder, what):
    """The command of the strict stand-in for horovodrun."""
    return [sys.executable, os.path.join(os.path.dirname(__file__), "runner.py"), str(ranks), sys.executable, "-m",
            "estimator_app.launch.rank", MODULE, str(folder), what]


def horovod(ranks, folder, what):
    """The command of Horovod's launcher."""
    options = LaunchOptions("", "", None, None, ranks, device="cpu")
    host = this_host()
    return list(command_line(options, compose(options, host), host, MODULE, [str(folder), what]))


def as_at_a_terminal():
    """Takes back what nohup or a job in the background has made programs ignore."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(*paths):
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, [str(path) for path in paths]
        time.sleep(0.02)


class Launch:
    """A launcher's process and its ranks."""

    def __init__(self, folder, ranks, what, runner=stand_in):
        self.folder, self.ranks = folder, ranks
        command = [sys.executable, "-c", LAUNCHER, json.dumps(runner(ranks, folder, what)), str(ranks)]
        self.process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, preexec_fn=as_at_a_terminal)

    def up(self):
        wait_for(*[self.folder / ("up.%d" % rank) for rank in range(self.ranks)])
        return self

    def pid(self, rank):
        return int((self.folder / ("up.%d" % rank)).read_text())

    def end(self):
        """Returns exit status, standard output and standard error, and makes sure that no rank is left."""
        output, errors = self.process.communicate(timeout=90)
        deadline = time.monotonic() + 30
        for rank in range(self.ranks):
            while (self.folder / ("up.%d" % rank)).exists() and running(self.pid(rank)):
                assert time.monotonic() < deadline, "rank %d stays behind" % rank
                time.sleep(0.05)
        return self.process.returncode, output, errors


def running(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as stream:
            return stream.read().split()[2] != "Z"
    except OSError:
        return False


def test_output_of_rank_0_only(tmp_path):
    status, output, errors = Launch(tmp_path, 3, "end").end()
    assert (status, output, errors) == (0, "rank 0 speaks\n", "")


def check_stop(tmp_path, runner, number, expected):
    """A signal reaches all ranks; a rank that has saved waits for the others before the runner can kill them."""
    launch = Launch(tmp_path, 3, "wait", runner).up()
    launch.process.send_signal(number)
    status, output, errors = launch.end()
    assert (status, output, errors) == (128 + expected, "rank 0 speaks\n", "")
    assert sorted(path.name for path in tmp_path.glob("saved.*")) == ["saved.0", "saved.1", "saved.2"]


@pytest.mark.parametrize("number, expected", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)])
def test_a_signal_lets_all_ranks_save(tmp_path, number, expected):
    check_stop(tmp_path, stand_in, number, expected)


def check_kill(tmp_path, runner, rank):
    launch = Launch(tmp_path, 3, "wait", runner).up()
    os.kill(launch.pid(rank), signal.SIGKILL)
    status, output, errors = launch.end()
    assert (status, output) == (137, "rank 0 speaks\n")
    assert errors.count("\n") == 1
    assert errors.startswith("error: rank %d of 3 (process %d on host " % (rank, launch.pid(rank)))
    assert "was killed by SIGKILL" in errors and "the same command resumes" in errors


def test_a_crash_shows_what_the_rank_said(tmp_path):
    status, _, errors = Launch(tmp_path, 2, "abort").end()
    lines = errors.splitlines()
    assert status == 128 + signal.SIGABRT and lines[0] == "check failed"
    assert lines[-1].startswith("error: rank 0 of 2 ") and "was killed by SIGABRT" in lines[-1]


@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_rank_is_named(tmp_path, rank):
    check_kill(tmp_path, stand_in, rank)


@pytest.mark.parametrize("output, expected", [
    ("Process 0 exit with status code 137.\nProcess 1 exit with status code 143.\n", "SIGKILL"),
    ("Process 1 exit with status code 143.\nProcess 0 exit with status code 134.\n", "SIGABRT")])
def test_a_rank_that_is_killed_before_it_has_said_who_it_is(capfd, output, expected):
    command = [sys.executable, "-c", "import sys; sys.stdout.write(sys.argv[1]); sys.exit(1)", output]
    status = processes.run_ranks(command, dict(os.environ), Placement(("localhost",), 2))
    errors = capfd.readouterr().err
    assert status > 128 and errors.count("\n") == 1
    assert errors.startswith("error: rank 0 of 2 was killed by " + expected)


def test_a_rank_that_is_killed_while_it_waits_for_the_others_is_named(tmp_path):
    launch = Launch(tmp_path, 3, "early").up()
    time.sleep(0.5)  # it has said that it is done
    os.kill(launch.pid(1), signal.SIGKILL)
    status, _, errors = launch.end()
    assert status == 137 and errors.startswith("error: rank 1 of 3 (process %d on host " % launch.pid(1))


def test_a_rank_that_fails_shows_its_last_lines(tmp_path):
    status, output, errors = Launch(tmp_path, 3, "fail1").end()
    lines = errors.splitlines()
    assert status == 1 and lines[0].startswith("rank 1 of 3 (process ") and "failed first, with status 1" in lines[0]
    assert lines[1:] == ["rank 1 speaks", "error: the data are bad"]
    assert output in ("rank 0 speaks\n", "")


def test_a_failure_of_rank_0_is_shown_once(tmp_path):
    status, _, errors = Launch(tmp_path, 2, "fail0").end()
    assert (status, errors) == (1, "error: the data are bad\n")


def test_an_exception_of_a_rank_is_no_kill(tmp_path):
    status, _, errors = Launch(tmp_path, 2, "crash").end()
    assert status == 1 and errors.rstrip().endswith("ValueError: unexpected") and "was killed" not in errors


def test_a_second_signal_ends_ranks_that_do_not_listen(tmp_path):
    launch = Launch(tmp_path, 2, "stuck").up()
    launch.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert launch.process.poll() is None
    launch.process.send_signal(signal.SIGINT)
    assert launch.end()[0] == 130
    assert not list(tmp_path.glob("saved.*"))


def test_ranks_without_a_handler_end_by_the_signal(tmp_path):
    launch = Launch(tmp_path, 2, "deaf").up()
    launch.process.send_signal(signal.SIGTERM)
    assert launch.end() == (143, "rank 0 speaks\n", "")


def test_a_request_to_save_ends_nothing(tmp_path):
    launch = Launch(tmp_path, 2, "wait").up()
    launch.process.send_signal(signal.SIGUSR1)
    wait_for(tmp_path / "noted.0", tmp_path / "noted.1")
    assert launch.process.poll() is None
    launch.process.send_signal(signal.SIGTERM)
    assert launch.end()[0] == 143


def check_launcher_killed(tmp_path, runner):
    launch = Launch(tmp_path, 2, "wait", runner).up()
    launch.process.kill()
    launch.end()
    assert (tmp_path / "saved.0").exists()


def test_ranks_save_and_end_when_the_launcher_is_killed(tmp_path):
    check_launcher_killed(tmp_path, stand_in)


def test_a_runner_that_starts_nothing_shows_why(tmp_path):
    code = "import sys; print('[1]<stdout>:tagged'); sys.stderr.write('ssh: no route\\n'); raise ValueError('hosts')"
    done = subprocess.run([sys.executable, "-c", LAUNCHER, json.dumps([sys.executable, "-c", code]), "2"],
                          env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "ssh: no route\nValueError: hosts\ntagged\n")
    with pytest.raises(UserError, match="cannot be started"):
        processes.run_ranks(["/none/horovodrun"], {}, Placement(("localhost",), 2))


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\n", b"[]\n", b"{}\n", b"x" * 5000,
                                   b'{"token": "guess", "rank": 0, "host": "h", "pid": 1}\n', b'{"token": 3}\n'],
                         ids=range(7))
def test_strangers_on_the_line_are_turned_away(tmp_path, words):
    run = processes._Run(Placement(("localhost",), 1), None)
    ours, theirs = socket.socketpair()
    with theirs, ours:
        theirs.sendall(words)
        rank = processes._Rank(ours)
        assert run._hear(rank) is False and ours.fileno() == -1 and not run._ranks
        assert rank.number == -1


def test_the_output_of_a_runner_in_pieces():
    source, target = os.pipe()
    written = []
    output = processes._Output(source, sys.stdout, lambda rank, text, stream: written.append((rank, text)))
    text = "[1,0]<stdout>:step 1\rstep 2\r[0]<stdout>: x\nnoise\n[12]<stderr>:äb\n[0]<stdout>:rest".encode()
    for index in range(0, len(text), 7):
        os.write(target, text[index:index + 7])
        assert output.read()
    os.close(target)
    assert not output.read()
    os.close(source)
    assert written == [(0, "step 1\r"), (0, "step 2\r"), (0, " x\n"), (-1, "noise\n"), (12, "äb\n"), (0, "rest")]


def test_exit_status_and_signals_of_a_command():
    assert processes.run_command([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ)) == 3
    text = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert processes.run_command([sys.executable, "-c", text], dict(os.environ)) == 137
    with pytest.raises(UserError, match="cannot be started"):
        processes.run_command(["/none/horovodrun"], {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_reach_the_command_and_nobody_else(tmp_path, number):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    code = textwrap.dedent("""
        import sys
        from estimator_app.launch import processes
        child = '''
        import signal, sys, time
        signal.signal(%d, lambda *_: sys.exit(5))
        open(sys.argv[1], "w").close()
        time.sleep(60)
        '''
        import os, textwrap
        sys.exit(processes.run_command([sys.executable, "-c", textwrap.dedent(child), %r], dict(os.environ)))
    """) % (number, str(tmp_path / "up"))
    launcher = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ, PYTHONPATH=PROJECT),
                                preexec_fn=as_at_a_terminal)
    try:
        wait_for(tmp_path / "up")
        launcher.send_signal(number)
        assert launcher.wait(timeout=60) == 5
        assert bystander.poll() is None
    finally:
        for process in (bystander, launcher):
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.mark.parametrize("number, expected", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 0)])
def test_a_stop_that_the_command_did_not_heed_ends_what_would_follow(number, expected):
    # The child sends it when it has done its work; of a request to save before its handler is there nothing dies.
    text = ("import os, signal; [signal.signal(n, signal.SIG_IGN) for n in (signal.SIGTERM, signal.SIGINT)]; "
            "os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getppid(), %d)" % number)
    before = signal.signal(number, signal.SIG_DFL)  # which a job in the background ignores
    try:
        assert processes.run_command([sys.executable, "-c", text], dict(os.environ)) == expected
    finally:
        signal.signal(number, before)


def test_handlers_come_back():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    processes.run_command([sys.executable, "-c", ""], dict(os.environ))
    processes.run_ranks([sys.executable, "-c", ""], dict(os.environ), Placement(("localhost",), 1))
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture
def real_horovod():
    if this_host().package("horovod") is None or not shutil.which("horovodrun", path=os.path.dirname(sys.executable)):
        pytest.skip("Horovod is not installed; bash run_estimator.sh setup --distributed")


@pytest.mark.long
def test_horovod_saves_on_a_signal(tmp_path, real_horovod):
    check_stop(tmp_path, horovod, signal.SIGTERM, signal.SIGTERM)


@pytest.mark.long
def test_horovod_names_a_killed_rank(tmp_path, real_horovod):
    check_kill(tmp_path, horovod, 1)


@pytest.mark.long
def test_the_preflight_on_two_hosts_over_horovod(tmp_path, real_horovod):
    """Two names of this machine, which Horovod takes for two hosts and reaches without ssh."""
    code = ("import argparse, sys\nfrom estimator_app.launch import preflight\n"
            "parser = argparse.ArgumentParser(); preflight.add_arguments(parser)\n"
            "sys.exit(preflight.run(parser.parse_args(sys.argv[1:])))\n")
    done = subprocess.run([sys.executable, "-c", code, "--device", "cpu", "--hosts", "localhost:2,127.0.0.1:2",
                           "--model_dir", str(tmp_path / "run")], env=environment(), capture_output=True, text=True,
                          timeout=90)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in lines if line.startswith("host ")] == ["host localhost:", "host 127.0.0.1:"]
    assert sum(line.startswith("ok       shared storage") for line in lines) == 2 and not list(tmp_path.iterdir())


@pytest.mark.long
def test_horovod_ends_with_the_launcher(tmp_path, real_horovod):
    check_launcher_killed(tmp_path, horovod)


@pytest.mark.long
def test_horovod_shows_rank_0_only(tmp_path, real_horovod):
    assert Launch(tmp_path, 3, "end", horovod).end() == (0, "rank 0 speaks\n", "")
