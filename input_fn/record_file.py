"""One TFRecord file with damaged places: where its records are, and what can still be read.

TensorFlow's reader stops at the first damage. Here a damaged record costs itself: after a wrong data checksum the next
record begins where the length says, and after a wrong length at the next place whose eight bytes fit their checksum.
"""
import mmap
import os
import struct
from typing import Any, List, Optional, Tuple

import numpy as np
from tensorflow.python import pywrap_tensorflow
from tensorflow.python.framework import errors

from feature_specs.manifest import Shard

_HEADER_BYTES = 12
_FRAME_BYTES = 16
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78
_SEARCHED_TOGETHER = 1 << 20

Frame = Optional[Tuple[int, int]]


def shard_path(directory: str, shard: Shard) -> str:
    """Returns the path of a shard; one with an absolute path stays what it is."""
    return os.path.join(directory, shard.path)


def frames(path: str, expected: int) -> List[Frame]:
    """Finds the records of a file without looking at their data.

    Args:
        path: the file.
        expected: how many records it was written with.

    Returns:
        (offset, length of the data) of every record in order, None for one that cannot be found. Where a damaged place
        hides several records, all that are missing are counted at the last such place, or at the end.
    """
    found: List[Frame] = []
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = _walk(content, size)
    missing = expected - len(found)
    if missing > 0:
        gaps = [number for number, frame in enumerate(found) if frame is None]
        place = gaps[-1] if gaps else len(found)
        found[place:place] = [None] * missing
    return found


def read_records(path: str, places: List[Frame]) -> List[Optional[bytes]]:
    """Reads the data of records; None for those whose checksum is wrong or that were not found."""
    reader: Any = None
    records: List[Optional[bytes]] = []
    for place in places:
        if place is None:
            records.append(None)
            reader = None
            continue
        if reader is None:
            with errors.raise_exception_on_not_ok_status() as status:
                reader = pywrap_tensorflow.PyRecordReader_New(path.encode(), place[0], b"", status)
        try:
            reader.GetNext()
            records.append(reader.record())
        except (errors.DataLossError, errors.OutOfRangeError):
            records.append(None)
            reader = None
    return records


def _walk(content: Any, size: int) -> List[Frame]:
    found: List[Frame] = []
    offset = 0
    while offset < size:
        length = _length_at(content, offset, size)
        if length is None:
            found.append(None)
            offset = _next_header(content, offset + 1, size)
        else:
            found.append((offset, length))
            offset += _FRAME_BYTES + length
    return found


def _length_at(content: Any, offset: int, size: int) -> Optional[int]:
    header = content[offset:offset + _HEADER_BYTES]
    if len(header) < _HEADER_BYTES:
        return None
    length, checksum = struct.unpack("<QI", header)
    if offset + _FRAME_BYTES + length > size:
        return None
    state = 0xFFFFFFFF
    for byte in header[:8]:
        state = _TABLE_LIST[(state ^ byte) & 255] ^ (state >> 8)
    state ^= 0xFFFFFFFF
    masked = (((state >> 15) | (state << 17)) + _MASK_DELTA) & 0xFFFFFFFF
    return int(length) if masked == checksum else None


def _next_header(content: Any, start: int, size: int) -> int:
    """Returns the next offset at which a record begins, or the size of the file."""
    for first in range(start, size - _FRAME_BYTES + 1, _SEARCHED_TOGETHER):
        count = min(_SEARCHED_TOGETHER, size - _FRAME_BYTES + 1 - first)
        data = np.frombuffer(content[first:first + count + _HEADER_BYTES - 1], np.uint8)
        state = np.full(count, 0xFFFFFFFF, np.uint32)
        for place in range(8):
            state = _TABLE[(state ^ data[place:place + count]) & np.uint32(255)] ^ (state >> np.uint32(8))
        state = ~state
        masked = ((state >> np.uint32(15)) | (state << np.uint32(17))) + np.uint32(_MASK_DELTA)
        stored = np.zeros(count, np.uint32)
        for place in range(4):
            stored |= data[8 + place:8 + place + count].astype(np.uint32) << np.uint32(8 * place)
        for hit in np.flatnonzero(masked == stored):
            if _length_at(content, first + int(hit), size) is not None:
                return first + int(hit)
    return size


def _make_table() -> np.ndarray:
    """Returns uint32 [256], the CRC-32C of single bytes."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ ((table & np.uint32(1)) * np.uint32(_POLYNOMIAL))
    return table


_TABLE = _make_table()
_TABLE_LIST: List[int] = _TABLE.tolist()
