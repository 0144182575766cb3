"""Stand-in for the package ``mx_rec.graph``."""
from typing import Any

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.mx_rec.graph import patch
from rec_sdk_cpu.mx_rec.graph.hooks import LookupSubgraphSlicerHook, OrphanLookupKeySlicerHook
from rec_sdk_cpu.mx_rec.graph.merge_lookup import do_merge_lookup
from rec_sdk_cpu.mx_rec.graph.modifier import GraphModifierHook, modify_graph_and_start_emb_cache

# "run" is served by __getattr__: it is the method that is patched into the session while the stand-in is installed.
__all__ = ["GraphModifierHook", "LookupSubgraphSlicerHook", "OrphanLookupKeySlicerHook",  # noqa: F822
           "do_merge_lookup", "modify_graph_and_start_emb_cache", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        return patch.run
    raise missing.error("module 'mx_rec.graph' has no attribute %r" % name)
