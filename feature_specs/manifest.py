"""``manifest.json``: the one description of a prepared data directory, written last: one that has it is whole."""
import dataclasses
import hashlib
import json
import os
from typing import Any, Dict, Mapping, Optional, Tuple

from feature_specs.checks import build, check_range, is_path, refuse, shown
from feature_specs.dataset import BINARY, DatasetDefinition
from feature_specs.errors import ConfigError, DataError
from feature_specs.files import replace_text
from feature_specs.records import KEY_BITS

FORMAT_VERSION = 4
FILE_NAME = "manifest.json"
MODEL_DATA_FOLDER = "data"  # where a model directory keeps the manifest and the vocabularies of its training
TRAIN_SPLIT = "train"
TEST_SPLIT = "test"
MAX_ROWS = 1 << 36  # of a split: more than any disk holds, few enough for step numbers to stay below 2**53


@dataclasses.dataclass(frozen=True)
class DenseStatistics:
    """What the training rows say of one numeric column; all values in the column's raw unit."""

    count: int  # of the values
    mean: float
    std: float  # population standard deviation
    minimum: float
    maximum: float
    log_mean: float  # of sign(x) * log(1 + |x|)
    log_std: float
    # Ascending; bin i holds the x with bin_edges[i-1] < x <= bin_edges[i]. Equal-frequency, but a frequent value has a
    # bin of its own.
    bin_edges: Tuple[float, ...]
    bin_counts: Tuple[int, ...]  # training rows per bin, one more entry than bin_edges

    def __post_init__(self) -> None:
        edges = self.bin_edges
        refuse(any(left >= right for left, right in zip(edges, edges[1:])) or len(self.bin_counts) != len(edges) + 1,
               "bins are not ascending, or do not fit their counts")


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
class RowSplit:
    """How one set of files is split: ``share`` of the rows (0: none) is for testing, by chance.

    Rows with the same value of ``by_column`` stay together; of ``by_time`` the greatest values are for testing.
    """

    share: float = 0.0
    by_column: str = ""
    by_time: str = ""
    seed: int = 2020  # of a split by chance

    def __post_init__(self) -> None:
        refuse(not 0 <= self.share < 1, "split %g: give the share of the rows to test on, between 0 and 1", self.share)
        refuse((self.by_column or self.by_time) and not self.share, "--split_by and --split_by_time go with --split")
        refuse(self.by_column and self.by_time, "give one of --split_by and --split_by_time")
        check_range("seed", self.seed, 0, 2 ** 32 - 1)


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split and where they are."""

    rows: int  # without padding rows
    positives: Mapping[str, int]  # {binary task: rows whose label is 1}
    unknown_labels: Mapping[str, int]  # {task: rows without a label}
    out_of_vocabulary: Mapping[str, int]  # {categorical feature with a vocabulary: values that the vocabulary lacks}
    cut_lists: Mapping[str, int]  # {list feature: rows whose list was longer than max_length}
    duplicates: Optional[int]  # rows that are exact copies of an earlier row; None where they were not counted
    contradictions: Mapping[str, int]  # {task with given: rows where it is 1 and the task that it builds on 0}
    bad_rows: Mapping[str, int]  # {reason: rows left out}; of files that were split, all stand with the training rows
    inputs: Tuple[InputEntry, ...]
    shards: Tuple[Shard, ...]  # in order

    def __post_init__(self) -> None:
        check_range("rows of a split", self.rows, 0, MAX_ROWS)


@dataclasses.dataclass(frozen=True)
class VocabularyInfo:
    """What has a key number: a vocabulary, a hashed feature or the bins of a numeric feature."""

    number: int  # 1 or more; the upper bits of its keys, above KEY_BITS; it never changes
    encoding: str  # vocabulary, hash or bins
    size: int  # of a vocabulary: indexes that there are, 0 (the unknown value) included; else 0
    distinct: int  # different values that preparation has seen, an estimate beyond a bound; 0 for bins
    # Of a vocabulary: its Parquet file (columns value string, count int64, index int64; index 0: rarer than min_count),
    # relative to the data directory, and the hash of that; else empty.
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
    """A prepared data directory."""

    dataset: DatasetDefinition
    line_per_sample: int  # rows packed into one record (L)
    vocabularies: Mapping[str, VocabularyInfo]  # every name of dataset.vocabulary_names
    vocabulary_splits: Tuple[str, ...]  # the splits whose rows made the vocabularies
    dense_statistics: Mapping[str, DenseStatistics]  # per numeric feature
    label_statistics: Mapping[str, LabelStatistics]  # per task
    seed: int  # of the shuffle when writing
    row_split: RowSplit  # how the test rows were taken out of the training files; share 0: they have files of their own
    splits: Mapping[str, Split]
    # Whether fewer than ten training rows came on a different value; of data that continues other data: whether it was
    # so there. Further passes over such rows learn them by heart.
    has_rare_values: bool
    continues: str = ""  # identity of the data whose vocabularies and statistics this data continues; empty for none

    @property
    def different_values(self) -> int:
        """Different values of all categories."""
        return sum(info.distinct for info in self.vocabularies.values())

    def split(self, name: str) -> Split:
        """Returns a split by name; DataError where there is none."""
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
        """Reads :meth:`to_dict` data back; DataError where it is of another version or contradicts itself."""
        try:
            return _parse(data)
        except (ConfigError, RecursionError) as error:
            raise DataError("not a valid manifest: %s" % error) from error


def write_manifest(manifest: Manifest, directory: str) -> None:
    """Writes ``manifest.json`` atomically."""
    text = json.dumps(manifest.to_dict(), indent=1, ensure_ascii=False)
    replace_text(os.path.join(directory, FILE_NAME), text + "\n")


def read_manifest(directory: str) -> Manifest:
    """Reads a data directory's manifest; DataError where it is missing, unreadable, damaged or of a newer format."""
    path = os.path.join(directory, FILE_NAME)
    if os.path.isfile(directory):
        raise DataError("%s is a file, not a data directory; make one from it with: bash run_estimator.sh prepare "
                        "--dataset my.yaml --train_data_path %s --split 0.1 --output_path DATA (describe drafts "
                        "my.yaml)" % (directory, directory))
    made = "make it with: bash run_estimator.sh prepare --output_path %s and --train_data_path, or --sample" % directory
    if not os.path.isdir(directory):
        raise DataError("data directory %s does not exist; %s" % (directory, made))
    if not os.path.exists(path):
        raise DataError("%s does not exist: the directory holds no prepared data; %s" % (path, made))
    try:
        with open(path, encoding="utf-8") as stream:
            return Manifest.from_dict(json.load(stream))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError("%s cannot be read (%s); prepare the data again" % (path, error)) from error
    except DataError as error:
        raise DataError("%s: %s; prepare the data again" % (path, error)) from error


def _parse(data: Any) -> Manifest:
    version = data.get("format_version") if isinstance(data, Mapping) else None
    newer = isinstance(version, int) and version > FORMAT_VERSION
    refuse(version != FORMAT_VERSION, "format_version %r%s; this program reads version %d", version,
           " is newer; update the program" if newer else "", FORMAT_VERSION)
    try:  # halves of characters, which JSON can say and no file can be named by
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError("the text that ends with %r is not valid Unicode" % error.object[
            max(0, error.start - 40):error.end]) from error
    manifest = build(Manifest, {name: value for name, value in data.items() if name != "format_version"})
    dataset = manifest.dataset
    check_range("line_per_sample", manifest.line_per_sample, 1, 1 << 20)
    for what, found, names in (
            ("vocabularies", manifest.vocabularies, dataset.vocabulary_names),
            ("dense_statistics", manifest.dense_statistics, [feature.name for feature in dataset.numeric]),
            ("label_statistics", manifest.label_statistics, dataset.task_names)):
        refuse(set(found) != set(names), "%s of %s are expected, found those of %s", what, shown(tuple(names)),
               shown(tuple(found)))
    refuse(len({info.number for info in manifest.vocabularies.values()}) != len(manifest.vocabularies),
           "two vocabularies have one number")
    binary = [task.name for task in dataset.tasks if task.kind == BINARY]
    for name, split in manifest.splits.items():
        refuse(sum(shard.rows for shard in split.shards) != split.rows,
               "the shards of split %s do not hold its %d rows", name, split.rows)
        missing = [task for task in dataset.task_names if task not in split.unknown_labels]
        refuse(missing, "split %s counts no labels of %s", name, ", ".join(missing))
        refuse(not set(binary) <= set(split.positives) <= set(dataset.task_names),
               "positives of split %s: counts of the binary tasks (%s) are expected, found those of %s",
               name, ", ".join(binary) or "none", ", ".join(sorted(split.positives)) or "none")
    return manifest


def _check_inside(path: str) -> None:
    refuse(os.path.isabs(path) or ".." in path.split("/") or not is_path(path) or not path,
           "path %r does not stay inside the data directory", path)


def _sha256_of(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode("utf-8")).hexdigest()
