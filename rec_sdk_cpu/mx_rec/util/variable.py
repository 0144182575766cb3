"""Stand-in for ``mx_rec.util.variable`` (rec_sdk_api 4, gradient recipe)."""
from typing import List, Tuple

import tensorflow as tf

from rec_sdk_cpu.core.config import ConfigInitializer


def get_dense_and_sparse_variable() -> Tuple[List[tf.Variable], List[tf.Variable]]:
    """Returns the dense and the sparse variables of the default graph.

    Returns:
        The trainable variables, and the table variables (float32 [capacity, dim] each).

    Raises:
        EnvironmentError: ``init`` has not run.
    """
    collection = ConfigInitializer.get_instance().train_params_config.ascend_global_hashtable_collection
    return (tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES),
            tf.compat.v1.get_collection(collection))
