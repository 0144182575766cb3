"""The three standard streams of a command: some may be closed, or unable to show a name."""
import os
import sys
from typing import FrozenSet

from feature_specs.errors import ConfigError


def open_missing() -> FrozenSet[str]:
    """Gives the null device to the standard streams that are closed, so that a command does its work without them.

    Returns:
        Which ones were closed, of ``stdin``, ``stdout`` and ``stderr``.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Else the next file that is opened takes the number, and what a library prints lands in it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    closed = frozenset(name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None)
    for name in closed - {"stdin"}:
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open as long as the process
    return closed


def require_output(closed: FrozenSet[str], what: str) -> None:
    """Refuses a command whose result nobody would get.

    Raises:
        ConfigError: standard output is closed.
    """
    if "stdout" in closed:
        raise ConfigError("standard output is closed, where %s would go; redirect it to a file, or to /dev/null" % what)
