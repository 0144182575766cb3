"""What the preflight looks for on one host, what it finds and how to get what is missing.

Nothing is started, and nothing of the vendor is imported: importing ``mx_rec`` patches TensorFlow, loads op libraries
and starts a probe of a file system (rec_sdk_api 0.1). Packages are found by their folders, versions by their metadata,
hardware by its device files.
"""
import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import time
from typing import Iterator, List, Mapping, NamedTuple, Tuple

from estimator_app.config import NPU
from estimator_app.launch.environment import SCHEMES, LaunchOptions, check_model_dir, compose, package_folders
from estimator_app.launch.hosts import Host
from feature_specs.checks import is_digits, size_shown
from feature_specs.data_files import check_shards
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, read_manifest

OK, WARN, MISSING = "ok", "warn", "missing"

_TOOLKIT_VERSION = re.compile(r"^(?:toolkit_installed_version|version)\s*=\s*\[?([^\]\s]+)", re.MULTILINE)
_DRIVER_VERSION = "/usr/local/Ascend/driver/version.info"
_G3_LIBRARIES = ("librecsdk_tf_npu_ops.so", "librecsdk_tf_rec_v1_cpu_ops.so")
_G2_LIBRARIES = ("libasc_ops.so",)
_CUSTOM_OP = re.compile(r"cust_op_by_addr|embedding_?(lookup|update)_?by_?address", re.IGNORECASE)
_CUSTOM_OP_FOLDERS = 2000  # that are searched at most
_CHECKPOINTS = 3  # the one being written, the one before, the best
_LITTLE_DISK = 1 << 30
_SHARED_TRIES, _SHARED_SECONDS = 20, 0.5  # a network file system may show a new file late
_SET_ENV = "source its set_env.sh before the command"
_OTHER_DIRECTORY = "choose another --model_dir"

# Status, what is there, and what to do, empty where nothing is to be done. With ``MISSING`` nothing can start.
_Finding = Tuple[str, str, str]


class Row(NamedTuple):
    """A line of the table: a finding and the name of what was looked for."""

    status: str
    name: str
    found: str
    fix: str = ""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a run is to have; data and shared file are looked at where they are given."""

    model_dir: str
    data_dir: str = ""
    expansion: bool = False  # whether tables are to grow without a fixed capacity
    table_bytes: int = 0  # memory of all tables with their optimizer states; 0: unknown
    shared_file: str = ""  # which the launching host has made and every one of several hosts must see


def check(options: LaunchOptions, host: Host, wanted: Wanted) -> List[Row]:
    """Checks one host. Paths and scheme of the options may be empty where only the host is looked at."""
    npu = options.device == NPU
    found = {"Python": _python_version(host, vendor=npu)}
    if npu:
        if options.rec_package_path:  # the ranks search there, too
            host = dataclasses.replace(host, python_path=host.python_path + tuple(package_folders(options)))
        found.update({
            "TensorFlow": _tensorflow(host),
            "C library": _c_library(host),
            "Rec SDK (mx_rec)": _rec_sdk(host),
            "TF Adapter (npu_bridge)": _tf_adapter(host),
            "op library": _op_library(host, options.so_path),
            "cust_op_by_addr": _custom_op(host, wanted.expansion),
            "MPI": _mpi(host),
            "mpi4py": _package(host, "install mpi4py, built against the same Open MPI; mx_rec imports it", "mpi4py"),
            "devices": _devices(host, options),
            "driver": _driver(host),
            "CANN toolkit": _toolkit(host),
            "rank scheme": _rank_scheme(host, options),
        })
    else:
        setup = "bash run_estimator.sh setup"
        found["tensorflow"] = _package(host, setup, "tensorflow", "tensorflow-cpu")
        found["numpy"] = _package(host, setup, "numpy")
        if options.hosts or (options.ranks or 1) > 1:
            found["horovod"] = _package(host, setup + " --distributed", "horovod")
        found["memory"] = _memory(host, wanted.table_bytes / len(options.hosts.split(",")))
    found["model directory"] = _model_directory(wanted.model_dir, vendor=npu)
    found["disk"] = _disk(wanted.model_dir, wanted.table_bytes)
    if wanted.data_dir:
        found["data directory"] = _data_directory(wanted.data_dir)
    if wanted.shared_file:
        found["shared storage"] = _shared_storage(wanted.shared_file)
    rows = [Row(status, name, text, fix) for name, (status, text, fix) in found.items()]
    if npu:
        launching = bool(options.hccl_cfg_json or options.ip or options.hosts)
        rows += list(_conflicts(host.environment, launching)) or [
            Row(OK, "environment", "no variable that changes a run unasked")]
    return rows


def _conflicts(environment: Mapping[str, str], launching: bool) -> Iterator[Row]:
    """Finds variables that would change a run behind its back (npu_bridge_api 2.1, 2.5; rec_sdk_api 5.3)."""
    given = {name: value for name, value in environment.items() if value}
    if '"cluster"' in given.get("TF_CONFIG", ""):
        yield Row(MISSING, "TF_CONFIG", "describes a cluster, which TF Adapter takes for parameter servers",
                  "unset TF_CONFIG")
    for name in ("RESTORE_FROM", "LOCAL_CHECKPOINT_DIR"):
        if name in given:
            yield Row(MISSING, name, "%s: training would start from that checkpoint without being told" % given[name],
                      "unset %s" % name)
    device = given.get("TF_DEVICE", "NONE")
    if device != "NONE":
        yield Row(MISSING if device == "NPU" else WARN, "TF_DEVICE",
                  "%s: the saver leaves out tables with TF_DEVICE=NPU" % device, "unset TF_DEVICE")
    if "POD_NAME" in given:
        yield Row(WARN, "POD_NAME", "%s: TF Adapter reads it in place of RANK_ID" % given["POD_NAME"],
                  "unset POD_NAME unless a cluster manager sets it")
    with_table, without = ([name for name in names if name in given] for names in SCHEMES)
    if with_table and without:
        yield Row(WARN if launching else MISSING, "rank schemes",
                  "both %s and %s are set" % (", ".join(with_table), ", ".join(without)),
                  "unset one group%s" % (" (the launch removes the one it does not use)" if launching else ""))


def _python_version(host: Host, vendor: bool) -> _Finding:
    version = host.python_version
    text = "%d.%d.%d" % version
    if version[:2] != (3, 7):
        return MISSING, text, "use CPython 3.7%s" % (".5 to 3.7.11" if vendor else "")
    if vendor and not (3, 7, 5) <= version <= (3, 7, 11):
        return WARN, text, "the vendor supports 3.7.5 to 3.7.11; set PYTHON to one of these"
    return OK, text, ""


def _package(host: Host, fix: str, *names: str) -> _Finding:
    if not host.package(names[0]):
        return MISSING, "none", fix
    return OK, host.version(*names) or "found", ""


def _tensorflow(host: Host) -> _Finding:
    if not host.package("tensorflow"):
        return MISSING, "none", "install tensorflow-cpu 1.15.0 into the host's Python 3.7"
    version = host.version("tensorflow", "tensorflow-cpu")
    if version is None:
        return WARN, "found, version unknown", "make sure that it is 1.15"
    return (OK, version, "") if version.startswith("1.15") else (MISSING, version, "install tensorflow-cpu 1.15.0")


def _c_library(host: Host) -> _Finding:
    text = " ".join(host.libc).strip() or "unknown"
    if host.glibc_is_safe():
        return OK, text, ""
    return WARN, text, "glibc 2.34 or newer is safe; with an older one the launch preloads libstdc++"


def _generation_of(host: Host) -> str:
    folder = host.package("mx_rec")
    if folder is None:
        return ""
    if host.package("rec_sdk_common"):
        return "G3"
    util = os.path.join(folder, "util")
    stems = {name.split(".", 1)[0] for name in os.listdir(util)} if os.path.isdir(util) else set()
    if "communication" in stems:
        return "G2"
    return "G1" if "tf_version_adapter" in stems else "unknown"


def _rec_sdk(host: Host) -> _Finding:
    generation = _generation_of(host)
    if not generation:
        return MISSING, "none", "install the Rec SDK for TensorFlow 1.15, or correct --rec_package_path"
    text = "%s, version %s" % (generation, host.version("mx_rec", "tf_rec_v1") or "unknown")
    if generation == "G1":
        return MISSING, text, "install Rec SDK 6.0 or newer (G2 or G3)"
    if generation == "unknown":
        return WARN, text, "install Rec SDK 6.0 or newer; with G3, rec_sdk_common must be found"
    return OK, text, ""


def _tf_adapter(host: Host) -> _Finding:
    absent = [name for name in ("npu_bridge", "hccl") if not host.package(name, namespace=name == "hccl")]
    if absent:
        return (MISSING, "%s not found" % " and ".join(absent),
                "install npu_bridge 1.15.0 and CANN; source CANN's set_env.sh before the command")
    return OK, "version %s" % (host.version("npu_bridge") or "unknown"), ""


def _op_library(host: Host, so_path: str) -> _Finding:
    folder = so_path or os.path.join(host.package("mx_rec") or "<mx_rec>", "libasc")
    present = {name for name in _G3_LIBRARIES + _G2_LIBRARIES if os.path.isfile(os.path.join(folder, name))}
    generation = _generation_of(host)
    is_old = generation in ("G1", "G2") or (generation != "G3" and set(_G2_LIBRARIES) <= present)
    wanted = _G2_LIBRARIES if is_old else _G3_LIBRARIES
    absent = [name for name in wanted if name not in present]
    if absent:
        return (MISSING, "%s not in %s" % (", ".join(absent), folder),
                "give --so_path <mx_rec>/libasc of the installed Rec SDK")
    return OK, "%s in %s" % (", ".join(wanted), folder), ""


def _custom_op(host: Host, expansion: bool) -> _Finding:
    given = host.environment.get
    folders = [os.path.join(given("ASCEND_OPP_PATH", ""), "vendors"), given("ASCEND_CUSTOM_OPP_PATH", "")]
    walks = [os.walk(host.path(folder)) for folder in folders if os.path.isabs(folder)]
    for parent, subfolders, files in itertools.islice(itertools.chain(*walks), _CUSTOM_OP_FOLDERS):
        if any(_CUSTOM_OP.search(entry) for entry in subfolders + files):
            return OK, "found in %s" % parent, ""
    if expansion:
        return (WARN, "not found under ASCEND_OPP_PATH",
                "build and install the Rec SDK's cust_op_by_addr: tables that grow need it")
    return OK, "not found, not needed (use_dynamic_expansion is false)", ""


def _mpi(host: Host) -> _Finding:
    if not host.which("mpirun"):
        return MISSING, "no mpirun on PATH", "install Open MPI 4.1.5 and put its bin directory on PATH"
    return OK, "horovodrun" if host.which("horovodrun") else "mpirun (no horovodrun)", ""


def _devices(host: Host, options: LaunchOptions) -> _Finding:
    count = sum(bool(re.search(r"davinci\d+\Z", name)) for name in host.glob("/dev/davinci[0-9]*"))
    visible = host.environment.get("ASCEND_RT_VISIBLE_DEVICES") or host.environment.get("ASCEND_VISIBLE_DEVICES")
    text = "%d devices%s" % (count, ", visible: %s" % visible if visible else "")
    if not count:
        return MISSING, "no /dev/davinci*", "run on an NPU host; in a container, pass the devices through"
    ranks = 0
    with contextlib.suppress(ConfigError):  # which is in the row of the rank scheme
        ranks = compose(options, host).placement.slots
    if ranks > count:
        return MISSING, text, "give --ranks %d or fewer, or pass %d devices through" % (count, ranks)
    if not host.exists("/dev/davinci_manager"):
        return WARN, text + ", no /dev/davinci_manager", "in a container, pass it through as well"
    return OK, text, ""


def _driver(host: Host) -> _Finding:
    version = re.search(r"^Version=(.+)$", host.read(_DRIVER_VERSION), re.MULTILINE | re.IGNORECASE)
    has_tool = bool(host.which("npu-smi")) or host.exists("/usr/local/bin/npu-smi")
    if version:
        return OK, version.group(1).strip() + ("" if has_tool else ", no npu-smi"), ""
    if has_tool:
        return OK, "version unknown, npu-smi is there", ""
    return (MISSING, "no npu-smi, no %s" % _DRIVER_VERSION,
            "install the NPU driver and firmware; in a container, mount the driver's directory")


def _toolkit(host: Host) -> _Finding:
    given = [host.environment.get(name) for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH")]
    for folder in filter(None, [*given, "/usr/local/Ascend/ascend-toolkit/latest"]):
        info = host.glob(os.path.join(folder, "*-linux", "ascend_toolkit_install.info"))
        for path in [os.path.join(folder, "version.cfg"), *info]:
            match = _TOOLKIT_VERSION.search(host.read(path))
            if match:
                text = "CANN %s in %s" % (match.group(1), folder)
                if host.environment.get("ASCEND_OPP_PATH"):
                    return OK, text, ""
                return MISSING, text + ", ASCEND_OPP_PATH is unset", _SET_ENV
    return MISSING, "no version file", "install the CANN toolkit; %s" % _SET_ENV


def _rank_scheme(host: Host, options: LaunchOptions) -> _Finding:
    if not (options.hccl_cfg_json or options.ip or options.hosts):
        return WARN, "not given", "give --hccl_cfg_json FILE or --ip ADDRESS to have it checked"
    try:
        environment = compose(options, host)
    except ConfigError as error:
        return MISSING, str(error), ""
    values = environment.values
    where = options.hccl_cfg_json or "%s, port %s" % (values["CM_CHIEF_IP"], values["CM_CHIEF_PORT"])
    return OK, "%s, ranks: %d, %s" % (environment.scheme, environment.placement.ranks, where), ""


def existing(path: str) -> str:
    """Returns the directory itself, or the nearest one above it that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def _model_directory(model_dir: str, vendor: bool) -> _Finding:
    problem = check_model_dir(model_dir) if vendor else None
    if problem:
        return MISSING, problem, ""
    if os.path.exists(model_dir) and not os.path.isdir(model_dir):
        return MISSING, "%s is not a directory" % model_dir, _OTHER_DIRECTORY
    if not os.access(existing(model_dir), os.W_OK | os.X_OK):
        return MISSING, "%s cannot be written" % existing(model_dir), _OTHER_DIRECTORY
    return OK, model_dir, ""


def _disk(model_dir: str, table_bytes: int) -> _Finding:
    folder, tables = existing(model_dir), _CHECKPOINTS * table_bytes
    free = shutil.disk_usage(folder).free
    text = "%s free in %s" % (size_shown(free), folder)
    if free >= max(tables, _LITTLE_DISK):
        return OK, text, ""
    if tables:
        text += ", %d checkpoints of the tables take %s" % (_CHECKPOINTS, size_shown(max(tables, _LITTLE_DISK)))
    return MISSING if tables else WARN, text, "free some, or %s" % _OTHER_DIRECTORY


def _memory(host: Host, tables: float) -> _Finding:
    available = host.available_memory()
    if available is None:
        return OK, "unknown", ""
    limit, used, parts = (host.read("/sys/fs/cgroup/memory.%s" % name).strip() for name in ("max", "current", "stat"))
    if is_digits(limit) and is_digits(used):
        # Of what is used, files that nobody has looked at lately make room.
        cached = re.search(r"^inactive_file (\d+)$", parts, re.MULTILINE | re.ASCII)
        available = min(available, max(0, int(limit) - int(used) + int(cached.group(1) if cached else 0)))
    text = "%s available" % size_shown(available)
    if tables:
        text += ", the tables on this host take %s" % size_shown(tables)
    if tables > available:
        return MISSING, text, "spread the tables over more --hosts, or take a smaller --embedding_dim"
    return OK, text, ""


def _data_directory(data_dir: str) -> _Finding:
    try:
        manifest = read_manifest(data_dir)
        for split in (TRAIN_SPLIT, TEST_SPLIT):
            check_shards(manifest, data_dir, split)
    except DataError as error:
        return MISSING, str(error), ""
    return OK, data_dir, ""


def _shared_storage(path: str) -> _Finding:
    for _ in range(_SHARED_TRIES):
        if os.path.exists(path):
            return OK, "the launching host's files are seen in %s" % os.path.dirname(path), ""
        time.sleep(_SHARED_SECONDS)
    return (MISSING, "%s is not the launching host's" % os.path.dirname(path),
            "put --model_dir on storage that all hosts mount under the same path")
