"""Stand-in for the package ``mx_rec.graph``."""
from rec_sdk_cpu.mx_rec.graph.modifier import GraphModifierHook

__all__ = ["GraphModifierHook"]
