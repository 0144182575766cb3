"""Hosts: where the ranks are placed, and one machine as the launch and the preflight see it."""
import contextlib
import dataclasses
import glob
import importlib.machinery
import os
import platform
import re
import shutil
import socket
import sys
from typing import List, Mapping, Optional, Set, Tuple

from feature_specs.checks import refuse
from feature_specs.errors import ConfigError

LOCAL = "localhost"
_HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([0-9]{1,4}))?\Z")


@dataclasses.dataclass(frozen=True)
class Placement:
    """Which hosts run the ranks, numbered host by host; the SDK needs the same number on each."""

    hosts: Tuple[str, ...]
    slots: int  # ranks on each: the SDK's dense writers are those with rank % local_rank_size == 0 (rec_sdk_api 5.3)

    @property
    def ranks(self) -> int:
        """Ranks on all hosts together."""
        return len(self.hosts) * self.slots

    @property
    def remote(self) -> bool:
        """Whether ranks may run on other hosts than this one."""
        return self.hosts != (LOCAL,)

    @property
    def text(self) -> str:
        """The hosts as ``mpirun -H`` and ``horovodrun -H`` read them."""
        return ",".join("%s:%d" % (name, self.slots) for name in self.hosts)


def place(hosts: str, ranks: Optional[int], default: int) -> Placement:
    """Reads ``--hosts`` and ``--ranks``, or refuses them (ConfigError); ``default`` ranks a host if neither says it."""
    names: List[str] = []
    numbers: Set[Optional[int]] = set()
    for part in hosts.split(",") if hosts else [LOCAL]:
        match = _HOST.match(part.strip())
        if not match:
            raise ConfigError("--hosts: %r is not a host; allowed: NAME or NAME:RANKS, separated by commas" % part)
        names.append(match.group(1))
        numbers.add(int(match.group(2)) if match.group(2) else None)
    refuse(len(set(names)) != len(names), "--hosts %s names a host twice; name each once, with all its ranks", hosts)
    refuse(len(numbers) > 1 or 0 in numbers,
           "--hosts %s: every host needs the same number of ranks, at least 1 (h1:4,h2:4), because one rank per host "
           "writes the dense variables", hosts)
    given = (numbers.pop() or 0) * len(names)
    refuse(given and ranks not in (None, given), "--ranks %d, but --hosts %s has %d ranks; give one of the two",
           ranks, hosts, given)
    total = given or (default * len(names) if ranks is None else ranks)
    refuse(total < 1 or total % len(names),
           "%s; allowed: a number from 1 on, the same on each of %d hosts (--hosts h1:4,h2:4)",
           "--hosts %s says no number of ranks" % hosts if ranks is None else "--ranks %d" % ranks, len(names))
    return Placement(tuple(names), total // len(names))


def address_of(name: str, otherwise: Optional[str] = None) -> str:
    """Returns the IPv4 address of a host; where the name is unknown ``otherwise``, or a ConfigError is raised."""
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        if otherwise is not None:
            return otherwise
        raise ConfigError("host %s has no address that this host knows (%s); give addresses in --hosts"
                          % (name, error.strerror or error)) from error


@dataclasses.dataclass(frozen=True)
class Host:
    """A machine: nothing of it is imported or run, so that tests describe one by a folder and a dictionary."""

    environment: Mapping[str, str]
    root: str = "/"  # the folder that stands for it
    machine: str = "x86_64"  # as ``uname -m`` names it
    python: str = "python3.7"  # the interpreter that the ranks run
    python_version: Tuple[int, int, int] = (3, 7, 5)
    python_path: Tuple[str, ...] = ()
    libc: Tuple[str, str] = ("", "")  # name and version

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

    def available_memory(self) -> Optional[int]:
        """Returns the bytes that can be used without swapping, or None where the system does not say so."""
        match = re.search(r"^MemAvailable:\s+(\d+) kB", self.read("/proc/meminfo"), re.MULTILINE)
        return int(match.group(1)) << 10 if match else None

    def glibc_is_safe(self) -> Optional[bool]:
        """Whether the C library needs no preloaded libstdc++ (rec_sdk_api 10); None where it is not glibc."""
        numbers = tuple(int(part) for part in re.findall(r"\d+", self.libc[1])[:2])
        return numbers >= (2, 34) if self.libc[0] == "glibc" and len(numbers) == 2 else None

    def package(self, name: str, namespace: bool = False) -> Optional[str]:
        """Returns the folder of a top-level package; with ``namespace`` one without ``__init__`` counts."""
        spec = importlib.machinery.PathFinder.find_spec(name, list(self.python_path))
        if spec is None or (spec.loader is None and not namespace):
            return None
        if spec.submodule_search_locations:
            return str(list(spec.submodule_search_locations)[0])
        return os.path.dirname(spec.origin) if spec.origin else None

    def version(self, *names: str) -> Optional[str]:
        """Returns the version of the first distribution of these names, from the name of its metadata folder."""
        wanted = "|".join(re.sub(r"[-_.]", "[-_.]", name.lower()) for name in names)
        pattern = re.compile(r"(?:%s)-([0-9][^-]*)(?:-.*)?\.(?:dist|egg)-info\Z" % wanted)
        for folder in self.python_path:
            with contextlib.suppress(OSError):
                for match in map(pattern.match, map(str.lower, sorted(os.listdir(folder or ".")))):
                    if match:
                        return match.group(1)
        return None


def this_host() -> Host:
    """Returns the machine and the interpreter that run this program."""
    return Host(environment=dict(os.environ), machine=platform.machine(), python=sys.executable or "python3.7",
                python_version=sys.version_info[:3], python_path=tuple(sys.path), libc=platform.libc_ver())
