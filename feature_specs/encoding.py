"""How the raw numbers of a row become model inputs: normalisation, and bins as extra ids.

Only constants are made here, from the manifest's training statistics; the TensorFlow side (``input_fn.encode``) is the
same for training, evaluation and the exported graph, so that a model is served with the inputs that it learned from.
"""
import dataclasses
from typing import List, Sequence, Tuple

import numpy as np

from feature_specs.errors import ConfigError
from feature_specs.manifest import DenseStatistics, Manifest

DENSE_TRANSFORMS = ("log_standard", "standard", "none")
MAX_BINS = 255


@dataclasses.dataclass(frozen=True)
class FeatureEncoding:
    """Constants of the encoding; D dense columns, S sparse columns, K binned columns.

    Attributes:
        transform: ``log_standard``: (sign(x) log(1+|x|) - mean) / std; ``standard``: (x - mean) / std; ``none``: x.
        minimum, maximum: float32 [D], training range that values are clipped to (not with ``none``).
        shift, scale: float32 [D]; the normalised value is (t(x) - shift) * scale.
        default: float32 [D], raw value used in place of a missing or NaN one: the training mean.
        binned_columns: int [K], positions of the binned columns among the D.
        bin_edges: float32 [K, E], ascending, filled up with +inf.
        bin_offsets: int64 [K], first id of each binned column.
        num_sparse_ids: number of different ids of the sparse columns.
        num_ids: number of different ids, bins included: the keys that the embedding table can meet.
        num_fields: S + K, ids in one row.
    """

    transform: str
    minimum: np.ndarray
    maximum: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    default: np.ndarray
    binned_columns: np.ndarray
    bin_edges: np.ndarray
    bin_offsets: np.ndarray
    num_sparse_ids: int
    num_ids: int
    num_fields: int


def make_encoding(manifest: Manifest, transform: str, bins: int, drop_columns: Sequence[str] = ()) -> FeatureEncoding:
    """Derives the encoding from the manifest.

    Args:
        manifest: of the prepared data.
        transform: one of :data:`DENSE_TRANSFORMS`.
        bins: equal-frequency bins per dense column that become extra ids; 0 for none, at most 255.
        drop_columns: dense columns that the model must not see: their input is 0 and they get no bins. A name that
            ends in ``?`` need not exist, so that one preset serves several datasets.

    Returns:
        The encoding.

    Raises:
        ConfigError: an unknown transform, a number of bins out of range, or an unknown column.
    """
    if transform not in DENSE_TRANSFORMS:
        raise ConfigError("dense_transform %r is unknown; allowed: %s" % (transform, ", ".join(DENSE_TRANSFORMS)))
    if not 0 <= bins <= MAX_BINS or bins == 1:
        raise ConfigError("dense_bins %d is out of range; allowed: 0 (none), or 2 to %d" % (bins, MAX_BINS))
    columns = manifest.dataset.dense_columns
    unknown = sorted(name for name in set(drop_columns) - set(columns) if not name.endswith("?"))
    if unknown:
        raise ConfigError("drop_dense names unknown dense columns: %s; the data has %s"
                          % (", ".join(unknown), ", ".join(columns)))
    dropped = {name[:-1] if name.endswith("?") else name for name in drop_columns}
    statistics = [manifest.dense_statistics[column] for column in columns]
    shift, scale = _normalisation(statistics, transform)
    for position, column in enumerate(columns):
        if column in dropped:
            scale[position] = 0.0
    total = manifest.num_ids()
    binned, edges, offsets = [], [], []
    if bins:
        for position, column in enumerate(columns):
            merged = merge_bins(statistics[position].bin_edges, statistics[position].bin_counts, bins)
            if column in dropped or not merged:
                continue
            binned.append(position)
            edges.append(merged)
            offsets.append(total)
            total += len(merged) + 1
    width = max([len(item) for item in edges] or [0])
    padded = np.full((len(edges), width), np.inf, np.float32)
    for row, item in enumerate(edges):
        padded[row, :len(item)] = item
    return FeatureEncoding(
        transform=transform,
        minimum=np.array([item.minimum for item in statistics], np.float32),
        maximum=np.array([item.maximum for item in statistics], np.float32),
        shift=shift, scale=scale,
        default=np.array([item.mean for item in statistics], np.float32),
        binned_columns=np.array(binned, np.int64), bin_edges=padded, bin_offsets=np.array(offsets, np.int64),
        num_sparse_ids=manifest.num_ids(), num_ids=total, num_fields=manifest.dataset.num_sparse + len(binned))


def merge_bins(edges: Sequence[float], counts: Sequence[int], bins: int) -> List[float]:
    """Merges neighbouring fine bins into at most ``bins`` of about equal frequency.

    Args:
        edges: n - 1 ascending upper edges.
        counts: rows in each of the n fine bins.
        bins: the largest number of merged bins.

    Returns:
        The edges that stay, ascending; fewer than ``bins``.
    """
    if len(edges) < bins:
        return list(edges)
    kept: List[float] = []
    rows_left, bins_left, current = sum(counts), bins, 0
    for position, count in enumerate(counts[:-1]):
        current += count
        following = counts[position + 1]
        target = rows_left / bins_left
        # A bin closes when it is full, or when the next value alone would fill one.
        if bins_left > 1 and current and (current >= target or following >= max(target, current)
                                          or current + following / 2.0 > target):
            kept.append(edges[position])
            rows_left -= current
            bins_left -= 1
            current = 0
    return kept


def _normalisation(statistics: Sequence[DenseStatistics], transform: str) -> Tuple[np.ndarray, np.ndarray]:
    if transform == "none":
        return np.zeros(len(statistics), np.float32), np.ones(len(statistics), np.float32)
    if transform == "standard":
        pairs = [(item.mean, item.std) for item in statistics]
    else:
        pairs = [(item.log_mean, item.log_std) for item in statistics]
    shift = np.array([pair[0] for pair in pairs], np.float32)
    scale = np.array([1.0 / pair[1] if pair[1] > 0 else 0.0 for pair in pairs], np.float32)
    return shift, scale
