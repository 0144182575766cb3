"""Encodes rows as serialized ``tf.train.Example`` messages with NumPy, many records at a time.

Each record is laid out in a row of a byte matrix in which every varint has room for the longest one of the batch; a
mask then takes the bytes that are used. A record has the keys ``label``, ``sparse_feature`` and ``dense_feature``,
always in this order and packed.
"""
from typing import List, Tuple

import numpy as np

LABEL_KEY = "label"
SPARSE_KEY = "sparse_feature"
DENSE_KEY = "dense_feature"
PADDING_LABEL = -1

# Field numbers and wire types of Example, Features, its map entries, Feature and the two list messages.
_NESTED_1, _NESTED_2, _INT64_LIST, _FLOAT_LIST = 0x0A, 0x12, 0x1A, 0x12


def pack_rows(labels: np.ndarray, ids: np.ndarray, dense: np.ndarray, line_per_sample: int
              ) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packs L rows into one record; the last record is filled up with padding rows (label -1, id 0, value 0.0).

    Args:
        labels: integers [rows, T].
        ids: integers [rows, S].
        dense: float32 [rows, D].
        line_per_sample: L.

    Returns:
        int64 [records, T*L], int64 [records, S*L] and float32 [records, D*L], row-major.
    """
    rows = len(labels)
    records = -(-rows // line_per_sample)
    padding = records * line_per_sample - rows
    packed = []
    for values, dtype, fill in ((labels, np.int64, PADDING_LABEL), (ids, np.int64, 0), (dense, np.float32, 0)):
        values = values.astype(dtype)
        if padding:
            values = np.concatenate([values, np.full((padding, values.shape[1]), fill, dtype)])
        packed.append(values.reshape(records, line_per_sample * values.shape[1]))
    return packed[0], packed[1], packed[2]


def encode_flat(labels: np.ndarray, sparse: np.ndarray, dense: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Encodes records into one buffer.

    Args:
        labels: int64 [records, n], any value.
        sparse: int64 [records, m], any value.
        dense: float32 [records, k].

    Returns:
        uint8 [bytes], the messages one behind the other, and int64 [records], their lengths.
    """
    records = len(labels)
    if not records:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    floats = np.ascontiguousarray(dense, dtype="<f4").view(np.uint8).reshape(records, -1)
    everything = np.ones(floats.shape, bool)
    pieces: List[Tuple[np.ndarray, np.ndarray]] = []
    sizes = np.zeros(records, np.int64)
    for key, tag, (payload, mask) in (
            (LABEL_KEY, _INT64_LIST, _varints(labels)),
            (SPARSE_KEY, _INT64_LIST, _varints(sparse)),
            (DENSE_KEY, _FLOAT_LIST, (floats, everything))):
        entry, entry_sizes = _entry(key, tag, payload, mask)
        pieces.extend(entry)
        sizes += entry_sizes
    pieces = _length_delimited(_NESTED_1, sizes)[0] + pieces
    matrix = np.concatenate([piece for piece, _ in pieces], axis=1)
    used = np.concatenate([mask for _, mask in pieces], axis=1)
    return matrix[used], np.count_nonzero(used, axis=1).astype(np.int64)


def encode_examples(labels: np.ndarray, sparse: np.ndarray, dense: np.ndarray) -> List[bytes]:
    """Encodes records; arguments as for :func:`encode_flat`.

    Returns:
        One serialized ``tf.train.Example`` per record.
    """
    flat, lengths = encode_flat(labels, sparse, dense)
    data, ends = flat.tobytes(), np.cumsum(lengths)
    return [data[start:end] for start, end in zip((ends - lengths).tolist(), ends.tolist())]


def _entry(key: str, tag: int, payload: np.ndarray, mask: np.ndarray
           ) -> Tuple[List[Tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Returns one map entry as pieces (bytes, mask) and its size per record."""
    name = key.encode("ascii")
    sizes = np.count_nonzero(mask, axis=1).astype(np.int64)
    values_header, sizes_of_list = _length_delimited(_NESTED_1, sizes)
    list_header, sizes_of_feature = _length_delimited(tag, sizes_of_list)
    feature_header, sizes_of_value = _length_delimited(_NESTED_2, sizes_of_feature)
    key_bytes = bytes([_NESTED_1, len(name)]) + name
    entry_header, entry_sizes = _length_delimited(_NESTED_1, sizes_of_value + len(key_bytes))
    pieces = (entry_header + [_constant(key_bytes, len(payload))] + feature_header + list_header + values_header
              + [(payload, mask)])
    return pieces, entry_sizes


def _length_delimited(tag: int, sizes: np.ndarray) -> Tuple[List[Tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Returns the pieces of a field's tag and length, and the field's size per record."""
    length, mask = _varints(sizes[:, np.newaxis])
    return [_constant(bytes([tag]), len(sizes)), (length, mask)], sizes + 1 + np.count_nonzero(mask, axis=1)


def _constant(data: bytes, records: int) -> Tuple[np.ndarray, np.ndarray]:
    row = np.frombuffer(data, np.uint8)
    return np.tile(row, (records, 1)), np.ones((records, len(row)), bool)


def _varints(values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Returns uint8 and bool [records, n * w]: each value as a varint in w bytes, and which bytes are used."""
    unsigned = np.ascontiguousarray(values, dtype=np.int64).view(np.uint64)
    greatest = int(unsigned.max()) if unsigned.size else 0
    width = max(1, -(-greatest.bit_length() // 7))
    # Narrow integers make the passes below cheaper; ids of usual vocabularies take two bytes.
    kind = np.uint16 if width <= 2 else np.uint32 if width <= 4 else np.uint64
    unsigned = unsigned.astype(kind)
    data = np.empty(unsigned.shape + (width,), np.uint8)
    used = np.empty(unsigned.shape + (width,), bool)
    used[..., 0] = True
    for place in range(width):
        group = (unsigned >> kind(7 * place)).astype(np.uint8)
        group &= 0x7F
        if place + 1 < width:
            more = unsigned >= kind(1 << 7 * (place + 1))
            used[..., place + 1] = more
            group |= more.view(np.uint8) << np.uint8(7)
        data[..., place] = group
    shape = (len(values), values.shape[1] * width)
    return data.reshape(shape), used.reshape(shape)
