"""The signals that stop a command, and who gets them."""
import contextlib
import signal
from typing import Callable, Iterator, Sequence

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def handled(handler: Callable[[int], None], numbers: Sequence[signal.Signals] = STOP) -> Iterator[None]:
    """Hands signals to a function inside the context; the previous handlers return after it. One that this process
    ignores, as under nohup, stays ignored."""
    previous = {number: signal.signal(number, lambda received, _frame: handler(received)) for number in numbers
                if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
