"""The three standard streams of a command: some may be closed, or unable to show a name."""
import contextlib
import io
import os
import re
import sys
from typing import FrozenSet, Sequence

from feature_specs.checks import refuse
from feature_specs.errors import ConfigError

# What ends a line for some reader, or moves a terminal's cursor.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def open_missing() -> FrozenSet[str]:
    """Gives the null device to the standard streams that are closed, and returns which of stdin, stdout and stderr."""
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
    """Refuses (ConfigError) a command whose result nobody would get: standard output is closed."""
    refuse("stdout" in closed,
           "standard output is closed, where %s would go; redirect it to a file, or to /dev/null", what)


def escape_unknown() -> None:
    """Makes the output streams show what their encoding lacks as an escape, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Returns a text in which line breaks and other control characters, as names may hold them, are escapes."""
    return _CONTROL.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuses (ConfigError) arguments or a working directory not in UTF-8: no text file or message could name them."""
    texts = [("argument", argument) for argument in arguments]
    with contextlib.suppress(OSError):  # it was removed: who needs it finds out
        texts.append(("working directory", os.getcwd()))
    for what, text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            shown = os.fsencode(text).decode("utf-8", "backslashreplace")
            raise ConfigError("%s %s is not UTF-8; rename the file or directory to a name in UTF-8" % (what, shown)
                              ) from error
