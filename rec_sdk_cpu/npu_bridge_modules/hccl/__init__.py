"""Stands in for package ``hccl``, which CANN ships (npu_bridge_api 1.1)."""
