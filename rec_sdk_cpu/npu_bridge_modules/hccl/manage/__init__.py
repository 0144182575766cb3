"""Stands in for package ``hccl.manage``."""
