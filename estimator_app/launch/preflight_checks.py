"""The single checks of the preflight: each looks for one thing and returns one row. Nothing is imported or started."""
import dataclasses
import os
import re
import shutil
import time
from typing import List, Optional, Tuple

from estimator_app.launch.environment import LaunchOptions, check_model_dir, check_scheme, compose, glibc_is_safe
from estimator_app.launch.hosts import Host
from feature_specs.checks import is_digits
from feature_specs.data_files import check_shards
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, read_manifest

OK, WARN, MISSING = "ok", "warn", "missing"

_TOOLKIT_VARIABLES = ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")
_TOOLKIT_DEFAULT = "/usr/local/Ascend/ascend-toolkit/latest"
_TOOLKIT_VERSION = re.compile(r"^(?:toolkit_installed_version|version)\s*=\s*\[?([^\]\s]+)", re.MULTILINE)
_DRIVER_VERSION = "/usr/local/Ascend/driver/version.info"
_NPU_SMI = "/usr/local/bin/npu-smi"
_G3_LIBRARIES = ("librecsdk_tf_npu_ops.so", "librecsdk_tf_rec_v1_cpu_ops.so")
_G2_LIBRARIES = ("libasc_ops.so",)
_CUSTOM_OP = re.compile(r"cust_op_by_addr|embedding_?(lookup|update)_?by_?address", re.IGNORECASE)
_CUSTOM_OP_ENTRIES = 20000
_CHECKPOINTS = 3  # the one being written, the one before, the best
_LITTLE_DISK = 1 << 30
_SHARED_TRIES, _SHARED_SECONDS = 20, 0.5  # a network file system may show a new file late
_SET_ENV = "source its set_env.sh before the command"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        status: ``ok``, ``warn`` or ``missing``; with the last one nothing can start.
        name: what was looked for.
        found: what is there.
        fix: what to do; empty where nothing is to be done.
    """

    status: str
    name: str
    found: str
    fix: str = ""


def python_version(host: Host, vendor: bool) -> Row:
    """Checks the interpreter of the ranks."""
    version = host.python_version
    text = "%d.%d.%d" % version
    if version[:2] != (3, 7):
        return Row(MISSING, "Python", text, "use CPython 3.7%s" % (".5 to 3.7.11" if vendor else ""))
    if vendor and not (3, 7, 5) <= version <= (3, 7, 11):
        return Row(WARN, "Python", text, "the vendor supports 3.7.5 to 3.7.11; set PYTHON to one of these")
    return Row(OK, "Python", text)


def package(host: Host, name: str, *distributions: str, command: str = "setup") -> Row:
    """Looks for a package that a command of ``run_estimator.sh`` installs."""
    if not host.package(name):
        return Row(MISSING, name, "none", "bash run_estimator.sh %s" % command)
    return Row(OK, name, host.version(name, *distributions) or "found")


def tensorflow(host: Host) -> Row:
    """Checks TensorFlow's version by its metadata."""
    if not host.package("tensorflow"):
        return Row(MISSING, "TensorFlow", "none", "install tensorflow-cpu 1.15.0 into the host's Python 3.7")
    version = host.version("tensorflow", "tensorflow-cpu")
    if version is None:
        return Row(WARN, "TensorFlow", "found, version unknown", "make sure that it is 1.15")
    if not version.startswith("1.15"):
        return Row(MISSING, "TensorFlow", version, "install tensorflow-cpu 1.15.0")
    return Row(OK, "TensorFlow", version)


def c_library(host: Host) -> Row:
    """Checks the C library."""
    text = (" ".join(host.libc)).strip() or "unknown"
    if glibc_is_safe(host):
        return Row(OK, "C library", text)
    return Row(WARN, "C library", text, "glibc 2.34 or newer is safe; with an older one the launch preloads libstdc++")


def generation_of(host: Host, extra: List[str]) -> str:
    """Returns G1, G2 or G3, empty where mx_rec is not found, ``unknown`` where its files fit none (rec_sdk_api 0)."""
    folder = host.package("mx_rec", extra)
    if folder is None:
        return ""
    util = os.path.join(folder, "util")
    names = os.listdir(util) if os.path.isdir(util) else []
    stems = {name.split(".", 1)[0] for name in names}
    if host.package("rec_sdk_common", extra):
        return "G3"
    if "communication" in stems:
        return "G2"
    return "G1" if "tf_version_adapter" in stems else "unknown"


def rec_sdk(host: Host, extra: List[str], generation: str) -> Row:
    """Reports the generation and version of the Rec SDK."""
    if not generation:
        return Row(MISSING, "Rec SDK (mx_rec)", "none", "install the Rec SDK for TensorFlow 1.15, or correct "
                                                        "--rec_package_path")
    text = "%s, version %s" % (generation, host.version("mx_rec", "tf_rec_v1", extra=extra) or "unknown")
    if generation == "G1":
        return Row(MISSING, "Rec SDK (mx_rec)", text, "install Rec SDK 6.0 or newer (G2 or G3)")
    if generation == "unknown":
        return Row(WARN, "Rec SDK (mx_rec)", text,
                   "install Rec SDK 6.0 or newer; with G3, rec_sdk_common must be found")
    return Row(OK, "Rec SDK (mx_rec)", text)


def tf_adapter(host: Host, extra: List[str]) -> Row:
    """Looks for TF Adapter and the HCCL package that CANN brings."""
    absent = [name for name in ("npu_bridge", "hccl") if not host.package(name, extra, name == "hccl")]
    if absent:
        return Row(MISSING, "TF Adapter (npu_bridge)", "%s not found" % " and ".join(absent),
                   "install npu_bridge 1.15.0 and CANN; source CANN's set_env.sh before the command")
    version = host.version("npu_bridge", "npu-bridge", extra=extra)
    return Row(OK, "TF Adapter (npu_bridge)", "version %s" % (version or "unknown"))


def op_library(options: LaunchOptions, host: Host, extra: List[str], generation: str) -> Row:
    """Looks for the SDK's op libraries of the generation found."""
    package = host.package("mx_rec", extra)
    folder = options.so_path or (os.path.join(package, "libasc") if package else "")
    if not folder:
        return Row(MISSING, "op library", "no folder", "install the Rec SDK, or give --so_path <mx_rec>/libasc")
    present = {name for name in _G3_LIBRARIES + _G2_LIBRARIES if os.path.isfile(os.path.join(folder, name))}
    wanted = _G2_LIBRARIES if generation in ("G1", "G2") else _G3_LIBRARIES
    if generation in ("", "unknown") and set(_G2_LIBRARIES) <= present:
        wanted = _G2_LIBRARIES
    absent = [name for name in wanted if name not in present]
    if absent:
        return Row(MISSING, "op library", "%s not in %s" % (", ".join(absent), folder),
                   "give --so_path <mx_rec>/libasc of the installed Rec SDK")
    return Row(OK, "op library", "%s in %s" % (", ".join(wanted), folder))


def custom_op(host: Host, expansion: bool) -> Row:
    """Looks for the operators that tables which grow need."""
    name = "cust_op_by_addr"
    folders = [host.path(path) for path in (
        os.path.join(host.environment.get("ASCEND_OPP_PATH", ""), "vendors"),
        host.environment.get("ASCEND_CUSTOM_OPP_PATH", "")) if os.path.isabs(path)]
    seen = 0
    for folder in folders:
        for parent, subfolders, files in os.walk(folder):
            seen += len(files) + len(subfolders)
            if any(_CUSTOM_OP.search(entry) for entry in subfolders + files):
                return Row(OK, name, "found in %s" % parent)
            if seen > _CUSTOM_OP_ENTRIES:
                break
    if expansion:
        return Row(WARN, name, "not found under ASCEND_OPP_PATH",
                   "build and install the Rec SDK's cust_op_by_addr: tables that grow need it")
    return Row(OK, name, "not found, not needed (use_dynamic_expansion is false)")


def mpi(host: Host) -> Row:
    """Looks for the program that starts the ranks."""
    if host.which("mpirun"):
        runner = "horovodrun" if host.which("horovodrun") else "mpirun (no horovodrun)"
        return Row(OK, "MPI", runner)
    return Row(MISSING, "MPI", "no mpirun on PATH", "install Open MPI 4.1.5 and put its bin folder on PATH")


def mpi4py(host: Host, extra: List[str]) -> Row:
    """Looks for the package through which mx_rec starts MPI."""
    if host.package("mpi4py", extra):
        return Row(OK, "mpi4py", host.version("mpi4py", extra=extra) or "version unknown")
    return Row(MISSING, "mpi4py", "none", "install mpi4py, built against the same Open MPI; mx_rec imports it")


def devices(host: Host, ranks: Optional[int]) -> Row:
    """Counts the device files."""
    numbers = [name for name in host.glob("/dev/davinci[0-9]*") if re.search(r"davinci\d+\Z", name)]
    visible = host.environment.get("ASCEND_RT_VISIBLE_DEVICES") or host.environment.get("ASCEND_VISIBLE_DEVICES")
    text = "%d devices%s" % (len(numbers), ", visible: %s" % visible if visible else "")
    if not numbers:
        return Row(MISSING, "devices", "no /dev/davinci*",
                   "run on an NPU host; in a container, pass the devices through")
    if ranks is not None and ranks > len(numbers):
        return Row(MISSING, "devices", text,
                   "give --ranks %d or fewer, or pass %d devices through" % (len(numbers), ranks))
    if not host.exists("/dev/davinci_manager"):
        return Row(WARN, "devices", text + ", no /dev/davinci_manager", "in a container, pass it through as well")
    return Row(OK, "devices", text)


def driver(host: Host) -> Row:
    """Looks for the driver."""
    version = re.search(r"^Version=(.+)$", host.read(_DRIVER_VERSION), re.MULTILINE | re.IGNORECASE)
    tool = host.which("npu-smi") or (_NPU_SMI if host.exists(_NPU_SMI) else None)
    if version:
        return Row(OK, "driver", version.group(1).strip() + ("" if tool else ", no npu-smi"))
    if tool:
        return Row(OK, "driver", "version unknown, npu-smi is there")
    return Row(MISSING, "driver", "no npu-smi, no %s" % _DRIVER_VERSION,
               "install the NPU driver and firmware; in a container, mount the driver's folder")


def toolkit(host: Host) -> Row:
    """Looks for CANN's version file."""
    given = [host.environment[name] for name in _TOOLKIT_VARIABLES if host.environment.get(name)]
    for folder in given + [_TOOLKIT_DEFAULT]:
        for path in [os.path.join(folder, "version.cfg")] + host.glob(
                os.path.join(folder, "*-linux", "ascend_toolkit_install.info")):
            match = _TOOLKIT_VERSION.search(host.read(path))
            if match:
                text = "CANN %s in %s" % (match.group(1), folder)
                if host.environment.get("ASCEND_OPP_PATH"):
                    return Row(OK, "CANN toolkit", text)
                return Row(MISSING, "CANN toolkit", text + ", ASCEND_OPP_PATH is unset", _SET_ENV)
    return Row(MISSING, "CANN toolkit", "no version file", "install the CANN toolkit; %s" % _SET_ENV)


def rank_scheme(options: LaunchOptions, host: Host) -> Tuple[Row, Optional[int]]:
    """Returns the row of the rank scheme, and the number of ranks on this host where it can be told."""
    name = "rank scheme"
    if not options.hccl_cfg_json and not options.ip and not options.hosts:
        return Row(WARN, name, "not given", "give --hccl_cfg_json FILE or --ip ADDRESS to have it checked"), None
    try:
        check_scheme(options)
        environment = compose(dataclasses.replace(options, dry_run=False), host)
    except ConfigError as error:
        return Row(MISSING, name, str(error)), None
    where = options.hccl_cfg_json or "%s, port %s" % (environment.values["CM_CHIEF_IP"],
                                                      environment.values["CM_CHIEF_PORT"])
    placement = environment.placement
    return Row(OK, name, "%s, ranks: %d, %s" % (environment.scheme, placement.ranks, where)), placement.slots


def existing(path: str) -> str:
    """Returns the directory itself, or the nearest one above it that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def model_directory(model_dir: str, npu: bool) -> Row:
    """Checks that checkpoints can be written; the SDK refuses some places."""
    name = "model directory"
    problem = check_model_dir(model_dir) if npu else None
    if problem:
        return Row(MISSING, name, problem)
    if os.path.exists(model_dir) and not os.path.isdir(model_dir):
        return Row(MISSING, name, "%s is not a directory" % model_dir, "choose another --model_dir")
    if not os.access(existing(model_dir), os.W_OK | os.X_OK):
        return Row(MISSING, name, "%s cannot be written" % existing(model_dir), "choose another --model_dir")
    return Row(OK, name, model_dir)


def disk(model_dir: str, table_bytes: int) -> Row:
    """Compares the free disk space with the checkpoints that are kept at once."""
    free = shutil.disk_usage(existing(model_dir)).free
    needed = max(_CHECKPOINTS * table_bytes, _LITTLE_DISK)
    text = "%s free in %s" % (_size(free), existing(model_dir))
    if free >= needed:
        return Row(OK, "disk", text)
    if table_bytes:
        return Row(MISSING, "disk", "%s, %d checkpoints of the tables take %s" % (text, _CHECKPOINTS, _size(needed)),
                   "free some, or choose another --model_dir")
    return Row(WARN, "disk", text, "free some, or choose another --model_dir")


def memory(host: Host, table_bytes: float) -> Row:
    """Compares the memory that is available with that of the tables on this host."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", host.read("/proc/meminfo"), re.MULTILINE)
    if not match:
        return Row(OK, "memory", "unknown")
    available = int(match.group(1)) << 10
    limit, used = host.read("/sys/fs/cgroup/memory.max").strip(), host.read("/sys/fs/cgroup/memory.current").strip()
    if is_digits(limit) and is_digits(used):
        available = min(available, max(0, int(limit) - int(used)))
    text = "%s available" % _size(available)
    if table_bytes:
        text += ", the tables on this host take %s" % _size(table_bytes)
    if table_bytes > available:
        return Row(MISSING, "memory", text, "spread the tables over more --hosts, or take a smaller --embedding_dim")
    return Row(OK, "memory", text)


def data_directory(data_dir: str) -> Row:
    """Looks for prepared data whose files are there."""
    name = "data directory"
    try:
        manifest = read_manifest(data_dir)
        for split in (TRAIN_SPLIT, TEST_SPLIT):
            check_shards(manifest, data_dir, split)
    except DataError as error:
        return Row(MISSING, name, str(error))
    return Row(OK, name, data_dir)


def shared_storage(path: str) -> Row:
    """Looks for the file that the launching host has made beside the model directory."""
    name, folder = "shared storage", os.path.dirname(path)
    for _ in range(_SHARED_TRIES):
        if os.path.exists(path):
            return Row(OK, name, "the launching host's files are seen in %s" % folder)
        time.sleep(_SHARED_SECONDS)
    return Row(MISSING, name, "%s is not the launching host's" % folder,
               "put --model_dir on storage that all hosts mount under the same path")


def _size(number: float) -> str:
    return "%.1f GB" % (number / 1e9) if number >= 1e8 else "%.1f MB" % (number / 1e6)
