"""Ends a rank whose collective waits too long, and says which collective and for whom.

A collective that one rank never reaches waits for ever: Horovod only warns, and HCCL ends after HCCL_EXEC_TIMEOUT
seconds. The same variable holds here. Each collective notes its begin and its end; a thread looks once a second. Ranks
that wait for half the time tell so through the store of the launcher, so that the message can name those that do not.
"""
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import Dict, List, Optional, Tuple

from rec_sdk_cpu.core import ranks

TIMEOUT_VARIABLE = "HCCL_EXEC_TIMEOUT"
DEFAULT_SECONDS = 1836.0
EXIT_STATUS = 70
_SCOPE = "rec_sdk_cpu_waiting"
_STORE_VARIABLES = ("HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_RENDEZVOUS_PORT")
_STORE_SECONDS = 2.0

logger = logging.getLogger("rec_sdk_cpu")


def timeout_seconds() -> float:
    """Returns how long a collective may wait for the other ranks, in seconds.

    Raises:
        ValueError: HCCL_EXEC_TIMEOUT is not a positive number.
    """
    text = os.environ.get(TIMEOUT_VARIABLE) or "%g" % DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError("environment variable %s must be a positive number of seconds, found %r"
                         % (TIMEOUT_VARIABLE, text))
    return seconds


class Watchdog:
    """The collectives of this process that have begun and not ended, and the thread that watches them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: Dict[str, float] = {}
        self._thread: Optional[threading.Thread] = None

    def begin(self, name: str) -> None:
        """Notes that this rank has reached a collective."""
        with self._lock:
            self._waiting[name] = time.monotonic()

    def end(self, name: str) -> None:
        """Notes that a collective is over."""
        with self._lock:
            self._waiting.pop(name, None)

    def start(self) -> None:
        """Starts the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, args=(timeout_seconds(),), daemon=True,
                                            name="rec_sdk_cpu watchdog")
            self._thread.start()

    def longest(self) -> Optional[Tuple[str, float]]:
        """Returns name and seconds of the collective that waits longest, or None."""
        with self._lock:
            if not self._waiting:
                return None
            name = min(self._waiting, key=lambda key: self._waiting[key])
            return name, time.monotonic() - self._waiting[name]

    def _watch(self, limit: float) -> None:
        told = ""
        while True:
            time.sleep(min(1.0, limit / 8))
            found = self.longest()
            name, seconds = found or ("", 0.0)
            waits = name if seconds > limit / 2 else ""
            if waits != told:
                _tell(waits)
                told = waits
            if seconds > limit:
                sys.stderr.write(_message(name, seconds) + "\n")
                sys.stderr.flush()
                # Not sys.exit: this is a thread, and the main thread waits inside the collective.
                os._exit(EXIT_STATUS)


def _message(name: str, seconds: float) -> str:
    same, others, missing = [], [], []
    rank, size = ranks.get_rank_id(), ranks.get_rank_size()
    for other in range(size):
        waits = name if other == rank else _heard(other)
        if waits == name:
            same.append(str(other))
        elif waits:
            others.append("rank %d waits in %s" % (other, waits))
        else:
            missing.append(str(other))
    parts: List[str] = ["rank %d of %d: collective %s has waited %.0f s (%s)" % (
        rank, size, name, seconds, TIMEOUT_VARIABLE)]
    if missing:
        parts.append("rank %s did not come" % ", ".join(missing))
    parts.extend(others)
    if len(same) > 1:
        parts.append("ranks %s wait in it" % ", ".join(same))
    return "rec_sdk_cpu: %s; all ranks must run the same graph with the same fetches. This rank ends" % "; ".join(parts)


def _url(rank: int) -> Optional[str]:
    address, port = (os.environ.get(variable) for variable in _STORE_VARIABLES)
    return "http://%s:%s/%s/%d" % (address, port, _SCOPE, rank) if address and port else None


def _tell(name: str) -> None:
    url = _url(ranks.get_rank_id())
    if url is None:
        return
    request = urllib.request.Request(url, data=name.encode(), method="PUT")
    try:
        urllib.request.urlopen(request, timeout=_STORE_SECONDS).close()
    except OSError as error:
        logger.debug("the launcher's store does not answer: %s", error)


def _heard(rank: int) -> str:
    url = _url(rank)
    if url is None:
        return ""
    try:
        with urllib.request.urlopen(url, timeout=_STORE_SECONDS) as answer:
            return answer.read().decode()
    except OSError as error:  # HTTPError is one: the rank has told nothing
        logger.debug("nothing is known of rank %d: %s", rank, error)
        return ""


watchdog = Watchdog()
