"""``manifest.json``: the one description of a prepared data directory.

The data preparation writes it last, so that a directory that has one is whole. Everything that reads the records
(input pipeline, training, serving) takes vocabularies, statistics and row counts from it and from nowhere else.
"""
import dataclasses
import hashlib
import json
import math
import os
from typing import Any, Dict, Mapping, Optional, Tuple

from feature_specs.dataset import BINARY, DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import replace_text
from feature_specs.records import KEY_BITS

FORMAT_VERSION = 3
FILE_NAME = "manifest.json"
#: Where a model directory keeps the manifest and the vocabularies that it was trained with.
MODEL_DATA_FOLDER = "data"
TRAIN_SPLIT = "train"
TEST_SPLIT = "test"
#: Rows that a split may have: more than any disk holds, few enough for step numbers to stay below 2**53.
MAX_ROWS = 1 << 36


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
        positives: {binary task: rows whose label is 1}.
        unknown_labels: {task: rows without a label}.
        out_of_vocabulary: {categorical feature with a vocabulary: values that the vocabulary lacks}.
        cut_lists: {list feature: rows whose list was longer than ``max_length``}.
        duplicates: rows that are exact copies of an earlier row, or -1 where they were not counted.
        contradictions: {task with ``given``: rows where it is 1 and the task that it builds on 0}.
        bad_rows: {reason: rows left out}; of files that were split, all stand with the training rows.
        inputs: one {"name", "size" in bytes, "sha256"} per input file.
        shards: the files, in order.
    """

    rows: int
    positives: Mapping[str, int]
    unknown_labels: Mapping[str, int]
    out_of_vocabulary: Mapping[str, int]
    cut_lists: Mapping[str, int]
    duplicates: int
    contradictions: Mapping[str, int]
    bad_rows: Mapping[str, int]
    inputs: Tuple[Mapping[str, Any], ...]
    shards: Tuple[Shard, ...]


@dataclasses.dataclass(frozen=True)
class VocabularyInfo:
    """What has a key number: a vocabulary, a hashed feature or the bins of a numeric feature.

    Attributes:
        number: 1 or more; the upper bits of its keys (:data:`feature_specs.records.KEY_BITS`). It never changes.
        encoding: ``vocabulary``, ``hash`` or ``bins``.
        size: of a vocabulary: indexes that there are, 0 (the unknown value) included; else 0.
        distinct: different values that preparation has seen, an estimate beyond a bound; 0 for bins.
        path: of a vocabulary: its Parquet file (columns ``value`` string, ``count`` int64, ``index`` int64, which is 0
            for values rarer than ``min_count``), relative to the data directory; else empty.
        sha256: of that file; empty without one.
    """

    number: int
    encoding: str
    size: int
    distinct: int
    path: str = ""
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class LabelStatistics:
    """Mean and population standard deviation of a task's known training labels, in the units of its transform."""

    mean: float
    std: float


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A prepared data directory.

    Attributes:
        dataset: the dataset's definition.
        line_per_sample: rows packed into one record (L).
        vocabularies: {name: what has a key number}, every name of ``dataset.vocabulary_names``.
        vocabulary_splits: the splits whose rows made the vocabularies.
        dense_statistics: {numeric feature: statistics of the training rows}.
        label_statistics: {task: statistics of the training rows}.
        seed: seed of the shuffle when writing.
        splits: {"train": ..., "test": ...}.
        continues: identity of the data whose vocabularies and statistics this data continues; empty for none.
    """

    dataset: DatasetDefinition
    line_per_sample: int
    vocabularies: Mapping[str, VocabularyInfo]
    vocabulary_splits: Tuple[str, ...]
    dense_statistics: Mapping[str, DenseStatistics]
    label_statistics: Mapping[str, LabelStatistics]
    seed: int
    splits: Mapping[str, Split]
    continues: str = ""

    def split(self, name: str) -> Split:
        """Returns a split by name.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            raise DataError("split %r is not in the data; it has %s" % (name, ", ".join(sorted(self.splits))))
        return self.splits[name]

    def encoding_fingerprint(self) -> str:
        """Returns a hash of all that decides what a key or a normalised value means to a trained model."""
        data = self.to_dict()
        return _sha256_of({key: data[key] for key in ("dataset", "vocabularies", "dense_statistics",
                                                      "label_statistics")})

    def identity(self) -> str:
        """Returns a hash of the rows in their order: packing, seed, and every shard's rows and SHA-256."""
        return _sha256_of([self.encoding_fingerprint(), self.line_per_sample, self.seed, {
            name: [[shard.rows, shard.sha256] for shard in split.shards] for name, split in self.splits.items()}])

    def to_dict(self) -> Dict[str, Any]:
        """Returns JSON-ready data; :meth:`from_dict` reads it back."""
        data = {
            "format_version": FORMAT_VERSION,
            "dataset": self.dataset.to_dict(),
            "line_per_sample": self.line_per_sample,
            "vocabularies": {name: dataclasses.asdict(value) for name, value in self.vocabularies.items()},
            "vocabulary_splits": list(self.vocabulary_splits),
            "dense_statistics": {name: dataclasses.asdict(value) for name, value in self.dense_statistics.items()},
            "label_statistics": {name: dataclasses.asdict(value) for name, value in self.label_statistics.items()},
            "seed": self.seed,
            "splits": {name: dataclasses.asdict(split) for name, split in self.splits.items()},
            "continues": self.continues,
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
        except (ConfigError, KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
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


def _parse(data: Any) -> Manifest:
    if not isinstance(data, Mapping):
        raise DataError("an object is expected, found %s" % type(data).__name__)
    version = data["format_version"]
    if version != FORMAT_VERSION:
        newer = _is_int(version) and version > FORMAT_VERSION
        raise DataError("format_version %r%s; this program reads version %d" % (
            version, " is newer; update the program" if newer else "", FORMAT_VERSION))
    _check_text(data)
    dataset = DatasetDefinition.from_dict(data["dataset"])
    vocabularies = {name: _parse_vocabulary(name, data["vocabularies"][name]) for name in dataset.vocabulary_names}
    numbers = [item.number for item in vocabularies.values()]
    if len(set(numbers)) != len(numbers):
        raise DataError("two vocabularies have one number")
    return Manifest(
        dataset=dataset,
        line_per_sample=_count(data["line_per_sample"], "line_per_sample", 1, 1 << 20),
        vocabularies=vocabularies,
        vocabulary_splits=tuple(str(name) for name in data["vocabulary_splits"]),
        dense_statistics={feature.name: _parse_statistics(feature.name, data["dense_statistics"][feature.name])
                          for feature in dataset.numeric},
        label_statistics={task: LabelStatistics(_number(item["mean"], task), _number(item["std"], task))
                          for task, item in ((name, data["label_statistics"][name]) for name in dataset.task_names)},
        seed=_count(data["seed"], "seed", 0),
        splits={str(name): _parse_split(str(name), split, dataset) for name, split in data["splits"].items()},
        continues=str(data["continues"]))


def _check_text(data: Any) -> None:
    """Refuses halves of characters, which JSON can say and no file can be named by."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError("the text that ends with %r is not valid Unicode" % error.object[
            max(0, error.start - 40):error.end]) from error


def _parse_vocabulary(name: str, data: Mapping[str, Any]) -> VocabularyInfo:
    path = data["path"]
    if path:
        _check_inside(path, "vocabulary %s" % name)
    return VocabularyInfo(
        number=_count(data["number"], "%s.number" % name, 1, (1 << 22) - 1), encoding=str(data["encoding"]),
        size=_count(data["size"], "%s.size" % name, 0, 1 << KEY_BITS),
        distinct=_count(data["distinct"], "%s.distinct" % name, 0), path=path, sha256=str(data["sha256"]))


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
        _check_inside(item["path"], "shard of split %s" % name)
        shards.append(Shard(path=item["path"], rows=_count(item["rows"], "rows", 0, MAX_ROWS),
                            records=_count(item["records"], "records", 0, MAX_ROWS),
                            size=_count(item["size"], "size", 0), sha256=str(item["sha256"])))
    rows = _count(data["rows"], "rows of split %s" % name, 0, MAX_ROWS)
    if sum(shard.rows for shard in shards) != rows:
        raise DataError("the shards of split %s do not hold its %d rows" % (name, rows))
    counts = {key: {str(item): _count(value, key, 0) for item, value in data[key].items()}
              for key in ("positives", "unknown_labels", "out_of_vocabulary", "cut_lists", "contradictions",
                          "bad_rows")}
    missing = [task for task in dataset.task_names if task not in counts["unknown_labels"]]
    if missing:
        raise DataError("split %s counts no labels of %s" % (name, ", ".join(missing)))
    binary = [task.name for task in dataset.tasks if task.kind == BINARY]
    wrong = [task for task in binary if task not in counts["positives"]] or sorted(
        set(counts["positives"]) - set(dataset.task_names))
    if wrong:
        raise DataError("positives of split %s: counts of the binary tasks (%s) are expected, found those of %s"
                        % (name, ", ".join(binary) or "none", ", ".join(sorted(counts["positives"])) or "none"))
    return Split(rows=rows, duplicates=_count(data["duplicates"], "duplicates", -1),
                 inputs=tuple(dict(item) for item in data["inputs"]), shards=tuple(shards), **counts)


def _check_inside(path: Any, what: str) -> None:
    if not isinstance(path, str) or os.path.isabs(path) or ".." in path.split("/") or "\0" in path or not path:
        raise DataError("path %r of %s does not stay inside the data directory" % (path, what))


def _sha256_of(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8")).hexdigest()


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
