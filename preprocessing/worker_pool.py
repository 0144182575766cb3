"""Runs one function over a stream of byte strings in several processes, results in the order of the items.

Threads do not help here: the work is many small NumPy calls, which hold the interpreter's lock for most of their time.
Items and the arrays of results travel through shared memory, and each process has its next item before it is done with
one. Each process keeps its own state from item to item, so a result comes with the number of the process that made it.
"""
import collections
import contextlib
import mmap
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from feature_specs.errors import DataError

Arrays = Dict[str, np.ndarray]
Function = Callable[[bytes], Tuple[Arrays, Any]]

#: Items that a process has at a time: the one in work and the next one.
_DEPTH = 2
_ITEM_BYTES, _RESULT_BYTES = 2 << 20, 4 << 20
_ALIGNMENT = 64


class _Channel(NamedTuple):
    """What the two sides of one process share: a pipe, and room for items and results in turn."""

    pipe: Connection
    items: List[mmap.mmap]
    results: List[mmap.mmap]


class WorkerPool:
    """Processes that are forked from this one; a context manager.

    Forked, so that the function and what it refers to are simply there. A process ends when its pipe is closed, also
    because this process was killed.

    Args:
        function: called with one item after the other; returns arrays by name, and something small besides. Its state
            is copied into each process.
        num_workers: processes; with 1 the function runs in this process.
    """

    def __init__(self, function: Function, num_workers: int) -> None:
        self._function = function
        self._processes: List[Any] = []
        self._channels: List[_Channel] = []
        if num_workers == 1:
            return
        context = multiprocessing.get_context("fork")
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            # Anonymous memory is shared with a forked process, and only pages that are used exist.
            items, results = ([mmap.mmap(-1, size) for _ in range(_DEPTH)] for size in (_ITEM_BYTES, _RESULT_BYTES))
            self._channels.append(_Channel(ours, items, results))
            process = context.Process(target=_serve, daemon=True, args=(
                function, _Channel(theirs, items, results), [channel.pipe for channel in self._channels]))
            process.start()
            self._processes.append(process)
            theirs.close()

    @property
    def in_process(self) -> bool:
        """Whether the function runs in this process, on this process's own state."""
        return not self._channels

    def map(self, items: Iterable[bytes]) -> Iterator[Tuple[int, Arrays, Any]]:
        """Yields (number of the process, arrays, the rest) in the order of the items; few items are under way.

        Args:
            items: read as they are needed.

        Raises:
            DataError: a process died.
        """
        if self.in_process:
            for item in items:
                arrays, rest = self._function(item)
                yield 0, arrays, rest
            return
        # The processes take turns, so each one's results come in the order in which they are asked for.
        pending: Deque[int] = collections.deque()
        for number, item in enumerate(items):
            large = len(item) > _ITEM_BYTES
            # A large item goes through the pipe, which only a process that waits for it is sure to empty.
            while pending and (large or len(pending) >= _DEPTH * len(self._channels)):
                yield self._receive(pending.popleft())
            self._send(number, item)
            pending.append(number)
        while pending:
            yield self._receive(pending.popleft())

    def close(self) -> None:
        """Ends the processes."""
        for channel in self._channels:
            channel.pipe.close()
        for process in self._processes:
            process.join()

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()

    def _send(self, number: int, item: bytes) -> None:
        turn, worker = divmod(number, len(self._channels))
        channel = self._channels[worker]
        with _explained():
            channel.pipe.send(_put(channel.items[turn % _DEPTH], item))

    def _receive(self, number: int) -> Tuple[int, Arrays, Any]:
        turn, worker = divmod(number, len(self._channels))
        channel = self._channels[worker]
        with _explained():
            error, places, rest = channel.pipe.recv()
        if error is not None:
            raise error
        return worker, _get_arrays(channel.results[turn % _DEPTH], places), rest


def _serve(function: Function, channel: _Channel, inherited: List[Connection]) -> None:
    # Ctrl-C reaches the whole process group; the parent answers it and closes the pipes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # While a copy of the other end is open anywhere but in the parent, the parent's death would go unnoticed.
    for other in inherited:
        other.close()
    turn = 0
    with contextlib.suppress(EOFError, OSError):
        while True:
            length, data = channel.pipe.recv()
            answer: Tuple[Any, Any, Any]
            try:
                arrays, rest = function(channel.items[turn % _DEPTH][:length] if data is None else data)
                answer = None, _put_arrays(channel.results[turn % _DEPTH], arrays), rest
            except Exception as error:
                answer = error, None, None
            channel.pipe.send(answer)
            turn += 1
    # Without the clean-up of the parent's libraries, whose state was copied.
    os._exit(0)


def _put(slot: mmap.mmap, data: bytes) -> Tuple[int, Optional[bytes]]:
    """Returns the message that announces data: its length, and the data itself where it is too large for the slot."""
    if len(data) > len(slot):
        return len(data), data
    slot[:len(data)] = data
    return len(data), None


def _put_arrays(slot: mmap.mmap, arrays: Arrays) -> Union[Arrays, List[Tuple[str, str, Tuple[int, ...], int]]]:
    """Returns the message for arrays: name, type, shape and offset of each; the arrays where they are too large."""
    places, end = [], 0
    for name, array in arrays.items():
        places.append((name, array.dtype.str, array.shape, end))
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    if end > len(slot):
        return arrays
    for (_, kind, shape, offset), array in zip(places, arrays.values()):
        np.ndarray(shape, kind, slot, offset)[...] = array
    return places


def _get_arrays(slot: mmap.mmap, places: Any) -> Arrays:
    if isinstance(places, dict):
        return places
    # Copies: the next result but one comes to the same place.
    return {name: np.ndarray(shape, kind, slot, offset).copy() for name, kind, shape, offset in places}


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise DataError("a process that prepares data has died (out of memory, or killed); use fewer: "
                        "--num_workers 1 uses none") from error
