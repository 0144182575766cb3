"""The TensorFlow side of :mod:`feature_specs.encoding`: raw numbers and indexes of rows -> model inputs."""
from typing import Dict, Tuple

import numpy as np
import tensorflow as tf

from feature_specs.encoding import FeatureEncoding, TableLayout
from feature_specs.records import PADDING_KEY, table_keys


def encode_rows(sparse: tf.Tensor, raw_dense: tf.Tensor,
                encoding: FeatureEncoding) -> Tuple[Dict[str, tf.Tensor], tf.Tensor]:
    """Returns the keys {name of a table's entry: int64 [n, width]} and the normalised numbers float32 [n, D] of rows.

    ``sparse`` int64 [n, W] are indexes or hashes, negative where a list has no value, which gets the padding key;
    ``raw_dense`` float32 [n, D] are raw numbers, NaN where one is missing.
    """
    keys, numbers = sparse + encoding.offsets, raw_dense
    if any(table.has_lists for table in encoding.tables):
        keys = tf.where(sparse < 0, tf.fill(tf.shape(keys), tf.constant(PADDING_KEY, tf.int64)), keys)
    if raw_dense.shape[1].value:
        known = tf.where(tf.math.is_nan(raw_dense), tf.ones_like(raw_dense) * encoding.default, raw_dense)
        numbers = normalise(known, encoding)
        if len(encoding.binned_columns):
            keys = tf.concat([keys, bin_keys(known, encoding)], axis=1)
    return {table_keys(table.name): _of_table(keys, table) for table in encoding.tables}, numbers


def normalise(raw_dense: tf.Tensor, encoding: FeatureEncoding) -> tf.Tensor:
    """Clips raw values to the training range and normalises them, float32 [n, D]; ``raw_dense`` has no NaN."""
    clipped = tf.clip_by_value(raw_dense, encoding.minimum, encoding.maximum)
    if not encoding.logarithm.any() and not encoding.shift.any():
        return clipped * encoding.scale
    # In float64: TensorFlow's float32 log1p depends in its last bit on a value's place in the batch, and a feature
    # with a small deviation makes that visible. This runs on the host, never on an NPU.
    values = tf.cast(clipped, tf.float64)
    if encoding.logarithm.any():
        logarithms = tf.sign(values) * tf.math.log1p(tf.abs(values))
        values = logarithms if encoding.logarithm.all() else tf.where(
            tf.broadcast_to(encoding.logarithm, tf.shape(values)), logarithms, values)
    return tf.cast((values - encoding.shift) * encoding.scale, tf.float32)


def bin_keys(raw_dense: tf.Tensor, encoding: FeatureEncoding) -> tf.Tensor:
    """Returns int64 [n, K]: of every binned feature the key of the bin that its raw value lies in."""
    values = tf.gather(tf.transpose(raw_dense), encoding.binned_columns)
    # tf.searchsorted itself cannot search for no rows.
    bins = tf.raw_ops.LowerBound(sorted_inputs=encoding.bin_edges, values=values, out_type=tf.int64)
    return tf.transpose(bins + encoding.bin_offsets[:, None])


def _of_table(keys: tf.Tensor, table: TableLayout) -> tf.Tensor:
    first, width = table.columns[0], table.width
    if table.columns == tuple(range(first, first + width)):
        return keys if width == keys.shape[1].value else keys[:, first:first + width]
    return tf.gather(keys, np.array(table.columns, np.int64), axis=1)
