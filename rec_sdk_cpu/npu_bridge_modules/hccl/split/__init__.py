"""Stands in for package ``hccl.split``."""
