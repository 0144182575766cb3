"""64-bit hashes of all fields of a block of text at once.

The hash of the bytes b[0..n) is ``sum(b[j] * R**j) mod 2**64``. It is taken from one running sum over the whole block:
``(sum up to end - sum up to start) * R**-start``; R is odd, so its inverse exists. The cost per field is therefore the
same for short and long values. Two different texts of natural length collide with a chance of about 2**-64, so that D
different values of a column have a collision with a chance of about D * D / 2**65 (3e-8 for a million).
"""
from typing import Iterable

import numpy as np

_BASE = 0x9E3779B97F4A7C15 | 1
_BASE_INVERSE = pow(_BASE, 2 ** 62 - 1, 2 ** 64)  # the group of odd numbers mod 2**64 has exponent 2**62
_MIX = np.uint64(0xD6E8FEB86659FD93)
_COLUMN_STEP = 0xA24BAED4963EE407


class BlockHasher:
    """Running hash sums of text blocks; keeps the tables of powers, which grow to the longest block seen."""

    def __init__(self) -> None:
        self._powers = np.ones(1, np.uint64)
        self._inverses = np.ones(1, np.uint64)
        # Kept from block to block: fresh memory of this size costs as much as the sums themselves.
        self._sums = np.zeros(1, np.uint64)

    def sums(self, block: np.ndarray) -> np.ndarray:
        """Returns the running sums of a block.

        Args:
            block: uint8 [n], the bytes.

        Returns:
            uint64 [n + 1]; entry i covers ``block[:i]``. Overwritten by the next call.
        """
        size = len(block)
        if size > len(self._powers):
            self._powers = _powers(_BASE, size)
            self._inverses = _powers(_BASE_INVERSE, size)
        if size >= len(self._sums):
            self._sums = np.zeros(len(self._powers) + 1, np.uint64)
        sums = self._sums[:size + 1]
        weighted = sums[1:]
        np.multiply(self._powers[:size], block, out=weighted)
        np.cumsum(weighted, out=weighted)
        return sums

    def spans(self, sums: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Returns the hashes of ``block[starts:ends]``, elementwise.

        Args:
            sums: result of :meth:`sums` for the block.
            starts, ends: int64 of one shape, byte positions with ``starts <= ends``; ``starts < len(block)``.

        Returns:
            uint64 of the same shape.
        """
        result = sums.take(ends)
        result -= sums.take(starts)
        result *= self._inverses.take(starts)
        return result


def hash_texts(texts: Iterable[bytes]) -> np.ndarray:
    """Returns uint64 [n], the hash of each text, equal to what :class:`BlockHasher` finds for it inside a block."""
    texts = list(texts)
    lengths = np.array([len(text) for text in texts], np.int64)
    hasher = BlockHasher()
    ends = np.cumsum(lengths)
    # One spare byte, so that an empty last text has a valid start.
    sums = hasher.sums(np.frombuffer(b"".join(texts) + b"\n", np.uint8))
    return hasher.spans(sums, ends - lengths, ends)


def column_keys(hashes: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns keys that depend on the column too, with well mixed high bits and never 0.

    Args:
        hashes: uint64 [..., columns].
        columns: int64 [columns], a number per column.

    Returns:
        uint64 of the shape of ``hashes``.
    """
    offsets = (columns.astype(np.uint64) + np.uint64(1)) * np.uint64(_COLUMN_STEP)
    keys = hashes ^ offsets
    keys *= _MIX
    keys ^= keys >> np.uint64(32)
    keys *= _MIX
    np.maximum(keys, np.uint64(1), out=keys)
    return keys


def _powers(base: int, count: int) -> np.ndarray:
    # Doubling the length, so that growing line by line stays linear.
    capacity = 1 << max(16, (count - 1).bit_length())
    table = np.full(capacity, base, np.uint64)
    table[0] = 1
    return np.cumprod(table, out=table)
