"""The one seam between devices: summing a lookup over its ids.

On NPUs the sum is what the SDK documents: ``reduce_sum`` over the looked-up [batch, fields, dim] tensor. The CPU
stand-in offers a product that gives the same sum without that tensor.
"""
import tensorflow as tf

import rec_sdk_cpu


def sum_pool(embedded: tf.Tensor) -> tf.Tensor:
    """Sums embedding rows over the ids of an example.

    Args:
        embedded: float32 [batch, fields, dim], what ``sparse_lookup`` returned.

    Returns:
        float32 [batch, dim].
    """
    if rec_sdk_cpu.is_installed():
        from rec_sdk_cpu.core.lookup import sum_over_ids
        pooled = sum_over_ids(embedded)
        if pooled is not None:
            return pooled
    return tf.reduce_sum(embedded, axis=1)
