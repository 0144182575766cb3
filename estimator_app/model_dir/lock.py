"""One training per model directory: locks that the kernel drops with the process, so that a crash leaves none."""
import contextlib
import fcntl
import os
import socket
from typing import ContextManager, Iterator

from feature_specs.errors import UserError

LOCK_FILE = ".lock"
# Held by the processes that train in phases: they may outlive the one that planned them, and its lock.
PHASE_LOCK_FILE = ".phase-lock"


@contextlib.contextmanager
def locked(model_dir: str, what: str = "model directory", flag: str = "--model_dir") -> Iterator[None]:
    """Holds the lock of a model directory, which is made where it does not exist; ``what`` and ``flag`` name it in the
    UserError where another process holds it, with that one's id and host."""
    os.makedirs(model_dir, exist_ok=True)
    with _held(model_dir, LOCK_FILE, what, flag):
        with _held(model_dir, PHASE_LOCK_FILE, what, flag):
            pass
        yield


def phase_locked(model_dir: str) -> ContextManager[None]:
    """Holds the lock of a phase, whose directory the process that planned it has locked; raises as :func:`locked`."""
    return _held(model_dir, PHASE_LOCK_FILE, "model directory", "--model_dir")


@contextlib.contextmanager
def _held(model_dir: str, name: str, what: str, flag: str) -> Iterator[None]:
    # Opened for appending: the note of another holder must not be cut before the lock is ours.
    with open(os.path.join(model_dir, name), "a+", encoding="utf-8", errors="replace") as stream:
        stream.seek(0)
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("%s %s is in use by %s; wait for it to end, stop it, or choose another %s" % (
                what, model_dir, stream.read() or "another process", flag)) from error
        stream.truncate()
        stream.write("process %d on host %s" % (os.getpid(), socket.gethostname()))
        stream.flush()
        try:
            yield
        finally:
            stream.seek(0)
            stream.truncate()
