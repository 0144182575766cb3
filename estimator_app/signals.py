"""The signals that stop a command, and who gets them."""
import contextlib
import signal
from typing import Callable, Iterator, Sequence

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def handled(handler: Callable[[int], None], numbers: Sequence[signal.Signals] = STOP) -> Iterator[None]:
    """Hands signals to a function inside the context; the previous handlers return after it. One that this process
    ignores, as under nohup, or from inside the context on, stays ignored."""
    previous = {number: signal.signal(number, lambda received, _frame: handler(received)) for number in numbers
                if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, before in previous.items():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, before)


def ignore_interrupts() -> None:
    """Lets this process ignore Ctrl-C from here on: it is ending, which another one would only garble."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
