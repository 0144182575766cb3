"""Writes encoded rows as TFRecord shards.

Rows are packed L to a record, and every shard but the last non-empty one holds whole records only: the padding rows of
a split are at the end of its last non-empty shard.
"""
import hashlib
import os
from typing import Iterator, List, Tuple

import numpy as np

from feature_specs.manifest import Shard
from preprocessing.example_encoder import encode_flat, pack_rows
from preprocessing.row_store import RowStore
from preprocessing.tfrecord import frame

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
                       line_per_sample: int, num_shards: int) -> Tuple[Shard, ...]:
    """Writes the records of one split.

    Args:
        rows: the encoded rows; they are used up.
        directory: the data directory; shards go to ``<directory>/<split>/<stem>-00000-of-0000N.tfrecord``.
        split: name of the split.
        stem: beginning of the shards' names.
        offsets: int64 [sparse columns], added to the rows' indices to make ids.
        line_per_sample: rows per record (L).
        num_shards: number of files, 1 or more.

    Returns:
        One entry per shard; a shard may be empty where there are fewer records than shards.
    """
    os.makedirs(os.path.join(directory, split))
    blocks = _Rebatcher(rows.blocks())
    shards = []
    step = max(1, _ROWS_PER_BLOCK // line_per_sample) * line_per_sample
    for number, (size, records) in enumerate(shard_sizes(rows.rows, line_per_sample, num_shards)):
        path = "%s/%s-%05d-of-%05d.tfrecord" % (split, stem, number, num_shards)
        digest, length = hashlib.sha256(), 0
        with open(os.path.join(directory, path), "wb") as stream:
            for start in range(0, size, step):
                part = blocks.take(min(step, size - start))
                packed = pack_rows(part["labels"], part["sparse"] + offsets, part["dense"], line_per_sample)
                data = frame(*encode_flat(*packed)).tobytes()
                stream.write(data)
                digest.update(data)
                length += len(data)
            stream.flush()
            os.fsync(stream.fileno())
        shards.append(Shard(path=path, rows=size, records=records, size=length, sha256=digest.hexdigest()))
    return tuple(shards)


class _Rebatcher:
    """Cuts a stream of arrays into arrays of wanted lengths."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self._blocks = blocks
        self._held: List[np.ndarray] = []
        self._rows = 0

    def take(self, rows: int) -> np.ndarray:
        """Returns the next ``rows`` rows."""
        while self._rows < rows:
            block = next(self._blocks)
            self._held.append(block)
            self._rows += len(block)
        whole = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        self._held = [whole[rows:]]
        self._rows -= rows
        return whole[:rows]
