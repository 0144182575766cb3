"""What a rank's process does before and after the program it runs: ``python -m estimator_app.launch.rank MODULE ...``.

Before the program, and so before ``mx_rec`` loads, it completes the environment with what differs from rank to rank. A
line to the launcher then carries signals to the program, and its end to the launcher: the runners that start ranks
kill them on a signal before they could save. Without a launcher (a dry run's command in a shell) there is no line.
"""
import contextlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback
from typing import List, MutableMapping

from estimator_app.launch.environment import WORKER_IPS

LAUNCHER = "ESTIMATOR_LAUNCHER"  # host:port:token of the launcher
_CONNECT_SECONDS = 60.0
_LAST_SECONDS = 300.0  # for saving, after the launcher is gone
# Horovod's names, and those by which the SDK, mpirun's ranks and TF Adapter know the same numbers.
_ADOPTED = {"HOROVOD_RANK": ("OMPI_COMM_WORLD_RANK", "RANK_ID"), "HOROVOD_SIZE": ("OMPI_COMM_WORLD_SIZE", "RANK_SIZE"),
            "HOROVOD_LOCAL_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK",),
            "HOROVOD_LOCAL_SIZE": ("OMPI_COMM_WORLD_LOCAL_SIZE",)}


def complete(environment: MutableMapping[str, str]) -> None:
    """Adds what a rank's runner does not set: without MPI its variables, and with :data:`WORKER_IPS` its host's one."""
    for source, names in _ADOPTED.items():
        if source in environment:
            environment.update({name: environment[source] for name in names})
    addresses = environment.get(WORKER_IPS)
    if addresses:
        host = int(environment["OMPI_COMM_WORLD_RANK"]) // int(environment["OMPI_COMM_WORLD_LOCAL_SIZE"])
        environment["CM_WORKER_IP"] = addresses.split(",")[host]


def own_cores(cores: List[int], local_rank: int, local_size: int) -> List[int]:
    """Returns the cores of a rank: an even share of its host's, or one of them where there are fewer than ranks."""
    if len(cores) < local_size:
        return [cores[local_rank % len(cores)]]
    return cores[local_rank * len(cores) // local_size:(local_rank + 1) * len(cores) // local_size]


class Line:
    """The connection of a rank to its launcher."""

    def __init__(self, address: str):
        host, port, token = address.rsplit(":", 2)
        self._released = threading.Event()  # by the launcher, or by its end
        self._ended = threading.Event()
        self._socket = socket.create_connection((host, int(port)), _CONNECT_SECONDS)
        self._socket.settimeout(None)
        self.tell(token=token, rank=int(os.environ["OMPI_COMM_WORLD_RANK"]), host=socket.gethostname(),
                  pid=os.getpid())
        threading.Thread(target=self._listen, daemon=True, name="launcher").start()

    def tell(self, **message: object) -> None:
        """Sends a message; that a launcher is gone is noticed where its line is read."""
        with contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def end(self, status: int) -> None:
        """Reports the program's exit status and waits until the other ranks have reported theirs.

        The runner would kill those that are still saving as soon as one has ended with another status than 0.
        """
        self._ended.set()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        self.tell(ended=status)
        self._released.wait()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("r") as lines:
            for line in lines:
                word, _, number = line.strip().partition(" ")
                if word == "signal":
                    os.kill(os.getpid(), int(number))
                elif word == "release":
                    self._released.set()
        if not self._released.is_set():
            # The launcher was killed: save and end.
            self._released.set()
            os.kill(os.getpid(), signal.SIGTERM)
            if not self._ended.wait(_LAST_SECONDS):
                os._exit(128 + signal.SIGTERM)


def run(module: str, arguments: List[str]) -> int:
    """Runs a module as ``python -m`` does and returns its exit status."""
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write("%s\n" % end.code)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def main(arguments: List[str]) -> int:
    """Runs a rank: the module and its arguments."""
    complete(os.environ)
    if "HOROVOD_LOCAL_SIZE" in os.environ and hasattr(os, "sched_setaffinity"):
        # Thread counts follow the cores that a process may use (TensorFlow's, NumPy's, the app's).
        os.sched_setaffinity(0, own_cores(sorted(os.sched_getaffinity(0)), int(os.environ["HOROVOD_LOCAL_RANK"]),
                                          int(os.environ["HOROVOD_LOCAL_SIZE"])))
    address = os.environ.get(LAUNCHER, "")
    try:
        line = Line(address) if address else None
    except OSError as error:
        sys.stderr.write("error: rank %s on host %s cannot reach the launcher at %s (%s); the launching host must be "
                         "reachable from all hosts\n" % (os.environ.get("OMPI_COMM_WORLD_RANK"), socket.gethostname(),
                                                         address.rsplit(":", 1)[0], error.strerror or error))
        return 1
    status = run(arguments[0], arguments[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    if line is not None:
        line.end(status)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
