"""Stand-in for the package ``mx_rec.util``."""
from rec_sdk_cpu.core.config import init

__all__ = ["init"]
