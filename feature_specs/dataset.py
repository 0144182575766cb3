"""The definition of a dataset: which columns its files have, what they are used for, and which tasks are predicted;
nothing in the graph, the metrics or the export knows more about a dataset."""
import dataclasses
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from feature_specs.checks import check_choice, check_name, check_range, check_unique, did_you_mean, refuse, shown
from feature_specs.errors import ConfigError
from feature_specs.records import DENSE_FEATURE, SPARSE_FEATURE

CSV, PARQUET = "csv", "parquet"
VOCABULARY, HASH = "vocabulary", "hash"
MEAN, SUM = "mean", "sum"
POOLINGS = (MEAN, SUM)
FIRST, LAST = "first", "last"
BINARY, REGRESSION = "binary", "regression"
#: Of a binary task: every text that is not positive is negative.
ANY = "any"
TRANSFORMS = ("log_standard", "standard", "none")
LABEL_TRANSFORMS = ("none", "log")
DEFAULT_TABLE = "embeddings"
LIST_SEPARATOR = "\x1f"  # between the values of Parquet lists, where the definition names no other character
MAX_BINS = 255
MAX_LENGTH = 10000


@dataclasses.dataclass(frozen=True)
class FileFormat:
    """How the files of a dataset are read."""

    format: str = CSV  # csv (any separator, plain or gzip) or parquet
    header: bool = True  # whether the first line names the columns (csv)
    separator: str = ","  # one character between cells (csv)
    missing: Tuple[str, ...] = ("",)  # texts that mean "no value", beside the empty cell
    columns: Tuple[str, ...] = ()  # in file order, where there is no header

    def __post_init__(self) -> None:
        check_choice("files.format", self.format, (CSV, PARQUET))
        is_csv = self.format == CSV
        refuse(is_csv and (len(self.separator) != 1 or self.separator in "\n\r\""),
               "files.separator %r: give one character", self.separator)
        refuse(is_csv and self.header == bool(self.columns),
               "files: give either header: true, or header: false with columns: [...]")
        check_unique("files.columns", self.columns)


@dataclasses.dataclass(frozen=True)
class CategoricalFeature:
    """A feature whose values are looked up in an embedding table; a list of them has a largest length."""

    name: str
    column: str
    encoding: str = VOCABULARY  # values are numbered in preparation; hash: no vocabulary is kept
    vocabulary: str = ""  # the feature whose values and rows it shares; empty, or its own name, where it shares none
    table: str = DEFAULT_TABLE
    min_count: int = 1  # rows in which a value must appear to get an index of its own (vocabulary)
    separator: str = ""  # between the values of a list in a cell (csv); empty for Parquet lists and single values
    max_length: int = 0  # values of a list that are kept; 0: not a list
    keep: str = LAST  # which end of a longer list is kept, or FIRST
    pooling: str = MEAN  # how the vectors of a list become one, of POOLINGS

    def __post_init__(self) -> None:
        where = "feature %s" % self.name
        check_choice("%s: encoding" % where, self.encoding, (VOCABULARY, HASH))
        check_choice("%s: keep" % where, self.keep, (FIRST, LAST))
        check_choice("%s: pooling" % where, self.pooling, POOLINGS)
        check_range("%s: min_count" % where, self.min_count, 1, 2 ** 31)
        check_range("%s: max_length" % where, self.max_length, 0, MAX_LENGTH)
        refuse(self.separator and not self.max_length,
               "%s: a separator makes it a list; give max_length, the values that are kept", where)
        refuse(len(self.separator) > 1, "%s: separator %r: give one character", where, self.separator)

    @property
    def is_list(self) -> bool:
        """Whether a row holds several values."""
        return self.max_length > 0

    @property
    def list_separator(self) -> str:
        """Between the values of a list where it is one text."""
        return self.separator or LIST_SEPARATOR

    @property
    def width(self) -> int:
        """Values of a row in a record."""
        return self.max_length or 1


@dataclasses.dataclass(frozen=True)
class NumericFeature:
    """A feature that is a number."""

    name: str
    column: str
    transform: str = ""  # one of TRANSFORMS; empty: the run's --dense_transform
    bins: Optional[int] = None  # equal-frequency bins that are looked up besides, 0: none; None: the run's --dense_bins
    missing: Union[str, float] = MEAN  # of the training rows, or the number that stands for a missing one
    table: str = DEFAULT_TABLE  # of its bins

    def __post_init__(self) -> None:
        where = "feature %s" % self.name
        if self.transform:
            check_choice("%s: transform" % where, self.transform, TRANSFORMS)
        refuse(self.bins is not None and (self.bins == 1 or not 0 <= self.bins <= MAX_BINS),
               "%s: bins %s; allowed: 0 (none), or 2 to %d", where, self.bins, MAX_BINS)
        refuse(isinstance(self.missing, str) and self.missing != MEAN,
               "%s: missing %r; allowed: mean, or a number", where, self.missing)


@dataclasses.dataclass(frozen=True)
class TableDefinition:
    """An embedding table; ``dim`` 0: the run's ``--embedding_dim``; ``rows`` 0: from what preparation counted."""

    name: str
    dim: int = 0
    rows: int = 0

    def __post_init__(self) -> None:
        check_name("table", self.name)
        check_range("table %s: dim" % self.name, self.dim, 0, 8192)
        check_range("table %s: rows" % self.name, self.rows, 0, 10 ** 10)


@dataclasses.dataclass(frozen=True)
class TaskDefinition:
    """A task: what is predicted of a row."""

    name: str  # in losses, metrics, predictions and signatures
    column: str  # that the label is read from
    type: str = BINARY  # or regression, perhaps with a variant that the app knows: regression.huber
    positive: Tuple[str, ...] = ()  # texts that make the label 1 (binary); empty: "1" does
    # Texts that make it 0, or (ANY,) for all others; empty: "0" does. Another text is a bad row.
    negative: Tuple[str, ...] = ()
    # Binary task on whose label this one builds: p(this) = p(given) p(this | given), trained on all rows (ESMM).
    given: str = ""
    where: str = ""  # binary task; only rows whose label of that task is 1 count
    transform: str = "none"  # of a regression's label: none, or log: log(1 + x)

    def __post_init__(self) -> None:
        check_name("task", self.name)
        where = "task %s" % self.name
        check_choice("%s: type" % where, self.kind, (BINARY, REGRESSION))
        check_choice("%s: transform" % where, self.transform, LABEL_TRANSFORMS)
        refuse(self.kind == REGRESSION and (self.positive or self.negative or self.given),
               "%s: positive, negative and given go with type binary only", where)
        refuse(self.kind == BINARY and self.transform != "none", "%s: transform goes with type regression only", where)
        refuse(bool(self.positive) != bool(self.negative),
               "%s: give both positive: [texts] and negative: [texts] (negative: any takes the rest); labels 0 and 1 "
               "need neither", where)
        both = sorted(set(self.positive) & set(self.negative))
        refuse(both, "%s: both positive and negative: %s", where, ", ".join(both))

    @property
    def outputs(self) -> Tuple[str, ...]:
        """What is predicted: the task, and what it is where the task that it builds on has happened."""
        return (self.name,) + (("%s_given_%s" % (self.name, self.given),) if self.given else ())

    @property
    def kind(self) -> str:
        """What its labels are: 0 and 1 (``binary``), or numbers (``regression``)."""
        return self.type.partition(".")[0]


@dataclasses.dataclass(frozen=True)
class DatasetDefinition:
    """The columns of a dataset's files and their roles; features and tasks in the order of a record's values."""

    name: str  # short, for example census
    files: FileFormat
    categorical: Tuple[CategoricalFeature, ...]
    numeric: Tuple[NumericFeature, ...]
    tasks: Tuple[TaskDefinition, ...]
    tables: Tuple[TableDefinition, ...] = (TableDefinition(DEFAULT_TABLE),)  # that a feature names, each once
    weight: str = ""  # column of a row's weight in training losses; empty for none
    group: str = ""  # column of a row's group for GAUC; empty for none
    row_key: str = ""  # column that predictions pass through; empty for none
    preset: str = ""  # settings that training takes by default; empty: the preset "default"

    def __post_init__(self) -> None:
        check_name("dataset", self.name)
        for what, items in (("task", self.tasks), ("feature", self.features)):
            refuse(not items, "dataset %s: no %s given; at least one is needed", self.name, what)
            check_unique("%s names" % what, [item.name for item in items])
        for feature in self.features:
            check_name("feature", feature.name)
            refuse(feature.name in (SPARSE_FEATURE, DENSE_FEATURE),
                   "feature %s: the name is that of an input of exported models; give another one and column: %s",
                   feature.name, feature.column)
        check_unique("table names", [table.name for table in self.tables])
        self._check_columns()
        self._check_sharing()
        self._check_tasks()

    @property
    def task_names(self) -> Tuple[str, ...]:
        """Names of the tasks, in label order."""
        return tuple(task.name for task in self.tasks)

    @property
    def features(self) -> Tuple[Union[CategoricalFeature, NumericFeature], ...]:
        """All features, categorical ones first."""
        return self.categorical + self.numeric

    @property
    def sparse_width(self) -> int:
        """Values of ``sparse_feature`` in one row."""
        return sum(feature.width for feature in self.categorical)

    @property
    def has_float_labels(self) -> bool:
        """Whether labels are float32: a task is a regression."""
        return any(task.kind == REGRESSION for task in self.tasks)

    @property
    def columns(self) -> Tuple[str, ...]:
        """Every column that is used, each once."""
        names = [item.column for item in self.features + self.tasks]
        return tuple(dict.fromkeys(names + [name for name in (self.weight, self.group, self.row_key) if name]))

    @property
    def vocabulary_names(self) -> Tuple[str, ...]:
        """Names of what has key numbers: vocabularies, hashed features and the bins of numeric features."""
        names = [feature.vocabulary or feature.name for feature in self.categorical]
        return tuple(dict.fromkeys(names + [feature.name for feature in self.numeric]))

    def task(self, name: str) -> TaskDefinition:
        """Returns a task by name."""
        return {task.name: task for task in self.tasks}[name]

    def to_dict(self) -> Dict[str, Any]:
        """Returns JSON-ready data; :func:`feature_specs.checks.build` reads it back."""
        return dataclasses.asdict(self)

    def _check_columns(self) -> None:
        labels = {task.column for task in self.tasks}
        both = sorted(feature.name for feature in self.features if feature.column in labels)
        refuse(both, "dataset %s: feature %s reads a label's column; a label cannot be a feature", self.name,
               ", ".join(both))
        for feature in self.categorical:
            refuse(feature.is_list and not feature.separator and self.files.format == CSV,
                   "feature %s: max_length makes it a list; give separator, the character between its values",
                   feature.name)
        for what, column in (("weight", self.weight), ("group", self.group)):
            refuse(column in labels, "%s: %s is a label's column", what, column)
        unknown = [name for name in self.columns if name not in self.files.columns]
        refuse(self.files.columns and unknown, "dataset %s: columns that files.columns does not name: %s", self.name,
               ", ".join(unknown))

    def _check_sharing(self) -> None:
        tables = {table.name for table in self.tables}
        by_name = {feature.name: feature for feature in self.categorical}
        for feature in self.features:
            refuse(feature.table not in tables, "feature %s: table %s is not defined", feature.name, feature.table)
        for feature in self.categorical:
            owner = by_name.get(feature.vocabulary or feature.name)
            if owner is None or owner.vocabulary not in ("", owner.name):
                near = did_you_mean(feature.vocabulary, by_name) if owner is None else ""
                raise ConfigError("feature %s: vocabulary %s is not a feature with a vocabulary of its own%s"
                                  % (feature.name, feature.vocabulary, near))
            refuse((owner.encoding, owner.table) != (feature.encoding, feature.table),
                   "feature %s shares the values of %s and must have its table (%s) and encoding (%s)",
                   feature.name, owner.name, owner.table, owner.encoding)
        unused = sorted(tables - {feature.table for feature in self.features})
        refuse(unused, "tables that no feature names: %s", ", ".join(unused))

    def _check_tasks(self) -> None:
        kinds = {task.name: task.kind for task in self.tasks}
        for task in self.tasks:
            for key, other in (("given", task.given), ("where", task.where)):
                refuse(other and (kinds.get(other) != BINARY or other == task.name),
                       "task %s: %s %r names no other binary task; tasks: %s", task.name, key, other,
                       ", ".join(self.task_names))
        reached = {task.name: {task.given, task.where} - {""} for task in self.tasks}
        for _ in self.tasks:  # as many steps as the longest chain may have
            reached = {name: others.union(*(reached[other] for other in others)) for name, others in reached.items()}
        for name, others in reached.items():
            refuse(name in others, "task %s: given and where form a circle (%s)", name, ", ".join(sorted(others)))
        columns = [self.row_key] + [name for task in self.tasks for name in task.outputs]
        for task in self.tasks:
            for name in task.outputs:
                refuse(columns.count(name) > 1, "task %s: predictions would have two columns %s, as another task's or "
                       "the row key's; rename the task, and name its column: %s", task.name, name, task.column)


def differences(found: DatasetDefinition, expected: DatasetDefinition, files: bool = True) -> List[str]:
    """Returns a line per difference between two definitions, with or without ``files``; none where they are equal."""
    lines: List[str] = []
    for what in ("feature", "task", "table"):
        theirs, ours = ({item.name: item for item in getattr(one, what + "s")} for one in (found, expected))
        both = [name for name in ours if name in theirs]
        lines += ["%s %s is missing" % (what, name) for name in ours if name not in theirs]
        lines += ["%s %s is new" % (what, name) for name in theirs if name not in ours]
        lines += ["%s %s: %s" % (what, name, line) for name in both
                  for line in _field_differences(theirs[name], ours[name])]
        if both != [name for name in theirs if name in ours]:
            lines.append("another order of the %ss" % what)
    lines += ["files: %s" % line for line in _field_differences(found.files, expected.files)] if files else []
    return lines + _field_differences(found, expected, ("name", "weight", "group", "row_key", "preset"))


def _field_differences(found: Any, expected: Any, names: Sequence[str] = ()) -> List[str]:
    if type(found) is not type(expected):
        return ["another type"]
    return ["%s: %s instead of %s" % (name, shown(getattr(found, name)), shown(getattr(expected, name)))
            for name in names or [field.name for field in dataclasses.fields(expected)]
            if getattr(found, name) != getattr(expected, name)]
