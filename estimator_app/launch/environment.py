"""The environment of the ranks: on NPUs with a rank table or without one (rec_sdk_api 7.3, 7.4), on CPUs what of it has
a meaning there.

What the caller has set stays: path lists are appended to, other variables get a default where they are unset. Only the
variables that name ranks are the launch's: the other scheme's must not meet them in a process (npu_bridge_api 2.5).
"""
import argparse
import dataclasses
import ipaddress
import os
import re
import shlex
from typing import Dict, List, Mapping, Optional, Tuple

from estimator_app.config import CPU, ENVIRONMENT_SWITCHES, NPU
from estimator_app.launch.hosts import Host, Placement, address_of, place
from estimator_app.launch.rank_table import check_placement, read_rank_table
from feature_specs.checks import is_digits, refuse
from feature_specs.errors import ConfigError
from feature_specs.files import PROJECT

RANKS_PER_NODE = (1, 2, 4, 8, 16)
DEFAULT_RANKS = 8  # of a host with NPUs, where no rank table says how many there are
RANK_TABLE_VARIABLES = ("RANK_ID", "RANK_SIZE", "RANK_TABLE_FILE")
CM_VARIABLES = ("CM_CHIEF_DEVICE", "CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_WORKER_IP", "CM_WORKER_SIZE")
SCHEMES = (RANK_TABLE_VARIABLES, CM_VARIABLES)
_CPU_DEFAULTS = {"JOB_ID": "10086", "TF_CPP_MIN_LOG_LEVEL": "2"}
_NPU_DEFAULTS = {
    "ASCEND_DEVICE_ID": "0",  # the SDK sets each rank's own during init() (rec_sdk_api 1.1)
    "ASCEND_GLOBAL_LOG_LEVEL": "3", "ENABLE_FORCE_V2_CONTROL": "1", "GLOG_logtostderr": "true",
    "GLOG_stderrthreshold": "2", "HCCL_CONNECT_TIMEOUT": "1200", "HCCL_OP_RETRY_ENABLE": "L0:0, L1:0, L2:0",
    "JOB_ID": "10086", "TF_CPP_MIN_LOG_LEVEL": "3"}
_TABLE_FREE_DEFAULTS = {"CM_CHIEF_DEVICE": "0", "CM_CHIEF_PORT": "60001"}
_RANGES = {"CM_CHIEF_DEVICE": (0, 511, "a device"), "CM_CHIEF_PORT": (0, 65520, "a port"),
           "HCCL_CONNECT_TIMEOUT": (120, 7200, "seconds")}
# What CANN's set_env.sh exports: mpirun hands it to other hosts only where it is named.
_CANN = re.compile(r"PATH\Z|(?:ASCEND|HCCL|TFPLUGIN)_")
# The address of each host, from which a rank takes its own CM_WORKER_IP (see .rank).
WORKER_IPS = "ESTIMATOR_WORKER_IPS"
_JOB_ID = re.compile(r"[A-Za-z1-9_-][A-Za-z0-9_-]*\Z")
_NO_SPARSE_FILES = ("/usr/bin", "/usr/sbin", "/etc", "/usr/lib", "/usr/lib64", "/usr/local")


@dataclasses.dataclass(frozen=True)
class LaunchOptions:
    """The flags of :func:`add_launch_arguments`, with absolute paths, and the device; what was not given is empty."""

    so_path: str
    rec_package_path: str
    hccl_cfg_json: Optional[str]
    ip: Optional[str]
    ranks: Optional[int]
    hosts: str = ""
    network_interface: str = ""
    mpi_args: Tuple[str, ...] = ()
    dry_run: bool = False
    device: str = NPU


@dataclasses.dataclass(frozen=True)
class RankEnvironment:
    """What a launch changes in the environment of the ranks."""

    scheme: str  # "rank table", "rank-table-free" or "CPU"
    placement: Placement
    values: Dict[str, str]  # variables that are set, also those that had their value before

    @property
    def removed(self) -> List[str]:
        """Variables that name ranks and are not those of this launch."""
        return [name for name in CM_VARIABLES + RANK_TABLE_VARIABLES if name not in self.values]

    def apply(self, environment: Mapping[str, str]) -> Dict[str, str]:
        """Returns the full environment of a process."""
        return {**{name: value for name, value in environment.items() if name not in self.removed}, **self.values}


def add_launch_arguments(parser: argparse.ArgumentParser, starts: bool = True) -> None:
    """Adds the flags of a launch; ``starts`` is whether the command starts ranks, which a dry run leaves out."""
    add = parser.add_argument_group("many ranks").add_argument
    add("--ranks", type=int, metavar="N",
        help="processes that share the work on one model, on NPUs one per device (1, 2, 4, 8 or 16 on a host) [ranks, "
             "of all hosts] (default: on a CPU 1; on NPUs as many as the rank table lists, without a table %d per host)"
             % DEFAULT_RANKS)
    add("--hosts", default="", metavar="H:N,H:N",
        help="hosts and the ranks of each, reached by ssh without a password (default: this host)")
    add("--network_interface", default="", metavar="NAME",
        help="network interface between the ranks (default: lo on one host, else any that all hosts have)")
    if starts:
        add("--dry_run", "--dry-run", action="store_true",
            help="print the environment and the command of the ranks; start nothing")
    add = parser.add_argument_group("launch on NPUs (with --device npu)").add_argument
    add("--so_path", metavar="PATH", help="directory of the SDK's op libraries, <mx_rec>/libasc [path]")
    add("--rec_package_path", metavar="PATH",
        help="directory of the SDK's Python packages: mx_rec itself or its parent [path]")
    add("--hccl_cfg_json", metavar="FILE", help="rank table; not together with --ip [path]")
    add("--ip", metavar="ADDRESS",
        help="address of this host: start without a rank table; with --hosts it is the first of these")
    add("--mpi_args", default="", metavar="TEXT",
        help="more arguments for mpirun, quoted as in a shell (default: none); write --mpi_args=...")


def options_from(parsed: argparse.Namespace, device: str = NPU) -> LaunchOptions:
    """Returns the launch options of a parsed command line; ConfigError where ``--mpi_args`` cannot be split."""
    values = {name: value for name, value in vars(parsed).items()
              if name in LaunchOptions.__dataclass_fields__ and name != "device"}
    for name in ("so_path", "rec_package_path", "hccl_cfg_json"):
        values[name] = os.path.abspath(values[name]) if values[name] else ""
    try:
        values["mpi_args"] = tuple(shlex.split(parsed.mpi_args))
    except ValueError as error:
        raise ConfigError("--mpi_args %r cannot be split (%s); quote it as for a shell"
                          % (parsed.mpi_args, error)) from error
    return LaunchOptions(device=device, **values)


def check_scheme(options: LaunchOptions) -> None:
    """Refuses (ConfigError) an NPU launch with both schemes or neither, and an address that is none."""
    refuse(options.hccl_cfg_json and options.ip,
           "--hccl_cfg_json %s and --ip %s are both given; give the rank table, or the address to start without one",
           options.hccl_cfg_json, options.ip)
    refuse(not (options.hccl_cfg_json or options.ip or options.hosts),
           "neither --hccl_cfg_json nor --ip is given; give a rank table (--hccl_cfg_json FILE) or the address of this "
           "host to start without one (--ip ADDRESS)")
    if options.ip:
        try:
            ipaddress.ip_address(options.ip)
        except ValueError as error:
            raise ConfigError("--ip %r is not an IP address; give this host's address, for example 192.0.2.10"
                              % options.ip) from error


def unusable_paths(options: LaunchOptions, model_dir: str) -> List[str]:
    """Returns one line per path that a launch on NPUs needs and does not find, or cannot use."""
    if options.device == CPU:
        return []
    lines = ["%s %s is not a directory" % (flag, path) for flag, path in (
        ("--so_path", options.so_path), ("--rec_package_path", options.rec_package_path)) if not os.path.isdir(path)]
    if options.hccl_cfg_json and not os.path.isfile(options.hccl_cfg_json):
        lines.append("--hccl_cfg_json %s is not a file" % options.hccl_cfg_json)
    problem = check_model_dir(model_dir)
    return lines + [problem] if problem else lines


def place_ranks(options: LaunchOptions) -> Placement:
    """Returns where the ranks run; ConfigError where that is not possible, or contradicts the rank table."""
    if options.device == CPU:
        return place(options.hosts, options.ranks, 0)
    table, default = None, DEFAULT_RANKS
    # A dry run may be made where the rank table is not.
    if options.hccl_cfg_json and (os.path.exists(options.hccl_cfg_json) or not options.dry_run):
        table = read_rank_table(options.hccl_cfg_json)
        refuse(options.ranks is None and table.devices is None and ":" not in options.hosts,
               "rank table %s is of an unknown form, so its devices cannot be counted; give --ranks N", table.path)
        default = (table.devices or 0) // len(options.hosts.split(","))
    placement = place(options.hosts, options.ranks, default)
    if table is not None:
        check_placement(table, placement)
    refuse(placement.slots not in RANKS_PER_NODE,
           "%d ranks on one host are not possible; allowed: %s (16 only on hosts whose PCI settings let all 16 devices "
           "reach each other)", placement.slots, ", ".join(map(str, RANKS_PER_NODE)))
    return placement


def compose(options: LaunchOptions, host: Host) -> RankEnvironment:
    """Computes the environment of the ranks: the host's values are kept; ConfigError where they, or options, are unfit.
    """
    if options.device == CPU:
        scheme, defaults = "CPU", _CPU_DEFAULTS
    else:
        check_scheme(options)
        scheme, defaults = (("rank table", _NPU_DEFAULTS) if options.hccl_cfg_json
                            else ("rank-table-free", {**_NPU_DEFAULTS, **_TABLE_FREE_DEFAULTS}))
    placement = place_ranks(options)
    given = {name: value for name, value in host.environment.items() if value}
    values = {**defaults, **{name: given[name] for name in (*defaults, *ENVIRONMENT_SWITCHES) if name in given}}
    _check_values(values)
    values["PYTHONPATH"] = _appended(given, "PYTHONPATH", [PROJECT])
    if options.device == CPU:
        return RankEnvironment(scheme, placement, values)
    values["PYTHONPATH"] = _appended(values, "PYTHONPATH", package_folders(options))
    local = ["/usr/local/lib"] if host.exists("/usr/local/lib") else []
    values["LD_LIBRARY_PATH"] = _appended(given, "LD_LIBRARY_PATH", library_folders(options) + local)
    preload = _appended(given, "LD_PRELOAD", preloaded_libraries(host))
    if preload:
        values["LD_PRELOAD"] = preload
    if placement.remote:
        values = {**{name: value for name, value in given.items() if _CANN.match(name)}, **values}
    if options.hccl_cfg_json:
        values.update(RANK_SIZE=str(placement.ranks), RANK_TABLE_FILE=options.hccl_cfg_json)
        return RankEnvironment(scheme, placement, values)
    addresses = _addresses(options, placement)
    values.update(CM_CHIEF_IP=addresses[0], CM_WORKER_SIZE=str(placement.ranks))
    values.update({WORKER_IPS: ",".join(addresses)} if placement.remote else {"CM_WORKER_IP": addresses[0]})
    return RankEnvironment(scheme, placement, values)


def _check_values(values: Mapping[str, str]) -> None:
    refuse(not _JOB_ID.match(values["JOB_ID"]),
           "environment variable JOB_ID=%r; allowed: letters, digits, '-' and '_', not beginning with 0",
           values["JOB_ID"])
    for name, (low, high, unit) in _RANGES.items():
        text = values.get(name, str(low))
        refuse(not is_digits(text) or not low <= int(text) <= high,
               "environment variable %s=%r; allowed: %d to %d (%s)", name, text, low, high, unit)


def _appended(given: Mapping[str, str], name: str, additions: List[str]) -> str:
    present = [path for path in given.get(name, "").split(":") if path]
    return ":".join(dict.fromkeys(present + additions))


def _addresses(options: LaunchOptions, placement: Placement) -> List[str]:
    """Returns the address of every host; the first one is the chief's, whose devices have the first ranks."""
    if not placement.remote:
        return [str(options.ip)]
    # A dry run may be made where the hosts are unknown.
    addresses = [address_of(name, name if options.dry_run else None) for name in placement.hosts]
    refuse(options.ip and options.ip != addresses[0],
           "--ip %s is not the address of %s (%s), the first of --hosts; the first host is the chief, so leave --ip "
           "out or begin --hosts with it", options.ip, placement.hosts[0], addresses[0])
    return addresses


def library_folders(options: LaunchOptions) -> List[str]:
    """Returns the folders with the SDK's libraries: the given one, and the usual ones that exist (rec_sdk_api 7.3)."""
    base = options.rec_package_path
    likely = [os.path.join(base, "libasc"), os.path.join(base, "mx_rec", "libasc")]
    likely += [os.path.join(folder, "rec_sdk_common", "lib") for folder in (base, os.path.dirname(base))]
    return list(dict.fromkeys([options.so_path] + [path for path in likely if os.path.isdir(path)]))


def package_folders(options: LaunchOptions) -> List[str]:
    """Returns the SDK's folders for PYTHONPATH."""
    base = options.rec_package_path
    # ``import mx_rec`` needs the folder that holds it.
    parent = [os.path.dirname(base)] if os.path.basename(base) == "mx_rec" else []
    return [base] + library_folders(options) + parent


def preloaded_libraries(host: Host) -> List[str]:
    """Returns the libraries to preload that exist here and of which no version is preloaded yet (rec_sdk_api 7.3)."""
    present = [os.path.basename(name) for name in re.split(r"[:\s]+", host.environment.get("LD_PRELOAD", ""))]
    libraries: List[str] = []
    for stem, suffix in [("libgomp", ".so.1")] + ([("libstdc++", ".so.6")] if host.glibc_is_safe() is False else []):
        if not any(name.startswith(stem) for name in present):
            paths = [os.path.join(folder, stem + suffix)
                     for folder in ("/usr/lib64", "/usr/lib/%s-linux-gnu" % host.machine)]
            libraries += [path for path in paths if host.exists(path)][:1]
    if host.machine == "aarch64":
        # scikit-learn's own OpenMP must be loaded early on Arm: "cannot allocate memory in static TLS block".
        for folder in host.python_path:
            libraries += host.glob(os.path.join(folder, "scikit_learn.libs", "libgomp-*.so*"))[:1]
    return libraries


def check_model_dir(model_dir: str) -> Optional[str]:
    """Returns why the SDK could not save sparse tables in a folder that need not exist (rec_sdk_api 5.3), or None."""
    path = os.path.abspath(model_dir)
    if len(path) > 900 or any(ord(character) < 32 for character in path):
        return "model directory %r is too long or has control characters; choose another --model_dir" % model_dir
    for folder in _NO_SPARSE_FILES:
        if path == folder or path.startswith(folder + "/"):
            return "the SDK saves no tables under %s; choose another --model_dir than %s" % (folder, model_dir)
    if os.path.realpath(path) != path:
        return ("model directory %s leads over a symbolic link, which the SDK refuses; use --model_dir %s"
                % (model_dir, os.path.realpath(path)))
    return None
