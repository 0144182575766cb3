"""The single checks of the preflight: each looks for one thing and returns what it found. Nothing is started."""
import contextlib
import itertools
import os
import re
import shutil
import time
from typing import NamedTuple, Tuple

from estimator_app.launch.environment import LaunchOptions, check_model_dir, compose, glibc_is_safe
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
_CUSTOM_OP_FOLDERS = 2000  # that are searched at most
_CHECKPOINTS = 3  # the one being written, the one before, the best
_LITTLE_DISK = 1 << 30
_SHARED_TRIES, _SHARED_SECONDS = 20, 0.5  # a network file system may show a new file late
_SET_ENV = "source its set_env.sh before the command"
_OTHER_DIRECTORY = "choose another --model_dir"

#: Status, what is there, and what to do, empty where nothing is to be done. With ``MISSING`` nothing can start.
Finding = Tuple[str, str, str]


class Row(NamedTuple):
    """A line of the table: a finding and the name of what was looked for."""

    status: str
    name: str
    found: str
    fix: str = ""


def python_version(host: Host, vendor: bool) -> Finding:
    """Checks the interpreter of the ranks."""
    version = host.python_version
    text = "%d.%d.%d" % version
    if version[:2] != (3, 7):
        return MISSING, text, "use CPython 3.7%s" % (".5 to 3.7.11" if vendor else "")
    if vendor and not (3, 7, 5) <= version <= (3, 7, 11):
        return WARN, text, "the vendor supports 3.7.5 to 3.7.11; set PYTHON to one of these"
    return OK, text, ""


def package(host: Host, fix: str, *names: str) -> Finding:
    """Looks for a package, the first name; the others are distributions that bring it."""
    if not host.package(names[0]):
        return MISSING, "none", fix
    return OK, host.version(*names) or "found", ""


def tensorflow(host: Host) -> Finding:
    """Checks TensorFlow's version by its metadata."""
    if not host.package("tensorflow"):
        return MISSING, "none", "install tensorflow-cpu 1.15.0 into the host's Python 3.7"
    version = host.version("tensorflow", "tensorflow-cpu")
    if version is None:
        return WARN, "found, version unknown", "make sure that it is 1.15"
    if not version.startswith("1.15"):
        return MISSING, version, "install tensorflow-cpu 1.15.0"
    return OK, version, ""


def c_library(host: Host) -> Finding:
    """Checks the C library."""
    text = " ".join(host.libc).strip() or "unknown"
    if glibc_is_safe(host):
        return OK, text, ""
    return WARN, text, "glibc 2.34 or newer is safe; with an older one the launch preloads libstdc++"


def generation_of(host: Host) -> str:
    """Returns G1, G2 or G3, empty where mx_rec is not found, ``unknown`` where its files fit none (rec_sdk_api 0)."""
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


def rec_sdk(host: Host) -> Finding:
    """Reports the generation and version of the Rec SDK."""
    generation = generation_of(host)
    if not generation:
        return MISSING, "none", "install the Rec SDK for TensorFlow 1.15, or correct --rec_package_path"
    text = "%s, version %s" % (generation, host.version("mx_rec", "tf_rec_v1") or "unknown")
    if generation == "G1":
        return MISSING, text, "install Rec SDK 6.0 or newer (G2 or G3)"
    if generation == "unknown":
        return WARN, text, "install Rec SDK 6.0 or newer; with G3, rec_sdk_common must be found"
    return OK, text, ""


def tf_adapter(host: Host) -> Finding:
    """Looks for TF Adapter and the HCCL package that CANN brings."""
    absent = [name for name in ("npu_bridge", "hccl") if not host.package(name, namespace=name == "hccl")]
    if absent:
        return (MISSING, "%s not found" % " and ".join(absent),
                "install npu_bridge 1.15.0 and CANN; source CANN's set_env.sh before the command")
    return OK, "version %s" % (host.version("npu_bridge") or "unknown"), ""


def op_library(host: Host, so_path: str) -> Finding:
    """Looks for the SDK's op libraries of the generation found."""
    folder = so_path or os.path.join(host.package("mx_rec") or "<mx_rec>", "libasc")
    present = {name for name in _G3_LIBRARIES + _G2_LIBRARIES if os.path.isfile(os.path.join(folder, name))}
    generation = generation_of(host)
    is_old = generation in ("G1", "G2") or (generation != "G3" and set(_G2_LIBRARIES) <= present)
    wanted = _G2_LIBRARIES if is_old else _G3_LIBRARIES
    absent = [name for name in wanted if name not in present]
    if absent:
        return (MISSING, "%s not in %s" % (", ".join(absent), folder),
                "give --so_path <mx_rec>/libasc of the installed Rec SDK")
    return OK, "%s in %s" % (", ".join(wanted), folder), ""


def custom_op(host: Host, expansion: bool) -> Finding:
    """Looks for the operators that tables which grow need."""
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


def mpi(host: Host) -> Finding:
    """Looks for the program that starts the ranks."""
    if not host.which("mpirun"):
        return MISSING, "no mpirun on PATH", "install Open MPI 4.1.5 and put its bin folder on PATH"
    return OK, "horovodrun" if host.which("horovodrun") else "mpirun (no horovodrun)", ""


def devices(host: Host, options: LaunchOptions) -> Finding:
    """Counts the device files."""
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


def driver(host: Host) -> Finding:
    """Looks for the driver."""
    version = re.search(r"^Version=(.+)$", host.read(_DRIVER_VERSION), re.MULTILINE | re.IGNORECASE)
    has_tool = bool(host.which("npu-smi")) or host.exists(_NPU_SMI)
    if version:
        return OK, version.group(1).strip() + ("" if has_tool else ", no npu-smi"), ""
    if has_tool:
        return OK, "version unknown, npu-smi is there", ""
    return (MISSING, "no npu-smi, no %s" % _DRIVER_VERSION,
            "install the NPU driver and firmware; in a container, mount the driver's folder")


def toolkit(host: Host) -> Finding:
    """Looks for CANN's version file."""
    given = [host.environment[name] for name in _TOOLKIT_VARIABLES if host.environment.get(name)]
    for folder in given + [_TOOLKIT_DEFAULT]:
        for path in [os.path.join(folder, "version.cfg")] + host.glob(
                os.path.join(folder, "*-linux", "ascend_toolkit_install.info")):
            match = _TOOLKIT_VERSION.search(host.read(path))
            if match:
                text = "CANN %s in %s" % (match.group(1), folder)
                if host.environment.get("ASCEND_OPP_PATH"):
                    return OK, text, ""
                return MISSING, text + ", ASCEND_OPP_PATH is unset", _SET_ENV
    return MISSING, "no version file", "install the CANN toolkit; %s" % _SET_ENV


def rank_scheme(host: Host, options: LaunchOptions) -> Finding:
    """Looks at rank table or address as the launch does."""
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


def model_directory(model_dir: str, vendor: bool) -> Finding:
    """Checks that checkpoints can be written; the SDK refuses some places."""
    problem = check_model_dir(model_dir) if vendor else None
    if problem:
        return MISSING, problem, ""
    if os.path.exists(model_dir) and not os.path.isdir(model_dir):
        return MISSING, "%s is not a directory" % model_dir, _OTHER_DIRECTORY
    if not os.access(existing(model_dir), os.W_OK | os.X_OK):
        return MISSING, "%s cannot be written" % existing(model_dir), _OTHER_DIRECTORY
    return OK, model_dir, ""


def disk(model_dir: str, table_bytes: int) -> Finding:
    """Compares the free disk space with the checkpoints that are kept at once."""
    folder, tables = existing(model_dir), _CHECKPOINTS * table_bytes
    free = shutil.disk_usage(folder).free
    text = "%s free in %s" % (_size(free), folder)
    if free >= max(tables, _LITTLE_DISK):
        return OK, text, ""
    if tables:
        text += ", %d checkpoints of the tables take %s" % (_CHECKPOINTS, _size(max(tables, _LITTLE_DISK)))
    return MISSING if tables else WARN, text, "free some, or %s" % _OTHER_DIRECTORY


def memory(host: Host, tables: float) -> Finding:
    """Compares the memory that is available with that of the tables on this host."""
    available = host.available_memory()
    if available is None:
        return OK, "unknown", ""
    limit, used, parts = (host.read("/sys/fs/cgroup/memory.%s" % name).strip() for name in ("max", "current", "stat"))
    if is_digits(limit) and is_digits(used):
        # Of what is used, files that nobody has looked at lately make room.
        cached = re.search(r"^inactive_file (\d+)$", parts, re.MULTILINE | re.ASCII)
        available = min(available, max(0, int(limit) - int(used) + int(cached.group(1) if cached else 0)))
    text = "%s available" % _size(available)
    if tables:
        text += ", the tables on this host take %s" % _size(tables)
    if tables > available:
        return MISSING, text, "spread the tables over more --hosts, or take a smaller --embedding_dim"
    return OK, text, ""


def data_directory(data_dir: str) -> Finding:
    """Looks for prepared data whose files are there."""
    try:
        manifest = read_manifest(data_dir)
        for split in (TRAIN_SPLIT, TEST_SPLIT):
            check_shards(manifest, data_dir, split)
    except DataError as error:
        return MISSING, str(error), ""
    return OK, data_dir, ""


def shared_storage(path: str) -> Finding:
    """Looks for the file that the launching host has made beside the model directory."""
    for _ in range(_SHARED_TRIES):
        if os.path.exists(path):
            return OK, "the launching host's files are seen in %s" % os.path.dirname(path), ""
        time.sleep(_SHARED_SECONDS)
    return (MISSING, "%s is not the launching host's" % os.path.dirname(path),
            "put --model_dir on storage that all hosts mount under the same path")


def _size(number: float) -> str:
    return "%.1f GB" % (number / 1e9) if number >= 1e8 else "%.1f MB" % (number / 1e6)
