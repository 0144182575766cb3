"""What ``tune`` may change: ranges and choices for fields of the configuration, read from one JSON file.

An entry is ``"field": {"low": L, "high": H}`` (numbers; ``"log": true`` searches the logarithm) or
``"field": {"choices": [...]}``.
"""
import dataclasses
import json
import os
from typing import Any, Dict, List, Mapping, Tuple

from estimator_app.config import Config
from feature_specs.errors import ConfigError

DEFAULT_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "search_space.json")
# Where a run reads and writes, and on what: no settings of a model.
NOT_SEARCHED = ("data_dir", "model_dir", "device")
_FORMS = 'allowed: {"low": L, "high": H}, the same with "log": true, or {"choices": [...]}'


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One searched field.

    Attributes:
        name: the field of the configuration.
        choices: the values to choose from; empty for a range.
        low, high: smallest and largest value of a range, both included.
        log: whether the logarithm is searched.
        whole: whether the values of the range are whole numbers.
    """

    name: str
    choices: Tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any) -> Any:
        """Returns the value that an Optuna trial proposes."""
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def contains(self, value: Any) -> bool:
        """Returns whether the search could propose a value."""
        return value in self.choices if self.choices else self.low <= value <= self.high


def read_space(path: str, base: Config) -> List[Dimension]:
    """Reads and checks a search space.

    Args:
        path: of the JSON file.
        base: the settings that the search starts from; every end of a range and every choice must be valid there.

    Raises:
        ConfigError: the file cannot be read, or an entry is unknown, malformed or out of range.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            values = json.load(stream)
    except (OSError, ValueError) as error:
        raise ConfigError("search space %s cannot be read (%s); give the path of a JSON file like %s"
                          % (path, error, DEFAULT_FILE)) from error
    if not isinstance(values, dict):
        raise ConfigError("search space %s: an object of fields is expected" % path)
    values.pop("_comment", None)
    if not values:
        raise ConfigError("search space %s is empty; give at least one field" % path)
    return [_dimension(path, name, entry, base) for name, entry in sorted(values.items())]


def describe(space: List[Dimension]) -> Dict[str, Any]:
    """Returns a space as JSON-ready data."""
    return {item.name: json.loads(json.dumps(dataclasses.asdict(item))) for item in space}


def _dimension(path: str, name: str, entry: Any, base: Config) -> Dimension:
    fields: Mapping[str, Any] = {field.name: field for field in dataclasses.fields(Config)
                                 if field.name not in NOT_SEARCHED and not isinstance(field.default, tuple)}
    where = "search space %s, %s" % (path, name)
    if name not in fields:
        raise ConfigError("%s: this is no field that can be searched; known: %s" % (where, ", ".join(sorted(fields))))
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys == {"choices"} and isinstance(entry["choices"], list) and entry["choices"]:
        dimension = Dimension(name, choices=tuple(entry["choices"]))
        ends = list(dimension.choices)
    elif {"low", "high"} <= keys <= {"low", "high", "log"} and _is_range(entry):
        kind = type(fields[name].default)
        if kind not in (int, float) or (kind is int and any(value != int(value) for value in (entry["low"],
                                                                                             entry["high"]))):
            raise ConfigError("%s: a range does not fit a field of type %s; %s" % (where, kind.__name__, _FORMS))
        dimension = Dimension(name, low=entry["low"], high=entry["high"], log=entry.get("log", False),
                              whole=kind is int)
        ends = [kind(entry["low"]), kind(entry["high"])]
    else:
        raise ConfigError("%s: %s is not understood; %s" % (where, json.dumps(entry), _FORMS))
    for value in ends:
        try:
            base.replace(**{name: value})
        except ConfigError as error:
            raise ConfigError("%s: %s" % (where, error)) from error
    return dimension


def _is_range(entry: Mapping[str, Any]) -> bool:
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in (low, high)):
        return False
    return isinstance(log, bool) and low < high and (not log or low > 0)
