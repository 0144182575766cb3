"""Stands in for ``npu_bridge.estimator.npu.npu_plugin``: the process-wide overflow mode (npu_bridge_api 1.4)."""
import logging
from typing import Any

from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.process_state import state

_logger = logging.getLogger(__name__)


def set_device_sat_mode(mode: int) -> None:
    """Chooses what an overflowing float op gives; to be called before anything runs.

    Args:
        mode: 0 = saturate, 1 = INF/NAN. Not checked, as in the real one. A CPU always gives INF/NAN.

    Source: npu_bridge_api 1.4.
    """
    if mode == 0:
        _logger.warning("saturation mode is recorded, but a CPU does not saturate: overflows give INF or NAN here")
    state.saturation_mode = mode


def is_inf_nan_enabled() -> bool:
    """Returns True in INF/NAN mode, the default (npu_bridge_api 1.4)."""
    return state.saturation_mode == 1


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.estimator.npu.npu_plugin", name)
