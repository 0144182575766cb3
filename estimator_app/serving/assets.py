"""What lies beside the serving graph: the vocabulary file, warm-up requests and the files' durability."""
import os
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import tensorflow as tf

from feature_specs.errors import UserError
from feature_specs.manifest import Manifest

VOCABULARY_FILE = "vocabulary.txt"
WARMUP_PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")
# Begins with a blank: a looked-up value is stripped first and can never equal it.
_UNKNOWN = " (any other value)"
# What tf.strings.strip removes, and what ends a line of the file.
_BLANKS = " \t\n\v\f\r"


def vocabulary_lines(manifest: Manifest) -> List[str]:
    """Returns ``column<TAB>value`` of every id in id order; each column ends with its out-of-vocabulary id.

    Raises:
        UserError: a value cannot be a line of the file.
    """
    lines = []
    for column in manifest.dataset.sparse_columns:
        if "\t" in column or "\n" in column or "\r" in column:
            raise UserError("column %r cannot be exported: its name holds a tab or a line break" % column)
        for value in manifest.vocabularies[column]:
            if value.strip(_BLANKS) != value or "\n" in value or "\r" in value:
                raise UserError("column %s: value %r cannot be exported, it has blanks around it or a line break; "
                                "prepare the data again" % (column, value))
            lines.append("%s\t%s" % (column, value))
        lines.append("%s\t%s" % (column, _UNKNOWN))
    return lines


def write_vocabulary(manifest: Manifest, path: str) -> None:
    """Writes the vocabulary file: line i (from 0) belongs to id i."""
    with open(path, "w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(line + "\n" for line in vocabulary_lines(manifest))


def texts_of_ids(ids: np.ndarray, manifest: Manifest) -> Dict[str, np.ndarray]:
    """Returns {sparse column: str [n]}, the values that have the given ids.

    Args:
        ids: int64 [n, S].
        manifest: vocabularies; an out-of-vocabulary id gives a text that the vocabulary does not have.
    """
    texts = {}
    offsets = manifest.id_offsets()
    for number, column in enumerate(manifest.dataset.sparse_columns):
        values = list(manifest.vocabularies[column])
        unknown = "?"
        while unknown in values:
            unknown += "?"
        texts[column] = np.array(values + [unknown], dtype=np.str_)[ids[:, number] - offsets[column]]
    return texts


def encode_example(features: Mapping[str, Any]) -> bytes:
    """Serializes one row as a tf.Example: str -> bytes list, integers -> int64 list, floats -> float list."""
    encoded = {}
    for name, value in features.items():
        values = np.atleast_1d(value)
        if values.dtype.kind in "iu":
            encoded[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values.tolist()))
        elif values.dtype.kind == "f":
            encoded[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values.tolist()))
        else:
            encoded[name] = tf.train.Feature(bytes_list=tf.train.BytesList(
                value=[str(item).encode("utf-8") for item in values]))
    return tf.train.Example(features=tf.train.Features(feature=encoded)).SerializeToString()


def write_warmup_requests(path: str, model_name: str, requests: Sequence[Any]) -> None:
    """Writes the requests that a model server sends to itself before it takes the version into service.

    Args:
        path: the TFRecord file.
        model_name: name in the requests.
        requests: pairs (signature, {input: array}).
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests:
            writer.write(encode_prediction_log(model_name, signature, inputs))


def encode_prediction_log(model_name: str, signature: str, inputs: Mapping[str, np.ndarray]) -> bytes:
    """Serializes a ``tensorflow.serving.PredictionLog`` that holds one ``PredictRequest``.

    The message is encoded by hand, field by field, since TensorFlow ships without the server's protos:
    PredictionLog.predict_log = 6, PredictLog.request = 1, PredictRequest.{model_spec = 1, inputs = 2 (a map)},
    ModelSpec.{name = 1, signature_name = 3}.
    """
    request = _field(1, _field(1, model_name.encode("utf-8")) + _field(3, signature.encode("utf-8")))
    for name in sorted(inputs):
        tensor = tf.make_tensor_proto(inputs[name]).SerializeToString()
        request += _field(2, _field(1, name.encode("utf-8")) + _field(2, tensor))
    return _field(6, _field(1, request))


def sync_tree(directory: str) -> None:
    """Makes all files below a directory durable."""
    for folder, _, names in os.walk(directory):
        for path in [os.path.join(folder, name) for name in names] + [folder]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _field(number: int, data: bytes) -> bytes:
    """Returns a length-delimited field of the protobuf wire format."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
