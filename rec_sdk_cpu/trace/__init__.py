"""The migration report of ``python -m rec_sdk_cpu --trace``: what a program used, and what differs on a device."""
from rec_sdk_cpu.trace.report import Trace, start

__all__ = ["Trace", "start"]
