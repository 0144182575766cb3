"""Raw text -> data directory: vocabularies, statistics, TFRecord shards and manifest.

The text is read once. An index in a column's list of values is final when it is first given; only the columns' offsets
are known at the end, and they are added when the records are written. The encoded rows (162 bytes per census row) stay
in memory up to a budget and go to disk beyond it (:mod:`preprocessing.row_store`).
"""
import os
from typing import Callable, Dict, List, Optional, Tuple, Union

import numpy as np

from feature_specs.census import CENSUS
from feature_specs.dataset import DatasetDefinition
from feature_specs.errors import ConfigError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest, Shard, Split, write_manifest
from preprocessing.bad_rows import BadRows, parse_limit
from preprocessing.cores import usable_cores
from preprocessing.dense_statistics import DenseAccumulator
from preprocessing.output_directory import atomic_directory
from preprocessing.raw_reader import DEFAULT_CHUNK_BYTES, InputFile, read_chunks
from preprocessing.record_writer import convert_input2tfrd
from preprocessing.row_store import DEFAULT_MEMORY_BYTES, RowStore, row_type
from preprocessing.value_table import ValueTable
from preprocessing.vocabulary import id_offsets, new_value_table, vocabularies_of

#: Rows per split up to which exact copies are counted (8 bytes of memory per row).
DUPLICATE_ROW_CAP = 20000000
#: Text below which starting processes costs more than they gain.
_LEAST_BYTES_FOR_PROCESSES = 8 << 20
#: Processes beyond which this one, which reads, shuffles and writes, is what limits.
_MOST_PROCESSES = 8
VOCAB_CHOICES: Tuple[Tuple[str, ...], ...] = ((TRAIN_SPLIT,), (TRAIN_SPLIT, TEST_SPLIT))

#: (what is being done, bytes of the input done, bytes in all).
Progress = Callable[[str, int, int], None]


def prepare(train_path: str, test_path: str, output_path: str, definition: DatasetDefinition = CENSUS,
            line_per_sample: int = 8, num_shards: int = 4, seed: int = 2020,
            max_bad_rows: Union[int, str, None] = None, vocab_from: Tuple[str, ...] = (TRAIN_SPLIT,),
            chunk_bytes: int = DEFAULT_CHUNK_BYTES, memory_bytes: int = DEFAULT_MEMORY_BYTES, num_workers: int = 0,
            duplicate_row_cap: int = DUPLICATE_ROW_CAP, progress: Optional[Progress] = None) -> Manifest:
    """Prepares a data directory, which appears whole or not at all.

    The rows of the training split are shuffled once; the test split keeps the order of its file. The vocabularies and
    the statistics come from the training file (the vocabularies also from the test file, if so chosen).

    Args:
        train_path, test_path: raw text files, plain or gzip.
        output_path: directory to make; one that holds an older preparation is replaced.
        definition: the dataset.
        line_per_sample: rows packed into one record (L).
        num_shards: files per split.
        seed: of the shuffle.
        max_bad_rows: bad rows allowed per file, ``N`` or ``P%``.
        vocab_from: ``("train",)`` or ``("train", "test")``.
        chunk_bytes: bytes of text read at a time.
        memory_bytes: bytes of encoded rows kept in memory per split.
        num_workers: processes that split text and encode records; 1: this one; 0: one per usable core, at most 8,
            where the input is large enough to gain from it. The output does not depend on it.
        duplicate_row_cap: above so many rows duplicates are not counted (-1). They are found by 64-bit hashes of the
            lines: n rows have a false one with a chance of about n * n / 2**65.
        progress: called while reading.

    Returns:
        The manifest that was written.

    Raises:
        DataError: an input or the output directory cannot be used.
        ConfigError: a setting is out of range.
    """
    check_settings(line_per_sample, num_shards, seed, vocab_from, memory_bytes, max_bad_rows, chunk_bytes, num_workers)
    with atomic_directory(output_path) as directory:
        return prepare_in(directory, train_path, test_path, definition, line_per_sample, num_shards, seed, max_bad_rows,
                          vocab_from, chunk_bytes, memory_bytes, num_workers, duplicate_row_cap, progress)


def prepare_in(directory: str, train_path: str, test_path: str, definition: DatasetDefinition = CENSUS,
               line_per_sample: int = 8, num_shards: int = 4, seed: int = 2020,
               max_bad_rows: Union[int, str, None] = None, vocab_from: Tuple[str, ...] = (TRAIN_SPLIT,),
               chunk_bytes: int = DEFAULT_CHUNK_BYTES, memory_bytes: int = DEFAULT_MEMORY_BYTES, num_workers: int = 0,
               duplicate_row_cap: int = DUPLICATE_ROW_CAP, progress: Optional[Progress] = None) -> Manifest:
    """Writes prepared data into an existing directory; :func:`prepare` without the guard around it.

    Args:
        directory: where to write; the manifest is written last.
        train_path, test_path, definition, line_per_sample, num_shards, seed, max_bad_rows, vocab_from, chunk_bytes,
            memory_bytes, num_workers, duplicate_row_cap, progress: as for :func:`prepare`.

    Returns:
        The manifest that was written.

    Raises:
        DataError: an input cannot be used.
        ConfigError: a setting is out of range.
    """
    check_settings(line_per_sample, num_shards, seed, vocab_from, memory_bytes, max_bad_rows, chunk_bytes, num_workers)
    table = new_value_table(definition)
    statistics = DenseAccumulator(definition.dense_columns)
    readers: Dict[str, _SplitReader] = {}
    for name, path in ((TRAIN_SPLIT, train_path), (TEST_SPLIT, test_path)):
        # Only training needs a shuffle; an unshuffled test split lines up with its raw file.
        store = RowStore(row_type(definition), os.path.join(directory, "spill-" + name),
                         seed if name == TRAIN_SPLIT else None, _expected_bytes(path), memory_bytes)
        readers[name] = _SplitReader(path, definition, store, duplicate_row_cap)
        readers[name].read(table, name in vocab_from, statistics if name == TRAIN_SPLIT else None,
                           BadRows(path, max_bad_rows), chunk_bytes, num_workers or _workers_for(path), name, progress)
    vocabularies = vocabularies_of(table)
    offsets = id_offsets(definition, vocabularies)
    splits = {}
    for name, reader in readers.items():
        shards = convert_input2tfrd(reader.store, directory, name, _stem(reader.path), offsets, line_per_sample,
                                    num_shards, num_workers or _workers_for(reader.path))
        splits[name] = reader.split(shards)
        _remove_spill(os.path.join(directory, "spill-" + name))
    manifest = Manifest(dataset=definition, line_per_sample=line_per_sample, vocabularies=vocabularies,
                        vocab_from=tuple(vocab_from), dense_statistics=statistics.finish(), seed=seed, splits=splits)
    write_manifest(manifest, directory)
    return manifest


class _SplitReader:
    """Reads one file into a row store, and counts."""

    def __init__(self, path: str, definition: DatasetDefinition, store: RowStore, duplicate_row_cap: int) -> None:
        self.path = path
        self.store = store
        self._definition = definition
        self._cap = duplicate_row_cap
        self._hashes: List[np.ndarray] = []
        self._positives = np.zeros(definition.num_tasks, np.int64)
        self._unknown = np.zeros(definition.num_sparse, np.int64)
        self._info = InputFile(path)
        self._bad_rows: Optional[BadRows] = None

    def read(self, table: ValueTable, grow: bool, statistics: Optional[DenseAccumulator], bad_rows: BadRows,
             chunk_bytes: int, num_workers: int, name: str, progress: Optional[Progress]) -> None:
        """Reads the whole file."""
        self._bad_rows = bad_rows
        total = os.path.getsize(self.path) if os.path.isfile(self.path) else 0
        report = None if progress is None else _reporter(progress, "read " + name, total)
        for chunk in read_chunks(self.path, self._definition, table, grow=grow, bad_rows=bad_rows, info=self._info,
                                 chunk_bytes=chunk_bytes, num_workers=num_workers, progress=report):
            self.store.append(chunk.sparse, chunk.dense, chunk.labels)
            self._positives += np.count_nonzero(chunk.labels == 1, axis=0)
            if not grow:
                self._unknown += np.count_nonzero(chunk.sparse == table.sizes(), axis=0)
            if statistics is not None:
                statistics.add(chunk.dense)
            if self.store.rows <= self._cap:
                self._hashes.append(chunk.row_hashes)
            else:
                self._hashes = []

    def split(self, shards: Tuple[Shard, ...]) -> Split:
        """Returns the split's entry in the manifest."""
        rows = self.store.rows
        duplicates = -1
        if rows <= self._cap:
            hashes = np.sort(np.concatenate(self._hashes))
            duplicates = int(np.count_nonzero(hashes[1:] == hashes[:-1]))
        return Split(
            rows=rows,
            positives={task: int(count) for task, count in zip(self._definition.task_names, self._positives)},
            out_of_vocabulary={column: int(count)
                               for column, count in zip(self._definition.sparse_columns, self._unknown)},
            duplicates=duplicates,
            bad_rows=dict(self._bad_rows.counts) if self._bad_rows else {},
            inputs=({"name": os.path.basename(self.path), "size": self._info.size, "sha256": self._info.sha256},),
            shards=shards)


def _reporter(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    return lambda done: progress(what, done, total)


def _stem(path: str) -> str:
    name = os.path.basename(path)
    return name[:-3] if name.endswith(".gz") else name


def _expected_bytes(path: str) -> int:
    # An encoded row is smaller than its text; census text shrinks about 17-fold in gzip.
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    return size * 20 if path.endswith(".gz") else size


def _workers_for(path: str) -> int:
    return min(usable_cores(), _MOST_PROCESSES) if _expected_bytes(path) >= _LEAST_BYTES_FOR_PROCESSES else 1


def _remove_spill(directory: str) -> None:
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


def check_settings(line_per_sample: int = 8, num_shards: int = 4, seed: int = 2020,
                   vocab_from: Tuple[str, ...] = (TRAIN_SPLIT,), memory_bytes: int = DEFAULT_MEMORY_BYTES,
                   max_bad_rows: Union[int, str, None] = None, chunk_bytes: int = DEFAULT_CHUNK_BYTES,
                   num_workers: int = 0) -> None:
    """Checks settings of :func:`prepare` before any work is done.

    Raises:
        ConfigError: a setting is out of range.
    """
    for name, value, least, most in (
            ("line_per_sample", line_per_sample, 1, 4096), ("num_shards", num_shards, 1, 10000),
            ("seed", seed, 0, 2 ** 32 - 1), ("memory_bytes", memory_bytes, 1, 2 ** 62),
            ("chunk_bytes", chunk_bytes, 1, 1 << 28), ("num_workers", num_workers, 0, 64)):
        if not least <= value <= most:
            raise ConfigError("%s %d: give a whole number from %d to %d" % (name, value, least, most))
    parse_limit(max_bad_rows)
    if tuple(vocab_from) not in VOCAB_CHOICES:
        raise ConfigError("vocab_from %r: give %s" % (
            ",".join(vocab_from), " or ".join(",".join(choice) for choice in VOCAB_CHOICES)))
