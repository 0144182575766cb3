"""Reads a dataset's definition from a YAML file; every complaint names the file, the line and what is allowed.

The keys are described in ``docs/datasets.md``. Texts are taken as they are written, so that ``positive: [yes]`` and
``positive: [1]`` mean the texts "yes" and "1", whatever YAML makes of them.
"""
import dataclasses
import difflib
import os
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Union, get_type_hints

import yaml

from feature_specs.dataset import (
    ANY,
    DEFAULT_TABLE,
    CategoricalFeature,
    DatasetDefinition,
    FileFormat,
    NumericFeature,
    TableDefinition,
    TaskDefinition,
)
from feature_specs.errors import ConfigError
from feature_specs.files import read_small_text

BUILTIN = ("census", "shop")
CATEGORICAL, NUMERIC = "categorical", "numeric"
_FEATURES = {CATEGORICAL: CategoricalFeature, NUMERIC: NumericFeature}

_TOP = ("name", "files", "features", "tables", "tasks", "weight", "group", "row_key", "preset")
# Keys that people look for in a place where they are not, and where they belong.
_ELSEWHERE = {"dim": "the dimension belongs to the table: tables: {NAME: {dim: 16}}",
              "rows": "the rows belong to the table: tables: {NAME: {rows: 1000000}}",
              "label": "labels are named by tasks: {NAME: {column: ...}}"}


@dataclasses.dataclass(frozen=True)
class DatasetFile:
    """A definition and where it was written.

    Attributes:
        definition: what the file says.
        path: of the file.
        places: {column: "FILE line N" where it is named first}, for messages about data that lacks it.
    """

    definition: DatasetDefinition
    path: str
    places: Mapping[str, str]


def load_dataset(name_or_path: str) -> DatasetFile:
    """Reads a dataset file, or one of :data:`BUILTIN` by its name.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or does not define a dataset; names the file and the line.
    """
    path = name_or_path
    if name_or_path in BUILTIN:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name_or_path + ".yaml")
    try:
        text = read_small_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else (
            "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error))
        raise ConfigError("dataset file %s cannot be read: %s; give a YAML file, or one of %s"
                          % (path, reason, ", ".join(BUILTIN))) from error
    return parse_dataset(text, path)


def load_builtin(name: str) -> DatasetDefinition:
    """Returns a definition that comes with the product, one of :data:`BUILTIN`."""
    if name not in BUILTIN:
        raise ConfigError("dataset %r is not built in; choose from %s" % (name, ", ".join(BUILTIN)))
    return load_dataset(name).definition


def parse_dataset(text: str, path: str) -> DatasetFile:
    """Reads the text of a dataset file; arguments, result and errors as for :func:`load_dataset`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError("%s%s is no valid YAML: %s" % (
            path, " line %d" % (mark.line + 1) if mark else "", reason)) from error
    if node is None:
        raise ConfigError("%s is empty; describe FILE writes a draft" % path)
    return _Parser(path).dataset(node)


class _Parser:
    def __init__(self, path: str) -> None:
        self._path = path
        self._places: Dict[str, str] = {}

    def dataset(self, node: yaml.Node) -> DatasetFile:
        """Reads the whole document."""
        top = self._mapping(node, _TOP, "the dataset file", ("name", "features", "tasks"))
        nodes = self._named(top["features"], "features")
        given = {name: self._feature(name, item) for name, item in nodes.items()}
        features = [self._shared(feature, given, self._entries(nodes[name], name)) for name, feature in given.items()]
        tables = self._tables(top.get("tables"), features)
        task_nodes = self._named(top["tasks"], "tasks")
        tasks = tuple(self._with_column(TaskDefinition, name, item, "task %s" % name, "task %s: " % name)
                      for name, item in task_nodes.items())
        single = {key: self._text(top[key], key) for key in ("name", "weight", "group", "row_key", "preset")
                  if key in top}
        for key in ("weight", "group", "row_key"):
            if key in single:
                self._place(single[key], top[key])
        lines = {"feature %s" % name: item for name, item in nodes.items()}
        lines.update(("task %s" % name, item) for name, item in task_nodes.items())
        definition = self._built(node, lambda: DatasetDefinition(
            files=self._files(top.get("files")),
            categorical=tuple(item for item in features if isinstance(item, CategoricalFeature)),
            numeric=tuple(item for item in features if isinstance(item, NumericFeature)),
            tasks=tasks, tables=tables, **single), lines)
        return DatasetFile(definition, self._path, dict(self._places))

    def _files(self, node: Optional[yaml.Node]) -> FileFormat:
        if node is None:
            return FileFormat()
        values = self._values(FileFormat, node, "files", "files.")
        if "columns" in values:
            values.setdefault("header", False)
        if "" not in values.get("missing", ("",)):
            values["missing"] = ("",) + values["missing"]
        return self._built(node, lambda: FileFormat(**values))

    def _feature(self, name: str, node: yaml.Node) -> Any:
        what = "feature %s" % name
        entries = self._entries(node, what) if isinstance(node, yaml.MappingNode) else {}
        if "type" not in entries:
            raise self._error(node, "%s: type is missing; give %s" % (what, " or ".join(_FEATURES)))
        kind = self._text(entries["type"], what + ": type")
        if kind not in _FEATURES:
            raise self._error(entries["type"], "%s: type %s is not known; choose from %s"
                              % (what, kind, ", ".join(_FEATURES)))
        return self._with_column(_FEATURES[kind], name, node, "%s (%s)" % (what, kind), what + ": ")

    @staticmethod
    def _shared(feature: Any, features: Mapping[str, Any], given: Mapping[str, yaml.Node]) -> Any:
        """A feature that shares another's values has its table and encoding without naming them again."""
        owner = features.get(getattr(feature, "vocabulary", ""))
        if not isinstance(owner, CategoricalFeature):
            return feature
        return dataclasses.replace(feature, **{key: getattr(owner, key) for key in ("table", "encoding")
                                               if key not in given})

    def _tables(self, node: Optional[yaml.Node], features: Sequence[Any]) -> Tuple[TableDefinition, ...]:
        given = {}
        for name, item in self._named(node, "tables").items() if node is not None else ():
            values = self._values(TableDefinition, item, "table %s" % name, "table %s: " % name)
            given[name] = self._built(item, lambda: TableDefinition(name, **values))  # noqa: B023
        for feature in features:
            if feature.table == DEFAULT_TABLE or node is None:
                given.setdefault(feature.table, TableDefinition(feature.table))
        return tuple(given.values())

    def _with_column(self, kind: Any, name: str, node: yaml.Node, what: str, prefix: str) -> Any:
        """Builds what reads a column: that of its own name where it names none."""
        values = self._values(kind, node, what, prefix)
        values.setdefault("column", name)
        self._place(values["column"], node)
        return self._built(node, lambda: kind(name=name, **values))

    def _place(self, column: str, node: yaml.Node) -> None:
        self._places.setdefault(column, "%s line %d" % (self._path, node.start_mark.line + 1))

    def _named(self, node: yaml.Node, what: str) -> Dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode) or not node.value:
            raise self._error(node, "%s: give {NAME: {...}}, at least one" % what)
        return self._entries(node, what)

    def _entries(self, node: yaml.Node, what: str) -> Dict[str, yaml.Node]:
        found: Dict[str, yaml.Node] = {}
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise self._error(key, "%s: merge keys (<<) are not read; write the keys out" % what)
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "%s: a key must be a word" % what)
            if key.value in found:
                raise self._error(key, "%s: %s is given twice (first on line %d)" % (
                    what, key.value, found[key.value].start_mark.line + 1))
            found[key.value] = value
        return found

    def _mapping(self, node: yaml.Node, allowed: Sequence[str], what: str,
                 required: Sequence[str] = ()) -> Dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            if isinstance(node, yaml.ScalarNode) and not node.value and not required:
                return {}
            raise self._error(node, "%s: keys with values are expected, such as {%s: ...}" % (what, allowed[0]))
        found = self._entries(node, what)
        for key, _ in node.value:
            if key.value not in allowed:
                near = difflib.get_close_matches(key.value, allowed, 1)
                remedy = _ELSEWHERE.get(key.value) or ("did you mean %s?" % near[0] if near else
                                                       "allowed: %s" % ", ".join(allowed))
                raise self._error(key, "%s: unknown key %s; %s" % (what, key.value, remedy))
        for key in required:
            if key not in found:
                raise self._error(node, "%s: %s is missing" % (what, key))
        return found

    def _values(self, kind: type, node: yaml.Node, what: str, prefix: str) -> Dict[str, Any]:
        """Reads the fields of a dataclass, but for its name, as their annotations say; features and tasks have a
        type."""
        hints = get_type_hints(kind)
        allowed = ["type"] if "column" in hints else []
        allowed += [name for name in hints if name not in ("name", "type")]
        readers: Dict[Any, Callable[[yaml.Node, str], Any]] = {
            str: self._text, bool: self._boolean, Tuple[str, ...]: self._texts, int: self._whole,
            Optional[int]: self._whole, Union[str, float]: self._number_or_text}
        return {key: readers[hints[key]](item, prefix + key)
                for key, item in self._mapping(node, allowed, what).items() if key in hints}

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, "%s: one text is expected" % what)
        return str(node.value)

    def _texts(self, node: yaml.Node, what: str) -> Tuple[str, ...]:
        if isinstance(node, yaml.SequenceNode) and not node.value and what.endswith(("positive", "negative")):
            raise self._error(node, "%s: give at least one text" % what)
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._text(item, what) for item in node.value)
        text = self._text(node, what)
        if text == ANY:
            return (ANY,)
        raise self._error(node, "%s: a list is expected, such as [%s]" % (what, text or "..."))

    def _boolean(self, node: yaml.Node, what: str) -> bool:
        value = str(getattr(node, "value", "")).lower()
        if value not in ("true", "false"):
            raise self._error(node, "%s: give true or false" % what)
        return value == "true"

    def _whole(self, node: yaml.Node, what: str) -> int:
        try:
            return int(self._text(node, what).replace("_", ""))
        except ValueError:
            raise self._error(node, "%s: a whole number is expected, found %r" % (what, node.value)) from None

    def _number_or_text(self, node: yaml.Node, what: str) -> Any:
        text = self._text(node, what)
        try:
            return float(text)
        except ValueError:
            return text

    def _built(self, node: yaml.Node, build: Callable[[], Any],
               lines: Optional[Mapping[str, yaml.Node]] = None) -> Any:
        """Calls a constructor; what it complains about gets the line of the part that the message names."""
        try:
            return build()
        except ConfigError as error:
            text = str(error)
            if text.startswith(self._path):
                raise
            named = [item for name, item in (lines or {}).items() if name + " " in text or name + ":" in text]
            raise self._error(named[0] if named else node, text) from error

    def _error(self, node: yaml.Node, text: str) -> ConfigError:
        return ConfigError("%s line %d: %s" % (self._path, node.start_mark.line + 1, text))
