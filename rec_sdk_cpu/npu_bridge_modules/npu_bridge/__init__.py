"""Stands in for package ``npu_bridge``; the version text is the same in every release (npu_bridge_api section 0)."""

__version__ = "v1.15.0"
