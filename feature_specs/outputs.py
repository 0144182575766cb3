"""Files that a user names for results: written beside and put in place whole, or straight into what is no regular
file."""
import contextlib
import gzip
import os
import re
import stat
import sys
from typing import IO, Any, ContextManager, Iterator, Optional

from feature_specs.checks import refuse
from feature_specs.errors import DataError
from feature_specs.files import remove_leftovers, temporary_name

STANDARD = "-"
# Streams that this process has already: opening their names would give regular files another place to write at.
_DESCRIPTORS = {STANDARD: 1, "/dev/stdout": 1, "/dev/stderr": 2}
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})\Z")


@contextlib.contextmanager
def open_output(path: str) -> Iterator[IO[bytes]]:
    """Opens a file for writing bytes; where the block ends with an error, an existing file stays what it was.

    ``-`` and ``/dev/stdout`` are standard output; pipes and devices are written straight into; a link is followed and
    its target replaced; an existing file keeps its mode; a name that ends in ``.gz`` is compressed. BrokenPipeError:
    whoever read a pipe has gone away.
    """
    descriptor = _descriptor(path)
    if descriptor is not None:
        with _written(path):
            sys.stdout.flush()
            with os.fdopen(os.dup(descriptor), "wb") as stream:
                yield stream
        return
    real = os.path.realpath(path)
    folder, name = os.path.split(real)
    refuse(os.path.islink(path) and os.path.islink(real),
           "output %s is a link that leads in a circle; give another name", path)
    refuse(os.path.isdir(real), "output %s is a directory; give the name of a file", path)
    mode = os.stat(path).st_mode if os.path.exists(path) else None
    if mode is not None and not stat.S_ISREG(mode):
        with _written(path), open(path, "wb") as stream, _compressed(stream, path) as output:
            yield output
        return
    refuse(not os.path.isdir(folder), "output %s: the directory %s does not exist; make it first", path, folder)
    prefix = ".%s.partial-" % name
    temporary = os.path.join(folder, temporary_name(prefix))
    try:
        with _written(path, temporary):
            remove_leftovers(folder, prefix)
            with open(temporary, "wb") as stream:
                if mode is not None:
                    os.chmod(temporary, stat.S_IMODE(mode))
                with _compressed(stream, path) as output:
                    yield output
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, real)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def is_standard(path: str) -> bool:
    """Returns whether results go to standard output, so that nothing else may."""
    return _descriptor(path) == 1


def _descriptor(path: str) -> Optional[int]:
    found = _DESCRIPTOR.match(path)
    return int(found.group(1)) if found else _DESCRIPTORS.get(path)


@contextlib.contextmanager
def _written(path: str, *names: Optional[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is read meanwhile has errors, too; they name another file.
        if isinstance(error, BrokenPipeError) or error.filename not in (None, path) + names:
            raise
        raise DataError("%s cannot be written: %s" % (path, error.strerror or error)) from error


def _compressed(stream: IO[bytes], path: str) -> ContextManager[Any]:
    if not path.endswith(".gz"):
        return contextlib.nullcontext(stream)
    # No time stamp and no temporary name: the same rows give the same file.
    return gzip.GzipFile("", mode="wb", fileobj=stream, mtime=0)
