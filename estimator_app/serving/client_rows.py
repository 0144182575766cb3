"""Rows as records hold them, in the forms in which clients send them: vectors, features by name, tf.Examples."""
import itertools
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import tensorflow as tf

from estimator_app.serving.graph import hash_texts
from feature_specs.data_files import vocabulary_file
from feature_specs.dataset import HASH, CategoricalFeature
from feature_specs.manifest import Manifest
from feature_specs.records import DENSE_FEATURE, HASH_BUCKETS, NO_VALUE, SPARSE_FEATURE, UNKNOWN_INDEX

# Where a tf.Example holds values, by the kind of their array.
_LISTS = {"i": "int64_list", "f": "float_list", "O": "bytes_list"}


def vectors(sparse: np.ndarray, dense: np.ndarray) -> Dict[str, np.ndarray]:
    """Returns the inputs of the signature of vectors; one of width 0 is no input."""
    return {name: value for name, value in ((SPARSE_FEATURE, sparse), (DENSE_FEATURE, dense)) if value.shape[1]}


def named(sparse: np.ndarray, dense: np.ndarray, manifest: Manifest,
          vocabulary_dir: str) -> Tuple[Dict[str, np.ndarray], np.ndarray]:
    """Returns rows, int64 [n, W] indexes and hashes and float32 [n, D], as {feature: object [n, 1] of texts, lists as
    one, or float32 [n, 1]}; and int64 [n, W], what the texts mean.

    Hashed values have no texts any more and get made-up ones; a value that cannot be told by a text becomes unknown.
    ``vocabulary_dir`` is the folder that the manifest's vocabulary files are relative to.
    """
    dataset = manifest.dataset
    inputs: Dict[str, np.ndarray] = {}
    meant = sparse.copy()
    ends = np.cumsum([feature.width for feature in dataset.categorical], dtype=int)
    for feature, values in zip(dataset.categorical, np.split(meant, ends, axis=1)):
        used, places = np.unique(values, return_inverse=True)
        if feature.encoding == HASH:
            texts = ["made up %d" % value for value in used.tolist()]
            indexes = 1 + hash_texts(texts, HASH_BUCKETS)
        else:
            path = vocabulary_file(manifest, vocabulary_dir, feature.vocabulary or feature.name)
            texts, indexes = _texts(used, path, feature, dataset.files.missing)
        of_value = dict(zip(used.tolist(), texts))
        inputs[feature.name] = np.array([[feature.list_separator.join(
            of_value[value] for value in row if value != NO_VALUE)] for row in values.tolist()], object).reshape(-1, 1)
        values[...] = np.where(used == NO_VALUE, NO_VALUE, indexes)[places].reshape(values.shape)
    inputs.update((feature.name, dense[:, [place]]) for place, feature in enumerate(dataset.numeric))
    return inputs, meant


def example(features: Mapping[str, Any]) -> bytes:
    """Serializes one row as a tf.Example: {name: array of numbers or texts}."""
    made = tf.train.Example()
    for name, values in features.items():
        items = [text.encode("utf-8") for text in values] if values.dtype == object else values
        getattr(made.features.feature[name], _LISTS[values.dtype.kind]).value.extend(items)
    return made.SerializeToString()


def _texts(used: np.ndarray, path: str, feature: CategoricalFeature,
           missing: Sequence[str]) -> Tuple[List[str], np.ndarray]:
    """Returns the texts of int64 [k] indexes, and what they mean: the same ones, or the unknown value."""
    table = pyarrow.parquet.read_table(path, columns=["value", "index"])
    wanted = table.filter(pc.is_in(table["index"], value_set=pa.array(used[used != UNKNOWN_INDEX])))
    by_index = dict(zip(wanted["index"].to_pylist(), wanted["value"].to_pylist()))
    candidates = itertools.chain.from_iterable(("?" * count, "!" * count) for count in itertools.count(1))
    unknown = next(text for text in candidates if text not in missing and text[0] != feature.separator
                   and not pc.any(pc.equal(table["value"], text)).as_py())
    texts, indexes = [], used.copy()
    for place, index in enumerate(used.tolist()):
        found = by_index.get(index)
        # In a list there is neither an empty text nor one with the separator, but a shared vocabulary may have it.
        if found is None or feature.is_list and (not found or feature.list_separator in found):
            found, indexes[place] = unknown, UNKNOWN_INDEX
        texts.append(found)
    return texts, indexes
