"""A CPU stand-in for Ascend's Rec SDK (``mx_rec``, ``rec_sdk_common``) and TF Adapter (``npu_bridge``, ``hccl``).

One explicit call registers it under the real module names, before the program that uses them is imported::

    import rec_sdk_cpu
    rec_sdk_cpu.install()
    from mx_rec.core.embedding import create_table, sparse_lookup

It has the same names, signatures, argument checks and numeric semantics, on stock TensorFlow ops. What the SDK has and
the stand-in does not provide is absent, so that using it fails at once with an ImportError.
"""
from rec_sdk_cpu.installer import StandInError, install, is_installed, uninstall

__all__ = ["StandInError", "install", "is_installed", "uninstall"]
