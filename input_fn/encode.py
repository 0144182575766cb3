"""The TensorFlow side of :mod:`feature_specs.encoding`: raw numbers and ids of rows -> model inputs."""
from typing import Tuple

import tensorflow as tf

from feature_specs.encoding import FeatureEncoding


def encode_rows(sparse_ids: tf.Tensor, raw_dense: tf.Tensor,
                encoding: FeatureEncoding) -> Tuple[tf.Tensor, tf.Tensor]:
    """Normalises the dense values and appends the ids of their bins.

    Args:
        sparse_ids: int64 [n, S].
        raw_dense: float32 [n, D], raw units; NaN counts as missing.
        encoding: the constants.

    Returns:
        int64 [n, S + K] ids and float32 [n, D] normalised values.
    """
    if raw_dense.shape[1].value == 0:
        return sparse_ids, raw_dense
    known = tf.where(tf.math.is_nan(raw_dense), tf.ones_like(raw_dense) * encoding.default, raw_dense)
    ids = append_bin_ids(sparse_ids, known, encoding)
    return ids, normalise(known, encoding)


def normalise(raw_dense: tf.Tensor, encoding: FeatureEncoding) -> tf.Tensor:
    """Clips raw values to the training range and normalises them.

    Args:
        raw_dense: float32 [n, D], raw units, no NaN.
        encoding: the constants.

    Returns:
        float32 [n, D].
    """
    if encoding.transform == "none":
        return raw_dense * encoding.scale
    # In float64: TensorFlow's float32 log1p depends in its last bit on a value's place in the batch, and a column
    # with a small deviation makes that visible. This runs on the host, never on an NPU.
    values = tf.cast(tf.clip_by_value(raw_dense, encoding.minimum, encoding.maximum), tf.float64)
    if encoding.transform == "log_standard":
        values = tf.sign(values) * tf.math.log1p(tf.abs(values))
    return tf.cast((values - encoding.shift) * encoding.scale, tf.float32)


def append_bin_ids(sparse_ids: tf.Tensor, raw_dense: tf.Tensor, encoding: FeatureEncoding) -> tf.Tensor:
    """Appends one id per binned column: its offset plus the bin that the raw value lies in.

    Args:
        sparse_ids: int64 [n, S].
        raw_dense: float32 [n, D], raw units.
        encoding: the constants.

    Returns:
        int64 [n, S + K].
    """
    if not len(encoding.binned_columns):
        return sparse_ids
    values = tf.gather(tf.transpose(raw_dense), encoding.binned_columns)
    bins = tf.searchsorted(tf.constant(encoding.bin_edges), values, side="left", out_type=tf.int64)
    return tf.concat([sparse_ids, tf.transpose(bins + encoding.bin_offsets[:, None])], axis=1)
