"""Stand-in for ``mx_rec.graph.patch``: the session's run as it is patched while the stand-in is installed."""
from typing import Any

from tensorflow.python.client import session

from rec_sdk_cpu.core import missing


def __getattr__(name: str) -> Any:
    if name == "run":
        return session.BaseSession.run
    raise missing.error("module 'mx_rec.graph.patch' has no attribute %r: of the SDK's patches of TensorFlow only "
                         "run is a name for programs" % name)
