"""Stand-in for the package ``mx_rec``."""
from rec_sdk_cpu.core.constants import ASCEND_GLOBAL_HASHTABLE_COLLECTION

__version__ = "6.0.RC3"
__all__ = ["ASCEND_GLOBAL_HASHTABLE_COLLECTION", "__version__", "version"]


def version() -> str:
    """Returns the version string of the SDK generation that is reproduced."""
    return __version__
