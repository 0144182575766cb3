"""Stand-in for ``mx_rec.constants.constants`` (rec_sdk_api 6, 12)."""
from typing import Any, Dict

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.constants import *  # noqa: F403 - the module is its constants

# What differs between the generations is served by __getattr__.
del MAX_VOCABULARY_SIZE  # noqa: F821
_BY_GENERATION: Dict[str, Dict[str, Any]] = {
    "G2": {"MAX_VOCABULARY_SIZE": 10 ** 10, "LIBASC_OPS_SO": "libasc_ops.so"},
    "G3": {"MAX_VOCABULARY_SIZE": 10 ** 9},
}
_REASONS = {
    "LIBASC_OPS_SO": "G3 has LIBREC_TF_REC_V1_CPU_SO in its place; run with --generation G2 for the older name",
    "CacheModeEnum": "only intermediate versions of the SDK had it; define the enum in the program, from BaseEnum",
    "ASCEND_SPARSE_LOOKUP_UNIQUE_KEYS": "addresses come from the collection ASCEND_SPARSE_LOOKUP_ID_OFFSET",
    "ApplyGradientsStrategy": "addresses come from the collection ASCEND_SPARSE_LOOKUP_ID_OFFSET",
    "EnvOption": "the variables that it names tune the device's host process, which a CPU has not",
    "ASCAnchorAttr": "it names parts of the SDK's graph modification, which the stand-in does not need",
}


def __getattr__(name: str) -> Any:
    values = _BY_GENERATION[ConfigInitializer.generation]
    if name in values:
        return values[name]
    raise missing.error("module 'mx_rec.constants.constants' has no attribute %r%s" % (
        name, ": " + _REASONS[name] if name in _REASONS else ""))
