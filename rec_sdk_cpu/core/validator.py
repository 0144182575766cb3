"""Argument checks of the SDK's public callables (rec_sdk_api 0.2).

Each public callable is wrapped by :func:`checked`: the call is bound against the true signature (an unknown keyword is
a TypeError), defaults are applied, the contents of ``**kwargs`` count as arguments, and each rule of an argument that
is present runs. A refused value is a ValueError.
"""
import functools
import inspect
import os
import re
from typing import Any, Callable, Iterable, Optional, Sequence, Tuple, TypeVar, Union

MAX_INT32 = 2 ** 31 - 1
# The SDK's pattern: its $ also matches before a line's end, so that "a\\n" passes.
_WORD = re.compile("^[0-9A-Za-z_.]+$")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Rule:
    """A check of one argument; subclasses say what is allowed."""

    def __init__(self, name: str, optional: bool = False):
        self.name = name
        self.optional = optional

    def allowed(self) -> str:
        """Returns what the argument may be, for the message."""
        raise NotImplementedError

    def accepts(self, value: Any) -> bool:
        """Returns whether the value is allowed."""
        raise NotImplementedError

    def check(self, value: Any) -> None:
        """Raises ValueError where the value is not allowed."""
        if value is None and self.optional:
            return
        if not self.accepts(value):
            raise ValueError("%s must be %s%s, but %r (%s) was given" % (
                self.name, self.allowed(), " or None" if self.optional else "", value, type(value).__name__))


class Int(Rule):
    """A Python int (no bool, no NumPy integer) in a closed range."""

    def __init__(self, name: str, low: int, high: int, optional: bool = False):
        super().__init__(name, optional)
        self.low, self.high = low, high

    def allowed(self) -> str:
        """See the base class."""
        return "an int in [%d, %d]" % (self.low, self.high)

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


class Float(Rule):
    """A Python float (np.float64 is one; an int is not) in a range with open or closed ends."""

    def __init__(self, name: str, low: float, high: float, open_low: bool = False, open_high: bool = False,
                 optional: bool = False):
        super().__init__(name, optional)
        self.low, self.high, self.open_low, self.open_high = low, high, open_low, open_high

    def allowed(self) -> str:
        """See the base class."""
        return "a float in %s%g, %g%s" % ("(" if self.open_low else "[", self.low, self.high,
                                          ")" if self.open_high else "]")

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        if not isinstance(value, float):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below


class Bool(Rule):
    """A real bool: 0 and 1 are refused."""

    def allowed(self) -> str:
        """See the base class."""
        return "a bool"

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return isinstance(value, bool)


class Text(Rule):
    """A str of limited length, optionally made of ``[0-9A-Za-z_.]`` only."""

    def __init__(self, name: str, low: int, high: int, word: bool = False, optional: bool = False):
        super().__init__(name, optional)
        self.low, self.high, self.word = low, high, word

    def allowed(self) -> str:
        """See the base class."""
        return "a str of %d to %d characters%s" % (self.low, self.high, " out of [0-9A-Za-z_.]" if self.word else "")

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return (isinstance(value, str) and self.low <= len(value) <= self.high
                and (not self.word or _WORD.match(value) is not None))


class Instance(Rule):
    """An instance of one of the given classes."""

    def __init__(self, name: str, classes: Union[type, Tuple[type, ...]], optional: bool = False):
        super().__init__(name, optional)
        self.classes = classes if isinstance(classes, tuple) else (classes,)

    def allowed(self) -> str:
        """See the base class."""
        return "an instance of %s" % ", ".join(cls.__name__ for cls in self.classes)

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return isinstance(value, self.classes)


class Option(Rule):
    """One of the listed values."""

    def __init__(self, name: str, options: Sequence[Any], optional: bool = False):
        super().__init__(name, optional)
        self.options = tuple(options)

    def allowed(self) -> str:
        """See the base class."""
        return "one of %s" % (list(self.options),)

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return any(isinstance(value, type(option)) and value == option for option in self.options)


class Dtype(Option):
    """A data type, or what equals one: TensorFlow's types equal their names, NumPy's types and numbers too."""

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        try:
            return any(value is option or bool(value == option) for option in self.options)
        except (TypeError, ValueError):
            return False


class Directories(Rule):
    """A non-empty list or tuple of str."""

    def allowed(self) -> str:
        """See the base class."""
        return "a non-empty list or tuple of str"

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(item, str) for item in value)


class AnyOf(Rule):
    """Allowed where at least one of several rules allows it."""

    def __init__(self, name: str, rules: Iterable[Rule], optional: bool = False):
        super().__init__(name, optional)
        self.rules = tuple(rules)

    def allowed(self) -> str:
        """See the base class."""
        return " or ".join(rule.allowed() for rule in self.rules)

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return any(rule.accepts(value) for rule in self.rules)


def checked(*rules: Rule) -> Callable[[_Function], _Function]:
    """Decorates a public callable with its rules; ``inspect.signature`` still shows the true signature.

    Args:
        *rules: the rules, run in order for the arguments that are present.

    Returns:
        A decorator; the decorated callable raises TypeError where a call does not bind and ValueError where a rule
        refuses a value.
    """
    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = dict(bound.arguments)
            for parameter in signature.parameters.values():
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    values.update(values.pop(parameter.name))
            for rule in rules:
                if rule.name in values:
                    rule.check(values[rule.name])
            return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]
    return decorate


def check_storage_paths(paths: Sequence[str]) -> None:
    """Checks SSD directories: each exists, is a directory, has no link above it and no ``..`` (rec_sdk_api 3.1, 12).

    Raises:
        ValueError: a path is not such a directory.
    """
    for path in paths:
        problem: Optional[str] = None
        if ".." in path:
            problem = "contains '..'"
        elif os.path.abspath(path) != os.path.realpath(path):
            problem = "leads through a symbolic link"
        elif not os.path.isdir(path):
            problem = "is not an existing directory"
        if problem:
            raise ValueError("ssd_data_path %r %s; give existing directories" % (path, problem))
