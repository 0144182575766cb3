"""The keys of a record and of a batch, and the marks that values in them have: written down here only.

A record packs L rows (``line_per_sample``) of a dataset with T tasks, D numeric features and W categorical values a row
(a list feature takes ``max_length`` of them): ``label`` int64 [T * L] (float32 where a task is a regression),
``sparse_feature`` int64 [W * L], ``dense_feature`` float32 [D * L], and where the dataset has them ``weight`` float32
[L] and ``group`` int64 [L].
"""
from typing import Any

LABEL = "label"
SPARSE_FEATURE = "sparse_feature"
DENSE_FEATURE = "dense_feature"
WEIGHT = "weight"
GROUP = "group"
TIMESTAMP = "timestamp"  # only in batches: their time
EVAL_WEIGHT = "eval_weight"  # only in batches: the weights of a second set of evaluation scores

UNKNOWN_LABEL = -1  # of a row that does not count for its task; NaN where labels are float32
PADDING_LABEL = -2  # of a row that is no row, which fills the last record or batch up; -inf where labels are float32
NO_GROUP = 0  # of rows without a group, which are compared with none; groups have hashes from 1 on
NO_VALUE = -1  # a place of a list that holds no value
UNKNOWN_INDEX = 0  # of values that a vocabulary lacks
PADDING_KEY = 0  # of places without a value, in every table
KEY_BITS = 40  # a key is the number of its vocabulary, shifted by so many bits, plus the index or hash of its value
HASH_BUCKETS = (1 << KEY_BITS) - 1  # hashed values: 1 + hash modulo this


def is_padding(labels: Any) -> Any:
    """Returns bool [n], whether a row only fills a record or batch up, of labels int64 or float32 [n, T]."""
    import tensorflow as tf
    if labels.dtype.is_floating:
        return tf.math.is_inf(labels[:, 0])
    return tf.equal(labels[:, 0], PADDING_LABEL)


def table_keys(table: str) -> str:
    """Returns the name of a batch's entry that holds the keys of a table, int64 [batch, width of the table]."""
    return "%s_%s" % (SPARSE_FEATURE, table)
