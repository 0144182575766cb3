"""Reads a dataset's definition from a YAML file; every complaint names the file, the line and what is allowed.

Texts are taken as they are written: ``positive: [yes, 1]`` means the texts "yes" and "1", whatever YAML makes of them.
"""
import dataclasses
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union, get_type_hints

import yaml

from feature_specs.checks import did_you_mean, refuse, shown
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
    """A definition and where it was written."""

    definition: DatasetDefinition
    path: str
    places: Mapping[str, str]  # {column: "FILE line N" where it is named first}, for messages about data that lacks it


def load_dataset(name_or_path: str) -> DatasetFile:
    """Reads a dataset file, or one of :data:`BUILTIN` by its name; ConfigError, with file and line, where it cannot be
    read, is no YAML, or does not define a dataset."""
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


def parse_dataset(text: str, path: str) -> DatasetFile:
    """Reads the text of a dataset file; arguments, result and errors as for :func:`load_dataset`."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError("%s%s is not valid YAML: %s" % (
            path, " line %d" % (mark.line + 1) if mark else "", reason)) from error
    refuse(node is None, "%s is empty; describe FILE writes a draft", path)
    return _Parser(path).dataset(node)


class _Parser:
    def __init__(self, path: str) -> None:
        self._path = path
        self._places: Dict[str, str] = {}
        self._parts: Dict[str, yaml.Node] = {}  # features and tasks, as messages name them

    def dataset(self, node: yaml.Node) -> DatasetFile:
        """Reads the whole document."""
        top = self._mapping(node, _TOP, "the dataset file", ("name", "features", "tasks"))
        feature_nodes, task_nodes = self._named(top["features"], "features"), self._named(top["tasks"], "tasks")
        features = self._features(feature_nodes)
        tasks = tuple(self._built(item, TaskDefinition, self._of_column(TaskDefinition, name, item, "task %s" % name))
                      for name, item in task_nodes.items())
        single = {key: self._text(top[key], key) for key in ("name", "weight", "group", "row_key", "preset")
                  if key in top}
        for key in ("weight", "group", "row_key"):
            if key in single:
                self._place(single[key], top[key])
        definition = self._built(node, DatasetDefinition, dict(
            single, files=self._files(top.get("files")), tasks=tasks, tables=self._tables(top.get("tables"), features),
            categorical=tuple(item for item in features if isinstance(item, CategoricalFeature)),
            numeric=tuple(item for item in features if isinstance(item, NumericFeature))))
        return DatasetFile(definition, self._path, self._places)

    def _files(self, node: Optional[yaml.Node]) -> FileFormat:
        if node is None:
            return FileFormat()
        values = self._values(FileFormat, node, "files", "files.")
        if "columns" in values:
            values.setdefault("header", False)
        if "" not in values.get("missing", ("",)):
            values["missing"] = ("",) + values["missing"]
        return self._built(node, FileFormat, values)

    def _features(self, nodes: Mapping[str, yaml.Node]) -> List[Any]:
        kinds, given = {}, {}
        for name, node in nodes.items():
            what = "feature %s" % name
            entries = self._entries(node, what) if isinstance(node, yaml.MappingNode) else {}
            if "type" not in entries:
                raise self._error(node, "%s: type is missing; give %s" % (what, " or ".join(_FEATURES)))
            kind = self._text(entries["type"], what + ": type")
            if kind not in _FEATURES:
                raise self._error(entries["type"], "%s: type %s is not known; choose from %s"
                                  % (what, kind, ", ".join(_FEATURES)))
            kinds[name] = _FEATURES[kind]
            given[name] = self._of_column(kinds[name], name, node, what, " (%s)" % kind)
        for name, values in given.items():
            # A feature that shares another's values has its table and encoding without naming them again.
            owner = given.get(values.get("vocabulary", name), {})
            for key in {"table", "encoding"} & set(owner):
                values.setdefault(key, owner[key])
        # Owners first: what is wrong with a value that was taken over is said of its owner.
        built = {name: self._built(nodes[name], kinds[name], given[name])
                 for name in sorted(given, key=lambda name: "vocabulary" in given[name])}
        return [built[name] for name in given]

    def _tables(self, node: Optional[yaml.Node], features: Sequence[Any]) -> Tuple[TableDefinition, ...]:
        tables = {}
        for name, item in self._named(node, "tables").items() if node is not None else ():
            what = "table %s" % name
            tables[name] = self._built(item, TableDefinition,
                                       dict(self._values(TableDefinition, item, what, what + ": "), name=name))
        for feature in features:
            if feature.table == DEFAULT_TABLE or node is None:
                tables.setdefault(feature.table, TableDefinition(feature.table))
        return tuple(tables.values())

    def _of_column(self, kind: type, name: str, node: yaml.Node, what: str, detail: str = "") -> Dict[str, Any]:
        """Reads the fields of what reads a column: that of its own name where it names none."""
        values = {"column": name, **self._values(kind, node, what + detail, what + ": "), "name": name}
        self._place(values["column"], node)
        self._parts[what] = node
        return values

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
                remedy = (_ELSEWHERE.get(key.value) or did_you_mean(key.value, allowed, "")
                          or "allowed: %s" % ", ".join(allowed))
                raise self._error(key, "%s: unknown key %s; %s" % (what, shown(key.value), remedy))
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
        return {key: self._value(hints[key], item, prefix + key)
                for key, item in self._mapping(node, allowed, what).items() if key in hints}

    def _value(self, hint: Any, node: yaml.Node, what: str) -> Any:
        if hint == Tuple[str, ...]:
            return self._texts(node, what)
        if hint is bool:
            value = str(node.value).lower()
            if value not in ("true", "false"):
                raise self._error(node, "%s: give true or false" % what)
            return value == "true"
        text = self._text(node, what)
        if hint is str:
            return text
        try:
            return float(text) if hint == Union[str, float] else int(text.replace("_", ""))
        except ValueError:
            if hint == Union[str, float]:
                return text
            raise self._error(node, "%s: a whole number is expected, found %r" % (what, text)) from None

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

    def _built(self, node: yaml.Node, kind: Any, values: Mapping[str, Any]) -> Any:
        """Builds a dataclass; what the whole dataset's complains about gets the line of the part that it names."""
        try:
            return kind(**values)
        except ConfigError as error:
            text = str(error)
            named = [part for name, part in self._parts.items() if name + " " in text or name + ":" in text]
            raise self._error(named[0] if named and kind is DatasetDefinition else node, text) from error

    def _error(self, node: yaml.Node, text: str) -> ConfigError:
        return ConfigError("%s line %d: %s" % (self._path, node.start_mark.line + 1, text))
