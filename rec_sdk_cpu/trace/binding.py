"""Which calls and imports of a program fit which SDK generation and which release of ``npu_bridge``."""
import ast
import inspect
import json
import os
import sys
from typing import Any, Dict, List, NamedTuple, Optional

from rec_sdk_cpu.trace.recorder import Call

GENERATIONS = ("G2", "G3")
PROFILES = ("2021-02", "undated-A", "undated-B", "2026-07")
_CONTRACTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "contracts")
_NEW = ".__new__"


class Misfit(NamedTuple):
    """A call or an import that a generation or release does not take.

    Attributes:
        what: the call or the name.
        where: "file:line".
        reasons: {generation or release: why}.
    """

    what: str
    where: str
    reasons: Dict[str, str]


class Contracts:
    """The recorded signatures (``rec_sdk_cpu/contracts``)."""

    def __init__(self) -> None:
        sdk, bridge = _load("mx_rec.json"), _load("npu_bridge.json")
        self.symbols: Dict[str, Dict[str, Any]] = {entry["name"]: entry for entry in _load("symbols.json")["symbols"]}
        self._sdk: Dict[str, Dict[str, Any]] = {}
        for entry in sdk["callables"]:
            for path in entry["paths"] + (entry.get("g2_paths") or []):
                self._sdk[path] = entry
        self._run_config = bridge["run_config_class"]
        self._run_config_by_profile = bridge["run_config_by_profile"]
        self._signatures = {profile: {_without_new(name): parameters for name, parameters in signatures.items()}
                            for profile, signatures in bridge["signatures"].items()}

    def misfit(self, call: Call) -> Optional[Misfit]:
        """Returns where a call does not fit, or None where all take it or nothing is on record."""
        names = ", ".join(["..."] * call.positional + ["%s=" % keyword for keyword in call.keywords])
        reasons: Dict[str, str] = {}
        for place in GENERATIONS if not call.origin.startswith(("npu_bridge", "hccl")) else PROFILES:
            reason = self._reason(call, place)
            if reason:
                reasons[place] = reason
        return Misfit("%s(%s)" % (call.name, names), call.where, reasons) if reasons else None

    def is_on_record(self, call: Call) -> bool:
        """Returns whether the signature of a call is recorded at all."""
        return bool(call.name in self._sdk or call.origin in self._sdk or call.name in self.symbols
                    or call.origin in self.symbols or call.origin == self._run_config
                    or any(call.origin in signatures for signatures in self._signatures.values()))

    def _reason(self, call: Call, place: str) -> Optional[str]:
        if place in GENERATIONS:
            symbol = self.symbols.get(call.name) or self.symbols.get(call.origin)
            if symbol is not None and place not in symbol["in"]:
                return _absence(symbol)
            entry = self._sdk.get(call.name) or self._sdk.get(call.origin)
            if entry is None:
                return None
            parameters = (entry.get("g2_parameters") if place == "G2" else None) or entry["parameters"]
        elif call.origin == self._run_config:
            parameters = self._run_config_by_profile[place]
        else:
            # Two releases have all signatures on record; the two between them are held to the older one.
            record = self._signatures["2026-07" if place == "2026-07" else "2021-02"]
            if call.origin not in record:
                if call.origin in self._signatures["2026-07"]:
                    return "is not there" if place == "2021-02" else None
                return None
            parameters = record[call.origin]
        try:
            _signature(parameters).bind(*[None] * call.positional, **dict.fromkeys(call.keywords))
        except TypeError as error:
            return str(error)
        return None


def imports(contracts: Contracts, program: str) -> List[Misfit]:
    """Finds imports of SDK names that only one generation has, in the program's own modules.

    Args:
        contracts: the recorded names.
        program: the program's file; modules in its folder and below count as its own.
    """
    found: List[Misfit] = []
    root = os.path.dirname(os.path.abspath(program))
    paths = {os.path.abspath(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}
    # The main module itself has left sys.modules when it is over.
    paths.add(os.path.abspath(program))
    for path in sorted(paths):
        if path.startswith(root + os.sep) and path.endswith(".py") and "site-packages" not in path:
            found.extend(imports_of(contracts, path, root))
    return found


def imports_of(contracts: Contracts, path: str, root: str) -> List[Misfit]:
    """See :func:`imports`, for one file."""
    with open(path, encoding="utf-8") as stream:
        tree = ast.parse(stream.read(), path)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        for alias in node.names:
            symbol = contracts.symbols.get("%s.%s" % (node.module, alias.name))
            missing = [place for place in GENERATIONS if symbol is not None and place not in symbol["in"]]
            if symbol is not None and missing:
                place = "%s:%d" % (os.path.relpath(path, root), node.lineno)
                found.append(Misfit("from %s import %s" % (node.module, alias.name), place,
                                    dict.fromkeys(missing, _absence(symbol))))
    return found


def _absence(symbol: Dict[str, Any]) -> str:
    return "is not there; use %s" % symbol["note"] if "note" in symbol else "is not there"


def _signature(parameters: List[List[Any]]) -> inspect.Signature:
    made = []
    for name, *default in parameters:
        kind: Any = inspect.Parameter.POSITIONAL_OR_KEYWORD
        if name.startswith("**"):
            kind, name = inspect.Parameter.VAR_KEYWORD, name[2:]
        elif name.startswith("*"):
            kind, name = inspect.Parameter.VAR_POSITIONAL, name[1:]
        if default:
            made.append(inspect.Parameter(name, kind, default=default[0]))
        else:
            made.append(inspect.Parameter(name, kind))
    return inspect.Signature(made)


def _without_new(name: str) -> str:
    return name[:-len(_NEW)] if name.endswith(_NEW) else name


def _load(name: str) -> Dict[str, Any]:
    with open(os.path.join(_CONTRACTS, name), encoding="utf-8") as stream:
        return json.load(stream)
