"""Files of rows -> data directory: vocabularies, statistics, TFRecord shards and manifest.

The rows are read once: a value's code is final when it is first seen, and codes become indexes when the records are
written.
"""
import collections
import contextlib
import dataclasses
import os
import shutil
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import pandas as pd

from feature_specs.dataset import PARQUET, DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import (
    FILE_NAME,
    MODEL_DATA_FOLDER,
    TEST_SPLIT,
    TRAIN_SPLIT,
    LabelStatistics,
    Manifest,
    RowSplit,
    Split,
    read_manifest,
    write_manifest,
)
from feature_specs.records import DENSE_FEATURE, WEIGHT
from preprocessing.output_directory import atomic_directory
from preprocessing.reading.bad_rows import parse_limit
from preprocessing.reading.readers import Reading, find_inputs, read_frames
from preprocessing.reading.spark import SparkReader, spark_context
from preprocessing.records import RowLayout, RowStore, convert_input2tfrd, row_hashes, shard_sizes, write_shards
from preprocessing.splitting import part_rows
from preprocessing.statistics import DenseAccumulator, LabelAccumulator
from preprocessing.vocabulary import Vocabularies, get_fea_map

VOCAB_CHOICES: Tuple[Tuple[str, ...], ...] = ((TRAIN_SPLIT,), (TRAIN_SPLIT, TEST_SPLIT))
#: Bytes of encoded rows kept in memory per split.
MEMORY_BYTES = 128 << 20
#: Rows per split up to which exact copies are counted (8 bytes of memory per row).
DUPLICATE_ROW_CAP = 20000000
_MOST_WORKERS = 64
# Values on which fewer training rows come are rare.
_ROWS_PER_VALUE = 10


@dataclasses.dataclass(frozen=True)
class Preparation:
    """All that decides what :func:`prepare` writes.

    Attributes:
        train_paths, test_paths: files, folders or patterns; no test paths where ``split`` takes the test rows out of
            the training files.
        output_path: directory to make; one that holds an older preparation is replaced.
        line_per_sample: rows packed into one record (L).
        num_shards: files per split.
        seed: of the shuffle of the training rows.
        held_back: with ``split``: the test rows of this split of the files are left out of both parts.
        vocabulary_splits: the splits whose values make the vocabularies.
        vocabulary_from: data or model directory whose vocabularies and statistics are continued; empty for none.
        memory_bytes: bytes of encoded rows kept in memory per split.
        duplicate_row_cap: above so many rows duplicates are not counted. They are found by 64-bit hashes: n rows
            have a false one with a chance of about n * n / 2**65.
        spark_master: the Spark cluster that reads the files; empty: threads of this process do.
    """

    definition: DatasetDefinition
    train_paths: Tuple[str, ...]
    test_paths: Tuple[str, ...]
    output_path: str
    split: RowSplit = RowSplit()
    held_back: RowSplit = RowSplit()
    line_per_sample: int = 8
    num_shards: int = 4
    seed: int = 2020
    vocabulary_splits: Tuple[str, ...] = (TRAIN_SPLIT,)
    vocabulary_from: str = ""
    reading: Reading = Reading(num_workers=0)
    memory_bytes: int = MEMORY_BYTES
    duplicate_row_cap: int = DUPLICATE_ROW_CAP
    spark_master: str = ""

    def check(self) -> None:
        """Checks the settings before any work is done.

        Raises:
            ConfigError: a setting is out of range or contradicts another one.
        """
        for name, value, least, most in (
                ("line_per_sample", self.line_per_sample, 1, 4096), ("num_shards", self.num_shards, 1, 10000),
                ("seed", self.seed, 0, 2 ** 32 - 1)):
            if not least <= value <= most:
                raise ConfigError("%s %d: give a whole number from %d to %d" % (name, value, least, most))
        split, workers = self.split, self.reading.num_workers
        for is_wrong, message in (
                (self.vocabulary_splits not in VOCAB_CHOICES, "vocabulary_splits %r: give %s" % (
                    ",".join(self.vocabulary_splits), " or ".join(map(",".join, VOCAB_CHOICES)))),
                (split.share and self.test_paths,
                 "--split takes the test rows from the training files; leave out --test_data_path"),
                (not split.share and not self.test_paths, "no test rows: give --test_data_path FILE, or --split 0.1"),
                (split.by_column in [task.column for task in self.definition.tasks],
                 "--split_by %s: a split by a label makes training and test rows differ; name another column"
                 % split.by_column),
                (not 0 <= workers <= _MOST_WORKERS,
                 "num_workers %d: give the number of threads, or 0 for one per core; at most %d" % (
                     workers, _MOST_WORKERS))):
            if is_wrong:
                raise ConfigError(message)
        parse_limit(self.reading.max_bad_rows)


def prepare(preparation: Preparation) -> Manifest:
    """Prepares a data directory, which appears whole or not at all, and returns its manifest.

    The rows of the training split are shuffled once; the test split keeps the order of its files. Statistics come from
    the training rows, vocabularies from those and, if so chosen, from the test rows.

    Raises:
        DataError: an input or the output directory cannot be used.
        ConfigError: a setting is out of range.
    """
    preparation.check()
    with atomic_directory(preparation.output_path) as directory:
        return prepare_in(preparation, directory)


def prepare_in(preparation: Preparation, directory: str) -> Manifest:
    """Writes prepared data, whose settings were checked, into an existing directory, the manifest last; else like
    :func:`prepare`."""
    definition = preparation.definition
    folder, earlier = find_earlier(preparation.vocabulary_from) if preparation.vocabulary_from else ("", None)
    vocabularies = Vocabularies.load(folder, earlier, definition) if earlier else Vocabularies(definition)
    layout = RowLayout(definition)
    statistics = DenseAccumulator([feature.name for feature in definition.numeric])
    engine: Any = spark_context(preparation.spark_master) if preparation.spark_master else contextlib.nullcontext()
    with engine as context:
        parts = [_Part(preparation, layout, name, directory, context) for name in (TRAIN_SPLIT, TEST_SPLIT)]
        for part in parts:
            part.read(vocabularies, statistics if part.name == TRAIN_SPLIT else None)
    vocabularies.number()
    splits = {part.name: part.write(vocabularies) for part in parts}
    dense, labels = statistics.finish(), parts[0].label_statistics
    if earlier:
        dense.update((name, item) for name, item in earlier.dense_statistics.items() if name in dense)
        labels.update((name, item) for name, item in earlier.label_statistics.items() if name in labels)
    saved = vocabularies.save(directory)
    is_rare = sum(info.distinct for info in saved.values()) * _ROWS_PER_VALUE > splits[TRAIN_SPLIT].rows
    manifest = Manifest(
        dataset=definition, line_per_sample=preparation.line_per_sample, vocabularies=saved,
        has_rare_values=earlier.has_rare_values if earlier else is_rare,
        vocabulary_splits=preparation.vocabulary_splits, dense_statistics=dense, label_statistics=labels,
        seed=preparation.seed, row_split=preparation.split, splits=splits,
        continues=earlier.identity() if earlier else "")
    write_manifest(manifest, directory)
    return manifest


def find_earlier(path: str) -> Tuple[str, Manifest]:
    """Returns the folder with the manifest of a data or model directory, and the manifest.

    Raises:
        DataError: there is none.
    """
    if not os.path.isdir(path):
        raise DataError("--vocabulary_from %s: there is no such directory; give one that prepare or train has made"
                        % path)
    inside = os.path.join(path, MODEL_DATA_FOLDER)
    folder = inside if os.path.exists(os.path.join(inside, FILE_NAME)) else path
    return folder, read_manifest(folder)


class _Part:
    """One split: reads its rows into a store, counts, and writes them."""

    def __init__(self, preparation: Preparation, layout: RowLayout, name: str, directory: str, context: Any) -> None:
        self.name = name
        self.label_statistics: Dict[str, LabelStatistics] = {}
        self._preparation, self._layout, self._directory = preparation, layout, directory
        split, held_back = preparation.split, preparation.held_back
        definition, reading = preparation.definition, preparation.reading
        self._is_training = name == TRAIN_SPLIT
        paths = find_inputs(preparation.train_paths if self._is_training or split.share else preparation.test_paths)
        columns = {column for item in (split, held_back) for column in (item.by_column, item.by_time) if column}
        reading = dataclasses.replace(reading, more_texts=(*reading.more_texts, *sorted(columns)))
        self._reader = (SparkReader(definition, paths, reading, context) if context
                        else read_frames(definition, paths, reading))
        self._takes = part_rows(split, held_back, self._reader, not self._is_training) if split.share else None
        self._spill = os.path.join(directory, "spill-" + name)
        packed = 10 if definition.files.format == PARQUET else 1
        # Only training needs a shuffle; an unshuffled test split lines up with its files.
        self._store = RowStore(
            layout, self._spill, preparation.seed if self._is_training else None,
            sum(os.path.getsize(path) * (20 if path.endswith(".gz") else 1) for path in paths) * packed,
            preparation.memory_bytes)
        self._hashes: List[np.ndarray] = []
        self._cut = collections.Counter({feature.name: 0 for feature in definition.categorical if feature.is_list})
        self._labels = LabelAccumulator(definition.tasks)
        self._has_weight = not definition.weight

    def _frames(self) -> Iterator[pd.DataFrame]:
        for frame in self._reader:
            if self._takes is not None:
                frame = frame[self._takes(frame)]
            if len(frame):
                yield frame

    def read(self, vocabularies: Vocabularies, statistics: Optional[DenseAccumulator]) -> None:
        """Reads all rows and counts."""
        settings = self._preparation
        for item in get_fea_map(self._frames(), vocabularies, self.name in settings.vocabulary_splits):
            labels = self._layout.labels(item.frame)
            rows = self._layout.rows(item, labels)
            self._store.append(rows)
            self._labels.add(labels)
            self._cut.update(item.cut_lists)
            if statistics is not None:
                statistics.add(rows[DENSE_FEATURE])
            self._has_weight = self._has_weight or bool(rows[WEIGHT].any())
            if self._store.rows <= settings.duplicate_row_cap:
                self._hashes.append(row_hashes(rows))
            else:
                self._hashes = []
        self.label_statistics = self._labels.finish()
        if not self._store.rows:
            raise DataError("no rows for the %s split: --split %g of the rows left none; give another share or column"
                            % (self.name, settings.split.share))
        if not self._has_weight:
            raise DataError("the weights (%s) of the %s rows are all 0: nothing would be learnt or measured"
                            % (settings.definition.weight, self.name))

    def write(self, vocabularies: Vocabularies) -> Split:
        """Writes the records and returns the split's entry in the manifest."""
        settings, rows = self._preparation, self._store.rows
        unknown: Dict[str, int] = collections.Counter()

        def records() -> Iterator[bytes]:
            for frame in _whole_records(self._store.frames(), settings.line_per_sample):
                found, lacking = convert_input2tfrd(frame, self._layout, vocabularies, settings.line_per_sample)
                unknown.update(lacking)
                yield from found

        shards = write_shards(self._directory, self.name,
                              shard_sizes(rows, settings.line_per_sample, settings.num_shards), records())
        shutil.rmtree(self._spill, ignore_errors=True)
        duplicates: Optional[int] = None
        if rows <= settings.duplicate_row_cap:
            hashes = np.sort(np.concatenate(self._hashes))
            duplicates = int(np.count_nonzero(hashes[1:] == hashes[:-1]))
        # Both splits of one set of files meet the same bad rows, which count for training.
        bad_rows = {} if self.name == TEST_SPLIT and settings.split.share else dict(self._reader.bad_rows)
        return Split(rows=rows, positives=self._labels.positives, unknown_labels=self._labels.unknown,
                     out_of_vocabulary=dict(unknown), cut_lists=dict(self._cut), duplicates=duplicates,
                     contradictions=self._labels.contradictions, bad_rows=bad_rows,
                     inputs=tuple(info.entry() for info in self._reader.inputs), shards=shards)


def _whole_records(frames: Iterator[pd.DataFrame], line_per_sample: int) -> Iterator[pd.DataFrame]:
    """Cuts a stream of rows so that every frame but the last one fills its records."""
    held: Optional[pd.DataFrame] = None
    for frame in frames:
        frame = frame if held is None else pd.concat([held, frame], ignore_index=True, copy=False)
        whole = len(frame) - len(frame) % line_per_sample
        held = frame.iloc[whole:] if whole < len(frame) else None
        if whole:
            yield frame.iloc[:whole] if held is not None else frame
    if held is not None:
        yield held
