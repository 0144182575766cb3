"""Runs the processes of a launch to their end: signals, output, which rank ended first, exit status.

Every rank keeps a line to this process (:mod:`.rank`). The runner (horovodrun, mpirun) hears of no signal: it would
kill the ranks before they have saved. Only processes started here are signalled.
"""
import codecs
import collections
import contextlib
import dataclasses
import json
import os
import re
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from typing import Callable, Deque, Dict, List, Optional, Sequence, TextIO, Tuple

from estimator_app.launch.hosts import Placement, address_of
from estimator_app.launch.rank import LAUNCHER
from estimator_app.signals import STOP, handled
from feature_specs.errors import UserError

_HANDED_ON = (*STOP, signal.SIGUSR1)
_KEPT_LINES = 40
_LONGEST_NAME = 1024  # bytes of a line that has not said whose it is
_AFTER_RUNNER = 10.0  # seconds for output that is still on its way
_TAG = re.compile(r"\[(?:\d+,)?(\d+)\]<(?:stdout|stderr)>:")
# How the runners tell that a rank was killed: horovodrun, mpirun.
_KILLED = re.compile(r"Process (?P<a>\d+) exit with status code (?P<status>\d+)|"
                     r"process rank (?P<b>\d+) .*exited on signal (?P<signal>\d+)")
_RUNNER = -1


def run_command(command: Sequence[str], environment: Dict[str, str]) -> int:
    """Runs a command to its end, hands signals on to it and returns its exit status: 128 and the signal's number where
    a signal ended it, or came too late to do so. UserError where it cannot be started.

    It gets a session of its own, so that a terminal's Ctrl-C reaches it once, through here; a signal that this process
    ignores (nohup) stays ignored.
    """
    child: List[subprocess.Popen[bytes]] = []
    received: List[int] = []

    def forward(number: int) -> None:
        received.append(number)
        # It may just have ended, and be no process any more.
        with contextlib.suppress(ProcessLookupError):
            if child:
                child[0].send_signal(number)

    with handled(forward, _HANDED_ON):
        child.append(_start(command, environment))  # in a session of its own: a terminal's Ctrl-C comes through here
        for number in list(received):
            child[0].send_signal(number)
        status = _exit_status(child[0].wait())
    stops = [number for number in received if number != signal.SIGUSR1]
    if status == 0 and stops:  # what follows this command must not begin
        return 128 + stops[-1]
    return status


def run_ranks(command: Sequence[str], environment: Dict[str, str], placement: Placement,
              listener: Optional[Callable[[int, str], None]] = None) -> int:
    """Runs the ranks that a runner starts. What rank 0 writes is passed on, what the others write only if one fails.

    SIGINT and SIGTERM go to every rank (SIGHUP as SIGTERM), SIGUSR1 too; a second stop also ends the runner. A listener
    takes rank and text of what is written to standard output, in place of passing rank 0's on.

    Returns:
        The exit status of the first rank that failed, 128 and the signal's number where it was killed; else of all.
    """
    return _Run(placement, listener).to_end(command, environment)


@dataclasses.dataclass
class _Rank:
    """A rank as its line tells of it."""

    line: socket.socket
    received: bytes = b""
    number: int = -1  # until it has said who it is
    host: str = ""
    pid: int = 0
    status: Optional[int] = None

    def tell(self, message: str) -> None:
        """Sends a message; a rank that is gone needs none."""
        with contextlib.suppress(OSError):
            self.line.sendall(message.encode() + b"\n")


class _Run:
    """The ranks of one command."""

    def __init__(self, placement: Placement, listener: Optional[Callable[[int, str], None]]):
        self._placement = placement
        self._listener = listener
        self._token = secrets.token_hex(16)
        self._ranks: Dict[int, _Rank] = {}
        self._failed: Optional[_Rank] = None
        self._released = False  # whether the ranks were told to end
        self._signals: List[int] = []
        # The last lines of (rank, whether to standard error); the two arrive in no certain order.
        self._held: Dict[Tuple[int, bool], Deque[str]] = collections.defaultdict(
            lambda: collections.deque(maxlen=_KEPT_LINES))
        self._selector = selectors.DefaultSelector()
        self._child: Optional[subprocess.Popen[bytes]] = None

    def to_end(self, command: Sequence[str], environment: Dict[str, str]) -> int:
        """Starts the runner and returns the exit status."""
        remote = self._placement.remote
        with socket.socket() as server, self._selector, handled(self._signal, _HANDED_ON):
            server.bind(("" if remote else "127.0.0.1", 0))
            server.listen(self._placement.ranks)
            address = _address_towards(self._placement.hosts[-1]) if remote else "127.0.0.1"
            line = "%s:%d:%s" % (address, server.getsockname()[1], self._token)
            self._child = _start(command, dict(environment, **{LAUNCHER: line}), subprocess.PIPE)
            self._selector.register(server, selectors.EVENT_READ, lambda: self._accept(server))
            for source, target in ((self._child.stdout, sys.stdout), (self._child.stderr, sys.stderr)):
                assert source is not None
                read = _Output(source.fileno(), target, self._write).read
                self._selector.register(source, selectors.EVENT_READ, read)
            end = None
            # Until all but the server has closed, or the runner has ended long since.
            while len(self._selector.get_map()) > 1 and (end is None or time.monotonic() < end):
                for key, _ in self._selector.select(timeout=0.5):
                    if not key.data():
                        self._selector.unregister(key.fileobj)
                if end is None and self._child.poll() is not None:
                    end = time.monotonic() + _AFTER_RUNNER
            for rank in self._ranks.values():
                rank.line.close()
            status = _exit_status(self._child.wait())
        return self._result(status)

    def _accept(self, server: socket.socket) -> bool:
        line, _ = server.accept()
        rank = _Rank(line)
        self._selector.register(line, selectors.EVENT_READ, lambda: self._hear(rank))
        return True

    def _hear(self, rank: _Rank) -> bool:
        """Reads what a rank says; False at the end of its line."""
        try:
            data = rank.line.recv(4096)
        except OSError:
            data = b""
        *messages, rank.received = (rank.received + data).split(b"\n")
        for text in messages:
            if rank.number >= 0:
                rank.status = int(json.loads(text.decode())["ended"])
                self._ended(rank, rank.status == 0 or rank.status - 128 in self._signals)
            else:
                self._introduce(rank, text)
        if rank.number < 0 and (messages or len(rank.received) > _LONGEST_NAME):
            rank.line.close()
            return False
        if not data and rank.number >= 0 and (rank.status is None or not self._released):
            # A rank that had no handler yet ends by the signal that it was sent; one without a status was killed, also
            # where it had done its work and waited for the others.
            rank.status = 128 + self._signals[-1] if self._signals else None
            self._ended(rank, bool(self._signals))
        return bool(data)

    def _introduce(self, rank: _Rank, text: bytes) -> None:
        """Takes a rank of this launch in by its first line; anybody may connect."""
        try:
            message = json.loads(text.decode())
            if not secrets.compare_digest(message["token"], self._token):
                return
            rank.number, rank.host, rank.pid = message["rank"], message["host"], message["pid"]
        except (ValueError, KeyError, TypeError):
            return
        self._ranks[rank.number] = rank
        for number in self._signals:
            rank.tell("signal %d" % number)

    def _ended(self, rank: _Rank, well: bool) -> None:
        if not well and self._failed is None:
            self._failed = rank
        ended = sum(other.status is not None for other in self._ranks.values())
        # Of all that were started: some may not have said yet who they are.
        if self._failed is not None or ended == self._placement.ranks:
            self._released = True
            for other in self._ranks.values():
                other.tell("release")

    def _signal(self, number: int) -> None:
        number = signal.SIGTERM if number == signal.SIGHUP else number
        for rank in self._ranks.values():
            rank.tell("signal %d" % number)
        if number == signal.SIGUSR1:
            return
        if self._signals and self._child is not None:
            self._child.send_signal(signal.SIGTERM)
        self._signals.append(number)

    def _write(self, rank: int, text: str, target: TextIO) -> None:
        if self._listener is not None and target is sys.stdout and rank >= 0:
            self._listener(rank, text)
        elif self._listener is None and rank == 0 and (self._failed is None or self._reported()):
            target.write(text)
            target.flush()
            if target is sys.stdout:
                return
        self._held[rank, target is sys.stderr].append(text)

    def _kept(self, *ranks: int) -> List[str]:
        return [text for key in sorted(self._held) if key[0] in ranks for text in self._held[key]]

    def _reported(self) -> bool:
        """Whether it is rank 0 that failed first, and not by a signal (of which its shell says a word)."""
        return self._failed is self._ranks.get(0) and self._ranks[0].status is not None

    def _result(self, status: int) -> int:
        """Says which rank failed first, if any did, and returns the exit status."""
        failed, killed = self._failed, self._killed()
        # The first one that was not ended by the runner because of another.
        first = next(((rank, number) for rank, number in killed.items() if number != signal.SIGTERM), None)
        if failed is None:
            ended = [rank.status for rank in self._ranks.values() if rank.status]
            # What happens to a rank after all have done their work is no failure of theirs.
            if status == 0 or self._signals or ended or self._released:
                return max(ended, default=128 + self._signals[-1] if self._signals else 0)
            if first is not None:  # before it could say who it is
                return self._say_killed(*first)
            # No rank came so far as to say so: what the runner and the ranks wrote is all there is, but for the stack
            # trace that horovodrun adds to its message.
            sys.stderr.write("".join(text for text in self._kept(_RUNNER, *range(self._placement.ranks))
                                     if text.strip() and not text.startswith(("  ", "Traceback (most recent"))))
            return status
        process = " (process %d on host %s)" % (failed.pid, failed.host)
        if failed.status is None:
            number = killed.get(failed.number, 0)
            if number in (0, signal.SIGTERM) and first is not None and first[0] != failed.number:
                return self._say_killed(*first)  # which had not said yet who it is
            if number not in (0, signal.SIGKILL, signal.SIGTERM):
                # A crash, of which the rank may have said something.
                sys.stderr.write("".join(self._kept(failed.number)))
            return self._say_killed(failed.number, number, process)
        if failed.number and list(self._held[failed.number, True])[-1:] != list(self._held[0, True])[-1:]:
            sys.stderr.write("rank %d of %d%s failed first, with status %d; its last lines:\n%s" % (
                failed.number, self._placement.ranks, process, failed.status, "".join(self._kept(failed.number))))
        return failed.status

    def _say_killed(self, rank: int, number: int, process: str = "") -> int:
        sys.stderr.write("error: rank %d of %d%s was killed%s; all ranks have ended, the same command resumes from the "
                         "last checkpoint\n" % (rank, self._placement.ranks, process,
                                                " by %s" % signal.Signals(number).name if number else ""))
        return 128 + (number or signal.SIGKILL)

    def _killed(self) -> Dict[int, int]:
        """Returns {rank: signal} of the ranks that the runner says were killed, in its order."""
        found: Dict[int, int] = {}
        for match in _KILLED.finditer("".join(self._kept(_RUNNER))):
            number = int(match.group("signal") or int(match.group("status")) - 128)
            if number > 0:
                found.setdefault(int(match.group("a") or match.group("b")), number)
        return found


class _Output:
    """One stream of the runner, cut into the pieces of the ranks. Pieces end with a line feed or a carriage return."""

    def __init__(self, source: int, target: TextIO, write: Callable[[int, str, TextIO], None]):
        self._source, self._target, self._write = source, target, write
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._rank = _RUNNER
        self._inside = False  # after a carriage return, where mpirun repeats no tag

    def read(self) -> bool:
        """Passes on what has arrived; False at the end of the stream."""
        data = os.read(self._source, 65536)
        *pieces, self._rest = re.split(r"(?<=[\r\n])", self._rest + self._decoder.decode(data, final=not data))
        for piece in pieces + ([] if data else [self._rest]):
            tag = _TAG.match(piece)
            if tag:
                self._rank = int(tag.group(1))
            elif not self._inside:
                self._rank = _RUNNER
            self._inside = piece.endswith("\r")
            text = piece[tag.end():] if tag else piece
            if text:
                self._write(self._rank, text, self._target)
        return bool(data)


def _exit_status(status: int) -> int:
    # As a shell gives it: 128 and the signal's number where a signal ended it.
    return status if status >= 0 else 128 - status


def _start(command: Sequence[str], environment: Dict[str, str],
           output: Optional[int] = None) -> "subprocess.Popen[bytes]":
    try:
        # A request to save may come before the program has set its handler, and would end it.
        return subprocess.Popen(list(command), env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                start_new_session=True,
                                preexec_fn=lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN))
    except OSError as error:
        raise UserError("%s cannot be started (%s); install Open MPI and horovod, or correct PATH"
                        % (command[0], error.strerror or error)) from error


def _address_towards(host: str) -> str:
    """Returns the address by which another host reaches this one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address_of(host), 9))
        return str(probe.getsockname()[0])
