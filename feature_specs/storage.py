"""Failed reads and writes of files, as Python and TensorFlow report them."""
import errno
import os
import re
import sys
from typing import Any, Optional, Tuple

#: What a full disk says, or a quota that is used up.
FULL = (errno.ENOSPC, errno.EDQUOT)
_NUMBERS = (errno.EIO, errno.EFBIG, errno.EROFS) + FULL
# TensorFlow's file system turns errno into "<file>; <strerror>".
_TENSORFLOW = re.compile(r"(?P<file>/[^;\n]*|[^\s;]+); (?P<reason>%s)" % "|".join(
    re.escape(os.strerror(number)) for number in (errno.EPERM, errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.EISDIR)
    + _NUMBERS))


def reason(error: OSError) -> str:
    """Returns what the system says of an error; our own words where a directory is in the way of a file."""
    return str(error.strerror) if error.errno in (None, errno.EISDIR) else os.strerror(error.errno)


def failure(error: BaseException) -> Optional[Tuple[str, str]]:
    """Returns file and reason where an error is about storage, else None; no file: a failed write may not know it."""
    if isinstance(error, OSError):
        if error.errno is None or not (error.filename or error.errno in _NUMBERS):
            return None
        return str(error.filename or ""), reason(error)
    tensorflow: Any = sys.modules.get("tensorflow")  # where nobody has loaded it, there are no errors of it
    if tensorflow is None or not isinstance(error, tensorflow.errors.OpError):
        return None
    match = _TENSORFLOW.search(str(error.message))
    return (match.group("file"), match.group("reason")) if match else None
