"""The host as the launch and the preflight see it: files, programs, packages, environment. Nothing is imported or run.

Everything goes through one object, so that tests describe a host by a folder and a dictionary.
"""
import dataclasses
import glob
import importlib.machinery
import os
import platform
import re
import shutil
import sys
from typing import Iterable, List, Mapping, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine.

    Attributes:
        environment: its environment variables.
        root: folder that stands for ``/`` when absolute paths of the system are looked up.
        machine: processor, as ``uname -m`` names it.
        python: the interpreter that the ranks run.
        python_version: its version.
        python_path: where packages are searched.
        libc: C library and version, ``("glibc", "2.31")``.
    """

    environment: Mapping[str, str]
    root: str = "/"
    machine: str = "x86_64"
    python: str = "python3.7"
    python_version: Tuple[int, int, int] = (3, 7, 5)
    python_path: Tuple[str, ...] = ()
    libc: Tuple[str, str] = ("", "")

    def path(self, path: str) -> str:
        """Returns where an absolute path of the system is found."""
        return path if self.root == "/" else os.path.join(self.root, path.lstrip("/"))

    def exists(self, path: str) -> bool:
        """Whether a file or folder of the system exists."""
        return os.path.exists(self.path(path))

    def glob(self, pattern: str) -> List[str]:
        """Returns the system paths that match a pattern, sorted, as the system names them."""
        found = sorted(glob.glob(self.path(pattern)))
        return found if self.root == "/" else ["/" + os.path.relpath(name, self.root) for name in found]

    def which(self, program: str) -> Optional[str]:
        """Returns the path of a program on PATH, or None."""
        return shutil.which(program, path=self.environment.get("PATH", os.defpath))

    def read(self, path: str) -> str:
        """Returns a text file's contents, empty where it cannot be read."""
        try:
            with open(self.path(path), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        except OSError:
            return ""

    def package(self, name: str, extra: Iterable[str] = (), namespace: bool = False) -> Optional[str]:
        """Returns the folder of a package, or None. Neither the package nor a stand-in of its name is imported.

        Args:
            name: of a top-level package.
            extra: folders that the ranks search besides ``python_path``.
            namespace: whether a folder without ``__init__`` counts.
        """
        spec = importlib.machinery.PathFinder.find_spec(name, list(self.python_path) + list(extra))
        if spec is None or (spec.loader is None and not namespace):
            return None
        if spec.submodule_search_locations:
            return str(list(spec.submodule_search_locations)[0])
        return os.path.dirname(spec.origin) if spec.origin else None

    def version(self, *names: str, extra: Iterable[str] = ()) -> Optional[str]:
        """Returns the version of the first distribution of these names, from the names of its metadata folder.

        Args:
            *names: distribution names; ``-`` and ``_`` are the same.
            extra: folders besides ``python_path``.
        """
        wanted = "|".join(re.sub(r"[-_.]", "[-_.]", name.lower()) for name in names)
        pattern = re.compile(r"(?:%s)-([0-9][^-]*)(?:-.*)?\.(?:dist|egg)-info\Z" % wanted)
        for folder in list(self.python_path) + list(extra):
            try:
                entries = sorted(os.listdir(folder or "."))
            except OSError:
                continue
            for match in map(pattern.match, map(str.lower, entries)):
                if match:
                    return match.group(1)
        return None


def this_host() -> Host:
    """Returns the machine and the interpreter that run this program."""
    version = sys.version_info
    return Host(environment=dict(os.environ), machine=platform.machine(), python=sys.executable or "python3.7",
                python_version=(version[0], version[1], version[2]), python_path=tuple(sys.path),
                libc=platform.libc_ver())
