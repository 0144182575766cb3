"""Encoded rows: kept in memory or on disk, shuffled, and written as TFRecord shards.

Within the memory budget their order depends on the seed and the number of rows only. Beyond it each row goes to a
random bucket, a file, and each bucket is shuffled when it is read; the order then depends also on the number of
buckets, never on how the rows were read.
"""
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
from preprocessing.reading.columns import label_values, number_name
from preprocessing.statistics import mix
from preprocessing.vocabulary import CodedFrame, Vocabularies, dense_values, hash_texts

_BLOCK_ROWS = 1 << 14


class _Entry(NamedTuple):
    """An entry of a record: values of a row, their type until they are written and in records, value of padding."""

    width: int
    kind: Any
    record_kind: Any
    padding: float


class RowLayout:
    """The entries of a record, in their order, and the type of an array of encoded rows, which has a field for each."""

    def __init__(self, definition: DatasetDefinition) -> None:
        self.definition = definition
        hashed = any(feature.encoding == HASH for feature in definition.categorical)
        label_kinds = ((np.float32, np.float32, -np.inf) if definition.has_float_labels
                       else (np.int8, np.int64, PADDING_LABEL))
        self.entries: Dict[str, _Entry] = {
            LABEL: _Entry(len(definition.tasks), *label_kinds),
            SPARSE_FEATURE: _Entry(definition.sparse_width, np.int64 if hashed else np.int32, np.int64, NO_VALUE),
            DENSE_FEATURE: _Entry(len(definition.numeric), np.float32, np.float32, 0.0)}
        if definition.weight:
            self.entries[WEIGHT] = _Entry(1, np.float32, np.float32, 0.0)
        if definition.group:
            self.entries[GROUP] = _Entry(1, np.int64, np.int64, NO_GROUP)
        self.dtype = np.dtype([(name, entry.kind, (entry.width,)) for name, entry in self.entries.items()])

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

    def rows(self, coded: CodedFrame, labels: np.ndarray) -> np.ndarray:
        """Returns the encoded rows [n] of a raw frame, ``labels`` as :meth:`labels` gives them."""
        raw, definition = coded.frame, self.definition
        rows = np.empty(len(raw), self.dtype)
        rows[LABEL] = labels if definition.has_float_labels else np.where(np.isnan(labels), UNKNOWN_LABEL, labels)
        rows[SPARSE_FEATURE] = coded.codes
        rows[DENSE_FEATURE] = dense_values(raw, definition)
        if definition.weight:
            rows[WEIGHT][:, 0] = raw[number_name(definition.weight)]
        if definition.group:
            column = raw[definition.group].cat
            hashes = np.where(np.asarray(column.categories, object) == "", NO_GROUP, hash_texts(column.categories))
            rows[GROUP][:, 0] = hashes[column.codes.to_numpy()]
        return rows

    def frame(self, rows: np.ndarray) -> pd.DataFrame:
        """Returns encoded rows as a frame with one column per number, entry after entry."""
        return pd.concat([pd.DataFrame(np.ascontiguousarray(rows[name]), copy=False) for name in self.entries],
                         axis=1, ignore_index=True, copy=False)


def row_hashes(rows: np.ndarray) -> np.ndarray:
    """Returns uint64 [n], hashes of encoded rows: equal ones for rows that are equal in all columns that are used."""
    hashes = np.zeros(len(rows), np.uint64)
    fields = [rows[name] for name in rows.dtype.names]
    columns = [column for values in fields
               for column in (values.view(np.uint32) if values.dtype == np.float32 else values).T]
    for place, column in enumerate(columns, 1):
        hashes ^= mix(column.astype(np.uint64) + np.uint64(place << 48))
        hashes *= np.uint64(0x9E3779B97F4A7C15)
    return hashes


class RowStore:
    """Encoded rows of one split: up to ``memory_bytes`` in memory, more of them in files of a directory that is made.

    Without a seed of the shuffle rows stay in the order in which they come. ``expected_bytes`` is of all rows, roughly.
    """

    def __init__(self, layout: RowLayout, directory: str, seed: Optional[int], expected_bytes: int,
                 memory_bytes: int) -> None:
        self._layout, self._directory, self._seed, self._memory_bytes = layout, directory, seed, memory_bytes
        self._held: List[np.ndarray] = []
        # A bucket is read as a whole, so it should be well below the budget even where the estimate is low.
        self._buckets = 1 if seed is None else int(np.clip(4 * expected_bytes // memory_bytes, 8, 256))
        self._random = np.random.RandomState(seed)
        self._streams: List[IO[bytes]] = []
        self.rows = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds encoded rows."""
        self.rows += len(rows)
        self._held.append(rows)
        if self.rows * rows.itemsize > self._memory_bytes:
            for held in self._held:
                self._spill(held)
            self._held = []

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yields all rows in their final order; to be called once."""
        at_once = _BLOCK_ROWS if self._seed is None else -1
        for bucket, stream in enumerate(self._streams):
            stream.seek(0)
            rows = np.fromfile(stream, self._layout.dtype, at_once)
            while len(rows):
                yield from self._shuffled(rows, [self._seed, bucket])
                rows = np.fromfile(stream, self._layout.dtype, at_once)
            stream.close()
            os.unlink(stream.name)
        if self._held:
            rows, self._held = np.concatenate(self._held), []
            yield from self._shuffled(rows, self._seed)

    def _spill(self, rows: np.ndarray) -> None:
        if not self._streams:
            os.makedirs(self._directory, exist_ok=True)
            self._streams = [open(os.path.join(self._directory, "bucket-%05d" % bucket), "w+b")  # noqa: SIM115
                             for bucket in range(self._buckets)]
        # One draw per row, in file order: which bucket a row goes to does not depend on the blocks.
        buckets = (self._random.random_sample(len(rows)) * self._buckets).astype(np.int64)
        ends = np.cumsum(np.bincount(buckets, minlength=self._buckets))
        for stream, part in zip(self._streams, np.split(rows[np.argsort(buckets, kind="stable")], ends[:-1])):
            stream.write(part.tobytes())

    def _shuffled(self, rows: np.ndarray, seed: Any) -> Iterator[pd.DataFrame]:
        order = np.arange(len(rows)) if self._seed is None else np.random.RandomState(seed).permutation(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield self._layout.frame(rows[order[start:start + _BLOCK_ROWS]])


def shard_sizes(rows: int, line_per_sample: int, num_shards: int) -> List[Tuple[int, int]]:
    """Shares rows out among shards: [(rows, records)], whole records, the first shards one record more than others."""
    each, more = divmod(-(-rows // line_per_sample), num_shards)
    records = [each + (number < more) for number in range(num_shards)]
    ends = np.minimum(np.cumsum(records) * line_per_sample, rows)
    return list(zip(np.diff(ends, prepend=0).tolist(), records))


def write_shards(directory: str, split: str, sizes: Sequence[Tuple[int, int]], records: Iterator[bytes]
                 ) -> Tuple[Shard, ...]:
    """Writes serialized records to the TFRecord files of one split, in a folder of its name; ``sizes`` of
    :func:`shard_sizes`."""
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

    The rows are a multiple of ``line_per_sample`` unless they are the split's last ones: a record that they do not
    fill gets padding rows. ``vocabularies`` give the indexes of the codes in the rows.
    """
    arrays: Dict[str, np.ndarray] = {}
    missing, start = -len(data_frame) % line_per_sample, 0
    for name, entry in layout.entries.items():
        values = data_frame.iloc[:, start:start + entry.width].to_numpy(entry.record_kind)
        arrays[name] = np.pad(values, ((0, missing), (0, 0)), "constant", constant_values=entry.padding)
        start += entry.width
    indexes = arrays[SPARSE_FEATURE] = vocabularies.indexes(arrays[SPARSE_FEATURE])
    examples = encode_examples({name: values.reshape(len(values) // line_per_sample, -1)
                                for name, values in arrays.items()})
    return examples, vocabularies.unknown(indexes)


def encode_examples(arrays: Mapping[str, np.ndarray]) -> List[bytes]:
    """Serializes {feature: int64 or float32 [records, n]} as ``tf.train.Example`` messages, features in this order.

    One message object for each record would take several times as long.
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
