"""Starts the ranks of a CPU program on this machine and stays until all have ended.

``python -m rec_sdk_cpu.rank_launcher --ranks 4 -- python program.py``. The ranks get the environment that ranks on NPUs
get from mpirun, and Horovod's. One signal to this process reaches every rank, once, and each may save and end; the
second kills them. Where a rank fails, the others are ended and one line names it. Ranks on several machines are started
by ``horovodrun``, whose environment ``rec_sdk_cpu.install()`` understands too.
"""
import argparse
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any, Dict, List, NamedTuple, Optional, Sequence

MAX_RANKS = 4095
_LOCALHOST = "127.0.0.1"
_FOLLOW_SECONDS = 10.0  # The others of a rank that failed end by themselves: their collectives fail.
_TERMINATE_SECONDS = 10.0
_TAIL_LINES = 20
_PR_SET_PDEATHSIG = 1
# Loaded here: between fork and exec a child must do as little as it can.
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class LaunchError(RuntimeError):
    """The ranks cannot be started here."""


class Ended(NamedTuple):
    """How one rank ended.

    Attributes:
        rank: its number.
        status: as of ``subprocess``: negative for a signal.
    """

    rank: int
    status: int

    def describe(self, size: int) -> str:
        """Returns one line for the user."""
        if self.status >= 0:
            return "rank %d of %d ended with exit status %d" % (self.rank, size, self.status)
        return "rank %d of %d was killed by %s" % (self.rank, size, signal.Signals(-self.status).name)


class _Rank:
    """One rank's process; a thread waits for it, so that the order in which ranks end is known."""

    def __init__(self, rank: int, command: Sequence[str], environment: Dict[str, str], output: Optional[IO[bytes]],
                 ended: "List[Ended]"):
        self.rank = rank
        self.output = output
        # A session of its own: Ctrl-C reaches the launcher alone, which passes it on.
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                        stderr=subprocess.STDOUT if output is not None else None,
                                        start_new_session=True, preexec_fn=_die_with_parent)
        self._thread = threading.Thread(target=self._wait, args=(ended,), daemon=True)
        self._thread.start()

    def _wait(self, ended: "List[Ended]") -> None:
        ended.append(Ended(self.rank, self.process.wait()))

    def send(self, number: int) -> None:
        """Sends a signal where the process still runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kills the process and what it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def run(command: Sequence[str], size: int) -> int:
    """Runs a command once per rank and waits for all.

    Rank 0 has this process's output; what the others write is kept and shown where one of them fails.

    Args:
        command: program and arguments.
        size: number of ranks.

    Returns:
        0, or the exit status of the rank that failed first (128 + number for a signal).

    Raises:
        LaunchError: Horovod is not installed, or the command cannot be started.
    """
    try:
        from horovod.runner.common.util.hosts import SlotInfo
        from horovod.runner.http.http_server import RendezvousServer
    except ImportError as error:
        raise LaunchError("%d ranks on CPUs need Horovod (%s): bash run_estimator.sh setup --distributed"
                          % (size, error)) from error
    server = RendezvousServer()
    port = server.start()
    server.init([SlotInfo("localhost", rank, rank, 0, size, size, 1) for rank in range(size)])
    ended: List[Ended] = []
    started: List[_Rank] = []
    signals = _Signals(started)
    try:
        with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
            for rank in range(size):
                output = open(os.path.join(folder, "rank%d" % rank), "w+b") if rank else None  # noqa: SIM115
                started.append(_Rank(rank, command, rank_environment(rank, size, port), output, ended))
            _stay(started, ended, signals)
            return _report(started, ended, size, signals.received)
    except OSError as error:
        raise LaunchError("%s cannot be started: %s" % (command[0], error.strerror or error)) from error
    finally:
        for one in started:
            one.kill()
        signals.restore()
        server.stop()


def rank_environment(rank: int, size: int, port: int) -> Dict[str, str]:
    """Returns the environment of a rank on this machine: what mpirun, an NPU host and Horovod would set.

    Args:
        rank: its number.
        size: number of ranks.
        port: of the rendezvous server.
    """
    number, count = str(rank), str(size)
    environment = dict(os.environ)
    environment.pop("CM_WORKER_SIZE", None)  # TF Adapter refuses it beside RANK_SIZE.
    environment.update({
        "OMPI_COMM_WORLD_RANK": number, "OMPI_COMM_WORLD_SIZE": count, "OMPI_COMM_WORLD_LOCAL_RANK": number,
        "OMPI_COMM_WORLD_LOCAL_SIZE": count, "RANK_ID": number, "RANK_SIZE": count,
        "HOROVOD_RANK": number, "HOROVOD_SIZE": count, "HOROVOD_LOCAL_RANK": number, "HOROVOD_LOCAL_SIZE": count,
        "HOROVOD_CROSS_RANK": "0", "HOROVOD_CROSS_SIZE": "1", "HOROVOD_HOSTNAME": "localhost",
        "HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo", "HOROVOD_GLOO_RENDEZVOUS_ADDR": _LOCALHOST,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port), "HOROVOD_GLOO_IFACE": _loopback()})
    environment.setdefault("JOB_ID", "10086")
    return environment


class _Signals:
    """Passes the first SIGINT or SIGTERM on to every rank, and kills them at the second."""

    def __init__(self, started: List[_Rank]):
        self.received: Optional[int] = None
        self._started = started
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore(self) -> None:
        """Puts the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        del frame
        again, self.received = self.received is not None, number
        for one in self._started:
            if again:
                one.kill()
            else:
                one.send(number)


def _stay(started: List[_Rank], ended: List[Ended], signals: _Signals) -> None:
    # After a signal the ranks end by themselves, and some may still save.
    while len(ended) < len(started) and (signals.received is not None or not any(one.status for one in ended)):
        time.sleep(0.05)
    for seconds, number in ((_FOLLOW_SECONDS, signal.SIGTERM), (_TERMINATE_SECONDS, signal.SIGKILL)):
        end = time.monotonic() + seconds
        while len(ended) < len(started) and time.monotonic() < end:
            time.sleep(0.05)
        for one in started:
            one.send(number)


def _report(started: List[_Rank], ended: List[Ended], size: int, received: Optional[int]) -> int:
    failed = [one for one in ended if one.status]
    if not failed:
        return 0
    first = failed[0]
    # Rank 0 notices a lost peer at once, and may end before the rank that made the mistake.
    for one in [first] if first.rank else [one for one in failed if one.status > 0]:
        output = started[one.rank].output
        if output is not None:
            output.seek(0)
            for line in output.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]:
                sys.stderr.write("[rank %d] %s\n" % (one.rank, line))
    if received is None:
        sys.stderr.write("%s; the other ranks were ended\n" % first.describe(size))
    return first.status if first.status > 0 else 128 - first.status


def _loopback() -> str:
    return "lo0" if sys.platform == "darwin" else "lo"


def _die_with_parent() -> None:
    """Has Linux kill a rank whose launcher was killed; elsewhere such a rank ends with its next collective."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Parses the command line and runs the ranks; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m rec_sdk_cpu.rank_launcher", description=(
        "Starts a command once per rank on this machine, for the CPU stand-in of the Rec SDK."))
    parser.add_argument("--ranks", type=int, required=True, metavar="N", help="number of ranks, 2 to %d" % MAX_RANKS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what each rank runs")
    parsed = parser.parse_args(arguments)
    command = parsed.command[1:] if parsed.command[:1] == ["--"] else parsed.command
    if not 2 <= parsed.ranks <= MAX_RANKS:
        parser.error("--ranks must be in [2, %d], given %d" % (MAX_RANKS, parsed.ranks))
    if not command:
        parser.error("the command is missing: -- python program.py")
    try:
        return run(command, parsed.ranks)
    except LaunchError as error:
        sys.stderr.write("%s: %s\n" % (parser.prog, error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
