"""Vocabularies: the values of categorical features, numbered by first appearance; and hashed values.

While rows are read a value gets a code, 1 for the first value that appears and so on; codes become the indexes of the
records when all rows are counted (values rarer than ``min_count`` get index 0). The codes of a place without a value
are -1 from the beginning to the end.
"""
import functools
import os
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from feature_specs.data_files import vocabulary_file
from feature_specs.dataset import FIRST, HASH, VOCABULARY, CategoricalFeature, DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import sha256_of_file
from feature_specs.manifest import Manifest, VocabularyInfo
from feature_specs.records import HASH_BUCKETS, NO_VALUE, UNKNOWN_INDEX
from preprocessing.reading.columns import number_name
from preprocessing.statistics import DistinctCounter

BINS = "bins"
FOLDER = "vocabulary"
# Values in a chunk of a vocabulary file: one Arrow array holds 2 GB of text at most.
_CHUNK = 1 << 20


class Vocabulary:
    """The values of one vocabulary, with their counts.

    Values are told apart by 64-bit hashes in sorted arrays, which take a fraction of the memory of a dictionary; of n
    values two are taken for one with a chance of about n * n / 2**65.
    """

    def __init__(self) -> None:
        # Texts in the order of their codes: whole chunks, and what was added after them.
        self._chunks: List[pa.Array] = []
        self._recent: List[pa.Array] = [pa.array([], pa.string())]
        self._hashes, self._codes = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        # By code; no value has code 0. Values that are too rare so far have index 0.
        self._counts, self._indexes = np.zeros(1, np.int64), np.zeros(1, np.int64)

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, texts: np.ndarray, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Counts [k] values, some perhaps twice, and gives new ones the next codes in order of appearance.

        ``counts`` int64 [k] are places that hold them; values with none are not added. ``first`` int64 [k] are the
        places where they appear first. Returns int64 [k], their codes.
        """
        hashes = pd.util.hash_array(texts, categorize=False)
        codes = self._find(hashes)
        new = np.flatnonzero((codes == 0) & (counts > 0))
        if len(new):
            new = new[np.argsort(first[new], kind="stable")]
            different = new[np.sort(np.unique(hashes[new], return_index=True)[1])]
            self._append(texts[different], hashes[different])
            codes[new] = self._find(hashes[new])
        np.add.at(self._counts, codes, counts)
        return codes

    def codes(self, texts: np.ndarray) -> np.ndarray:
        """Returns int64 [k], the codes of values, 0 for unknown ones."""
        return self._find(pd.util.hash_array(texts, categorize=False))

    def _find(self, hashes: np.ndarray) -> np.ndarray:
        if not len(self):
            return np.zeros(len(hashes), np.int64)
        places = np.minimum(np.searchsorted(self._hashes, hashes), len(self) - 1)
        return np.where(self._hashes[places] == hashes, self._codes[places], 0)

    def _append(self, texts: np.ndarray, hashes: np.ndarray) -> None:
        order = np.argsort(hashes)
        places = np.searchsorted(self._hashes, hashes[order])
        self._codes = np.insert(self._codes, places, len(self) + 1 + order)
        self._hashes = np.insert(self._hashes, places, hashes[order])
        self._recent.append(pa.array(texts, pa.string()))
        settled = sum(map(len, self._chunks))
        if len(self) - settled >= max(_CHUNK, settled // 8):
            self._chunks.append(pa.concat_arrays(self._recent))
            self._recent = self._recent[:1]
        self._counts, self._indexes = (np.append(array, np.zeros(len(texts), np.int64))
                                       for array in (self._counts, self._indexes))

    def number(self, min_count: int) -> None:
        """Gives every value that appeared often enough and has no index yet the next one, in order of appearance."""
        fresh = np.flatnonzero((self._indexes == UNKNOWN_INDEX) & (self._counts >= min_count))
        self._indexes[fresh] = self._indexes.max() + 1 + np.arange(len(fresh))

    def indexes(self) -> np.ndarray:
        """Returns int64 [n + 2]: the index of each code; the last one, which is also at -1, is the code of no value."""
        return np.append(self._indexes, NO_VALUE)

    def save(self, directory: str, name: str, number: int) -> VocabularyInfo:
        """Writes the vocabulary file below a data directory and returns its entry in the manifest."""
        path = "%s/%s.parquet" % (FOLDER, name)
        full = os.path.join(directory, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        texts = pa.chunked_array(self._chunks + [pa.concat_arrays(self._recent)])
        table = pa.table({"value": texts, "count": self._counts[1:], "index": self._indexes[1:]})
        pa.parquet.write_table(table, full, compression="zstd")
        return VocabularyInfo(number, VOCABULARY, int(self._indexes.max()) + 1, len(self), path, sha256_of_file(full))

    @classmethod
    def load(cls, path: str) -> "Vocabulary":
        """Reads a vocabulary file.

        Raises:
            DataError: it is missing or no vocabulary file.
        """
        found = cls()
        try:
            table = pa.parquet.read_table(path, columns=["value", "count", "index"]).combine_chunks()
            for batch in table.to_batches(_CHUNK):
                texts = batch.column("value").to_numpy(zero_copy_only=False)
                found._append(texts, pd.util.hash_array(texts, categorize=False))
            found._counts[1:], found._indexes[1:] = table.column("count").to_numpy(), table.column("index").to_numpy()
            return found
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError("vocabulary file %s cannot be read: %s; prepare the data again"
                            % (path, str(error).splitlines()[0])) from error


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """Returns int64 [k]: 1 + ``tf.strings.to_hash_bucket_fast`` of the texts, as the exported graph computes it."""
    return _hasher()(np.asarray(texts, object))


@functools.lru_cache(maxsize=None)
def _hasher() -> Callable[[np.ndarray], np.ndarray]:
    # TensorFlow is loaded only where something is hashed.
    import tensorflow as tf
    with tf.Graph().as_default():
        texts = tf.compat.v1.placeholder(tf.string, [None])
        hashes = 1 + tf.strings.to_hash_bucket_fast(texts, HASH_BUCKETS)
        session = tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}))
        return session.make_callable(hashes, [texts])


class HashedValues:
    """Values that are hashed; only how many different ones there are is kept, of which those ``seen`` in the data that
    is continued cannot be told from those that come."""

    codes = staticmethod(hash_texts)

    def __init__(self, seen: int = 0) -> None:
        self._distinct, self._seen = DistinctCounter(), seen

    def add(self, texts: np.ndarray, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Counts different values and returns their hashes; arguments as for :meth:`Vocabulary.add`."""
        hashes = hash_texts(texts)
        self._distinct.add(hashes[counts > 0])
        return hashes

    def save(self, _directory: str, _name: str, number: int) -> VocabularyInfo:
        """Returns the entry in the manifest."""
        return VocabularyInfo(number, HASH, 0, max(self._seen, self._distinct.count()))


class CodedFrame(NamedTuple):
    """A raw frame, its codes int64 [n, W], and {list feature: rows whose list was cut}."""

    frame: pd.DataFrame
    codes: np.ndarray
    cut_lists: Mapping[str, int]


class Vocabularies:
    """All vocabularies of a dataset; ``numbers`` are those that names have already."""

    def __init__(self, definition: DatasetDefinition, numbers: Optional[Mapping[str, int]] = None) -> None:
        self.definition = definition
        self._features: Dict[str, List[CategoricalFeature]] = {}
        self._columns: Dict[str, slice] = {}
        start = 0
        for feature in definition.categorical:
            self._features.setdefault(feature.vocabulary or feature.name, []).append(feature)
            self._columns[feature.name] = slice(start, start + feature.width)
            start += feature.width
        self._items: Dict[str, Union[Vocabulary, HashedValues]] = {
            name: HashedValues() if features[0].encoding == HASH else Vocabulary()
            for name, features in self._features.items()}
        self._numbers = dict(numbers or {})
        for name in definition.vocabulary_names:
            self._numbers.setdefault(name, max(self._numbers.values(), default=0) + 1)

    @classmethod
    def load(cls, directory: str, manifest: Manifest, definition: Optional[DatasetDefinition] = None) -> "Vocabularies":
        """Reads the vocabularies of a data or model directory; those that ``definition`` has besides are new.

        Raises:
            DataError: a file is missing, damaged, or not the one that was prepared.
            ConfigError: the definition encodes a vocabulary in another way.
        """
        found = cls(definition or manifest.dataset, {name: info.number for name, info in manifest.vocabularies.items()})
        left_out = sorted(set(manifest.vocabularies) - set(found.definition.vocabulary_names))
        if left_out:
            raise ConfigError("the dataset lacks %s, which the data in %s has; a continuation keeps all features"
                              % (", ".join(left_out), directory))
        for name, features in found._features.items():
            info, encoding = manifest.vocabularies.get(name), features[0].encoding
            if info is None:
                continue
            if info.encoding != encoding:
                raise ConfigError("feature %s: encoding %s, but the data in %s has encoding %s; keep it, or give the "
                                  "feature another name" % (name, encoding, directory, info.encoding))
            found._items[name] = HashedValues(info.distinct) if encoding == HASH else Vocabulary.load(
                vocabulary_file(manifest, directory, name))
        return found

    def encode(self, frame: pd.DataFrame, grow: bool) -> CodedFrame:
        """Encodes a raw frame; with ``grow`` its values are counted, and new ones added."""
        codes = np.empty((len(frame), self.definition.sparse_width), np.int64)
        cut: Dict[str, int] = {}
        for name, features in self._features.items():
            parts = [_local_values(frame[feature.column].cat, feature) for feature in features]
            texts = np.concatenate([part.texts for part in parts])
            item = self._items[name]
            found = item.add(texts, *_appearances(parts)) if grow else item.codes(texts)
            for feature, part in zip(features, parts):
                own, found = found[:len(part.texts)], found[len(part.texts):]
                codes[:, self._columns[feature.name]] = np.append(own, NO_VALUE)[part.places]
                if feature.is_list:
                    cut[feature.name] = part.cut
        return CodedFrame(frame, codes, cut)

    def number(self) -> None:
        """Gives all values their indexes, once all rows are counted."""
        for name, item in self._items.items():
            if isinstance(item, Vocabulary):
                item.number(self._features[name][0].min_count)

    def indexes(self, codes: np.ndarray) -> np.ndarray:
        """Replaces codes by indexes, in place: int64 [n, W]."""
        for name, item in self._items.items():
            if isinstance(item, Vocabulary):
                table = item.indexes()
                for feature in self._features[name]:
                    codes[:, self._columns[feature.name]] = table[codes[:, self._columns[feature.name]]]
        return codes

    def unknown(self, indexes: np.ndarray) -> Dict[str, int]:
        """Returns {feature with a vocabulary: values that it lacks} of int64 [n, W] indexes."""
        return {feature.name: int(np.count_nonzero(indexes[:, self._columns[feature.name]] == UNKNOWN_INDEX))
                for feature in self.definition.categorical if feature.encoding == VOCABULARY}

    def save(self, directory: str) -> Dict[str, VocabularyInfo]:
        """Writes the vocabulary files and returns the manifest's entries."""
        return {name: self._items[name].save(directory, name, self._numbers[name]) if name in self._items
                else VocabularyInfo(self._numbers[name], BINS, 0, 0) for name in self.definition.vocabulary_names}


def get_fea_map(frames: Iterable[pd.DataFrame], vocabularies: Vocabularies, grow: bool) -> Iterator[CodedFrame]:
    """Numbers the values of raw frames by first appearance, while the frames flow through."""
    return (vocabularies.encode(frame, grow) for frame in frames)


def encode_frame(frame: pd.DataFrame, vocabularies: Vocabularies) -> Tuple[np.ndarray, np.ndarray]:
    """Encodes a raw frame, perhaps without labels, with finished vocabularies: int64 [n, W], index or hash of each
    value, -1 where a list has none; float32 [n, D], raw numbers, NaN where missing."""
    codes = vocabularies.encode(frame, grow=False).codes
    return vocabularies.indexes(codes), dense_values(frame, vocabularies.definition)


def dense_values(frame: pd.DataFrame, definition: DatasetDefinition) -> np.ndarray:
    """Returns float32 [n, D], the numbers of a raw frame; NaN where it lacks a column."""
    values = np.full((len(frame), len(definition.numeric)), np.nan, np.float32)
    for place, feature in enumerate(definition.numeric):
        if number_name(feature.column) in frame:
            values[:, place] = frame[number_name(feature.column)]
    return values


class _Values(NamedTuple):
    """A feature's values in a frame: the different ones, int64 [n, width] places among them (-1: none), and rows whose
    list was cut."""

    texts: np.ndarray
    places: np.ndarray
    cut: int = 0


def _appearances(parts: Sequence[_Values]) -> Tuple[np.ndarray, np.ndarray]:
    """Returns int64 twice for the texts of features that share a vocabulary: how often each is there, and its first
    place, counted row by row over all of them."""
    width, start = sum(part.places.shape[1] for part in parts), 0
    counts, firsts = [], []
    for part in parts:
        flat, own = part.places.ravel(), part.places.shape[1]
        counts.append(np.bincount(flat + 1, minlength=len(part.texts) + 1)[1:])
        first = np.zeros(len(part.texts) + 1, np.int64)
        # Of several values assigned to one place the last one stays: the earliest appearance.
        first[flat[::-1]] = np.arange(len(flat) - 1, -1, -1)
        firsts.append(first[:-1] // own * width + start + first[:-1] % own)
        start += own
    return np.concatenate(counts), np.concatenate(firsts)


def _local_values(column: Any, feature: CategoricalFeature) -> _Values:
    texts = np.asarray(column.categories, object)
    codes = column.codes.to_numpy().astype(np.int64)
    if not feature.is_list:
        return _Values(texts, codes[:, np.newaxis])
    pieces = pc.split_pattern(pa.array(texts, pa.string()), feature.list_separator)
    values = pc.ascii_trim_whitespace(pieces.flatten())
    cells = pc.list_parent_indices(pieces).to_numpy()
    used = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    encoded = values.dictionary_encode()
    places, cells = encoded.indices.to_numpy()[used], cells[used]
    lengths = np.bincount(cells, minlength=len(texts)).astype(np.int64)
    position = np.arange(len(cells)) - (np.cumsum(lengths) - lengths)[cells]
    if feature.keep != FIRST:
        position -= np.maximum(lengths - feature.max_length, 0)[cells]
    kept = (position >= 0) & (position < feature.max_length)
    matrix = np.full((len(texts), feature.max_length), NO_VALUE, np.int64)
    matrix[cells[kept], position[kept]] = places[kept]
    return _Values(encoded.dictionary.to_numpy(zero_copy_only=False), matrix[codes],
                   int(np.count_nonzero(lengths[codes] > feature.max_length)))
