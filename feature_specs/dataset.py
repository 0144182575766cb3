"""The definition of a dataset: which columns it has, what they are used for, and which tasks are predicted.

A :class:`DatasetDefinition` is plain, frozen data. Nothing in the graph, the metrics or the export knows more about a
dataset than what is written in one.
"""
import dataclasses
import re
from typing import Any, Dict, Mapping, Sequence, Tuple

from feature_specs.errors import ConfigError

# Keys of a record and of a feature dict.
LABEL = "label"
SPARSE_FEATURE = "sparse_feature"
DENSE_FEATURE = "dense_feature"
TIMESTAMP = "timestamp"
# Weight of a row in the weighted scores of an evaluation; only in feature dicts.
EVAL_WEIGHT = "eval_weight"

_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_]*\Z")


@dataclasses.dataclass(frozen=True)
class TaskDefinition:
    """A binary task: which raw column holds its label and which text means positive.

    Attributes:
        name: name of the task in losses, metrics, predictions and signatures.
        label_column: the raw column that the label is read from.
        positive_value: the text (without surrounding blanks) that makes the label 1.
        label_values: every text that the column may hold; any other text makes a row a bad row.
    """

    name: str
    label_column: str
    positive_value: str
    label_values: Tuple[str, ...]

    def __post_init__(self) -> None:
        _check_name("task", self.name)
        if self.positive_value not in self.label_values:
            raise ConfigError(
                "task %r: positive value %r is not among its label values %s; add it there"
                % (self.name, self.positive_value, list(self.label_values))
            )
        if len(set(self.label_values)) < 2:
            raise ConfigError("task %r: needs at least two different label values" % self.name)


@dataclasses.dataclass(frozen=True)
class DatasetDefinition:
    """The columns of a raw text file and their roles.

    Attributes:
        name: short name, for example ``census``.
        columns: every column of the raw text, in file order.
        sparse_columns: categorical columns, in the order of the record's ``sparse_feature``.
        dense_columns: numeric columns, in the order of the record's ``dense_feature``.
        tasks: the tasks, in the order of the record's ``label``.
        table_name: name of the embedding table that all sparse columns share.
    """

    name: str
    columns: Tuple[str, ...]
    sparse_columns: Tuple[str, ...]
    dense_columns: Tuple[str, ...]
    tasks: Tuple[TaskDefinition, ...]
    table_name: str = "sparse_embeddings"

    def __post_init__(self) -> None:
        _check_name("dataset", self.name)
        _check_name("table", self.table_name)
        if not self.tasks:
            raise ConfigError("dataset %r: no task given; at least one is needed" % self.name)
        if not self.sparse_columns:
            raise ConfigError("dataset %r: no sparse column given; at least one is needed" % self.name)
        labels = [task.label_column for task in self.tasks]
        for role, names in (
            ("column", self.columns),
            ("sparse column", self.sparse_columns),
            ("dense column", self.dense_columns),
            ("task", tuple(task.name for task in self.tasks)),
        ):
            duplicates = sorted({name for name in names if names.count(name) > 1})
            if duplicates:
                raise ConfigError("dataset %r: %s given twice: %s" % (self.name, role, ", ".join(duplicates)))
        for role, names in (
            ("sparse", self.sparse_columns),
            ("dense", self.dense_columns),
            ("label", tuple(labels)),
        ):
            unknown = sorted(set(names) - set(self.columns))
            if unknown:
                raise ConfigError("dataset %r: %s columns that the file does not have: %s"
                                  % (self.name, role, ", ".join(unknown)))
        features = set(self.sparse_columns) | set(self.dense_columns)
        if set(self.sparse_columns) & set(self.dense_columns):
            raise ConfigError("dataset %r: both sparse and dense: %s" % (
                self.name, ", ".join(sorted(set(self.sparse_columns) & set(self.dense_columns)))))
        if features & set(labels):
            raise ConfigError("dataset %r: a label cannot be a feature: %s" % (
                self.name, ", ".join(sorted(features & set(labels)))))

    @property
    def task_names(self) -> Tuple[str, ...]:
        """Names of the tasks, in label order."""
        return tuple(task.name for task in self.tasks)

    @property
    def num_sparse(self) -> int:
        """Number of ids in one row."""
        return len(self.sparse_columns)

    @property
    def num_dense(self) -> int:
        """Number of numeric values in one row."""
        return len(self.dense_columns)

    @property
    def num_tasks(self) -> int:
        """Number of labels in one row."""
        return len(self.tasks)

    def to_dict(self) -> Dict[str, Any]:
        """Returns the definition as JSON-ready data; :meth:`from_dict` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "DatasetDefinition":
        """Builds a definition from :meth:`to_dict` data.

        Args:
            data: mapping with exactly the attributes of this class.

        Returns:
            The validated definition.

        Raises:
            ConfigError: a key is missing or unknown, a type is wrong, or the definition contradicts itself.
        """
        _check_keys("dataset definition", cls, data)
        tasks = []
        for task in _list_of(data["tasks"], "tasks"):
            if not isinstance(task, Mapping):
                raise ConfigError("dataset definition: a task must be an object, given %r" % (task,))
            _check_keys("task", TaskDefinition, task)
            tasks.append(TaskDefinition(
                name=task["name"], label_column=task["label_column"], positive_value=task["positive_value"],
                label_values=_strings(task["label_values"], "label_values")))
        return cls(
            name=data["name"],
            columns=_strings(data["columns"], "columns"),
            sparse_columns=_strings(data["sparse_columns"], "sparse_columns"),
            dense_columns=_strings(data["dense_columns"], "dense_columns"),
            tasks=tuple(tasks),
            table_name=data["table_name"],
        )


def differences(found: DatasetDefinition, expected: DatasetDefinition) -> Sequence[str]:
    """Returns one line per field in which two definitions differ; an empty list where they are equal."""
    lines = []
    for field in dataclasses.fields(DatasetDefinition):
        ours, theirs = getattr(expected, field.name), getattr(found, field.name)
        if ours != theirs:
            lines.append("%s: found %s, expected %s" % (field.name, _short(theirs), _short(ours)))
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _check_name(role: str, name: Any) -> None:
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigError("%s name %r: use letters, digits and underscores, beginning with a letter" % (role, name))


def _check_keys(what: str, cls: type, data: Mapping[str, Any]) -> None:
    names = {field.name for field in dataclasses.fields(cls)}
    missing, unknown = sorted(names - set(data)), sorted(set(data) - names)
    if missing or unknown:
        raise ConfigError("%s: missing keys %s, unknown keys %s" % (what, missing, unknown))


def _list_of(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError("%s must be a list, given %r" % (what, value))
    return value


def _strings(value: Any, what: str) -> Tuple[str, ...]:
    items = _list_of(value, what)
    if not all(isinstance(item, str) for item in items):
        raise ConfigError("%s must hold texts only" % what)
    return tuple(items)
