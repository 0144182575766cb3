"""Vocabularies: the values of categorical features, numbered by first appearance; and hashed values.

While rows are read a value gets a code, 1 for the first value that appears and so on; codes become the indexes of the
records when all rows are counted (values rarer than ``min_count`` get index 0). The codes of a place without a value
are -1 from the beginning to the end.
"""
import dataclasses
import os
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

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
from preprocessing.columns import number_name, roles_of
from preprocessing.statistics import DistinctCounter

BINS = "bins"
FOLDER = "vocabulary"
# Values in a dictionary.
_RECENT = 1 << 20


class _Numbering:
    """Texts and their numbers, 1 for the first.

    Up to a bound texts stand in a dictionary. Beyond it the older ones are told by 64-bit hashes in sorted arrays,
    which takes a fraction of the memory; of n texts two are taken for one with a chance of about n * n / 2**65.
    """

    def __init__(self, texts: pa.Array) -> None:
        self._recent: Dict[str, int] = {}
        self._texts: List[pa.Array] = []
        self._hashes, self._numbers = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._settled = 0
        for start in range(0, len(texts), _RECENT):
            for text in texts.slice(start, _RECENT).to_numpy(zero_copy_only=False):
                self.number(text)
            self.settle()

    def __len__(self) -> int:
        return self._settled + len(self._recent)

    def number(self, text: str) -> int:
        """Returns the number of a text that is not settled, the next one if it is new."""
        return self._recent.setdefault(text, self._settled + len(self._recent) + 1)

    def find(self, texts: np.ndarray) -> np.ndarray:
        """Returns int64 [k], the numbers of texts; 0 for unknown ones."""
        get = self._recent.get
        numbers = np.fromiter((get(text, 0) for text in texts), np.int64, len(texts))
        missing = np.flatnonzero(numbers == 0)
        if self._settled and len(missing):
            hashes = pd.util.hash_array(texts[missing], categorize=False)
            places = np.minimum(np.searchsorted(self._hashes, hashes), self._settled - 1)
            known = self._hashes[places] == hashes
            numbers[missing[known]] = self._numbers[places[known]]
        return numbers

    def settle(self) -> None:
        """Moves texts out of the dictionary when it is large."""
        if len(self._recent) < max(_RECENT, self._settled // 8):
            return
        texts = np.array(list(self._recent), object)
        self._texts.append(pa.array(texts, pa.string()))
        self._recent = {}
        hashes = pd.util.hash_array(texts, categorize=False)
        order = np.argsort(hashes, kind="stable")
        places = np.searchsorted(self._hashes, hashes[order])
        self._hashes = np.insert(self._hashes, places, hashes[order])
        self._numbers = np.insert(self._numbers, places, order + self._settled + 1)
        self._settled = len(self._hashes)

    def texts(self) -> pa.ChunkedArray:
        """Returns all texts, in the order of their numbers."""
        return pa.chunked_array(self._texts + [pa.array(list(self._recent), pa.string())], pa.string())


class Vocabulary:
    """The values of one vocabulary, with their counts.

    Args:
        values: known ones, strings.
        counts: int64 [n], rows of each so far.
        indexes: int64 [n], index of each; 0 for those that are too rare so far.
    """

    def __init__(self, values: Optional[pa.Array] = None, counts: Sequence[int] = (),
                 indexes: Sequence[int] = ()) -> None:
        self._numbering = _Numbering(pa.array([], pa.string()) if values is None else values)
        self._counts = np.concatenate([[0], np.asarray(counts, np.int64)]).astype(np.int64)
        self._indexes = np.concatenate([[0], np.asarray(indexes, np.int64)]).astype(np.int64)

    def __len__(self) -> int:
        return len(self._numbering)

    def add(self, texts: np.ndarray, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Counts values, and gives new ones the next codes in order of appearance.

        Args:
            texts: [k] values, a value may be there twice.
            counts: int64 [k], places that hold them; values with none are not added.
            first: int64 [k], place where each appears first.

        Returns:
            int64 [k], their codes.
        """
        codes = self.codes(texts)
        new = np.flatnonzero((codes == 0) & (counts > 0))
        for place in new[np.argsort(first[new], kind="stable")].tolist():
            codes[place] = self._numbering.number(texts[place])
        self._numbering.settle()
        if len(self) >= len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(len(self), np.int64)])
        np.add.at(self._counts, codes, counts)
        return codes

    def codes(self, texts: np.ndarray) -> np.ndarray:
        """Returns int64 [k], the codes of values, 0 for unknown ones."""
        return self._numbering.find(texts)

    def number(self, min_count: int) -> None:
        """Gives every value that appeared often enough and has no index yet the next one, in order of appearance."""
        size = len(self) + 1
        self._counts = self._counts[:size].copy()
        indexes = np.zeros(size, np.int64)
        indexes[:len(self._indexes)] = self._indexes
        fresh = np.flatnonzero((indexes == UNKNOWN_INDEX) & (self._counts >= min_count))
        fresh = fresh[fresh > 0]
        indexes[fresh] = int(indexes.max()) + 1 + np.arange(len(fresh))
        self._indexes = indexes

    def indexes(self) -> np.ndarray:
        """Returns int64 [n + 2]: the index of each code; the last one, which is also at -1, is the code of no value."""
        return np.append(self._indexes, NO_VALUE)

    def save(self, directory: str, name: str, number: int) -> VocabularyInfo:
        """Writes the vocabulary file below a data directory and returns its entry in the manifest."""
        path = "%s/%s.parquet" % (FOLDER, name)
        full = os.path.join(directory, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        table = pa.table({"value": self._numbering.texts(), "count": self._counts[1:], "index": self._indexes[1:]})
        pa.parquet.write_table(table, full, compression="zstd")
        return VocabularyInfo(number, VOCABULARY, int(self._indexes.max()) + 1, len(self), path, sha256_of_file(full))

    @classmethod
    def load(cls, path: str) -> "Vocabulary":
        """Reads a vocabulary file.

        Raises:
            DataError: it is missing or no vocabulary file.
        """
        try:
            table = pa.parquet.read_table(path, columns=["value", "count", "index"])
            return cls(table.column("value").combine_chunks(), table.column("count").to_numpy(),
                       table.column("index").to_numpy())
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError("vocabulary file %s cannot be read: %s; prepare the data again"
                            % (path, str(error).splitlines()[0])) from error


class HashedValues:
    """Values that are hashed; only how many different ones there are is kept."""

    def __init__(self, seen: int = 0) -> None:
        self._distinct = DistinctCounter()
        self._seen = seen

    def add(self, texts: np.ndarray, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Counts different values and returns their hashes; arguments as for :meth:`Vocabulary.add`."""
        hashes = hash_texts(texts)
        self._distinct.add(hashes[counts > 0])
        return hashes

    @staticmethod
    def codes(texts: np.ndarray) -> np.ndarray:
        """Returns int64 [k], the hashes of values."""
        return hash_texts(texts)

    @property
    def distinct(self) -> int:
        """Different values seen, those of the data that is continued included as far as they can be told apart."""
        return max(self._seen, self._distinct.count())


class Vocabularies:
    """All vocabularies of a dataset.

    Args:
        definition: of the dataset.
        items: {name: vocabulary}; new ones by default.
        numbers: {name: number} that are given already.
    """

    def __init__(self, definition: DatasetDefinition, items: Optional[Mapping[str, Any]] = None,
                 numbers: Optional[Mapping[str, int]] = None) -> None:
        self.definition = definition
        self._features: Dict[str, List[CategoricalFeature]] = {}
        self._columns: Dict[str, slice] = {}
        start = 0
        for feature in definition.categorical:
            self._features.setdefault(feature.vocabulary or feature.name, []).append(feature)
            self._columns[feature.name] = slice(start, start + feature.width)
            start += feature.width
        self.items: Dict[str, Union[Vocabulary, HashedValues]] = {}
        for name, features in self._features.items():
            new = HashedValues() if features[0].encoding == HASH else Vocabulary()
            self.items[name] = (items or {}).get(name, new)
        self._numbers = dict(numbers or {})
        for name in definition.vocabulary_names:
            self._numbers.setdefault(name, max(self._numbers.values(), default=0) + 1)

    @classmethod
    def load(cls, directory: str, manifest: Manifest, definition: Optional[DatasetDefinition] = None) -> "Vocabularies":
        """Reads the vocabularies of a data directory, or of the copy in a model directory.

        Args:
            directory: holds ``manifest.json`` and ``vocabulary/``.
            manifest: of that directory.
            definition: what to use them for; that of the manifest by default. Vocabularies that it has besides are new.

        Raises:
            DataError: a file is missing, damaged, or not the one that was prepared.
            ConfigError: the definition encodes a vocabulary in another way.
        """
        definition = definition or manifest.dataset
        items: Dict[str, Any] = {}
        left_out = sorted(set(manifest.vocabularies) - set(definition.vocabulary_names))
        if left_out:
            raise ConfigError("the dataset lacks %s, which the data in %s has; a continuation keeps all features"
                              % (", ".join(left_out), directory))
        wanted = {feature.vocabulary or feature.name: feature.encoding for feature in definition.categorical}
        for name, encoding in wanted.items():
            info = manifest.vocabularies.get(name)
            if info is None:
                continue
            if info.encoding != encoding:
                raise ConfigError("feature %s: encoding %s, but the data in %s has encoding %s; keep it, or give the "
                                  "feature another name" % (name, encoding, directory, info.encoding))
            items[name] = HashedValues(info.distinct) if encoding == HASH else Vocabulary.load(
                vocabulary_file(manifest, directory, name))
        return cls(definition, items, {name: info.number for name, info in manifest.vocabularies.items()})

    def encode(self, frame: pd.DataFrame, grow: bool) -> Tuple[np.ndarray, Dict[str, int]]:
        """Encodes a raw frame.

        Args:
            frame: of n rows.
            grow: whether its values are counted, and new ones added.

        Returns:
            int64 [n, W], codes; and {list feature: rows whose list was longer than ``max_length``}.
        """
        codes = np.empty((len(frame), self.definition.sparse_width), np.int64)
        cut: Dict[str, int] = {}
        for name, features in self._features.items():
            parts = []
            for feature in features:
                texts, local, longer = _local_values(frame[feature.column].cat, feature)
                parts.append((texts, local))
                if feature.is_list:
                    cut[feature.name] = longer
            offsets = np.cumsum([0] + [len(texts) for texts, _ in parts])
            texts = parts[0][0] if len(parts) == 1 else np.concatenate([texts for texts, _ in parts])
            matrix = parts[0][1] if len(parts) == 1 else np.concatenate(
                [np.where(local < 0, -1, local + offset) for (_, local), offset in zip(parts, offsets)], axis=1)
            item = self.items[name]
            found = item.add(texts, *_appearances(matrix, len(texts))) if grow else item.codes(texts)
            matrix = np.append(found, NO_VALUE)[matrix]
            start = 0
            for feature in features:
                codes[:, self._columns[feature.name]] = matrix[:, start:start + feature.width]
                start += feature.width
        return codes, cut

    def number(self) -> None:
        """Gives all values their indexes, once all rows are counted."""
        for name, features in self._features.items():
            item = self.items[name]
            if isinstance(item, Vocabulary):
                item.number(features[0].min_count)

    def indexes(self, codes: np.ndarray) -> np.ndarray:
        """Replaces codes by indexes, in place: int64 [n, W]."""
        for name, features in self._features.items():
            item = self.items[name]
            if isinstance(item, Vocabulary):
                table = item.indexes()
                for feature in features:
                    codes[:, self._columns[feature.name]] = table[codes[:, self._columns[feature.name]]]
        return codes

    def unknown(self, indexes: np.ndarray) -> Dict[str, int]:
        """Returns {feature with a vocabulary: values that it lacks} of int64 [n, W] indexes."""
        return {feature.name: int(np.count_nonzero(indexes[:, self._columns[feature.name]] == UNKNOWN_INDEX))
                for feature in self.definition.categorical if feature.encoding == VOCABULARY}

    def save(self, directory: str) -> Dict[str, VocabularyInfo]:
        """Writes the vocabulary files and returns the manifest's entries."""
        infos = {}
        for name in self.definition.vocabulary_names:
            item, number = self.items.get(name), self._numbers[name]
            if isinstance(item, Vocabulary):
                infos[name] = item.save(directory, name, number)
            elif isinstance(item, HashedValues):
                infos[name] = VocabularyInfo(number, HASH, 0, item.distinct)
            else:
                infos[name] = VocabularyInfo(number, BINS, 0, 0)
        return infos


def get_fea_map(frames: Iterable[pd.DataFrame], vocabularies: Vocabularies) -> Iterable["CodedFrame"]:
    """Numbers the values of frames by first appearance, while the frames flow through.

    Args:
        frames: raw frames.
        vocabularies: grow; their values have indexes after :meth:`Vocabularies.number`.

    Yields:
        Each frame with its codes.
    """
    for frame in frames:
        yield CodedFrame(frame, *vocabularies.encode(frame, grow=True))


@dataclasses.dataclass(frozen=True)
class CodedFrame:
    """A raw frame, its codes int64 [n, W], and {list feature: rows whose list was cut}."""

    frame: pd.DataFrame
    codes: np.ndarray
    cut_lists: Mapping[str, int]


def encode_frame(frame: pd.DataFrame, vocabularies: Vocabularies) -> Tuple[np.ndarray, np.ndarray]:
    """Encodes a raw frame with finished vocabularies.

    Args:
        frame: of n rows; labels are not needed.
        vocabularies: of the data that the model was trained on.

    Returns:
        int64 [n, W], index or hash of each value, -1 where a list has none; float32 [n, D], raw numbers, NaN where
        missing.
    """
    codes, _ = vocabularies.encode(frame, grow=False)
    return vocabularies.indexes(codes), dense_values(frame, vocabularies.definition)


def dense_values(frame: pd.DataFrame, definition: DatasetDefinition) -> np.ndarray:
    """Returns float32 [n, D], the numbers of a raw frame."""
    roles = roles_of(definition)
    values = np.empty((len(frame), definition.num_dense), np.float32)
    for place, feature in enumerate(definition.numeric):
        values[:, place] = frame[number_name(roles, feature.column)]
    return values


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """Returns int64 [k]: 1 + ``tf.strings.to_hash_bucket_fast`` of the texts, as the exported graph computes it."""
    return _hasher()(np.asarray(texts, object))


_HASHER: List[Any] = []


def _hasher() -> Any:
    # TensorFlow is loaded only where something is hashed.
    if not _HASHER:
        import tensorflow as tf
        with tf.Graph().as_default():
            texts = tf.compat.v1.placeholder(tf.string, [None])
            hashes = 1 + tf.strings.to_hash_bucket_fast(texts, HASH_BUCKETS)
            session = tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}))
            _HASHER.append(session.make_callable(hashes, [texts]))
    return _HASHER[0]


def _appearances(matrix: np.ndarray, size: int) -> Tuple[np.ndarray, np.ndarray]:
    """Returns int64 [size] twice: how often each number is in the matrix, and its first place, row by row."""
    flat = matrix.ravel()
    counts = np.bincount(flat + 1, minlength=size + 1)[1:]
    first = np.zeros(size + 1, np.int64)
    # Of several values assigned to one place the last one stays: the earliest appearance.
    first[flat[::-1]] = np.arange(len(flat) - 1, -1, -1)
    return counts, first[:size]


def _local_values(column: Any, feature: CategoricalFeature) -> Tuple[np.ndarray, np.ndarray, int]:
    """Returns the different values, int64 [n, width] places among them (-1: none), and rows whose list was cut."""
    texts = np.asarray(column.categories, object)
    codes = column.codes.to_numpy().astype(np.int64)
    if not feature.is_list:
        return texts, codes[:, np.newaxis], 0
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
    longer = int(np.count_nonzero(lengths[codes] > feature.max_length))
    return encoded.dictionary.to_numpy(zero_copy_only=False), matrix[codes], longer
