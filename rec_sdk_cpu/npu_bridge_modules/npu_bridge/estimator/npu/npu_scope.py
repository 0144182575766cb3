"""Stands in for ``npu_bridge.estimator.npu.npu_scope``: context managers that mark ops for the device's compiler.

A CPU computes each op in its own dtype and on the host, which is what three of the scopes ask for; so the scopes run
their body and change nothing. Source: npu_bridge_api 1.1 and section 4; signatures file.
"""
import contextlib
from typing import Iterator

from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import NpuExecutePlacement


@contextlib.contextmanager
def without_npu_compile_scope() -> Iterator[None]:
    """Keeps the ops built inside on the host."""
    yield


@contextlib.contextmanager
def keep_dtype_scope() -> Iterator[None]:
    """Keeps the dtype of the ops built inside, whatever the precision mode."""
    yield


@contextlib.contextmanager
def npu_variable_scope(placement: NpuExecutePlacement = NpuExecutePlacement.ALL) -> Iterator[None]:
    """Says where the variables made inside live.

    Args:
        placement: an :class:`NpuExecutePlacement`.
    """
    yield


@contextlib.contextmanager
def disable_autofuse() -> Iterator[None]:
    """Keeps the ops built inside out of automatic fusion."""
    yield
