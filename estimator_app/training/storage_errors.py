"""Storage that fails while training writes: one line that names the file and says what is kept."""
import contextlib
import os
import re
from typing import Iterator

import tensorflow as tf

from estimator_app.model_dir import checkpoints
from feature_specs.errors import UserError

# TensorFlow's file system turns errno into "<file>; <strerror>".
_TENSORFLOW = re.compile(r"(?P<file>[^\s;]+); (?P<reason>%s)" % "|".join(re.escape(os.strerror(number)) for number in (
    1, 2, 5, 13, 20, 21, 27, 28, 30, 122)))


@contextlib.contextmanager
def explained_storage_errors(model_dir: str) -> Iterator[None]:
    """Turns failed writes into a message.

    Args:
        model_dir: where checkpoints are.

    Raises:
        UserError: naming file, reason and the last good checkpoint.
    """
    try:
        yield
    except tf.errors.OpError as error:
        match = _TENSORFLOW.search(str(error.message))
        if not match:
            raise
        raise _explained(match.group("file"), match.group("reason"), model_dir) from error
    except OSError as error:
        if not error.filename or error.errno is None:
            raise
        raise _explained(str(error.filename), os.strerror(error.errno), model_dir) from error


def _explained(name: str, reason: str, model_dir: str) -> UserError:
    step = checkpoints.latest(model_dir)
    kept = "there is no checkpoint yet" if step is None else "the last good checkpoint is of step %d" % step
    return UserError("%s: %s; %s. When the storage works again, the same command goes on from there"
                     % (name, reason, kept))
