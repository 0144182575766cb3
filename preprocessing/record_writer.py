"""Writes encoded rows as TFRecord shards.

Rows are packed L to a record, and every shard but the last non-empty one holds whole records only: the padding rows of
a split are at the end of its last non-empty shard.
"""
import hashlib
import os
from typing import Iterator, List, Sequence, Tuple

import numpy as np

from feature_specs.manifest import Shard
from preprocessing.example_encoder import encode_flat, pack_rows
from preprocessing.row_store import RowStore
from preprocessing.tfrecord import frame
from preprocessing.worker_pool import Arrays, WorkerPool

_ROWS_PER_BLOCK = 1 << 13


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


def convert_input2tfrd(rows: RowStore, directory: str, split: str, stem: str, offsets: np.ndarray,
                       line_per_sample: int, num_shards: int, num_workers: int = 1) -> Tuple[Shard, ...]:
    """Writes the records of one split.

    Args:
        rows: the encoded rows; they are used up.
        directory: the data directory; shards go to ``<directory>/<split>/<stem>-00000-of-0000N.tfrecord``.
        split: name of the split.
        stem: beginning of the shards' names.
        offsets: int64 [sparse columns], added to the rows' indices to make ids.
        line_per_sample: rows per record (L).
        num_shards: number of files, 1 or more.
        num_workers: processes that encode records, 1: this one; the files do not depend on it.

    Returns:
        One entry per shard; a shard may be empty where there are fewer records than shards.
    """
    os.makedirs(os.path.join(directory, split))
    shards = []
    step = max(1, _ROWS_PER_BLOCK // line_per_sample) * line_per_sample
    sizes = shard_sizes(rows.rows, line_per_sample, num_shards)
    dtype = rows.dtype
    lengths = [min(step, size - start) for size, _ in sizes for start in range(0, size, step)]

    def encoded(data: bytes) -> Tuple[Arrays, None]:
        part = np.frombuffer(data, dtype)
        packed = pack_rows(part["labels"], part["sparse"] + offsets, part["dense"], line_per_sample)
        return {"records": frame(*encode_flat(*packed))}, None

    with WorkerPool(encoded, num_workers) as pool:
        parts = pool.map(part.tobytes() for part in _cut(rows.blocks(), lengths))
        for number, (size, records) in enumerate(sizes):
            path = "%s/%s-%05d-of-%05d.tfrecord" % (split, stem, number, num_shards)
            digest, length = hashlib.sha256(), 0
            with open(os.path.join(directory, path), "wb") as stream:
                for _ in range(0, size, step):
                    data = next(parts)[1]["records"]
                    stream.write(data)
                    digest.update(data)
                    length += len(data)
                stream.flush()
                os.fsync(stream.fileno())
            shards.append(Shard(path=path, rows=size, records=records, size=length, sha256=digest.hexdigest()))
    return tuple(shards)


def _cut(blocks: Iterator[np.ndarray], lengths: Sequence[int]) -> Iterator[np.ndarray]:
    """Cuts a stream of arrays into arrays of the wanted lengths."""
    held = next(blocks, None)
    for length in lengths:
        parts, missing = [], length
        while missing:
            assert held is not None
            if not len(held):
                held = next(blocks)
            parts.append(held[:missing])
            held = held[missing:]
            missing -= len(parts[-1])
        yield parts[0] if len(parts) == 1 else np.concatenate(parts)
