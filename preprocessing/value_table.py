"""Maps the texts of many columns to indices, a whole block of cells at a time.

An open-addressing hash table of NumPy arrays over 64-bit keys (:mod:`preprocessing.text_hash`). Each column has its own
list of values; the index of a value is the place of its first appearance.
"""
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from preprocessing.text_hash import column_keys, hash_texts

_MAX_VALUES = 2 ** 31 - 2


class ValueTable:
    """Values per column, and the lookup of their indices.

    Args:
        columns: the columns' names; several may be alike (their order is what counts).
        values: {column: its values in index order} to begin with.
    """

    def __init__(self, columns: Sequence[str], values: Optional[Mapping[str, Sequence[str]]] = None) -> None:
        self.columns: Tuple[str, ...] = tuple(columns)
        self._values: List[List[str]] = [[] for _ in self.columns]
        self._numbers = np.arange(len(self.columns), dtype=np.int64)
        self._count = 0
        self._allocate(1 << 12)
        if values is not None:
            for number, column in enumerate(self.columns):
                if values[column]:
                    self.add(number, list(values[column]))

    def values(self, number: int) -> List[str]:
        """Returns the values of the column with this number, in index order (the table's own list: do not change)."""
        return self._values[number]

    def sizes(self) -> np.ndarray:
        """Returns int32 [columns], the number of values per column."""
        return np.array([len(values) for values in self._values], np.int32)

    def keys(self, hashes: np.ndarray) -> np.ndarray:
        """Returns the keys of a block of cells: uint64 [rows, columns] from hashes of that shape."""
        return column_keys(hashes, self._numbers)

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Finds the indices of a block of cells; a value that is not there gets its column's size as index.

        Args:
            keys: uint64 [rows, columns], from :meth:`keys`.

        Returns:
            int32 [rows, columns].
        """
        indices = self._find(keys)
        missing = indices < 0
        if missing.any():
            indices = np.where(missing, self.sizes(), indices)
        return indices

    def lookup_or_add(self, keys: np.ndarray, text_of: Callable[[int, int], str]) -> np.ndarray:
        """Finds the indices of a block of cells and adds the new values in order of their first appearance.

        Args:
            keys: uint64 [rows, columns], from :meth:`keys`.
            text_of: (row, column) -> the text of that cell; called once per new value.

        Returns:
            int32 [rows, columns].
        """
        indices = self._find(keys)
        missing = np.flatnonzero(indices.ravel() < 0)
        if len(missing):
            new_keys, first, inverse = np.unique(keys.ravel()[missing], return_index=True, return_inverse=True)
            order = np.argsort(first, kind="stable")
            new_indices = np.empty(len(new_keys), np.int32)
            width = keys.shape[1]
            for place, cell in zip(order.tolist(), missing[first[order]].tolist()):
                row, column = divmod(cell, width)
                self._check_room(column, 1)
                values = self._values[column]
                new_indices[place] = len(values)
                values.append(text_of(row, column))
            self._insert(new_keys, new_indices)
            indices.ravel()[missing] = new_indices[inverse]
        return indices

    def add(self, number: int, texts: Sequence[str]) -> np.ndarray:
        """Adds those of some values that a column does not have yet, in their order.

        Args:
            number: of the column.
            texts: different values.

        Returns:
            int32 [texts], the index of each.
        """
        keys = self._keys_of(number, texts)
        indices = self._find(keys)
        missing = np.flatnonzero(indices < 0)
        values = self._values[number]
        self._check_room(number, len(missing))
        indices[missing] = np.arange(len(values), len(values) + len(missing), dtype=np.int32)
        values.extend(texts[place] for place in missing.tolist())
        self._insert(keys[missing], indices[missing])
        return indices

    def _keys_of(self, number: int, texts: Sequence[str]) -> np.ndarray:
        hashes = hash_texts(text.encode("utf-8") for text in texts)
        return column_keys(hashes[:, np.newaxis], self._numbers[number:number + 1])[:, 0]

    def _check_room(self, number: int, more: int) -> None:
        if len(self._values[number]) + more > _MAX_VALUES:
            raise OverflowError("column %s has more than %d different values" % (self.columns[number], _MAX_VALUES))

    def _allocate(self, capacity: int) -> None:
        self._slots = np.zeros(capacity, np.uint64)
        self._indices = np.full(capacity, -1, np.int32)
        self._shift = np.uint64(64 - (capacity.bit_length() - 1))

    def _find(self, keys: np.ndarray) -> np.ndarray:
        shape = keys.shape
        keys = np.ascontiguousarray(keys).reshape(-1)
        mask = len(self._slots) - 1
        slots = (keys >> self._shift).astype(np.int64)
        found = self._slots.take(slots)
        indices = self._indices.take(slots)
        pending = np.flatnonzero((found != keys) & (found != 0))
        while len(pending):
            slot = (slots[pending] + 1) & mask
            slots[pending] = slot
            there = self._slots[slot]
            indices[pending] = self._indices[slot]
            pending = pending[(there != keys[pending]) & (there != 0)]
        return indices.reshape(shape)

    def _insert(self, keys: np.ndarray, indices: np.ndarray) -> None:
        needed = self._count + len(keys)
        # At most a quarter full: nearly every cell is decided by the first probe.
        if 4 * needed > len(self._slots):
            old = self._slots != 0
            old_keys, old_indices = self._slots[old], self._indices[old]
            self._allocate(1 << (4 * needed - 1).bit_length())
            self._place(old_keys, old_indices)
        self._place(keys, indices)
        self._count = needed

    def _place(self, keys: np.ndarray, indices: np.ndarray) -> None:
        mask = len(self._slots) - 1
        slots = (keys >> self._shift).astype(np.int64)
        pending = np.arange(len(keys))
        while len(pending):
            slot = slots[pending]
            free = self._slots[slot] == 0
            candidates = pending[free]
            # Several may want one free slot: the last one written has it, the others go on.
            self._slots[slots[candidates]] = keys[candidates]
            won = self._slots[slots[pending]] == keys[pending]
            winners = pending[won]
            self._indices[slots[winners]] = indices[winners]
            pending = pending[~won]
            slots[pending] = (slots[pending] + 1) & mask
