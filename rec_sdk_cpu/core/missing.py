"""The error for a name that a module of the stand-in does not have, so that its reason reaches the user."""
import opcode
import sys

_IMPORT_FROM = opcode.opmap["IMPORT_FROM"]


def error(line: str, depth: int = 1) -> Exception:
    """Returns what a module's ``__getattr__`` raises for a name that is not there.

    Python answers ``from module import name`` with "cannot import name" and drops the message of an AttributeError;
    only there the error is an ImportError.

    Args:
        line: why the name is missing, and what to use instead.
        depth: function calls between ``__getattr__`` and this one, itself included.
    """
    frame = sys._getframe(depth + 1)
    by_import = frame.f_lasti >= 0 and frame.f_code.co_code[frame.f_lasti] == _IMPORT_FROM
    return ImportError(line) if by_import else AttributeError(line)
