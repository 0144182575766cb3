"""The serving graph: stock TensorFlow ops only, from raw values to one probability per task.

Three signatures lead to one scorer. Encoding and network are the very functions that training uses
(:func:`input_fn.encode.encode_rows`, :func:`estimator_app.model.networks.build_network`).
"""
from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from estimator_app.model.layers import NetworkShape
from estimator_app.model.networks import build_network
from estimator_app.serving.weights import ServingWeights
from feature_specs.dataset import DENSE_FEATURE, SPARSE_FEATURE, DatasetDefinition
from feature_specs.encoding import FeatureEncoding
from feature_specs.errors import ConfigError
from feature_specs.manifest import Manifest
from input_fn.encode import encode_rows

IDS_SIGNATURE = "serving_default"
EXAMPLES_SIGNATURE = "examples"
RAW_SIGNATURE = "raw"
SIGNATURES = (IDS_SIGNATURE, EXAMPLES_SIGNATURE, RAW_SIGNATURE)
EXAMPLES_INPUT = "examples"

#: Raw numbers are limited to +-this where the transform does not clip them, so that no sum becomes infinite.
LARGEST_NUMBER = 1e20
# Stands for "not in the Example"; the blank makes it a text that no stripped value equals.
_ABSENT_TEXT = b" absent"
_NO_ID = -1


class Signature(NamedTuple):
    """One way to call the model: input tensors by name, and float32 [batch, 1] outputs by task."""

    inputs: Dict[str, tf.Tensor]
    outputs: Dict[str, tf.Tensor]


class Scorer:
    """Scores ids and raw dense values; every call shares the same variables.

    Args:
        dataset: columns and tasks.
        shape: sizes of the network.
        encoding: constants of the encoding.
    """

    def __init__(self, dataset: DatasetDefinition, shape: NetworkShape, encoding: FeatureEncoding) -> None:
        self._shape = shape
        self._encoding = encoding
        with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), use_resource=True):
            self._table = tf.compat.v1.get_variable(dataset.table_name, [encoding.num_ids + 1, shape.width],
                                                    initializer=tf.compat.v1.zeros_initializer())

    def __call__(self, ids: tf.Tensor, raw_dense: tf.Tensor) -> Dict[str, tf.Tensor]:
        """Builds the scoring of a batch.

        Args:
            ids: int64 [batch, S]; an id outside 0 to num_ids - 1 counts as one without a row.
            raw_dense: float32 [batch, D], raw units; NaN is missing, infinities count as the largest numbers.

        Returns:
            {task: float32 [batch, 1]}, probabilities.
        """
        all_ids, dense = encode_rows(ids, limit_numbers(raw_dense, self._encoding), self._encoding)
        pooled = sum_rows(self._table, all_ids, self._encoding.num_ids)
        scope = tf.compat.v1.get_variable_scope()
        with tf.compat.v1.variable_scope(scope, reuse=tf.compat.v1.AUTO_REUSE, use_resource=True):
            logits = build_network(pooled, dense, self._shape).logits
        return {task: tf.expand_dims(tf.sigmoid(logits[task]), 1) for task in self._shape.tasks}


def limit_numbers(raw_dense: tf.Tensor, encoding: FeatureEncoding) -> tf.Tensor:
    """Limits numbers that the encoding passes on unclipped; NaN stays NaN.

    Args:
        raw_dense: float32 [batch, D].
        encoding: constants of the encoding.

    Returns:
        float32 [batch, D].
    """
    if encoding.transform != "none" or not raw_dense.shape[1].value:
        return raw_dense
    limited = tf.clip_by_value(raw_dense, -LARGEST_NUMBER, LARGEST_NUMBER)
    return tf.where(tf.math.is_nan(raw_dense), raw_dense, limited)


def sum_rows(table: tf.Tensor, ids: tf.Tensor, num_ids: int) -> tf.Tensor:
    """Sums the table's rows of every example without a [batch, fields, dim] tensor.

    The product adds the rows in the order of the fields, as the CPU's training graph does, so that both round alike.

    Args:
        table: float32 [num_ids + 1, dim], the last row zero.
        ids: int64 [batch, fields]; an id outside 0 to num_ids - 1 contributes nothing.
        num_ids: number of ids.

    Returns:
        float32 [batch, dim].
    """
    fields = ids.shape[1].value
    known = tf.logical_and(ids >= 0, ids < num_ids)
    rows = tf.where(known, ids, tf.fill(tf.shape(ids), tf.constant(num_ids, tf.int64)))
    batch = tf.shape(ids, out_type=tf.int64)[0]
    examples = tf.tile(tf.expand_dims(tf.range(batch), 1), [1, fields])
    indices = tf.reshape(tf.stack([examples, rows], axis=2), [-1, 2])
    counts = tf.SparseTensor(indices, tf.ones([batch * fields]), tf.stack([batch, num_ids + 1]))
    pooled = tf.sparse.sparse_dense_matmul(counts, table)
    pooled.set_shape([None, table.shape[1].value])
    return pooled


def build_ids_signature(scorer: Scorer, dataset: DatasetDefinition) -> Signature:
    """Builds ``serving_default``: ``sparse_feature`` int64 [batch, S] and ``dense_feature`` float32 [batch, D], raw."""
    inputs = {SPARSE_FEATURE: _placeholder(tf.int64, [None, dataset.num_sparse], SPARSE_FEATURE)}
    ids = _checked(inputs[SPARSE_FEATURE])
    if dataset.num_dense:
        inputs[DENSE_FEATURE] = _placeholder(tf.float32, [None, dataset.num_dense], DENSE_FEATURE)
        dense = _checked(inputs[DENSE_FEATURE])
    else:
        dense = tf.zeros([tf.shape(ids)[0], 0])
    return Signature(inputs, scorer(ids, dense))


def build_raw_signature(scorer: Scorer, manifest: Manifest, vocabulary: Any) -> Signature:
    """Builds ``raw``: each feature column by its name, string [batch, 1] or float32 [batch, 1].

    Args:
        scorer: the scorer.
        manifest: columns and ids.
        vocabulary: lookup table from ``column<TAB>value`` to id.
    """
    dataset = manifest.dataset
    inputs: Dict[str, tf.Tensor] = {}
    for kind, dtype, columns in (("text", tf.string, dataset.sparse_columns),
                                 ("number", tf.float32, dataset.dense_columns)):
        for number, column in enumerate(columns):
            inputs[column] = _placeholder(dtype, [None, 1], "%s_%d" % (kind, number))
    texts = [_checked(inputs[column]) for column in dataset.sparse_columns]
    ids = _or_unknown(_look_up(texts, dataset.sparse_columns, vocabulary), manifest)
    if dataset.num_dense:
        dense = tf.concat([_checked(inputs[column]) for column in dataset.dense_columns], axis=1)
    else:
        dense = tf.zeros([tf.shape(ids)[0], 0])
    return Signature(inputs, scorer(ids, dense))


def build_examples_signature(scorer: Scorer, manifest: Manifest, vocabulary: Any) -> Signature:
    """Builds ``examples``: serialized tf.Example protos, one row each, string [batch].

    A row is given as the record's vectors ``sparse_feature`` and ``dense_feature``, or column by column under the
    columns' names (which win), or both. What is in neither is an unknown value or a missing number.

    Args:
        scorer: the scorer.
        manifest: columns and ids.
        vocabulary: lookup table from ``column<TAB>value`` to id.

    Raises:
        ConfigError: a column is named like a vector.
    """
    dataset = manifest.dataset
    clash = {SPARSE_FEATURE, DENSE_FEATURE} & set(dataset.sparse_columns + dataset.dense_columns)
    if clash:
        raise ConfigError("dataset %s: the name of column %s is reserved; rename the column"
                          % (dataset.name, ", ".join(sorted(clash))))
    serialized = _placeholder(tf.string, [None], EXAMPLES_INPUT)
    features: Dict[str, Any] = {
        SPARSE_FEATURE: tf.io.FixedLenFeature([dataset.num_sparse], tf.int64, [_NO_ID] * dataset.num_sparse)}
    for column in dataset.sparse_columns:
        features[column] = tf.io.FixedLenFeature([1], tf.string, [_ABSENT_TEXT])
    for column in dataset.dense_columns:
        features[column] = tf.io.FixedLenFeature([1], tf.float32, [np.nan])
    if dataset.num_dense:
        features[DENSE_FEATURE] = tf.io.FixedLenFeature([dataset.num_dense], tf.float32, [np.nan] * dataset.num_dense)
    # An Example has the wire format of a SequenceExample's context. The sequence parser is used because its errors do
    # not quote the bytes that were sent: TensorFlow 1.15's Python crashes on a message that is not UTF-8.
    parsed, _, _ = tf.io.parse_sequence_example(_checked(serialized), context_features=features)
    texts = [parsed[column] for column in dataset.sparse_columns]
    absent = tf.equal(tf.concat(texts, axis=1), _ABSENT_TEXT)
    named = _look_up(texts, dataset.sparse_columns, vocabulary)
    ids = tf.where(absent, parsed[SPARSE_FEATURE], _or_unknown(named, manifest))
    if dataset.num_dense:
        numbers = tf.concat([parsed[column] for column in dataset.dense_columns], axis=1)
        dense = tf.where(tf.math.is_nan(numbers), parsed[DENSE_FEATURE], numbers)
    else:
        dense = tf.zeros([tf.shape(ids)[0], 0])
    return Signature({EXAMPLES_INPUT: serialized}, scorer(_or_unknown(ids, manifest), dense))


def assign_weights(session: tf.compat.v1.Session, weights: ServingWeights, table_name: str) -> None:
    """Sets the variables of the session's graph.

    Args:
        session: a session on a graph that has a :class:`Scorer`.
        weights: the weights.
        table_name: name of the embedding table.
    """
    values = dict(weights.dense)
    values[table_name] = weights.table
    with session.graph.as_default():
        for variable in tf.compat.v1.global_variables():
            variable.load(values[variable.op.name], session)


def _placeholder(dtype: tf.DType, shape: Sequence[Any], name: str) -> tf.Tensor:
    return tf.compat.v1.placeholder(dtype, shape, name="input_%s" % name)


def _checked(tensor: tf.Tensor) -> tf.Tensor:
    # A server feeds what a client sends without looking at the placeholder's shape.
    return tf.ensure_shape(tensor, tensor.shape)


def _look_up(texts: List[tf.Tensor], columns: Sequence[str], vocabulary: Any) -> tf.Tensor:
    """Returns int64 [batch, S] ids of string [batch, 1] values, -1 for values that are not in the vocabulary."""
    keys = [tf.strings.join(["%s\t" % column, tf.strings.strip(text)]) for column, text in zip(columns, texts)]
    return vocabulary.lookup(tf.concat(keys, axis=1))


def _or_unknown(ids: tf.Tensor, manifest: Manifest) -> tf.Tensor:
    """Replaces negative ids by their column's out-of-vocabulary id."""
    offsets = manifest.id_offsets()
    unknown = tf.constant([[offsets[column] + len(manifest.vocabularies[column])
                            for column in manifest.dataset.sparse_columns]], tf.int64)
    return tf.where(ids < 0, tf.tile(unknown, [tf.shape(ids)[0], 1]), ids)
