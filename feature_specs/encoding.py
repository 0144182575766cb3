"""How the values of a row become model inputs: keys of embedding tables, normalised numbers, bins as further keys;
here the constants, from the manifest, in ``input_fn.encode`` the graph, which training and serving share."""
import dataclasses
from typing import Dict, List, Sequence, Tuple

import numpy as np

from feature_specs.checks import refuse
from feature_specs.dataset import MAX_BINS, MEAN, SUM
from feature_specs.manifest import Manifest
from feature_specs.records import KEY_BITS

# Room for values that training has not counted: a share of the counted ones, and some rows for small tables.
_SPARE_SHARE, _SPARE_ROWS = 0.25, 16
LARGEST_NUMBER = 1e20  # what numbers that no transform clips are clipped to, so that a network's products stay finite


@dataclasses.dataclass(frozen=True)
class Field:
    """Some columns of a table's keys that become one vector: a categorical feature, or the bins of a numeric one."""

    name: str
    width: int = 1  # keys of a row
    is_list: bool = False  # whether places may be empty (key 0)
    pooling: str = SUM  # of a list's rows


@dataclasses.dataclass(frozen=True)
class TableLayout:
    """An embedding table and the fields that are looked up in it, whose keys lie side by side."""

    name: str
    dim: int  # values of a row as the dataset file says; 0: the run's choice
    keys: int  # different keys that preparation counted, bins and the padding key included
    rows: int  # as the dataset file says, or with room for new keys
    fields: Tuple[Field, ...]  # in the order of the keys
    columns: Tuple[int, ...]  # [width], where each key stands among all sparse values, then the bins

    @property
    def width(self) -> int:
        """Keys of a row."""
        return len(self.columns)

    @property
    def has_lists(self) -> bool:
        """Whether places may be empty."""
        return any(field.is_list for field in self.fields)


@dataclasses.dataclass(frozen=True)
class FeatureEncoding:
    """Constants of the encoding; D numeric features, W sparse values in a row, K binned features."""

    tables: Tuple[TableLayout, ...]
    offsets: np.ndarray  # int64 [W], what is added to an index or hash to make it a key
    limits: np.ndarray  # int64 [W], the indexes or hashes lie below
    logarithm: np.ndarray  # bool [D], where sign(x) log(1+|x|) stands for x
    # float32 [D], the range that values are clipped to: that of training; without a transform what products can bear.
    minimum: np.ndarray
    maximum: np.ndarray
    shift: np.ndarray  # float32 [D]; the normalised value is (t(x) - shift) * scale
    scale: np.ndarray  # float32 [D]
    default: np.ndarray  # float32 [D], raw value used in place of a missing one
    binned_columns: np.ndarray  # int64 [K], positions of the binned features among the D
    bin_edges: np.ndarray  # float32 [K, E], ascending, filled up with +inf
    bin_offsets: np.ndarray  # int64 [K], first key of each binned feature


def make_encoding(manifest: Manifest, transform: str, bins: int, drop_columns: Sequence[str] = ()) -> FeatureEncoding:
    """Derives the encoding from the manifest; ``transform`` and ``bins`` are of numeric features that name none, and
    ``drop_columns`` features that the model must not see: their input is 0 and they get no bins."""
    refuse(bins == 1, "dense_bins 1 is out of range; allowed: 0 (none), or 2 to %d", MAX_BINS)
    names = [feature.name for feature in manifest.dataset.numeric]
    unknown = sorted(set(drop_columns) - set(names))
    refuse(unknown, "drop_dense, which the preset sets or a flag, names unknown numeric features: %s; the data has %s: "
           "choose another --preset, or give --drop_dense with names of these, or ''", ", ".join(unknown),
           ", ".join(names) or "none")
    constants: List[Dict[str, float]] = []
    edges: Dict[str, List[float]] = {}
    for feature in manifest.dataset.numeric:
        item, kind = manifest.dense_statistics[feature.name], feature.transform or transform
        mean, deviation = {"none": (0.0, 1.0), "standard": (item.mean, item.std),
                           "log_standard": (item.log_mean, item.log_std)}[kind]
        is_dropped = feature.name in drop_columns
        constants.append({
            "logarithm": kind == "log_standard",
            "minimum": -LARGEST_NUMBER if kind == "none" else item.minimum,
            "maximum": LARGEST_NUMBER if kind == "none" else item.maximum,
            "shift": mean, "scale": 1.0 / deviation if deviation > 0 and not is_dropped else 0.0,
            "default": item.mean if feature.missing == MEAN else float(feature.missing)})
        merged = merge_bins(item.bin_edges, item.bin_counts, bins if feature.bins is None else feature.bins)
        if merged and not is_dropped:
            edges[feature.name] = merged
    padded = np.full((len(edges), max(map(len, edges.values()), default=0)), np.inf, np.float32)
    for row, merged in zip(padded, edges.values()):
        row[:len(merged)] = merged
    # Of every sparse value the vocabulary that it is from.
    infos = [manifest.vocabularies[item.vocabulary or item.name] for item in manifest.dataset.categorical
             for _ in range(item.width)]
    return FeatureEncoding(
        tables=_tables(manifest, {name: len(merged) + 1 for name, merged in edges.items()}),
        offsets=np.array([info.number << KEY_BITS for info in infos], np.int64),
        limits=np.array([info.size or 1 << KEY_BITS for info in infos], np.int64),
        logarithm=np.array([item["logarithm"] for item in constants], bool),
        **{name: np.array([item[name] for item in constants], np.float32)
           for name in ("minimum", "maximum", "shift", "scale", "default")},
        binned_columns=np.array([names.index(name) for name in edges], np.int64), bin_edges=padded,
        bin_offsets=np.array([manifest.vocabularies[name].number << KEY_BITS for name in edges], np.int64))


def merge_bins(edges: Sequence[float], counts: Sequence[int], bins: int) -> List[float]:
    """Merges neighbouring fine bins, n of ``counts`` rows with n - 1 ascending upper edges, into at most ``bins`` (0:
    none) of about equal frequency; returns the edges that stay, ascending."""
    if not bins:
        return []
    if len(edges) < bins:
        return list(edges)
    kept: List[float] = []
    rows_left, bins_left, current = sum(counts), bins, 0
    for edge, count, following in zip(edges, counts, counts[1:]):
        current += count
        target = rows_left / bins_left
        # A bin closes when it is full, or when the next value alone would fill one.
        if bins_left > 1 and current and (current >= target or following >= max(target, current)
                                          or current + following / 2.0 > target):
            kept.append(edge)
            rows_left, bins_left, current = rows_left - current, bins_left - 1, 0
    return kept


def _tables(manifest: Manifest, bins: Dict[str, int]) -> Tuple[TableLayout, ...]:
    """Lays the tables out; ``bins`` is {binned feature: its bins}, in order."""
    dataset, vocabularies = manifest.dataset, manifest.vocabularies
    # Table, field, vocabulary and its keys, in the order of the sparse values, then of the bins.
    placed: List[Tuple[str, Field, str, int]] = []
    for feature in dataset.categorical:
        name = feature.vocabulary or feature.name
        field = Field(feature.name, feature.width, feature.is_list, feature.pooling if feature.is_list else SUM)
        placed.append((feature.table, field, name, max(vocabularies[name].size, vocabularies[name].distinct)))
    placed += [(number.table, Field(number.name), number.name, bins[number.name]) for number in dataset.numeric
               if number.name in bins]
    layouts = []
    for table in dataset.tables:
        fields: List[Field] = []
        columns: List[int] = []
        counts: Dict[str, int] = {}
        start = 0
        for owner, field, vocabulary, count in placed:
            if owner == table.name:
                fields.append(field)
                columns.extend(range(start, start + field.width))
                counts[vocabulary] = count
            start += field.width
        keys = 1 + sum(counts.values())
        rows = table.rows or int(keys * (1.0 + _SPARE_SHARE)) + _SPARE_ROWS
        if fields:
            layouts.append(TableLayout(table.name, table.dim, keys, rows, tuple(fields), tuple(columns)))
    return tuple(layouts)
