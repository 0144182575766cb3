"""Checks of names, choices and numbers, and frozen dataclasses built from JSON: what is wrong is a ConfigError."""
import dataclasses
import math
import re
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple, Type, TypeVar, Union, get_type_hints

from feature_specs.errors import ConfigError

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_]*\Z")


def shown(value: Any) -> str:
    """Returns a value as users write it: lists with commas, true and false, nothing as "none"; cut where it is long."""
    if isinstance(value, tuple):
        text = ", ".join(map(shown, value)) or "none"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str) and value.isprintable() and value.strip() == value != "":
        text = value
    else:
        text = "none" if value in (None, "") else repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


def is_digits(text: str) -> bool:
    """Whether a text is one or more of the digits 0 to 9; ``str.isdigit`` takes those of other scripts, too."""
    return text.isascii() and text.isdigit()


def check_name(role: str, name: Any) -> None:
    """Refuses what cannot be a name in graphs and signatures."""
    if not isinstance(name, str) or not _NAME.match(name):
        raise ConfigError("%s name %r: use letters, digits and underscores, beginning with a letter" % (role, name))


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Refuses a value that is none of the choices."""
    if value not in choices:
        raise ConfigError("%s %r is not known; choose from %s" % (what, value, ", ".join(choices)))


def check_range(what: str, value: int, low: int, high: int) -> None:
    """Refuses what is no whole number from ``low`` to ``high``."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError("%s %r: give a whole number from %d to %d" % (what, value, low, high))


def check_unique(what: str, names: Sequence[str]) -> None:
    """Refuses names that are given twice."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ConfigError("%s given twice: %s" % (what, ", ".join(twice)))


def build(kind: Type[_T], data: Mapping[str, Any]) -> _T:
    """Builds a frozen dataclass of plain fields from JSON data; every key must be there, and no other."""
    values = {name: tuple(value) if isinstance(value, list) else value
              for name, value in checked_keys(kind, data).items()}
    check_types(kind, values)
    return kind(**values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# {type of a field: what it is called, whether a value is one}; fields of other types are built from objects.
_KINDS: Dict[Any, Tuple[str, Callable[[Any], bool]]] = {
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", _is_whole),
    Optional[int]: ("a whole number or null", lambda value: value is None or _is_whole(value)),
    Union[str, float]: ("text or a number", lambda value: isinstance(value, str) or _is_number(value)),
    Tuple[str, ...]: ("a list of texts", lambda value: isinstance(value, tuple) and all(
        isinstance(item, str) for item in value)),
}


def check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Refuses values whose type is not that of the field."""
    for name, hint in get_type_hints(kind).items():
        what, fits = _KINDS.get(hint, ("", None))
        if fits is not None and not fits(values[name]):
            raise ConfigError("%s.%s: %s is expected, found %s" % (kind.__name__, name, what, _short(values[name])))


def checked_keys(kind: type, data: Any) -> Mapping[str, Any]:
    """Returns the data if it has the fields of a dataclass as keys, and no others."""
    if not isinstance(data, Mapping):
        raise ConfigError("%s: an object is expected, found %r" % (kind.__name__, data))
    names = {field.name for field in dataclasses.fields(kind)}
    missing, unknown = sorted(names - set(data)), sorted(set(data) - names)
    if missing or unknown:
        raise ConfigError("%s: missing keys %s, unknown keys %s" % (kind.__name__, missing, unknown))
    return data


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."
