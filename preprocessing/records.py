"""Encoded rows: kept in memory or on disk, shuffled, and written as TFRecord shards.

Rows are kept as pandas frames with one column per number of a record's row (:class:`RowLayout`). Within the memory
budget their order depends on the seed and the number of rows only. Beyond it each row goes to a random bucket, a
file, and each bucket is shuffled when it is read; the order then depends also on the number of buckets, never on how
the rows were read.
"""
import collections
import functools
import itertools
import os
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pandas as pd

from feature_specs.dataset import BINARY, HASH, DatasetDefinition
from feature_specs.files import sha256_of_file
from feature_specs.manifest import Shard
from feature_specs.records import (
    DENSE_FEATURE,
    GROUP,
    LABEL,
    NO_GROUP,
    NO_VALUE,
    PADDING_LABEL,
    SPARSE_FEATURE,
    UNKNOWN_LABEL,
    WEIGHT,
)
from preprocessing.columns import label_values, number_name
from preprocessing.statistics import mix
from preprocessing.vocabulary import CodedFrame, Vocabularies, dense_values, hash_texts

_BLOCK_ROWS = 1 << 14


class _Entry(NamedTuple):
    """An entry of a record: its columns in a frame of encoded rows, dtypes there and in records, value of padding."""

    columns: slice
    kind: Any
    record_kind: Any
    padding: float

    @property
    def width(self) -> int:
        """Values of a row."""
        return self.columns.stop - self.columns.start


class RowLayout:
    """The columns of a frame of encoded rows, and the entries of a record that they go to."""

    def __init__(self, definition: DatasetDefinition) -> None:
        self.definition = definition
        #: In column order.
        self.entries: Dict[str, _Entry] = {}
        if definition.has_float_labels:
            self._add(LABEL, len(definition.tasks), np.float32, np.float32, -np.inf)
        else:
            self._add(LABEL, len(definition.tasks), np.int8, np.int64, PADDING_LABEL)
        hashed = any(feature.encoding == HASH for feature in definition.categorical)
        self._add(SPARSE_FEATURE, definition.sparse_width, np.int64 if hashed else np.int32, np.int64, NO_VALUE)
        self._add(DENSE_FEATURE, len(definition.numeric), np.float32, np.float32, 0.0)
        if definition.weight:
            self._add(WEIGHT, 1, np.float32, np.float32, 0.0)
        if definition.group:
            self._add(GROUP, 1, np.int64, np.int64, NO_GROUP)
        #: Bytes of a row.
        self.row_bytes = sum(entry.width * np.dtype(entry.kind).itemsize for entry in self.entries.values())

    def _add(self, name: str, width: int, kind: Any, record_kind: Any, padding: float) -> None:
        start = sum(entry.width for entry in self.entries.values())
        self.entries[name] = _Entry(slice(start, start + width), kind, record_kind, padding)

    def labels(self, frame: pd.DataFrame) -> np.ndarray:
        """Returns float32 [n, T]: the labels of a raw frame, NaN where unknown."""
        labels = np.empty((len(frame), len(self.definition.tasks)), np.float32)
        for place, task in enumerate(self.definition.tasks):
            if task.kind == BINARY:
                column = frame[task.column].cat
                values = label_values(task, column.categories).astype(np.float32)
                values[values < 0] = np.nan
                labels[:, place] = values[column.codes.to_numpy()]
            else:
                labels[:, place] = frame[number_name(task.column)]
        return labels

    def frame(self, coded: CodedFrame, labels: np.ndarray) -> pd.DataFrame:
        """Returns the encoded rows of a raw frame, ``labels`` as :meth:`labels` gives them."""
        raw, definition = coded.frame, self.definition
        if not definition.has_float_labels:
            labels = np.where(np.isnan(labels), UNKNOWN_LABEL, labels)
        arrays = {LABEL: labels, SPARSE_FEATURE: coded.codes, DENSE_FEATURE: dense_values(raw, definition)}
        if definition.weight:
            arrays[WEIGHT] = raw[number_name(definition.weight)].to_numpy()[:, np.newaxis]
        if definition.group:
            column = raw[definition.group].cat
            hashes = np.where(np.asarray(column.categories, object) == "", NO_GROUP, hash_texts(column.categories))
            arrays[GROUP] = hashes[column.codes.to_numpy()][:, np.newaxis]
        return self.join(arrays)

    def join(self, arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
        """Makes a frame of {entry: [n, width]}."""
        return pd.concat([pd.DataFrame(np.ascontiguousarray(arrays[name], entry.kind), copy=False, columns=range(
            entry.columns.start, entry.columns.stop)) for name, entry in self.entries.items()], axis=1, copy=False)

    def array(self, frame: pd.DataFrame, name: str) -> np.ndarray:
        """Returns [n, width] of an entry, in the records' type."""
        entry = self.entries[name]
        return frame.iloc[:, entry.columns].to_numpy(entry.record_kind)


def row_hashes(layout: RowLayout, frame: pd.DataFrame) -> np.ndarray:
    """Returns uint64 [n], hashes of encoded rows: equal ones for rows that are equal in all columns that are used."""
    hashes = np.zeros(len(frame), np.uint64)
    place = 0
    for entry in layout.entries:
        values = layout.array(frame, entry)
        bits = values.view(np.uint32) if values.dtype == np.float32 else values
        for column in bits.T:
            place += 1
            hashes ^= mix(column.astype(np.uint64) + np.uint64(place << 48))
            hashes *= np.uint64(0x9E3779B97F4A7C15)
    return hashes


class RowStore:
    """Encoded rows of one split, in memory or in files.

    Args:
        layout: of the rows.
        directory: for files; made when it is needed.
        seed: of the shuffle; None: rows stay in the order in which they come.
        expected_bytes: of all rows, roughly.
        memory_bytes: most that stay in memory.
    """

    def __init__(self, layout: RowLayout, directory: str, seed: Optional[int], expected_bytes: int,
                 memory_bytes: int) -> None:
        self._layout, self._directory, self._seed, self._memory_bytes = layout, directory, seed, memory_bytes
        self._frames: List[pd.DataFrame] = []
        # A bucket is read as a whole, so it should be well below the budget even where the estimate is low.
        self._buckets = 1 if seed is None else int(np.clip(4 * expected_bytes // memory_bytes, 8, 256))
        self._random = np.random.RandomState(seed)
        self._streams: Dict[int, IO[bytes]] = {}
        # Rows of each piece that was written to a bucket.
        self._sizes: Dict[int, List[int]] = collections.defaultdict(list)
        self.rows = 0

    def append(self, frame: pd.DataFrame) -> None:
        """Adds encoded rows."""
        self.rows += len(frame)
        self._frames.append(frame)
        if self.rows * self._layout.row_bytes > self._memory_bytes:
            os.makedirs(self._directory, exist_ok=True)
            for held in self._frames:
                self._spill(held)
            self._frames = []

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yields all rows in their final order; to be called once."""
        for stream in self._streams.values():
            stream.close()
        for bucket in sorted(self._streams):
            if self._seed is None:
                yield from map(self._layout.join, self._read(bucket))
                continue
            pieces = list(self._read(bucket))
            rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in self._layout.entries}
            yield from _pieces([self._layout.join(rows)], [self._seed, bucket])
        held, self._frames = self._frames, []
        yield from _pieces(held, self._seed)

    def _spill(self, frame: pd.DataFrame) -> None:
        # One draw per row, in file order: which bucket a row goes to does not depend on the blocks.
        bucket = (self._random.random_sample(len(frame)) * self._buckets).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        arrays = [np.ascontiguousarray(frame.iloc[:, entry.columns].to_numpy(entry.kind)[order])
                  for entry in self._layout.entries.values()]
        bounds = np.searchsorted(bucket[order], np.arange(self._buckets + 1))
        for number in np.unique(bucket).tolist():
            if number not in self._streams:
                self._streams[number] = open(self._path(number), "wb")  # noqa: SIM115
            start, end = bounds[number], bounds[number + 1]
            self._streams[number].write(b"".join(array[start:end].tobytes() for array in arrays))
            self._sizes[number].append(end - start)

    def _read(self, bucket: int) -> Iterator[Dict[str, np.ndarray]]:
        path = self._path(bucket)
        with open(path, "rb") as stream:
            for rows in self._sizes[bucket]:
                yield {name: np.fromfile(stream, entry.kind, rows * entry.width).reshape(rows, entry.width)
                       for name, entry in self._layout.entries.items()}
        os.unlink(path)

    def _path(self, bucket: int) -> str:
        return os.path.join(self._directory, "bucket-%05d" % bucket)


def _pieces(frames: List[pd.DataFrame], seed: Any) -> Iterator[pd.DataFrame]:
    if not frames:
        return
    rows = pd.concat(frames, ignore_index=True, copy=False) if len(frames) > 1 else frames[0]
    order = None if seed is None else np.random.RandomState(seed).permutation(len(rows))
    for start in range(0, len(rows), _BLOCK_ROWS):
        yield rows.iloc[start:start + _BLOCK_ROWS] if order is None else rows.take(order[start:start + _BLOCK_ROWS])


def shard_sizes(rows: int, line_per_sample: int, num_shards: int) -> List[Tuple[int, int]]:
    """Shares rows out among shards: [(rows, records)], whole records, the first shards one record more than others."""
    records = -(-rows // line_per_sample)
    each, more = divmod(records, num_shards)
    sizes, left = [], rows
    for number in range(num_shards):
        count = each + (number < more)
        taken = min(left, count * line_per_sample)
        sizes.append((taken, count))
        left -= taken
    return sizes


def write_shards(directory: str, split: str, sizes: Sequence[Tuple[int, int]], records: Iterator[bytes]
                 ) -> Tuple[Shard, ...]:
    """Writes the TFRecord files of one split.

    Args:
        directory: the data directory.
        split: name of the split, also of the folder of its shards.
        sizes: of :func:`shard_sizes`.
        records: as many serialized ones, in order.
    """
    import tensorflow as tf
    os.makedirs(os.path.join(directory, split))
    shards = []
    for number, (rows, count) in enumerate(sizes):
        name = "%s/part-%05d-of-%05d.tfrecord" % (split, number, len(sizes))
        path = os.path.join(directory, name)
        with tf.io.TFRecordWriter(path) as writer:
            for record in itertools.islice(records, count):
                writer.write(record)
        shards.append(Shard(name, rows, count, os.path.getsize(path), sha256_of_file(path)))
    return tuple(shards)


def convert_input2tfrd(data_frame: pd.DataFrame, layout: RowLayout, vocabularies: Vocabularies, line_per_sample: int
                       ) -> Tuple[List[bytes], Dict[str, int]]:
    """Returns a frame of encoded rows as serialized records, and {feature: values that its vocabulary lacks}.

    Args:
        data_frame: encoded rows, a multiple of ``line_per_sample`` unless they are the split's last ones; the record
            that they do not fill gets padding rows.
        layout: of the rows.
        vocabularies: give the indexes of the codes in the rows.
        line_per_sample: rows per record (L).
    """
    arrays = {name: layout.array(data_frame, name) for name in layout.entries}
    arrays[SPARSE_FEATURE] = vocabularies.indexes(arrays[SPARSE_FEATURE].copy())
    lacking = vocabularies.unknown(arrays[SPARSE_FEATURE])
    missing = -len(data_frame) % line_per_sample
    for name, entry in layout.entries.items():
        padding = np.full((missing, entry.width), entry.padding, entry.record_kind)
        values = np.concatenate([arrays[name], padding]) if missing else np.ascontiguousarray(arrays[name])
        arrays[name] = values.reshape(len(values) // line_per_sample, -1)
    return encode_examples(arrays), lacking


def encode_examples(arrays: Mapping[str, np.ndarray]) -> List[bytes]:
    """Serializes ``tf.train.Example`` messages, many at a time: one message object each takes several times as long.

    Args:
        arrays: {feature: int64 or float32 [records, n]}.

    Returns:
        One message per record, its features in the order of ``arrays``.
    """
    return list(_encoder(tuple((name, values.dtype.type) for name, values in arrays.items()))(*arrays.values()))


@functools.lru_cache(maxsize=None)
def _encoder(features: Tuple[Tuple[str, Any], ...]) -> Callable[..., np.ndarray]:
    """Returns what makes messages of arrays; TensorFlow encodes a message of messages from the inside out."""
    import tensorflow as tf

    def message(kind: str, **fields: Any) -> Any:
        """Returns string [records] of {field: [records, its values]}."""
        sizes = tf.stack([tf.fill([records], tf.shape(values)[1]) for values in fields.values()], axis=1)
        return tf.io.encode_proto(sizes, list(fields.values()), list(fields), "tensorflow." + kind)

    with tf.Graph().as_default():
        arrays = [tf.compat.v1.placeholder(kind, [None, None]) for _, kind in features]
        records = tf.shape(arrays[0])[0]
        entries = []
        for (name, kind), values in zip(features, arrays):
            list_kind, field = ("FloatList", "float_list") if kind == np.float32 else ("Int64List", "int64_list")
            content = message("Feature", **{field: message(list_kind, value=values)[:, tf.newaxis]})
            entries.append(message("Features.FeatureEntry", key=tf.fill([records, 1], name),
                                   value=content[:, tf.newaxis]))
        example = message("Example", features=message("Features", feature=tf.stack(entries, 1))[:, tf.newaxis])
        session = tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, device_count={"GPU": 0}))
        return session.make_callable(example, arrays)
