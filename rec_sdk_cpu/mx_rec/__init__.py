"""Stand-in for the package ``mx_rec``."""
__version__ = "6.0.RC3"


def version() -> str:
    """Returns the version string of the SDK generation that is reproduced."""
    return __version__
