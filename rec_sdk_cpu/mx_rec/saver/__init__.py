"""Stand-in for the package ``mx_rec.saver``."""
from typing import Any

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.mx_rec.saver import patch
from rec_sdk_cpu.mx_rec.saver.sparse import export

# save and restore are served by __getattr__: they are the methods patched into Saver while the stand-in is installed.
__all__ = ["export", "restore", "save"]  # noqa: F822


def __getattr__(name: str) -> Any:
    if name in ("save", "restore"):
        return getattr(patch, name)
    raise missing.error("module 'mx_rec.saver' has no attribute %r" % name)
