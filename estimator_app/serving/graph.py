"""The serving graph: stock TensorFlow ops only, from raw values to one output per task.

Three signatures lead to one scorer. Encoding, pooling, network and tasks are the very functions that training uses.
Tables and vocabularies are variables, sorted by key or fingerprint and searched, so that the graph itself stays small.
"""
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import pyarrow.compute
import pyarrow.parquet
import tensorflow as tf

from estimator_app.model.pooling import row_weights
from estimator_app.serving.weights import TrainedModel
from feature_specs import records
from feature_specs.data_files import vocabulary_file
from feature_specs.dataset import FIRST, HASH, CategoricalFeature
from feature_specs.encoding import TableLayout
from feature_specs.errors import UserError
from input_fn.encode import encode_rows

#: Names of the signatures; that of Examples has one input of the same name.
DEFAULT, EXAMPLES, RAW = "serving_default", "examples", "raw"
#: One way to call the model: input tensors by name, and float32 [batch, 1] outputs by name.
Signature = Tuple[Dict[str, tf.Tensor], Dict[str, tf.Tensor]]

_FINGERPRINTS = (1 << 63) - 1
# The last of the sorted keys and fingerprints, larger than any: its row or index is that of all that are not there.
_NOT_THERE = np.int64((1 << 63) - 1)
_TEXTS_AT_ONCE = 1 << 19
# Stands for "not in the Example": bytes that are no text.
_ABSENT = b"\xff\x00absent"


class ServingGraph:
    """Builds the graph of a trained model in the current graph; all signatures share its variables.

    Without ``vocabulary_dir``, the folder that the paths of the manifest's vocabularies start from, it takes no texts.
    """

    def __init__(self, trained: TrainedModel, vocabulary_dir: str = "") -> None:
        self._model = trained.model
        self._dataset = trained.model.manifest.dataset
        # The vectors of a record: type, width, and what stands for nothing in them.
        self._vectors = {records.SPARSE_FEATURE: (tf.int64, self._dataset.sparse_width, records.NO_VALUE),
                         records.DENSE_FEATURE: (tf.float32, len(self._dataset.numeric), np.nan)}
        self._values = dict(trained.dense)
        self._tables: Dict[str, Sequence[tf.Variable]] = {}
        self._vocabularies: Dict[str, Sequence[tf.Variable]] = {}
        for name, table in trained.tables.items():
            # Training gives the key of empty places, the smallest one, a row like any other.
            first = np.searchsorted(table.keys, records.PADDING_KEY, side="right")
            self._tables[name] = (
                self._variable("%s/keys" % name, np.append(table.keys[first:], _NOT_THERE)),
                self._variable("%s/rows" % name, np.pad(table.rows[first:], [(0, 1), (0, 0)], mode="constant")))
        for name, info in self._model.manifest.vocabularies.items() if vocabulary_dir else ():
            if info.path:
                hashes, indexes = _fingerprints(vocabulary_file(self._model.manifest, vocabulary_dir, name), name)
                self._vocabularies[name] = (
                    self._variable("vocabulary_%s/fingerprints" % name, np.append(hashes, _NOT_THERE)),
                    self._variable("vocabulary_%s/indexes" % name, np.append(indexes, records.UNKNOWN_INDEX)))

    def assign(self, session: tf.compat.v1.Session) -> None:
        """Sets all variables of the graph, which is the current one."""
        for variable in tf.compat.v1.global_variables():
            variable.load(self._values[variable.op.name], session)

    def score(self, sparse: tf.Tensor, raw_dense: tf.Tensor) -> Dict[str, tf.Tensor]:
        """Builds the scoring of a batch and returns {output: float32 [batch, 1]}.

        Of ``sparse`` int64 [batch, W], indexes and hashes as in records, one that the vocabulary lacks counts as
        unknown, a negative one in a list as no value; of ``raw_dense`` float32 [batch, D], in raw units, NaN is
        missing, and infinities count as the largest numbers.
        """
        model, encoding = self._model, self._model.encoding
        single = [not feature.is_list for feature in self._dataset.categorical for _ in range(feature.width)]
        outside = tf.logical_or(sparse >= encoding.limits, tf.logical_and(sparse < 0, np.array([single], bool)))
        known = tf.where(outside, tf.fill(tf.shape(sparse), tf.constant(records.UNKNOWN_INDEX, tf.int64)), sparse)
        keys, numbers = encode_rows(known, raw_dense, encoding)
        pooled = [self._pooled(keys[records.table_keys(layout.name)], layout) for layout in encoding.tables]
        inputs = model.inputs(pooled, numbers)
        with tf.compat.v1.variable_scope(model.config.model, reuse=tf.compat.v1.AUTO_REUSE, use_resource=True):
            output = model.network(inputs, False)
        return {name: tf.expand_dims(value, 1) for name, value in model.tasks.predictions(output.logits).items()}

    def default_signature(self) -> Signature:
        """``sparse_feature`` int64 [batch, W] and ``dense_feature`` float32 [batch, D], as records hold them."""
        inputs = {name: _placeholder(dtype, [None, width], name)
                  for name, (dtype, width, _) in self._vectors.items() if width}
        batch = tf.shape(next(iter(inputs.values())))[0]
        values = (_checked(inputs[name]) if name in inputs else tf.zeros([batch, 0], dtype)
                  for name, (dtype, _, _) in self._vectors.items())
        return inputs, self.score(*values)

    def raw_signature(self) -> Signature:
        """Each feature by its name: string [batch, 1], a list as one text with its separator, or float32 [batch, 1]."""
        inputs = {feature.name: _placeholder(tf.string if isinstance(feature, CategoricalFeature) else tf.float32,
                                             [None, 1], "raw_%d" % number)
                  for number, feature in enumerate(self._dataset.features)}
        values = {name: _checked(tensor) for name, tensor in inputs.items()}
        return inputs, self.score(*self._from_raw(values))

    def examples_signature(self) -> Signature:
        """Serialized tf.Example protos of one row, string [batch]: the record's vectors, or features by their names
        (which win), or both. What is in neither is an unknown value, an empty list or a missing number.
        """
        dataset = self._dataset
        serialized = _placeholder(tf.string, [None], EXAMPLES)
        kinds = {feature.name: (tf.string, 1, _ABSENT) for feature in dataset.categorical}
        kinds.update((feature.name, (tf.float32, 1, np.nan)) for feature in dataset.numeric)
        kinds.update(self._vectors)
        features = {name: tf.io.FixedLenFeature([width], dtype, [default] * width)
                    for name, (dtype, width, default) in kinds.items() if width}
        # An Example has the wire format of a SequenceExample's context. The sequence parser is used because its
        # errors do not quote the bytes that were sent: TensorFlow 1.15's Python crashes on a message that is not UTF-8.
        parsed, _, _ = tf.io.parse_sequence_example(_checked(serialized), context_features=features)
        sparse, dense = self._from_raw(parsed)
        if dataset.sparse_width:
            absent = tf.concat([tf.tile(tf.equal(parsed[feature.name], _ABSENT), [1, feature.width])
                                for feature in dataset.categorical], axis=1)
            sparse = tf.where(absent, parsed[records.SPARSE_FEATURE], sparse)
        if dataset.numeric:
            dense = tf.where(tf.math.is_nan(dense), parsed[records.DENSE_FEATURE], dense)
        return {EXAMPLES: serialized}, self.score(sparse, dense)

    def _from_raw(self, values: Mapping[str, tf.Tensor]) -> List[tf.Tensor]:
        """Returns int64 [batch, W] and float32 [batch, D] of raw values by feature."""
        batch = tf.shape(values[self._dataset.features[0].name])[0]
        columns = {tf.int64: [self._indexes(values[feature.name], feature) for feature in self._dataset.categorical],
                   tf.float32: [values[feature.name] for feature in self._dataset.numeric]}
        return [tf.concat(parts, axis=1) if parts else tf.zeros([batch, 0], dtype) for dtype, parts in columns.items()]

    def _indexes(self, cells: tf.Tensor, feature: CategoricalFeature) -> tf.Tensor:
        """Returns int64 [batch, width] indexes or hashes of string [batch, 1] cells, trimmed as in preparation."""
        texts = tf.strings.strip(cells)
        for missing in self._dataset.files.missing:
            texts = tf.where(tf.equal(texts, missing), tf.fill(tf.shape(texts), ""), texts)
        if not feature.is_list:
            return self._look_up(texts, feature)
        pieces = tf.compat.v1.strings.split(tf.reshape(texts, [-1]), sep=feature.list_separator,
                                            result_type="RaggedTensor")
        pieces = pieces.with_values(tf.strings.strip(pieces.values))
        pieces = tf.ragged.boolean_mask(pieces, pieces.with_values(tf.not_equal(pieces.values, "")))
        kept = pieces[:, :feature.max_length] if feature.keep == FIRST else pieces[:, -feature.max_length:]
        found = kept.with_values(self._look_up(kept.values, feature)).to_tensor(default_value=records.NO_VALUE)
        filled = tf.pad(found, [[0, 0], [0, feature.max_length - tf.shape(found)[1]]], constant_values=records.NO_VALUE)
        return tf.reshape(filled, [-1, feature.max_length])

    def _look_up(self, texts: tf.Tensor, feature: CategoricalFeature) -> tf.Tensor:
        if feature.encoding == HASH:
            return 1 + tf.strings.to_hash_bucket_fast(texts, records.HASH_BUCKETS)
        hashes, indexes = self._vocabularies[feature.vocabulary or feature.name]
        places = _find(hashes, tf.reshape(tf.strings.to_hash_bucket_fast(texts, _FINGERPRINTS), [-1]))
        return tf.reshape(tf.gather(indexes, places), tf.shape(texts))

    def _pooled(self, keys: tf.Tensor, layout: TableLayout) -> tf.Tensor:
        """Returns the pooled rows, without a [batch, keys, dim] tensor where keys are added up."""
        table_of_keys, rows = self._tables[layout.name]
        places = _find(table_of_keys, tf.reshape(keys, [-1]))
        dim, widths, weights = rows.shape[1].value, [field.width for field in layout.fields], row_weights(keys, layout)
        if self._model.is_sum and weights is None:
            widths = [layout.width]
        if all(width == 1 for width in widths):
            vectors = tf.gather(rows, places)
        else:
            field_of_key = np.repeat(np.arange(len(widths), dtype=np.int32), widths)
            segments = tf.expand_dims(tf.range(tf.shape(keys)[0]) * len(widths), 1) + field_of_key
            vectors = tf.sparse.segment_sum(rows, places, tf.reshape(segments, [-1]))
        vectors = tf.reshape(vectors, [-1, len(widths), dim])
        if weights is not None:
            # The values of a list have one factor; the empty places beside them have added zeros.
            vectors *= tf.stack([tf.reduce_max(part, axis=1, keepdims=True)
                                 for part in tf.split(weights, widths, axis=1)], axis=1)
        return tf.reduce_sum(vectors, axis=1) if self._model.is_sum else vectors

    def _variable(self, name: str, value: np.ndarray) -> tf.Variable:
        self._values[name] = value
        return tf.compat.v1.get_variable(name, value.shape, tf.as_dtype(value.dtype), trainable=False,
                                         use_resource=True, initializer=tf.compat.v1.zeros_initializer())


def _find(sorted_values: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Returns int32 [n], the places of values in int64 [m] sorted ones; the last place for those that are not there."""
    # tf.searchsorted itself cannot search for nothing, and a batch may have no rows.
    places = tf.raw_ops.LowerBound(sorted_inputs=sorted_values[None], values=wanted[None], out_type=tf.int32)[0]
    last = tf.fill(tf.shape(places), tf.shape(sorted_values)[0] - 1)
    return tf.where(tf.equal(tf.gather(sorted_values, places), wanted), places, last)


def _fingerprints(path: str, name: str) -> Sequence[np.ndarray]:
    """Reads a vocabulary file: int64 [n] fingerprints of its values, ascending, and their indexes; UserError where two
    values have one fingerprint."""
    table = pyarrow.parquet.read_table(path, columns=["value", "index"])
    table = table.filter(pyarrow.compute.greater(table["index"], records.UNKNOWN_INDEX))
    indexes, hashes = table["index"].to_numpy(), hash_texts(table["value"], _FINGERPRINTS)
    order = np.argsort(hashes)
    hashes = hashes[order]
    if (hashes[1:] == hashes[:-1]).any():
        raise UserError("vocabulary of %s: two values have the same 63-bit fingerprint, so the exported graph could "
                        "not tell them apart; encode the feature with hash" % name)
    return hashes, indexes[order]


def hash_texts(texts: Any, buckets: int) -> np.ndarray:
    """Returns int64 [n], ``tf.strings.to_hash_bucket_fast`` of a sequence or Arrow column of texts."""
    found = np.empty(len(texts), np.int64)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        given = tf.compat.v1.placeholder(tf.string, [None])
        hashes = tf.strings.to_hash_bucket_fast(given, buckets)
        # Piece by piece: texts as Python objects take many times their size.
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            found[part] = session.run(hashes, {given: np.array(texts[part], object)})
    return found


def _placeholder(dtype: tf.DType, shape: Sequence[object], name: str) -> tf.Tensor:
    return tf.compat.v1.placeholder(dtype, shape, name="input_%s" % name)


def _checked(tensor: tf.Tensor) -> tf.Tensor:
    # A server feeds what a client sends without looking at the placeholder's shape.
    return tf.ensure_shape(tensor, tensor.shape)
