"""Encoded rows: kept in memory or on disk, shuffled, and written as TFRecord shards.

Rows are kept as pandas frames with one column per number of a record's row (:class:`RowLayout`). Within the memory
budget their order depends on the seed and the number of rows only. Beyond it each row goes to a random bucket, an Arrow
file, and each bucket is shuffled when it is read; the order then depends also on the number of buckets, never on how
the rows were read.
"""
import dataclasses
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import pandas as pd
import pyarrow as pa

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
from preprocessing.columns import label_values, number_name, roles_of
from preprocessing.statistics import mix
from preprocessing.vocabulary import CodedFrame, Vocabularies, dense_values, hash_texts

#: Bytes of encoded rows kept in memory per split.
MEMORY_BYTES = 128 << 20
_BLOCK_ROWS = 1 << 14


class RowLayout:
    """The columns of a frame of encoded rows, and the entries of a record that they go to.

    Args:
        definition: of the dataset.
    """

    def __init__(self, definition: DatasetDefinition) -> None:
        self.definition = definition
        self._roles = roles_of(definition)
        labels = np.float32 if definition.has_float_labels else np.int8
        hashed = any(feature.encoding == HASH for feature in definition.categorical)
        #: {entry: (width of a row, dtype in frames, dtype in records, value of padding rows)}, in column order.
        self.entries: Dict[str, Tuple[int, Any, Any, Any]] = {
            LABEL: (definition.num_tasks, labels, np.float32 if definition.has_float_labels else np.int64,
                    -np.inf if definition.has_float_labels else PADDING_LABEL),
            SPARSE_FEATURE: (definition.sparse_width, np.int64 if hashed else np.int32, np.int64, NO_VALUE),
            DENSE_FEATURE: (definition.num_dense, np.float32, np.float32, 0.0)}
        if definition.weight:
            self.entries[WEIGHT] = (1, np.float32, np.float32, 0.0)
        if definition.group:
            self.entries[GROUP] = (1, np.int64, np.int64, 0)
        self._slices: Dict[str, slice] = {}
        start = 0
        for entry, (width, _, _, _) in self.entries.items():
            self._slices[entry] = slice(start, start + width)
            start += width
        #: Bytes of a row.
        self.row_bytes = sum(width * np.dtype(kind).itemsize for width, kind, _, _ in self.entries.values())

    def labels(self, frame: pd.DataFrame) -> np.ndarray:
        """Returns float32 [n, T]: the labels of a raw frame, NaN where unknown."""
        labels = np.empty((len(frame), self.definition.num_tasks), np.float32)
        for place, task in enumerate(self.definition.tasks):
            if task.kind == BINARY:
                column = frame[task.column].cat
                values = label_values(task, column.categories).astype(np.float32)
                values[values < 0] = np.nan
                labels[:, place] = values[column.codes.to_numpy()]
            else:
                labels[:, place] = frame[number_name(self._roles, task.column)]
        return labels

    def frame(self, coded: CodedFrame, labels: np.ndarray) -> pd.DataFrame:
        """Returns the encoded rows of a raw frame, ``labels`` as :meth:`labels` gives them."""
        raw, definition = coded.frame, self.definition
        if not definition.has_float_labels:
            labels = np.where(np.isnan(labels), UNKNOWN_LABEL, labels)
        arrays = {LABEL: labels, SPARSE_FEATURE: coded.codes, DENSE_FEATURE: dense_values(raw, definition)}
        if definition.weight:
            arrays[WEIGHT] = raw[number_name(self._roles, definition.weight)].to_numpy()[:, np.newaxis]
        if definition.group:
            column = raw[definition.group].cat
            hashes = np.where(np.asarray(column.categories, object) == "", NO_GROUP, hash_texts(column.categories))
            arrays[GROUP] = hashes[column.codes.to_numpy()][:, np.newaxis]
        return self.join(arrays)

    def dense(self, frame: pd.DataFrame) -> np.ndarray:
        """Returns float32 [n, D], the numbers of encoded rows."""
        return self.array(frame, DENSE_FEATURE)

    def with_indexes(self, frame: pd.DataFrame, vocabularies: Vocabularies) -> Tuple[pd.DataFrame, Dict[str, int]]:
        """Replaces the codes of encoded rows by indexes; also returns {feature: values that its vocabulary lacks}."""
        arrays = {entry: self.array(frame, entry) for entry in self.entries}
        arrays[SPARSE_FEATURE] = vocabularies.indexes(np.array(arrays[SPARSE_FEATURE]))
        return self.join(arrays), vocabularies.unknown(arrays[SPARSE_FEATURE])

    def join(self, arrays: Dict[str, np.ndarray]) -> pd.DataFrame:
        """Makes a frame of {entry: [n, width]}."""
        return pd.concat([pd.DataFrame(np.ascontiguousarray(arrays[entry], kind), columns=range(
            self._slices[entry].start, self._slices[entry].stop), copy=False)
            for entry, (_, kind, _, _) in self.entries.items()], axis=1, copy=False)

    def array(self, frame: pd.DataFrame, entry: str) -> np.ndarray:
        """Returns [n, width] of an entry, in the records' type."""
        return frame.iloc[:, self._slices[entry]].to_numpy(self.entries[entry][2])


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


@dataclasses.dataclass(frozen=True)
class StoreSettings:
    """Where rows go: ``directory`` for files, ``seed`` of the shuffle (None: file order), expected and most bytes."""

    directory: str
    seed: Optional[int] = None
    expected_bytes: int = 0
    memory_bytes: int = MEMORY_BYTES


class RowStore:
    """Encoded rows of one split, in memory or in Arrow files.

    Args:
        layout: of the rows.
        settings: where they go.
    """

    def __init__(self, layout: RowLayout, settings: StoreSettings) -> None:
        self._layout, self._settings = layout, settings
        self._frames: List[pd.DataFrame] = []
        # A bucket is read as a whole, so it should be well below the budget even where the estimate is low.
        self._buckets = 1 if settings.seed is None else int(np.clip(
            4 * settings.expected_bytes // max(settings.memory_bytes, 1), 8, 256))
        self._random = np.random.RandomState(settings.seed)
        self._writers: Dict[int, Any] = {}
        self.rows = 0

    @property
    def on_disk(self) -> bool:
        """Whether the rows did not fit into memory."""
        return bool(self._writers)

    def append(self, frame: pd.DataFrame) -> None:
        """Adds encoded rows."""
        self.rows += len(frame)
        if self.on_disk:
            self._spill(frame)
            return
        self._frames.append(frame)
        if self.rows * self._layout.row_bytes > self._settings.memory_bytes:
            os.makedirs(self._settings.directory)
            for held in self._frames:
                self._spill(held)
            self._frames = []

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yields all rows in their final order; to be called once."""
        if self.on_disk:
            for writer, stream in self._writers.values():
                writer.close()
                stream.close()
            for bucket in sorted(self._writers):
                yield from self._read(bucket)
            return
        if not self._frames:
            return
        rows = pd.concat(self._frames, ignore_index=True, copy=False) if len(self._frames) > 1 else self._frames[0]
        self._frames = []
        yield from _pieces(rows, self._settings.seed)

    def _spill(self, frame: pd.DataFrame) -> None:
        if self._buckets == 1:
            self._write(0, frame)
            return
        # One draw per row, in file order: which bucket a row goes to does not depend on the blocks.
        bucket = (self._random.random_sample(len(frame)) * self._buckets).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        ordered = frame.take(order)
        bounds = np.searchsorted(bucket[order], np.arange(self._buckets + 1))
        for number in range(self._buckets):
            if bounds[number] < bounds[number + 1]:
                self._write(number, ordered.iloc[bounds[number]:bounds[number + 1]])

    def _write(self, bucket: int, frame: pd.DataFrame) -> None:
        # The entries of a row stand side by side in three to five columns of fixed-size lists.
        arrays = []
        for entry, (width, kind, _, _) in self._layout.entries.items():
            values = np.ascontiguousarray(self._layout.array(frame, entry).astype(kind)).ravel()
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values), width) if width else pa.nulls(len(frame)))
        batch = pa.RecordBatch.from_arrays(arrays, list(self._layout.entries))
        if bucket not in self._writers:
            stream = open(self._path(bucket), "wb")  # noqa: SIM115
            self._writers[bucket] = (pa.ipc.new_stream(stream, batch.schema), stream)
        self._writers[bucket][0].write_batch(batch)

    def _read(self, bucket: int) -> Iterator[pd.DataFrame]:
        path = self._path(bucket)
        with pa.OSFile(path) as stream, pa.ipc.open_stream(stream) as reader:
            if self._settings.seed is None:
                for batch in reader:
                    yield self._from_arrow(batch)
            else:
                rows = self._from_arrow(reader.read_all().combine_chunks().to_batches()[0])
                yield from _pieces(rows, [self._settings.seed, bucket])
        os.unlink(path)

    def _from_arrow(self, batch: pa.RecordBatch) -> pd.DataFrame:
        arrays = {}
        for place, (entry, (width, kind, _, _)) in enumerate(self._layout.entries.items()):
            column = batch.column(place)
            arrays[entry] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width) if width else np.zeros(
                (batch.num_rows, 0), kind)
        return self._layout.join(arrays)

    def _path(self, bucket: int) -> str:
        return os.path.join(self._settings.directory, "bucket-%05d.arrow" % bucket)


def _pieces(rows: pd.DataFrame, seed: Any) -> Iterator[pd.DataFrame]:
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


class ShardWriter:
    """Writes the shards of one split, rows in the order in which they come.

    Args:
        directory: the data directory.
        split: name of the split, also of the folder of its shards.
        sizes: of :func:`shard_sizes`.
    """

    def __init__(self, directory: str, split: str, sizes: Sequence[Tuple[int, int]]) -> None:
        os.makedirs(os.path.join(directory, split))
        self._directory, self._sizes = directory, list(sizes)
        self._paths = ["%s/part-%05d-of-%05d.tfrecord" % (split, number, len(sizes)) for number in range(len(sizes))]
        self._shards: List[Shard] = []
        self._writer: Any = None
        self._left = 0
        self._open_next()

    def write(self, records: Sequence[bytes]) -> None:
        """Writes serialized records to the current shards."""
        for record in records:
            while not self._left:
                self._open_next()
            self._writer.write(record)
            self._left -= 1

    def close(self) -> Tuple[Shard, ...]:
        """Ends the last shard and returns all; there are empty ones where there are fewer records than shards."""
        while len(self._shards) < len(self._sizes):
            self._open_next()
        return tuple(self._shards)

    def _open_next(self) -> None:
        import tensorflow as tf
        if self._writer is not None:
            number = len(self._shards)
            self._writer.close()
            path = os.path.join(self._directory, self._paths[number])
            rows, records = self._sizes[number]
            self._shards.append(Shard(self._paths[number], rows, records, os.path.getsize(path), sha256_of_file(path)))
        if len(self._shards) < len(self._sizes):
            self._left = self._sizes[len(self._shards)][1]
            self._writer = tf.io.TFRecordWriter(os.path.join(self._directory, self._paths[len(self._shards)]))


def convert_input2tfrd(data_frame: pd.DataFrame, layout: RowLayout, line_per_sample: int, writer: ShardWriter) -> None:
    """Writes a frame of encoded rows as records.

    Args:
        data_frame: encoded rows, a multiple of ``line_per_sample`` unless they are the split's last ones; the record
            that they do not fill gets padding rows.
        layout: of the rows.
        line_per_sample: rows per record (L).
        writer: of the split's shards.
    """
    arrays = {}
    padding = -len(data_frame) % line_per_sample
    for entry, (width, _, kind, fill) in layout.entries.items():
        values = layout.array(data_frame, entry)
        if padding:
            values = np.concatenate([values, np.full((padding, width), fill, kind)])
        arrays[entry] = np.ascontiguousarray(values, kind).reshape(len(values) // line_per_sample, -1)
    writer.write(encode_examples(arrays))


def encode_examples(arrays: Dict[str, np.ndarray]) -> List[bytes]:
    """Serializes ``tf.train.Example`` messages, many at a time: some twenty times as fast as one message object each.

    Args:
        arrays: {feature: int64 or float32 [records, n]}.

    Returns:
        One message per record, its features in the order of ``arrays``.
    """
    features = []
    for name, values in arrays.items():
        key = name.encode("utf-8")
        key = b"\x0a" + _varint(len(key)) + key
        if values.dtype == np.float32:
            data, ends = values.astype("<f4").tobytes(), np.arange(1, len(values) + 1) * 4 * values.shape[1]
        else:
            data, ends = _varints(values)
        kind = b"\x12" if values.dtype == np.float32 else b"\x1a"
        lengths = np.diff(ends, prepend=0)
        # The headers depend on the length alone, of which there are few.
        headers = {}
        for length in np.unique(lengths).tolist():
            packed = b"\x0a" + _varint(length)
            inner = kind + _varint(len(packed) + length) + packed
            entry = key + b"\x12" + _varint(len(inner) + length) + inner
            headers[length] = b"\x0a" + _varint(len(entry) + length) + entry
        features.append([headers[length] + data[end - length:end]
                         for length, end in zip(lengths.tolist(), ends.tolist())])
    return [b"\x0a" + _varint(sum(map(len, parts))) + b"".join(parts) for parts in zip(*features)]


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)
    return bytes(data)


def _varints(values: np.ndarray) -> Tuple[bytes, np.ndarray]:
    """Returns integers as varints, one behind the other, and int64 [rows], the bytes up to the end of each row."""
    unsigned = np.ascontiguousarray(values, np.int64).view(np.uint64)
    width = max(1, -(-int(unsigned.max()).bit_length() // 7)) if unsigned.size else 1
    if width <= 4:
        unsigned = unsigned.astype(np.uint32)
    data = np.empty(unsigned.shape + (width,), np.uint8)
    used = np.empty(unsigned.shape + (width,), bool)
    for place in range(width):
        shifted = unsigned >> unsigned.dtype.type(7 * place)
        data[..., place] = shifted & unsigned.dtype.type(127)
        used[..., place] = (shifted > 0) if place else True
        if place + 1 < width:
            data[..., place] |= (shifted > 127).astype(np.uint8) << np.uint8(7)
    sizes = used.reshape(len(values), -1).sum(axis=1)
    return data[used].tobytes(), np.cumsum(sizes)
