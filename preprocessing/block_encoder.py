"""Blocks of raw lines -> encoded rows: cells become indices, numbers and labels.

An encoder keeps its value table from block to block. Several processes may each have one; their indices are brought
together by :class:`IndexMerger`.
"""
import dataclasses
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from feature_specs.dataset import DatasetDefinition
from preprocessing.text_hash import BlockHasher
from preprocessing.text_scan import Layout, ScannedBlock, scan_block
from preprocessing.value_table import ValueTable

UNKNOWN_LABEL = "unknown label"


@dataclasses.dataclass
class EncodedBlock:
    """The rows of one block.

    Attributes:
        lines: number of lines the block had, bad ones included.
        kept: int64 [rows], 0-based place of each row among ``lines``.
        sparse: int32 [rows, sparse columns], indices of the encoder's own table; the list's length for a value that a
            frozen table does not have.
        dense: float32 [rows, dense columns], raw unit.
        labels: int8 [rows, tasks], 1 positive, 0 negative, -1 unknown (only where labels are not required).
        row_hashes: uint64 [rows], hash of the whole line.
        bad: {reason: int64 [n], 0-based places of the lines left out}.
        new_values: {column number: values that this block added to the encoder's table, in order of appearance}.
    """

    lines: int
    kept: np.ndarray
    sparse: np.ndarray
    dense: np.ndarray
    labels: np.ndarray
    row_hashes: np.ndarray
    bad: Dict[str, np.ndarray]
    new_values: Dict[int, List[str]]

    def parts(self) -> Tuple[Dict[str, np.ndarray], Dict[str, Any]]:
        """Returns the arrays over rows, and the rest; the class takes both together as keywords."""
        fields = dict(vars(self))
        rest = {name: fields.pop(name) for name in ("lines", "bad", "new_values")}
        return fields, rest


class BlockEncoder:
    """Encodes blocks of whole lines, one after the other.

    Args:
        definition: what the columns are used for.
        columns: the columns of the file, in order; label columns may be missing.
        table: values of the sparse columns.
        grow: whether new values are added to ``table``.
        require_labels: whether an unknown label text makes a row a bad row.
    """

    def __init__(self, definition: DatasetDefinition, columns: Sequence[str], table: ValueTable, grow: bool,
                 require_labels: bool) -> None:
        self._labels = _LabelReader(definition, columns)
        self._layout = Layout(
            columns=len(columns),
            texts=tuple(columns.index(column) for column in definition.sparse_columns + self._labels.columns),
            numbers=tuple(columns.index(column) for column in definition.dense_columns))
        self._num_sparse = definition.num_sparse
        self._table = table
        self._grow = grow
        self._require_labels = require_labels
        self._hasher = BlockHasher()

    def __call__(self, data: bytes) -> EncodedBlock:
        """Encodes a block; each of its lines ends in a newline."""
        scanned = scan_block(data, self._layout, self._hasher)
        labels, known = self._labels.read(scanned.hashes[:, self._num_sparse:])
        hashes, dense, row_hashes, kept = scanned.hashes, scanned.dense, scanned.row_hashes, scanned.kept
        bad = dict(scanned.bad)
        rows: Optional[np.ndarray] = None
        if self._require_labels and not known.all():
            bad[UNKNOWN_LABEL] = kept[~known]
            rows = np.flatnonzero(known)
            hashes, dense, row_hashes, kept = hashes[rows], dense[rows], row_hashes[rows], kept[rows]
            labels = labels[rows]
        keys = self._table.keys(hashes[:, :self._num_sparse])
        new_values: Dict[int, List[str]] = {}
        if self._grow:
            before = self._table.sizes()
            sparse = self._table.lookup_or_add(keys, _text_reader(scanned, rows))
            for number in np.flatnonzero(self._table.sizes() > before).tolist():
                new_values[number] = self._table.values(number)[before[number]:]
        else:
            sparse = self._table.lookup(keys)
        return EncodedBlock(scanned.lines, kept, sparse, dense, labels, row_hashes, bad, new_values)


class IndexMerger:
    """Turns the indices of several encoders, whose tables began alike, into those of one table.

    Args:
        table: as it was when the encoders began; new values are added to it.
        encoders: how many there are.
    """

    def __init__(self, table: ValueTable, encoders: int) -> None:
        self._table = table
        self._merged = [[np.arange(size, dtype=np.int32) for size in table.sizes().tolist()] for _ in range(encoders)]
        # The columns' lists one behind the other, and where each begins: one look-up for a whole block.
        self._joined = [_joined(columns) for columns in self._merged]

    def merge(self, encoder: int, block: EncodedBlock) -> np.ndarray:
        """Returns the indices of a block, int32 [rows, sparse columns].

        Blocks come in file order, so that values are numbered as one encoder alone would number them.

        Args:
            encoder: the number of the one that made the block.
            block: the block.
        """
        if block.new_values:
            merged = self._merged[encoder]
            for column, texts in block.new_values.items():
                merged[column] = np.concatenate([merged[column], self._table.add(column, texts)])
            self._joined[encoder] = _joined(merged)
        indices, starts = self._joined[encoder]
        return indices.take(block.sparse + starts)


def _joined(columns: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """Returns int32 [sum of lengths], the arrays one behind the other, and int64 [columns], where each begins."""
    lengths = np.array([len(column) for column in columns], np.int64)
    return np.concatenate(columns), np.cumsum(lengths) - lengths


class _LabelReader:
    """Turns the label columns' texts into labels."""

    def __init__(self, definition: DatasetDefinition, columns: Sequence[str]) -> None:
        tasks = [task for task in definition.tasks if task.label_column in columns]
        self.columns = tuple(task.label_column for task in tasks)
        self._num_tasks = definition.num_tasks
        self._places = [place for place, task in enumerate(definition.tasks) if task.label_column in columns]
        # Numbered names, since two tasks may read one column.
        names = ["%d" % place for place in self._places]
        self._table = ValueTable(names, {
            name: list(dict.fromkeys(value.strip(" \t") for value in task.label_values))
            for name, task in zip(names, tasks)})
        self._labels = []
        for number, task in enumerate(tasks):
            texts = self._table.values(number)
            self._labels.append(np.array([text == task.positive_value.strip(" \t") for text in texts] + [-1], np.int8))

    def read(self, hashes: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Returns int8 [rows, tasks] labels, and bool [rows]: all labels are known."""
        labels = np.full((len(hashes), self._num_tasks), -1, np.int8)
        if self._places:
            indices = self._table.lookup(self._table.keys(hashes))
            for number, place in enumerate(self._places):
                labels[:, place] = self._labels[number][indices[:, number]]
        return labels, (labels >= 0).all(axis=1)


def _text_reader(scanned: ScannedBlock, rows: Optional[np.ndarray]) -> Callable[[int, int], str]:
    if rows is None:
        return scanned.text
    chosen = rows
    return lambda row, column: scanned.text(int(chosen[row]), column)
