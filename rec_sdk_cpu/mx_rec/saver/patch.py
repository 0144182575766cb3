"""Stand-in for ``mx_rec.saver.patch``: the patched methods of Saver, and the check of a path to write to."""
import os
from typing import Any

import tensorflow as tf

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.mx_rec.saver.saver import check_file_system_is_hdfs


def validate_save_path(save_path: str) -> None:
    """Checks a path before something is written to it, as programs do with files of their own (rec_sdk_api 12).

    Raises:
        ValueError: not a text, or a symbolic link on the way.
    """
    if not isinstance(save_path, str) or not save_path:
        raise ValueError("save_path must be a non-empty str, given %r" % (save_path,))
    if check_file_system_is_hdfs(save_path):
        return
    if os.path.abspath(save_path) != os.path.realpath(save_path):
        raise ValueError("save_path:%s can't contain soft link for safety reason; use %s"
                         % (save_path, os.path.realpath(save_path)))


def __getattr__(name: str) -> Any:
    if name in ("save", "restore", "build"):
        return getattr(tf.compat.v1.train.Saver, name)
    raise missing.error("module 'mx_rec.saver.patch' has no attribute %r" % name)
