"""Stand-in for the package ``mx_rec.core``."""
from rec_sdk_cpu.mx_rec.core.embedding import create_table, sparse_lookup
from rec_sdk_cpu.mx_rec.core.feature_process import EvictHook

__all__ = ["EvictHook", "create_table", "sparse_lookup"]
