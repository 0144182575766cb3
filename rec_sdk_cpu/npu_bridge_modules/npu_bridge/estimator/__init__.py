"""Stands in for package ``npu_bridge.estimator``."""
