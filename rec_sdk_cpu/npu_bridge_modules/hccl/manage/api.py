"""Stands in for ``hccl.manage.api``: rank numbers, once HCCL is up (npu_bridge_api 1.1, 2.5).

The real functions work only between HCCL's start and its end; asked earlier, an NPU program fails in native code.
Here that is a RuntimeError that names the remedy.
"""
from typing import Any

from rec_sdk_cpu.core import ranks
from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_common
from rec_sdk_cpu.npu_bridge_modules.process_state import state


def get_rank_size() -> int:
    """Returns the number of ranks.

    Raises:
        RuntimeError: HCCL is not initialised.
        ValueError: the environment contradicts itself or holds no number.

    Source: npu_bridge_api 2.5.
    """
    _require_hccl("get_rank_size")
    return npu_common.read_rank_size()


def get_rank_id() -> int:
    """Returns this process's rank, 0-based; see :func:`get_rank_size` for the errors and the source."""
    _require_hccl("get_rank_id")
    return npu_common.read_rank_id()


def get_local_rank_size() -> int:
    """Returns the number of ranks on this host: what the launcher says, or all of them."""
    _require_hccl("get_local_rank_size")
    return ranks.get_local_rank_size() if ranks.several() else npu_common.read_rank_size()


def get_local_rank_id() -> int:
    """Returns this process's rank on its host; hosts have equally many ranks."""
    _require_hccl("get_local_rank_id")
    return npu_common.read_rank_id() % get_local_rank_size()


def _require_hccl(function: str) -> None:
    if not state.hccl_ready:
        # "from npu_bridge.npu_init import *" after the SDK's imports brings this function in under the same name.
        raise RuntimeError("%s() of npu_bridge (hccl.manage.api) needs HCCL, which is not initialised: call "
                           "npu_bridge.npu_init.init_resource() first (or run npu_ops.initialize_system() in a "
                           "session); where the SDK's function of that name was meant, import it after "
                           "\"from npu_bridge.npu_init import *\"" % function)


def __getattr__(name: str) -> Any:
    raise absent.error("hccl.manage.api", name)
