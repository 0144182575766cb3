"""Stand-in for ``mx_rec.util.initialize`` (rec_sdk_api 1)."""
from typing import Any

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.core.config import ConfigInitializer, init, terminate_config_initializer

__all__ = ["ConfigInitializer", "init", "terminate_config_initializer"]

_RANKS = ("in G3 import it from rec_sdk_common.communication.hccl.hccl_info, in G2 from "
          "mx_rec.util.communication.hccl_ops")
_PARAMETERS = "call ConfigInitializer.get_instance().train_params_config.%s"
# Names of G1, and what replaced them.
_REPLACED = {
    "get_rank_id": _RANKS, "get_rank_size": _RANKS, "get_device_id": _RANKS, "get_local_rank_size": _RANKS,
    "get_initializer": _PARAMETERS % "get_initializer(is_training)",
    "get_target_batch": _PARAMETERS % "get_target_batch(is_training)",
    "get_ascend_global_hashtable_collection": _PARAMETERS % "ascend_global_hashtable_collection",
    "set_ascend_global_hashtable_collection": _PARAMETERS % "ascend_global_hashtable_collection = name",
    "get_use_dynamic_expansion": "read ConfigInitializer.get_instance().use_dynamic_expansion",
    "set_if_load": "set ConfigInitializer.get_instance().if_load",
    "get_host_pipeline_ops": "call mx_rec.util.ops.import_host_pipeline_ops",
    "clear_channel": "call import_host_pipeline_ops(LIBREC_TF_REC_V1_CPU_SO).clear_channel(channel_id)",
}


def __getattr__(name: str) -> Any:
    if name in _REPLACED:
        raise missing.error("mx_rec.util.initialize.%s is of SDK generation G1: %s" % (name, _REPLACED[name]))
    raise missing.error("module 'mx_rec.util.initialize' has no attribute %r" % name)
