"""How looked-up rows become field vectors; stock TensorFlow, the same in training and in the exported graph."""
from typing import Any, Optional, Sequence

import tensorflow as tf

from feature_specs.dataset import SUM
from feature_specs.encoding import TableLayout
from feature_specs.records import PADDING_KEY


def pool(embedded: tf.Tensor, weights: Optional[tf.Tensor], widths: Optional[Sequence[int]]) -> tf.Tensor:
    """Sums looked-up rows, the way that the SDK documents: mask, multiply, reduce.

    ``embedded`` is exactly what ``sparse_lookup`` returned, float32 [batch, keys, dim], ``weights`` are the rows'
    factors, float32 [batch, keys] (None: all 1), ``widths`` the numbers of neighbouring keys of the fields. Returns
    float32 [batch, fields, dim], or without ``widths`` the sum over all keys, [batch, dim].
    """
    rows = embedded if weights is None else embedded * tf.expand_dims(weights, 2)
    if widths is None:
        return tf.reduce_sum(rows, axis=1)
    if all(width == 1 for width in widths):
        return rows
    return tf.stack([tf.reduce_sum(part, axis=1) for part in tf.split(rows, list(widths), axis=1)], axis=1)


class Seam:
    """What pools on this device: :func:`pool`, or what :mod:`estimator_app.device` puts in its place on a CPU."""

    pool: Any = staticmethod(pool)


def row_weights(keys: tf.Tensor, layout: TableLayout) -> Optional[tf.Tensor]:
    """Returns the factors of the rows of a table's keys, int64 [batch, width], as float32 of the same shape: 0 for
    empty places, one over the number of values of a mean-pooled list (which is a zero vector where there is none),
    else 1; None where all are 1."""
    if not layout.has_lists:
        return None
    weights = tf.cast(tf.not_equal(keys, PADDING_KEY), tf.float32)
    if all(field.pooling == SUM for field in layout.fields):
        return weights
    parts = tf.split(weights, [field.width for field in layout.fields], axis=1)
    return tf.concat([_of_field(part, field.pooling) for field, part in zip(layout.fields, parts)], axis=1)


def _of_field(present: tf.Tensor, pooling: str) -> tf.Tensor:
    """Returns the factors of a field's rows; ``present``, float32 [batch, width], has 1 where there is a value."""
    if pooling == SUM:
        return present
    count = tf.broadcast_to(tf.reduce_sum(present, axis=1, keepdims=True), tf.shape(present))
    return tf.math.divide_no_nan(present, count)
