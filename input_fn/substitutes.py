"""Data with a bounded number of damaged records: what is wrong, and files to read instead of the damaged ones.

The order of the rows and the number of steps are arithmetic on record numbers, so a damaged record keeps its place:
in training another record of the split stands there, in evaluation one of padding rows
(docs/decisions/005-damaged-records-keep-their-place.md).
"""
import dataclasses
import os
from typing import Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from feature_specs.dataset import DENSE_FEATURE, LABEL, SPARSE_FEATURE
from feature_specs.errors import DataError
from feature_specs.manifest import TRAIN_SPLIT, Manifest, Shard, Split
from input_fn.diagnose import DAMAGED, RecordCheck
from input_fn.record_file import frames, read_records, shard_path

_READ_TOGETHER = 256


@dataclasses.dataclass(frozen=True)
class BadRecord:
    """A record that cannot be used: its split, its file's place among the shards, its number and what is wrong."""

    split: str
    shard: int
    record: int
    problem: str


def find_bad_records(manifest: Manifest, directory: str, splits: Sequence[str]) -> List[BadRecord]:
    """Reads every record and returns those that cannot be used, in order.

    Args:
        manifest: of the data directory.
        directory: the data directory.
        splits: names of the splits.

    Raises:
        DataError: a file holds more records than its manifest says.
    """
    check = RecordCheck(manifest)
    bad: List[BadRecord] = []
    for name in splits:
        split = manifest.split(name)
        for number, shard in enumerate(split.shards):
            path = shard_path(directory, shard)
            places = frames(path, shard.records)
            if len(places) > shard.records:
                raise DataError("%s: %d records, the manifest says %d; prepare the data again"
                                % (path, len(places), shard.records))
            for start in range(0, len(places), _READ_TOGETHER):
                for offset, record in enumerate(read_records(path, places[start:start + _READ_TOGETHER])):
                    rows = _rows_of(split, manifest.line_per_sample, number, start + offset)
                    problem = DAMAGED if record is None else check.problem(record, rows)
                    if problem:
                        bad.append(BadRecord(name, number, start + offset, problem))
    return bad


def write_substitutes(manifest: Manifest, directory: str, bad: Sequence[BadRecord], target: str) -> Dict[str, str]:
    """Writes a readable copy of every file that has damaged records.

    Args:
        manifest: of the data directory.
        directory: the data directory.
        bad: what :func:`find_bad_records` returned.
        target: folder for the copies; it is made where it does not exist.

    Returns:
        {path of the shard: path of its copy}.

    Raises:
        DataError: a split has no record that could stand in for a damaged one.
    """
    copies: Dict[str, str] = {}
    for name in sorted({item.split for item in bad}):
        split = manifest.split(name)
        numbers: List[set] = [{item.record for item in bad if item.split == name and item.shard == shard}
                              for shard in range(len(split.shards))]
        for shard in (number for number, records in enumerate(numbers) if records):
            source = shard_path(directory, split.shards[shard])
            copy = os.path.join(os.path.abspath(target), split.shards[shard].path)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            places = frames(source, split.shards[shard].records)
            with tf.io.TFRecordWriter(copy + ".tmp") as writer:
                for record in range(len(places)):
                    data = None if record in numbers[shard] else read_records(source, [places[record]])[0]
                    if record in numbers[shard]:
                        data = (_stand_in(manifest, directory, split, numbers, shard, record) if name == TRAIN_SPLIT
                                else _padding(manifest))
                    if data is None:
                        raise DataError("%s, record %d: it was readable just now; check the disk" % (source, record))
                    writer.write(data)
            os.replace(copy + ".tmp", copy)
            copies[split.shards[shard].path] = copy
    return copies


def with_substitutes(manifest: Manifest, copies: Dict[str, str]) -> Manifest:
    """Returns the manifest with the copies in the place of damaged files; nothing else differs."""
    splits = {}
    for name, split in manifest.splits.items():
        shards = tuple(dataclasses.replace(shard, path=copies.get(shard.path, shard.path)) for shard in split.shards)
        splits[name] = dataclasses.replace(split, shards=shards)
    return dataclasses.replace(manifest, splits=splits)


def _rows_of(split: Split, line_per_sample: int, shard: int, record: int) -> int:
    """Returns the rows that a record must have: all, except the last record of the split."""
    filled = [number for number, item in enumerate(split.shards) if item.records]
    if shard != filled[-1] or record != split.shards[shard].records - 1:
        return line_per_sample
    return split.rows % line_per_sample or line_per_sample


def _stand_in(manifest: Manifest, directory: str, split: Split, bad: List[set], shard: int, record: int) -> bytes:
    """Returns the next usable full record after a place: first of the same file, then of the others."""
    for turn in range(len(split.shards)):
        number = (shard + turn) % len(split.shards)
        item: Shard = split.shards[number]
        places = frames(shard_path(directory, item), item.records)
        first = record + 1 if turn == 0 else 0
        for candidate in ((first + step) % len(places) for step in range(len(places))):
            full = _rows_of(split, manifest.line_per_sample, number, candidate) == manifest.line_per_sample
            if full and candidate not in bad[number]:
                data: Optional[bytes] = read_records(shard_path(directory, item), [places[candidate]])[0]
                if data is not None:
                    return data
    raise DataError("%s: no record of the split can be read; prepare the data again"
                    % shard_path(directory, split.shards[shard]))


def _padding(manifest: Manifest) -> bytes:
    """Returns a record that holds padding rows only."""
    dataset, rows = manifest.dataset, manifest.line_per_sample

    def whole(count: int, value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value] * count))

    return tf.train.Example(features=tf.train.Features(feature={
        LABEL: whole(dataset.num_tasks * rows, -1), SPARSE_FEATURE: whole(dataset.num_sparse * rows, 0),
        DENSE_FEATURE: tf.train.Feature(float_list=tf.train.FloatList(
            value=np.zeros(dataset.num_dense * rows, np.float32)))})).SerializeToString()
