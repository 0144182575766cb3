"""Registers and removes the stand-in: ``sys.modules`` entries and the few patches that the real packages make too."""
import importlib
import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from typing import Any, Callable, Dict, List, Optional, Tuple

from rec_sdk_cpu import mx_rec_table, npu_bridge_modules

_REAL_PACKAGES = ("mx_rec", "rec_sdk_common", "npu_bridge", "hccl")
GENERATIONS = mx_rec_table.GENERATIONS
# What mpirun -np 1 sets, and the SDK reads its ranks from.
_ONE_RANK = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "1"}


class StandInError(RuntimeError):
    """The stand-in cannot be installed or removed here."""


class _AbsentModules(MetaPathFinder):
    """Lets an import of a module that the stand-in does not have fail with the reason, in one line."""

    def __init__(self, reasons: Dict[str, str]):
        self._reasons = reasons

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Returns None for any other module.

        Raises:
            ModuleNotFoundError: the stand-in does not have the module, or a package above it.
        """
        name = fullname
        while name:
            if name in self._reasons:
                raise ModuleNotFoundError(self._reasons[name])
            name = name.rpartition(".")[0]


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

    Where no variable of OpenMPI names a rank, the process becomes the only one, as under ``mpirun -np 1``.

    Args:
        force: install even where the real packages can be imported.
        generation: "G3" (current) or "G2" (6.0). A generation has its own modules and names, and differs in a few
            values and checks; a module of the other fails to import with a line that says what replaced it.

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
    from rec_sdk_cpu.core import config, patches, ranks
    config.ConfigInitializer.generation = generation
    table = dict(mx_rec_table.modules(generation), **npu_bridge_modules.modules())
    try:
        loaded = {name: importlib.import_module(path) for name, path in table.items()}
        for name in sorted(loaded):
            sys.modules[name] = loaded[name]
            _registry.modules.append(name)
            parent, _, child = name.rpartition(".")
            if parent and parent in loaded:
                setattr(loaded[parent], child, loaded[name])
        finder = _AbsentModules(mx_rec_table.absent(generation))
        sys.meta_path.insert(0, finder)
        _registry.undo.append(lambda: sys.meta_path.remove(finder))
        ranks.adopt_environment()
        _registry.undo.append(_become_the_only_rank())
        _registry.undo.append(patches.apply())
    except BaseException:
        uninstall()
        raise


def uninstall() -> None:
    """Undoes :func:`install`; does nothing where the stand-in is not installed."""
    while _registry.undo:
        _registry.undo.pop()()
    for name in reversed(_registry.modules):
        found = sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        # The other generation's package must not show it, whichever is installed next.
        if mx_rec_table.is_of_one_generation(name) and getattr(sys.modules.get(parent), child, None) is found:
            delattr(sys.modules[parent], child)
    _registry.modules.clear()
    config = sys.modules.get("rec_sdk_cpu.core.config")
    if config is not None:
        config.reset()
        config.ConfigInitializer.generation = "G3"


def module_names() -> Tuple[str, ...]:
    """Returns the real module names that are registered now, sorted."""
    return tuple(sorted(_registry.modules))


def module(name: str) -> Optional[Any]:
    """Returns the module registered under a real name, or None."""
    return sys.modules.get(name) if name in _registry.modules else None


def _become_the_only_rank() -> Callable[[], None]:
    """Sets OpenMPI's variables where none is set; returns a function that takes them away again."""
    if any(name in os.environ for name in _ONE_RANK):
        return lambda: None
    os.environ.update(_ONE_RANK)

    def undo() -> None:
        for name in _ONE_RANK:
            os.environ.pop(name, None)

    return undo
