"""Learning-rate schedules."""
import math
from typing import Union

import tensorflow as tf


def scheduled(rate: float, schedule: str, max_steps: int) -> Union[float, tf.Tensor]:
    """Returns the learning rate of a step.

    Args:
        rate: at the first step.
        schedule: ``fixed``, or ``cosine``: rate * (1 + cos(pi * step / max_steps)) / 2.
        max_steps: the step at which a cosine reaches 0.

    Returns:
        The number itself, which every version of the SDK takes, or a float32 scalar.
    """
    if schedule == "fixed" or max_steps <= 0:
        return rate
    share = tf.cast(tf.compat.v1.train.get_global_step(), tf.float32) / float(max_steps)
    return rate * 0.5 * (1.0 + tf.cos(math.pi * tf.minimum(share, 1.0)))
