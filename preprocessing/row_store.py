"""Keeps encoded rows in memory or, beyond a budget, on disk, and gives them back in file order or shuffled.

In memory the order depends on the seed and the number of rows only. Beyond the budget each row goes to a random bucket
file, and each bucket is shuffled when it is read; the order then depends also on the number of buckets, never on how
the rows were cut into chunks. Peak memory is about 2.5 times the budget (rows held, and one copy of them in order).
"""
import os
from typing import Iterator, List, Optional

import numpy as np

from feature_specs.dataset import DatasetDefinition

#: Bytes of encoded rows kept in memory: 1.6 million census rows.
DEFAULT_MEMORY_BYTES = 256 << 20
_BLOCK_BYTES = 4 << 20


def row_type(definition: DatasetDefinition) -> np.dtype:
    """Returns the layout of an encoded row: ``sparse`` int32 [S], ``dense`` float32 [D], ``labels`` int8 [T]."""
    return np.dtype([("sparse", "<i4", (definition.num_sparse,)), ("dense", "<f4", (definition.num_dense,)),
                     ("labels", "i1", (definition.num_tasks,))])


class RowStore:
    """Encoded rows of one split.

    Args:
        dtype: :func:`row_type`.
        directory: for the bucket files; made when needed, must not exist.
        seed: of the shuffle, None to keep the file order.
        expected_bytes: rough size of all rows; decides the number of buckets.
        memory_bytes: rows beyond that go to disk.
    """

    def __init__(self, dtype: np.dtype, directory: str, seed: Optional[int] = None, expected_bytes: int = 0,
                 memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        #: Layout of a row.
        self.dtype = dtype
        self._directory = directory
        self._seed = seed
        self._memory_bytes = memory_bytes
        self._chunks: List[np.ndarray] = []
        self._on_disk = False
        # A bucket is read as a whole, so it should be well below the budget even where the estimate is low.
        self._buckets = 1 if seed is None else int(np.clip(4 * expected_bytes // max(memory_bytes, 1), 8, 512))
        self._random = np.random.RandomState(seed)
        self.rows = 0

    def append(self, sparse: np.ndarray, dense: np.ndarray, labels: np.ndarray) -> None:
        """Adds rows: int32 [rows, S], float32 [rows, D], int8 [rows, T]."""
        chunk = np.empty(len(sparse), self.dtype)
        chunk["sparse"], chunk["dense"], chunk["labels"] = sparse, dense, labels
        self.rows += len(chunk)
        if self._on_disk:
            self._spill(chunk)
            return
        self._chunks.append(chunk)
        if self.rows * self.dtype.itemsize > self._memory_bytes:
            os.makedirs(self._directory)
            self._on_disk = True
            for held in self._chunks:
                self._spill(held)
            self._chunks = []

    @property
    def on_disk(self) -> bool:
        """Whether the rows did not fit into memory."""
        return self._on_disk

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields all rows in their final order, as arrays of the row layout; to be called once."""
        step = max(1, _BLOCK_BYTES // self.dtype.itemsize)
        if self._on_disk:
            for bucket in range(self._buckets):
                yield from self._read(bucket, step)
            return
        rows = np.concatenate(self._chunks) if self._chunks else np.empty(0, self.dtype)
        self._chunks = []
        order = None if self._seed is None else np.random.RandomState(self._seed).permutation(len(rows))
        for start in range(0, len(rows), step):
            yield rows[start:start + step] if order is None else rows[order[start:start + step]]

    def _spill(self, chunk: np.ndarray) -> None:
        if self._buckets == 1:
            self._write(0, chunk)
            return
        # One draw per row, in file order: which bucket a row goes to does not depend on the chunks.
        bucket = (self._random.random_sample(len(chunk)) * self._buckets).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        chunk = chunk[order]
        bounds = np.searchsorted(bucket[order], np.arange(self._buckets + 1))
        for number in range(self._buckets):
            if bounds[number] < bounds[number + 1]:
                self._write(number, chunk[bounds[number]:bounds[number + 1]])

    def _write(self, bucket: int, rows: np.ndarray) -> None:
        with open(self._path(bucket), "ab") as stream:
            stream.write(rows.tobytes())

    def _read(self, bucket: int, step: int) -> Iterator[np.ndarray]:
        path = self._path(bucket)
        if not os.path.exists(path):
            return
        if self._seed is None:
            with open(path, "rb") as stream:
                while True:
                    rows = np.frombuffer(stream.read(step * self.dtype.itemsize), self.dtype)
                    if not len(rows):
                        return
                    yield rows
        rows = np.fromfile(path, self.dtype)
        os.unlink(path)
        order = np.random.RandomState([self._seed, bucket]).permutation(len(rows))
        for start in range(0, len(rows), step):
            yield rows[order[start:start + step]]

    def _path(self, bucket: int) -> str:
        return os.path.join(self._directory, "bucket-%05d" % bucket)
