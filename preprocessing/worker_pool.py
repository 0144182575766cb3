"""Runs one function over a stream of items in several processes, results in the order of the items.

Threads do not help here: the work is many small NumPy calls, which hold the interpreter's lock for most of their time.
Each process keeps its own state from item to item, so a result comes with the number of the process that made it.
"""
import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any, Callable, Deque, Iterable, Iterator, List, Tuple

from feature_specs.errors import DataError

Function = Callable[[Any], Any]


class WorkerPool:
    """Processes that are forked from this one; a context manager.

    Forked, so that the function and what it refers to need not be picklable; items and results must be. A process ends
    when its pipe is closed, also because this process was killed.

    Args:
        function: called with one item after the other. Its state is copied into each process.
        num_workers: processes; with 1 the function runs in this process.
    """

    def __init__(self, function: Function, num_workers: int) -> None:
        self._function = function
        self._processes: List[Any] = []
        self._pipes: List[Connection] = []
        if num_workers > 1:
            context = multiprocessing.get_context("fork")
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                self._pipes.append(ours)
                process = context.Process(target=_serve, args=(function, theirs, list(self._pipes)), daemon=True)
                process.start()
                self._processes.append(process)
                theirs.close()

    @property
    def in_process(self) -> bool:
        """Whether the function runs in this process, on this process's own state."""
        return not self._pipes

    def map(self, items: Iterable[Any]) -> Iterator[Tuple[int, Any]]:
        """Yields (number of the process, result) in the order of the items; a fixed number of items is under way.

        Args:
            items: read as they are needed.

        Raises:
            DataError: a process died.
        """
        if self.in_process:
            for item in items:
                yield 0, self._function(item)
            return
        free = collections.deque(range(len(self._pipes)))
        pending: Deque[Any] = collections.deque()
        # A thread per process waits for its pipe, which does not need the interpreter's lock.
        with concurrent.futures.ThreadPoolExecutor(len(self._pipes)) as threads:
            try:
                for item in items:
                    pending.append(threads.submit(self._call, free, item))
                    if len(pending) > len(self._pipes):
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        """Ends the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()

    def _call(self, free: Deque[int], item: Any) -> Tuple[int, Any]:
        # As many threads as processes: one is always free.
        number = free.popleft()
        pipe = self._pipes[number]
        try:
            pipe.send(item)
            failed, result = pipe.recv()
        except (EOFError, OSError) as error:
            raise DataError("a process that prepares data has died (out of memory, or killed); use fewer: "
                            "--num_workers 1 uses none") from error
        free.append(number)
        if failed:
            raise result
        return number, result


def _serve(function: Function, pipe: Connection, inherited: List[Connection]) -> None:
    # Ctrl-C reaches the whole process group; the parent answers it and closes the pipes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # While a copy of the other end is open anywhere but in the parent, the parent's death would go unnoticed.
    for other in inherited:
        other.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            item = pipe.recv()
            try:
                answer = False, function(item)
            except Exception as error:
                answer = True, error
            pipe.send(answer)
    # Without the clean-up of the parent's libraries, whose state was copied.
    os._exit(0)
