"""Registers and removes the stand-in: ``sys.modules`` entries and the few patches that the real packages make too."""
import importlib
import importlib.util
import sys
from typing import Callable, Dict, List, Tuple

_REAL_PACKAGES = ("mx_rec", "rec_sdk_common", "npu_bridge", "hccl")
GENERATIONS = ("G2", "G3")
_MODULE_TABLES = ("rec_sdk_cpu.mx_rec_table", "rec_sdk_cpu.npu_bridge_modules")


class StandInError(RuntimeError):
    """The stand-in cannot be installed or removed here."""


class _Registry:
    """What the current process has installed, so that it can be undone."""

    def __init__(self) -> None:
        self.modules: List[str] = []
        self.undo: List[Callable[[], None]] = []


_registry = _Registry()


def is_installed() -> bool:
    """Returns True where the real module names lead to the stand-in."""
    return bool(_registry.modules)


def install(force: bool = False, generation: str = "G3") -> None:
    """Makes ``mx_rec``, ``rec_sdk_common``, ``npu_bridge`` and ``hccl`` importable; a second call does nothing.

    Args:
        force: install even where the real packages can be imported.
        generation: "G3" (current) or "G2" (6.0), where the two differ in values or checks: the place of lazy Adam's
            epsilon, learning rates given as tensors, the largest host table. The modules of both are there always.

    Raises:
        ValueError: another generation.
        StandInError: the real packages are here (and ``force`` is not given), or were imported already.
    """
    if generation not in GENERATIONS:
        raise ValueError("generation %r is not known; choose from %s" % (generation, ", ".join(GENERATIONS)))
    if is_installed():
        return
    present = [name for name in _REAL_PACKAGES if name in sys.modules]
    if present:
        raise StandInError("the real %s is already imported in this process; the stand-in cannot take its place"
                           % ", ".join(present))
    if not force:
        present = [name for name in _REAL_PACKAGES if importlib.util.find_spec(name) is not None]
        if present:
            raise StandInError("the real %s can be imported here; run with --device npu, or pass force=True to use "
                               "the CPU stand-in all the same" % ", ".join(present))
    table: Dict[str, str] = {}
    for package in _MODULE_TABLES:
        table.update(importlib.import_module(package).MODULES)
    loaded = {name: importlib.import_module(path) for name, path in table.items()}
    try:
        for name in sorted(loaded):
            sys.modules[name] = loaded[name]
            _registry.modules.append(name)
            parent, _, child = name.rpartition(".")
            if parent and parent in loaded:
                setattr(loaded[parent], child, loaded[name])
        from rec_sdk_cpu.core import config, patches
        config.ConfigInitializer.generation = generation
        _registry.undo.append(patches.apply())
    except BaseException:
        uninstall()
        raise


def uninstall() -> None:
    """Undoes :func:`install`; does nothing where the stand-in is not installed."""
    while _registry.undo:
        _registry.undo.pop()()
    for name in _registry.modules:
        sys.modules.pop(name, None)
    _registry.modules.clear()
    config = sys.modules.get("rec_sdk_cpu.core.config")
    if config is not None:
        config.reset()
        config.ConfigInitializer.generation = "G3"


def module_names() -> Tuple[str, ...]:
    """Returns the real module names that are registered now, sorted."""
    return tuple(sorted(_registry.modules))
