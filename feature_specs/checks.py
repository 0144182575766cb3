"""Checks of names, choices and numbers, and frozen dataclasses built from JSON: what is wrong is a ConfigError."""
import argparse
import collections.abc
import dataclasses
import difflib
import os
import re
import sys
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sequence, Tuple, Union, get_type_hints

from feature_specs.errors import ConfigError

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
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= 160 else text[:157] + "..."


def size_shown(count: float) -> str:
    """Returns a number of bytes in MB or GB."""
    return "%.1f GB" % (count / 1e9) if count >= 1e9 else "%.1f MB" % (count / 1e6)


def is_digits(text: str) -> bool:
    """Whether a text is one or more of the digits 0 to 9; ``str.isdigit`` takes those of other scripts, too."""
    return text.isascii() and text.isdigit()


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a value is a number of float64's range, not NaN; true and false are none."""
    return (is_whole(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max


def is_path(text: str) -> bool:
    """Whether a file may be called so: no null character, and nothing that the file system cannot encode."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def check_path_text(what: str, text: str) -> None:
    """Refuses a text that no file can have for its path."""
    refuse(not is_path(text), "%s %r is not a path: no file can have this name", what, text)


def parse_number(text: str) -> float:
    """Reads the number of a flag; what is none is an error of the command line."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError("%r is not a number; write it with a point, such as 0.1" % text) from None


def did_you_mean(name: str, known: Iterable[str], lead: str = ", ") -> str:
    """Returns a question that names the nearest known name, or nothing where none is near."""
    return "".join("%sdid you mean %s?" % (lead, near) for near in difflib.get_close_matches(name, list(known), 1))


def refuse(is_wrong: Any, message: str, *values: Any) -> None:
    """Raises ConfigError where something is wrong, or anything stands in a list of what is; printf-style message."""
    if is_wrong:
        raise ConfigError(message % values)


def check_name(role: str, name: Any) -> None:
    """Refuses what cannot be a name in graphs and signatures."""
    refuse(not isinstance(name, str) or not _NAME.match(name),
           "%s name %r: use letters, digits and underscores, beginning with a letter", role, name)


def check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    """Refuses a value that is none of the choices."""
    refuse(value not in choices, "%s %r is not known; choose from %s", what, value, ", ".join(choices))


def check_range(what: str, value: int, low: int, high: int) -> None:
    """Refuses what is no whole number from ``low`` to ``high``."""
    refuse(not is_whole(value) or not low <= value <= high, "%s %r: give a whole number from %d to %d", what, value,
           low, high)


def check_unique(what: str, names: Sequence[str]) -> None:
    """Refuses names that are given twice."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    refuse(twice, "%s given twice: %s", what, ", ".join(twice))


# {type of a field, or what it is made of: what it is called, whether a value of JSON data is one}.
_KINDS: Dict[Any, Tuple[str, Callable[[Any], bool]]] = {
    Any: ("anything", lambda value: True),
    str: ("text", lambda value: isinstance(value, str)),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number from 0 to 2**63 - 1", lambda value: is_whole(value) and 0 <= value < 1 << 63),
    float: ("a finite number", is_finite),
    Optional[int]: ("a whole number from 0 on, or null", lambda value: value is None or is_whole(value) and value >= 0),
    Union[str, float]: ("text or a number", lambda value: isinstance(value, str) or is_finite(value)),
    tuple: ("a list", lambda value: isinstance(value, (list, tuple))),
    collections.abc.Mapping: ("an object", lambda value: isinstance(value, Mapping)),
}


def build(hint: Any, data: Any, what: str = "") -> Any:
    """Builds from JSON data what an annotation says: a frozen dataclass, a tuple or mapping of such, or a plain value;
    ConfigError, naming the path ``what``, where a key is missing or unknown, or a value is of another type."""
    what = what or getattr(hint, "__name__", "")
    origin = getattr(hint, "__origin__", collections.abc.Mapping)  # a dataclass, which has none, is an object, too
    kind, fits = _KINDS[hint if hint in _KINDS else origin]
    if not fits(data):
        raise ConfigError("%s: %s is expected, found %s" % (what, kind, _cut(repr(data))))
    if hint in _KINDS:
        return float(data) if hint is float else data
    if origin is tuple:
        return tuple(build(hint.__args__[0], item, "%s[%d]" % (what, place)) for place, item in enumerate(data))
    if not dataclasses.is_dataclass(hint):
        return {name: build(hint.__args__[1], item, "%s.%s" % (what, name)) for name, item in data.items()}
    hints = get_type_hints(hint)
    missing, unknown = sorted(set(hints) - set(data)), sorted(set(data) - set(hints))
    refuse(missing or unknown, "%s: missing keys %s, unknown keys %s", what, missing, unknown)
    return hint(**{name: build(kind, data[name], "%s.%s" % (what, name)) for name, kind in hints.items()})
