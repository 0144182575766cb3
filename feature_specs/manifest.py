"""``manifest.json``: the one description of a prepared data directory.

The data preparation writes it last, so that a directory that has one is whole. Everything that reads the records
(input pipeline, training, serving) takes vocabularies, statistics and row counts from it and from nowhere else.
"""
import dataclasses
import hashlib
import json
import math
import os
from typing import Any, Dict, List, Mapping, Optional, Tuple

from feature_specs.dataset import DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import replace_text

FORMAT_VERSION = 1
FILE_NAME = "manifest.json"
TRAIN_SPLIT = "train"
TEST_SPLIT = "test"


@dataclasses.dataclass(frozen=True)
class DenseStatistics:
    """What the training rows say of one numeric column; all values in the column's raw unit.

    Attributes:
        count: number of values.
        mean, std: of the raw values (population standard deviation).
        minimum, maximum: of the raw values.
        log_mean, log_std: of sign(x) * log(1 + |x|).
        bin_edges: ascending; value x lies in bin ``searchsorted(bin_edges, x, side="left")``, that is bin i holds
            the x with ``bin_edges[i-1] < x <= bin_edges[i]``. Equal-frequency, a frequent value has a bin of its own.
        bin_counts: training rows per bin, one more entry than ``bin_edges``.
    """

    count: int
    mean: float
    std: float
    minimum: float
    maximum: float
    log_mean: float
    log_std: float
    bin_edges: Tuple[float, ...]
    bin_counts: Tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file of a split; ``path`` is relative to the data directory, ``size`` in bytes."""

    path: str
    rows: int
    records: int
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split and where they are.

    Attributes:
        rows: number of rows (without padding rows).
        positives: {task: rows whose label is 1}.
        out_of_vocabulary: {sparse column: rows whose value is not in the vocabulary}.
        duplicates: rows that are exact copies of an earlier row, or -1 where they were not counted.
        bad_rows: {reason: rows left out}.
        inputs: one {"name", "size" in bytes, "sha256"} per input file.
        shards: the files, in order.
    """

    rows: int
    positives: Mapping[str, int]
    out_of_vocabulary: Mapping[str, int]
    duplicates: int
    bad_rows: Mapping[str, int]
    inputs: Tuple[Mapping[str, Any], ...]
    shards: Tuple[Shard, ...]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A prepared data directory.

    Ids: a value of column c has the id ``id_offset(c) + index``, where index is its place in ``vocabularies[c]``;
    any other value has ``id_offset(c) + len(vocabularies[c])``, the column's out-of-vocabulary id.

    Attributes:
        dataset: the dataset's definition.
        line_per_sample: rows packed into one record (L).
        vocabularies: {sparse column: its values in index order}.
        vocab_from: the splits whose rows made the vocabulary.
        dense_statistics: {dense column: statistics of the training rows}.
        seed: seed of the shuffle when writing.
        splits: {"train": ..., "test": ...}.
    """

    dataset: DatasetDefinition
    line_per_sample: int
    vocabularies: Mapping[str, Tuple[str, ...]]
    vocab_from: Tuple[str, ...]
    dense_statistics: Mapping[str, DenseStatistics]
    seed: int
    splits: Mapping[str, Split]

    def id_offsets(self) -> Dict[str, int]:
        """Returns {sparse column: first id of the column}."""
        offsets, total = {}, 0
        for column in self.dataset.sparse_columns:
            offsets[column] = total
            total += len(self.vocabularies[column]) + 1
        return offsets

    def num_ids(self) -> int:
        """Returns the number of different ids, out-of-vocabulary ids included."""
        return sum(len(self.vocabularies[column]) + 1 for column in self.dataset.sparse_columns)

    def split(self, name: str) -> Split:
        """Returns a split by name.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError("split %r is not in the data; it has %s" % (name, ", ".join(sorted(self.splits))))
        return self.splits[name]

    def encoding_fingerprint(self) -> str:
        """Returns a hash of all that decides what an id or a normalised value means to a trained model."""
        return hashlib.sha256(json.dumps(
            {key: value for key, value in self.to_dict().items()
             if key in ("dataset", "vocabularies", "dense_statistics")},
            sort_keys=True).encode("utf-8")).hexdigest()

    def to_dict(self) -> Dict[str, Any]:
        """Returns JSON-ready data; :meth:`from_dict` reads it back."""
        data = {
            "format_version": FORMAT_VERSION,
            "dataset": self.dataset.to_dict(),
            "line_per_sample": self.line_per_sample,
            "vocabularies": {column: list(values) for column, values in self.vocabularies.items()},
            "id_offsets": self.id_offsets(),
            "num_ids": self.num_ids(),
            "vocab_from": list(self.vocab_from),
            "dense_statistics": {column: dataclasses.asdict(value) for column, value in self.dense_statistics.items()},
            "seed": self.seed,
            "splits": {name: dataclasses.asdict(split) for name, split in self.splits.items()},
        }
        # Through JSON once, so that a manifest built in memory and one read from a file compare equal.
        return json.loads(json.dumps(data))

    @classmethod
    def from_dict(cls, data: Any) -> "Manifest":
        """Builds a manifest from :meth:`to_dict` data.

        Raises:
            DataError: the data is not a manifest of a known version, or contradicts itself.
        """
        try:
            return _parse(data)
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            text = "missing key %s" % error if isinstance(error, KeyError) else str(error)
            raise DataError("not a valid manifest: %s" % text) from error


def write_manifest(manifest: Manifest, directory: str) -> str:
    """Writes ``manifest.json`` atomically and returns its path."""
    path = os.path.join(directory, FILE_NAME)
    replace_text(path, json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return path


def read_manifest(directory: str) -> Manifest:
    """Reads the manifest of a prepared data directory.

    Args:
        directory: a folder that the data preparation wrote.

    Raises:
        DataError: the folder or its manifest is missing, unreadable, damaged or of a newer format.
    """
    path = os.path.join(directory, FILE_NAME)
    if not os.path.isdir(directory):
        raise DataError("data directory %s does not exist; make it with: bash run_estimator.sh prepare" % directory)
    if not os.path.exists(path):
        raise DataError("%s does not exist: the directory holds no prepared data; "
                        "make it with: bash run_estimator.sh prepare --output_path %s" % (path, directory))
    try:
        with open(path, encoding="utf-8") as stream:
            data = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("%s cannot be read (%s); prepare the data again" % (path, error)) from error
    try:
        return Manifest.from_dict(data)
    except DataError as error:
        raise DataError("%s: %s; prepare the data again" % (path, error)) from error


def check_shards(manifest: Manifest, directory: str, split_name: str, sizes: bool = True) -> List[str]:
    """Checks that the files of a split are there with the recorded size.

    Args:
        manifest: of the data directory.
        directory: the data directory.
        split_name: the split.
        sizes: False lets files of another size pass.

    Returns:
        Their paths, in order.

    Raises:
        DataError: a file is missing or has another size.
    """
    paths = []
    for shard in manifest.split(split_name).shards:
        path = os.path.join(directory, shard.path)
        if not os.path.isfile(path):
            raise DataError("%s is missing; prepare the data again" % path)
        size = os.path.getsize(path)
        if sizes and size != shard.size:
            raise DataError("%s has %d bytes, the manifest says %d: it was changed or cut off; prepare the data again"
                            % (path, size, shard.size))
        paths.append(path)
    return paths


def _parse(data: Any) -> Manifest:
    if not isinstance(data, Mapping):
        raise DataError("an object is expected, found %s" % type(data).__name__)
    version = data["format_version"]
    if not _is_int(version) or version < 1:
        raise DataError("format_version %r is not a version" % (version,))
    if version > FORMAT_VERSION:
        raise DataError("format_version %d is newer than this program reads (%d); update the program"
                        % (version, FORMAT_VERSION))
    dataset = DatasetDefinition.from_dict(data["dataset"])
    vocabularies = {}
    for column in dataset.sparse_columns:
        values = tuple(data["vocabularies"][column])
        if not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
            raise DataError("vocabulary of %s must hold different texts" % column)
        vocabularies[column] = values
    statistics = {column: _parse_statistics(column, data["dense_statistics"][column])
                  for column in dataset.dense_columns}
    manifest = Manifest(
        dataset=dataset,
        line_per_sample=_count(data["line_per_sample"], "line_per_sample", 1),
        vocabularies=vocabularies,
        vocab_from=tuple(str(name) for name in data["vocab_from"]),
        dense_statistics=statistics,
        seed=_count(data["seed"], "seed", 0),
        splits={str(name): _parse_split(str(name), split, dataset) for name, split in data["splits"].items()},
    )
    if data["num_ids"] != manifest.num_ids() or data["id_offsets"] != manifest.id_offsets():
        raise DataError("num_ids and id_offsets do not fit the vocabularies")
    return manifest


def _parse_statistics(column: str, data: Mapping[str, Any]) -> DenseStatistics:
    numbers = {}
    for name in ("mean", "std", "minimum", "maximum", "log_mean", "log_std"):
        numbers[name] = _number(data[name], "%s.%s" % (column, name))
    edges = tuple(_number(edge, "%s.bin_edges" % column) for edge in data["bin_edges"])
    counts = tuple(_count(count, "%s.bin_counts" % column, 0) for count in data["bin_counts"])
    if any(left >= right for left, right in zip(edges, edges[1:])) or len(counts) != len(edges) + 1:
        raise DataError("bins of %s are not ascending, or do not fit their counts" % column)
    return DenseStatistics(count=_count(data["count"], "%s.count" % column, 0), bin_edges=edges, bin_counts=counts,
                           **numbers)


def _parse_split(name: str, data: Mapping[str, Any], dataset: DatasetDefinition) -> Split:
    shards = []
    for item in data["shards"]:
        path = item["path"]
        if not isinstance(path, str) or os.path.isabs(path) or ".." in path.split("/") or "\0" in path or not path:
            raise DataError("shard path %r of split %s does not stay inside the data directory" % (path, name))
        shards.append(Shard(path=path, rows=_count(item["rows"], "rows", 0),
                            records=_count(item["records"], "records", 0), size=_count(item["size"], "size", 0),
                            sha256=str(item["sha256"])))
    rows = _count(data["rows"], "rows of split %s" % name, 0)
    if sum(shard.rows for shard in shards) != rows:
        raise DataError("the shards of split %s do not hold its %d rows" % (name, rows))
    return Split(
        rows=rows,
        positives={task: _count(data["positives"][task], "positives", 0) for task in dataset.task_names},
        out_of_vocabulary={str(key): _count(value, "out_of_vocabulary", 0)
                           for key, value in data["out_of_vocabulary"].items()},
        duplicates=_count(data["duplicates"], "duplicates", -1),
        bad_rows={str(key): _count(value, "bad_rows", 0) for key, value in data["bad_rows"].items()},
        inputs=tuple(dict(item) for item in data["inputs"]),
        shards=tuple(shards),
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(value: Any, what: str, minimum: int, maximum: Optional[int] = 2 ** 63 - 1) -> int:
    if not _is_int(value) or value < minimum or (maximum is not None and value > maximum):
        raise DataError("%s must be a whole number of at least %d, found %r" % (what, minimum, value))
    return int(value)


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise DataError("%s must be a finite number, found %r" % (what, value))
    return float(value)
