"""What Python and TensorFlow say of files that cannot be read or written."""
import errno
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from feature_specs import storage
from feature_specs.files import PROJECT


def error_of(function, *arguments):
    with pytest.raises(Exception) as info:
        function(*arguments)
    return info.value


def write_records(path):
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(bytes(1 << 20))


def test_a_full_disk_as_the_writer_of_records_meets_it():
    assert storage.failure(error_of(write_records, "/dev/full")) == ("/dev/full", "No space left on device")


@pytest.mark.parametrize("message, found", [
    ("model/a.data; No space left on device\n\t [[node save/SaveV2]]", ("model/a.data", "No space left on device")),
    ("/my disk/a.data; File too large", ("/my disk/a.data", "File too large")),
    ("Failed to open /my disk/a; Is a directory", ("/my disk/a", "Is a directory")),
    ("Read less bytes than requested", None), ("a; b", None),
])
def test_messages_of_tensorflow(message, found):
    assert storage.failure(tf.errors.OutOfRangeError(None, None, message)) == found


def test_errors_of_python():
    full = os.strerror(errno.ENOSPC)
    assert storage.failure(OSError(errno.ENOSPC, full)) == ("", full)
    assert storage.failure(OSError(errno.ENOENT, "gone", "x")) == ("x", os.strerror(errno.ENOENT))
    assert storage.failure(OSError(errno.ENOENT, "gone")) is None and storage.failure(OSError("text")) is None
    assert storage.failure(ValueError("/x; %s" % full)) is None


def test_tensorflow_is_not_loaded_for_it():
    program = "import sys\nfrom feature_specs import storage\nassert storage.failure(ValueError()) is None\n" \
              "assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, env=dict(os.environ, PYTHONPATH=PROJECT))
