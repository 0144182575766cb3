"""What ``tune`` may change: ranges and choices for fields of the configuration, read from one JSON file.

An entry is ``"field": {"low": L, "high": H}`` (numbers; ``"log": true`` searches the logarithm) or
``"field": {"choices": [...]}``.
"""
import dataclasses
import json
import os
from typing import Any, Dict, Mapping

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from estimator_app.config import Config
from feature_specs.checks import is_finite
from feature_specs.errors import ConfigError
from feature_specs.files import read_small_text

DEFAULT_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "search_space.json")
# Where a run reads and writes, and on what: no settings of a model.
NOT_SEARCHED = ("data_dir", "model_dir", "device")
_FORMS = 'allowed: {"low": L, "high": H}, the same with "log": true, or {"choices": [...]}'
_RANGES = {int: IntDistribution, float: FloatDistribution}


def read_entries(path: str) -> Dict[str, Any]:
    """Reads the file of a search space, {field: its entry}; raises ConfigError where it is no object with an entry."""
    try:
        values = json.loads(read_small_text(path))
    except (OSError, ValueError) as error:
        raise ConfigError("search space %s cannot be read (%s); give the path of a JSON file like %s"
                          % (path, error, DEFAULT_FILE)) from error
    if not isinstance(values, dict):
        raise ConfigError("search space %s: an object of fields is expected" % path)
    values.pop("_comment", None)
    if not values:
        raise ConfigError("search space %s is empty; give at least one field" % path)
    return values


def read_space(path: str, base: Config) -> Dict[str, BaseDistribution]:
    """Reads a search space, {field: its distribution}; raises ConfigError, naming an entry that cannot be used.

    Every end of a range and every choice must be valid in ``base``, the settings that the search starts from.
    """
    fields = {field.name: type(field.default) for field in dataclasses.fields(Config)
              if field.name not in NOT_SEARCHED and not isinstance(field.default, tuple)}
    space = {}
    for name, entry in sorted(read_entries(path).items()):
        try:
            if name not in fields:
                raise ConfigError("this field cannot be searched; known: %s" % ", ".join(sorted(fields)))
            space[name] = _distribution(entry, fields[name])
            for value in _ends(space[name]):
                base.replace(**{name: value})
        except ConfigError as error:
            raise ConfigError("search space %s, %s: %s" % (path, name, error)) from error
    return space


def with_values(space: Mapping[str, BaseDistribution], base: Config) -> Dict[str, BaseDistribution]:
    """Returns a space whose lists of choices also have the values that the search starts from."""
    return {name: CategoricalDistribution((*item.choices, getattr(base, name)))
            if isinstance(item, CategoricalDistribution) and getattr(base, name) not in item.choices else item
            for name, item in space.items()}


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Returns whether the search could propose a value."""
    ends = _ends(distribution)
    return value in ends if isinstance(distribution, CategoricalDistribution) else ends[0] <= value <= ends[1]


def _distribution(entry: Any, kind: type) -> BaseDistribution:
    """Turns an entry for a field of a type into Optuna's distribution."""
    keys = set(entry) if isinstance(entry, dict) else set()
    if keys == {"choices"} and isinstance(entry["choices"], list) and entry["choices"] and not any(
            isinstance(choice, (list, dict)) for choice in entry["choices"]):
        return CategoricalDistribution(entry["choices"])
    if {"low", "high"} <= keys <= {"low", "high", "log"} and _is_range(**entry):
        if kind not in _RANGES or (kind is int and any(entry[end] != int(entry[end]) for end in ("low", "high"))):
            raise ConfigError("a range does not fit a field of type %s; %s" % (kind.__name__, _FORMS))
        return _RANGES[kind](**entry)
    raise ConfigError("%s is not understood; %s" % (json.dumps(entry), _FORMS))


def _is_range(low: Any, high: Any, log: Any = False) -> bool:
    return is_finite(low) and is_finite(high) and isinstance(log, bool) and low < high and (not log or low > 0)


def _ends(distribution: Any) -> Any:
    """Returns all choices, or the smallest and the largest value of a range."""
    return getattr(distribution, "choices", None) or (distribution.low, distribution.high)
