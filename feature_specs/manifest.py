"""``manifest.json``: the one description of a prepared data directory.

The data preparation writes it last, so that a directory that has one is whole. Everything that reads the records
(input pipeline, training, serving) takes vocabularies, statistics and row counts from it and from nowhere else.
"""
import dataclasses
import hashlib
import json
import os
from typing import Any, Dict, Mapping, Optional, Tuple

from feature_specs.checks import build, check_range, shown
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

    def __post_init__(self) -> None:
        edges = self.bin_edges
        if any(left >= right for left, right in zip(edges, edges[1:])) or len(self.bin_counts) != len(edges) + 1:
            raise ConfigError("bins are not ascending, or do not fit their counts")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file of a split; ``path`` is relative to the data directory, ``size`` in bytes."""

    path: str
    rows: int
    records: int
    size: int
    sha256: str

    def __post_init__(self) -> None:
        _check_inside(self.path)
        for name in ("rows", "records"):
            check_range("%s: %s" % (self.path, name), getattr(self, name), 0, MAX_ROWS)


@dataclasses.dataclass(frozen=True)
class InputEntry:
    """A file that rows were read from: its name without folders, size in bytes and SHA-256, both as it is on disk."""

    name: str
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
        duplicates: rows that are exact copies of an earlier row; None where they were not counted.
        contradictions: {task with ``given``: rows where it is 1 and the task that it builds on 0}.
        bad_rows: {reason: rows left out}; of files that were split, all stand with the training rows.
        inputs: the files that the rows were read from.
        shards: the files, in order.
    """

    rows: int
    positives: Mapping[str, int]
    unknown_labels: Mapping[str, int]
    out_of_vocabulary: Mapping[str, int]
    cut_lists: Mapping[str, int]
    duplicates: Optional[int]
    contradictions: Mapping[str, int]
    bad_rows: Mapping[str, int]
    inputs: Tuple[InputEntry, ...]
    shards: Tuple[Shard, ...]

    def __post_init__(self) -> None:
        check_range("rows of a split", self.rows, 0, MAX_ROWS)


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

    def __post_init__(self) -> None:
        if self.path:
            _check_inside(self.path)
        check_range("number of a vocabulary", self.number, 1, (1 << 22) - 1)
        check_range("size of a vocabulary", self.size, 0, 1 << KEY_BITS)


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
        has_rare_values: whether fewer than ten training rows came on a different value; of data that continues other
            data: whether it was so there. Further passes over such rows learn them by heart.
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
    has_rare_values: bool
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
        # Through JSON once, so that a manifest built in memory and one read from a file compare equal.
        return json.loads(json.dumps(dict(format_version=FORMAT_VERSION, **dataclasses.asdict(self))))

    @classmethod
    def from_dict(cls, data: Any) -> "Manifest":
        """Builds a manifest from :meth:`to_dict` data.

        Raises:
            DataError: the data is not a manifest of a known version, or contradicts itself.
        """
        try:
            return _parse(data)
        except (ConfigError, RecursionError) as error:
            raise DataError("not a valid manifest: %s" % error) from error


def write_manifest(manifest: Manifest, directory: str) -> str:
    """Writes ``manifest.json`` atomically and returns its path."""
    path = os.path.join(directory, FILE_NAME)
    replace_text(path, json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return path


def read_manifest(directory: str) -> Manifest:
    """Reads the manifest of a prepared data directory.

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
            return Manifest.from_dict(json.load(stream))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("%s cannot be read (%s); prepare the data again" % (path, error)) from error
    except DataError as error:
        raise DataError("%s: %s; prepare the data again" % (path, error)) from error


def _parse(data: Any) -> Manifest:
    version = data.get("format_version") if isinstance(data, Mapping) else None
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        raise ConfigError("format_version %r%s; this program reads version %d" % (
            version, " is newer; update the program" if newer else "", FORMAT_VERSION))
    _check_text(data)
    manifest = build(Manifest, {name: value for name, value in data.items() if name != "format_version"})
    dataset = manifest.dataset
    check_range("line_per_sample", manifest.line_per_sample, 1, 1 << 20)
    for what, found, names in (
            ("vocabularies", manifest.vocabularies, dataset.vocabulary_names),
            ("dense_statistics", manifest.dense_statistics, [feature.name for feature in dataset.numeric]),
            ("label_statistics", manifest.label_statistics, dataset.task_names)):
        if set(found) != set(names):
            raise ConfigError("%s of %s are expected, found those of %s" % (what, shown(tuple(names)),
                                                                            shown(tuple(found))))
    if len({info.number for info in manifest.vocabularies.values()}) != len(manifest.vocabularies):
        raise ConfigError("two vocabularies have one number")
    for name, split in manifest.splits.items():
        _check_split(name, split, dataset)
    return manifest


def _check_text(data: Any) -> None:
    """Refuses halves of characters, which JSON can say and no file can be named by."""
    try:
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError("the text that ends with %r is not valid Unicode" % error.object[
            max(0, error.start - 40):error.end]) from error


def _check_split(name: str, split: Split, dataset: DatasetDefinition) -> None:
    """Refuses a split whose numbers do not fit together, or to the tasks."""
    if sum(shard.rows for shard in split.shards) != split.rows:
        raise ConfigError("the shards of split %s do not hold its %d rows" % (name, split.rows))
    missing = [task for task in dataset.task_names if task not in split.unknown_labels]
    if missing:
        raise ConfigError("split %s counts no labels of %s" % (name, ", ".join(missing)))
    binary = [task.name for task in dataset.tasks if task.kind == BINARY]
    if not set(binary) <= set(split.positives) <= set(dataset.task_names):
        raise ConfigError("positives of split %s: counts of the binary tasks (%s) are expected, found those of %s"
                        % (name, ", ".join(binary) or "none", ", ".join(sorted(split.positives)) or "none"))


def _check_inside(path: str) -> None:
    if os.path.isabs(path) or ".." in path.split("/") or "\0" in path or not path:
        raise ConfigError("path %r does not stay inside the data directory" % path)


def _sha256_of(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8")).hexdigest()
