"""Stand-in for ``mx_rec.saver.saver``: what programs import from it, the check of a file to read (rec_sdk_api 12).

The SDK's own sparse ``Saver`` class is not built: tf.compat.v1.train.Saver saves and restores the tables.
"""
import os
import stat
from typing import Any

import tensorflow as tf

from rec_sdk_cpu.core import missing
from rec_sdk_cpu.core.constants import HDFS_FILE_PREFIX

_MIN_SIZE = 1
_MAX_SIZE = 500 * 1024 ** 3
_FORBIDDEN_MODE = 0o022


def check_file_system_is_hdfs(file_path: str) -> bool:
    """Returns whether a path names a file of HDFS."""
    return file_path.startswith(tuple(HDFS_FILE_PREFIX))


def validate_read_file(read_file_path: str) -> None:
    """Checks a file before it is read (rec_sdk_api 12).

    Raises:
        ValueError: not a text; empty or larger than 500 GB; a symbolic link on the way; of another user and group; or
            one that group or others may write.
        NotFoundError: there is no such file.
    """
    if not isinstance(read_file_path, str):
        raise ValueError("read_file_path must be a str, given %r" % (read_file_path,))
    size = tf.io.gfile.stat(read_file_path).length
    if not _MIN_SIZE <= size <= _MAX_SIZE:
        raise ValueError("file size %d of %s is invalid, not in [%d, %d]"
                         % (size, read_file_path, _MIN_SIZE, _MAX_SIZE))
    if check_file_system_is_hdfs(read_file_path):
        return
    if os.path.abspath(read_file_path) != os.path.realpath(read_file_path):
        raise ValueError("soft link or relative path %s should not be in the path parameter" % read_file_path)
    status = os.stat(read_file_path)
    if status.st_uid != os.geteuid() and status.st_gid != os.getegid():
        raise ValueError("%s belongs to another user and group" % read_file_path)
    if stat.S_IMODE(status.st_mode) & _FORBIDDEN_MODE:
        raise ValueError("current file mode %s of %s is unsupported: group or others may write it; chmod go-w"
                         % (oct(stat.S_IMODE(status.st_mode)), read_file_path))


def __getattr__(name: str) -> Any:
    if name == "Saver":
        raise missing.error("mx_rec.saver.saver.Saver is not provided by the CPU stand-in: tf.compat.v1.train.Saver "
                             "saves and restores the tables")
    raise missing.error("module 'mx_rec.saver.saver' has no attribute %r" % name)
