"""Stands in for ``hccl.split.api``: nothing of it is provided, as fusing collectives means nothing to one rank."""
from typing import Any

from rec_sdk_cpu.npu_bridge_modules import absent


def __getattr__(name: str) -> Any:
    raise absent.error("hccl.split.api", name)
