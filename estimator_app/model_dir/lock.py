"""One training per model directory: locks that the kernel drops with the process, so that a crash leaves none."""
import contextlib
import fcntl
import json
import os
import socket
from typing import ContextManager, Iterator

from feature_specs.errors import UserError
from feature_specs.files import read_small_text

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
    path = os.path.join(model_dir, name)
    # Opened for appending: the file of another holder must not be cut before the lock is ours.
    with open(path, "a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("%s %s is in use by %s; wait for it to end, stop it, or choose another %s"
                            % (what, model_dir, _holder(path), flag)) from error
        stream.seek(0)
        stream.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname()}, stream)
        stream.flush()
        try:
            yield
        finally:
            stream.seek(0)
            stream.truncate()


def _holder(path: str) -> str:
    try:
        holder = json.loads(read_small_text(path))
        return "process %s on host %s" % (holder["pid"], holder["host"])
    except (OSError, ValueError, KeyError, TypeError):
        # The holder is just writing its note.
        return "another process"
