"""The TFRecord framing, for many records at a time.

A record is its length (8 bytes), the masked CRC-32C of the length, the data and the masked CRC-32C of the data. Writing
the frames here instead of through TensorFlow spares the preparation TensorFlow's start-up, which is longer than the
whole preparation of the census files, and a call per record.
"""
import struct
from typing import Tuple

import numpy as np

_POLYNOMIAL = 0x82F63B78
_SEGMENT = 256
_MASK_DELTA = 0xA282EAD8


def _make_tables() -> np.ndarray:
    """Returns uint32 [256 places, 256]: what a byte followed by that many bytes adds to a checksum."""
    first = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        first = (first >> np.uint32(1)) ^ ((first & np.uint32(1)) * np.uint32(_POLYNOMIAL))
    tables = np.empty((_SEGMENT, 256), np.uint32)
    tables[0] = first
    for place in range(1, _SEGMENT):
        before = tables[place - 1]
        tables[place] = (before >> np.uint32(8)) ^ first[before & np.uint32(255)]
    return tables


_TABLES = _make_tables()


def crc32c(data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Computes the CRC-32C of many messages.

    A checksum is linear over XOR: each byte adds a value that depends on itself and its distance from the end. Longer
    messages are cut into segments of 256 bytes, counted from the end.

    Args:
        data: uint8 [bytes], the messages one behind the other.
        lengths: int64 [messages], each at least 4.

    Returns:
        uint32 [messages].
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    data = data.copy()
    # The register begins with all bits set, which is the same as inverting the first four bytes.
    data[(starts[:, np.newaxis] + np.arange(4)).ravel()] ^= 0xFF
    segments = -(-lengths // _SEGMENT)
    first_segments = np.cumsum(segments) - segments
    to_end = np.repeat(segments + first_segments, segments) - np.arange(int(segments.sum()))
    segment_starts = np.maximum(np.repeat(ends, segments) - to_end * _SEGMENT, np.repeat(starts, segments))
    segment_lengths = np.diff(segment_starts, append=len(data))
    places = np.repeat((segment_starts + segment_lengths - 1).astype(np.int32), segment_lengths)
    places -= np.arange(len(data), dtype=np.int32)
    places <<= 8
    places |= data
    parts = np.bitwise_xor.reduceat(np.take(_TABLES.ravel(), places), segment_starts)
    state = np.zeros(len(lengths), np.uint32)
    for back in range(int(segments.max()), 0, -1):
        active = np.flatnonzero(segments >= back)
        register = state[active]
        moved = parts[first_segments[active] + segments[active] - back]
        for byte in range(4):
            moved ^= _TABLES[_SEGMENT - 1 - byte][(register >> np.uint32(8 * byte)) & np.uint32(255)]
        state[active] = moved
    return ~state


def frame(data: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Puts records into TFRecord frames.

    Args:
        data: uint8 [bytes], the records one behind the other; less than 2 GiB.
        lengths: int64 [records], each at least 4.

    Returns:
        uint8 [bytes + 16 * records], as it is in a file.
    """
    if not len(lengths):
        return np.zeros(0, np.uint8)
    heads, inverse = _heads(lengths)
    frames = np.empty((len(lengths), 16), np.uint8)
    frames[:, :12] = heads[inverse]
    frames[:, 12:] = _masked(crc32c(data, lengths)).astype("<u4").view(np.uint8).reshape(-1, 4)
    ends = np.cumsum(lengths + 16)
    places = np.concatenate([(ends - lengths - 16)[:, np.newaxis] + np.arange(12),
                             (ends - 4)[:, np.newaxis] + np.arange(4)], axis=1)
    framed = np.empty(len(data) + 16 * len(lengths), np.uint8)
    is_data = np.ones(len(framed), bool)
    is_data[places.ravel()] = False
    framed[is_data] = data
    framed[places.ravel()] = frames.ravel()
    return framed


def _heads(lengths: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns uint8 [different lengths, 12], and which of them each record has."""
    different, inverse = np.unique(lengths, return_inverse=True)
    encoded = np.frombuffer(b"".join(struct.pack("<Q", length) for length in different.tolist()), np.uint8)
    checksums = _masked(crc32c(encoded, np.full(len(different), 8, np.int64))).astype("<u4")
    return np.concatenate([encoded.reshape(-1, 8), checksums.view(np.uint8).reshape(-1, 4)], axis=1), inverse


def _masked(checksum: np.ndarray) -> np.ndarray:
    return ((checksum >> np.uint32(15)) | (checksum << np.uint32(17))) + np.uint32(_MASK_DELTA)
