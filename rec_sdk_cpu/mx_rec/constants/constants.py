"""Stand-in for ``mx_rec.constants.constants`` (rec_sdk_api 6)."""
from rec_sdk_cpu.core.constants import *  # noqa: F403 - the module is its constants
