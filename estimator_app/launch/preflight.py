"""The ``preflight`` command and the checks before a launch, on every host of a run: what is needed, found and missing,
and how to get it.

Nothing of the vendor is imported: importing ``mx_rec`` patches TensorFlow, loads op libraries and starts a probe of a
file system (rec_sdk_api 0.1). Packages are found by their folders, versions by their metadata, hardware by its device
files.
"""
import argparse
import dataclasses
import json
import os
import sys
import tempfile
from typing import Callable, Dict, List, Mapping, Optional, Sequence, TextIO, Tuple

from estimator_app.launch import preflight_checks as checks
from estimator_app.launch.environment import (
    CM_VARIABLES,
    CPU,
    NPU,
    RANK_TABLE_VARIABLES,
    LaunchOptions,
    RankEnvironment,
    add_launch_arguments,
    compose,
    options_from,
    package_folders,
)
from estimator_app.launch.hosts import Host, this_host
from estimator_app.launch.preflight_checks import MISSING, OK, WARN, Row
from estimator_app.launch.processes import run_ranks
from estimator_app.launch.runners import command_line
from feature_specs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a run is to have; data and shared file are looked at where they are given.

    Attributes:
        expansion: whether tables are to grow without a fixed capacity.
        table_bytes: memory of all tables with their optimizer states; 0: unknown.
        shared_file: file that the launching host has made and that every one of several hosts must see.
    """

    model_dir: str
    data_dir: str = ""
    expansion: bool = False
    table_bytes: int = 0
    shared_file: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the ``preflight`` command; all are optional."""
    parser.add_argument("--device", choices=("auto", CPU, NPU), default="auto", metavar="auto|cpu|npu",
                        help="what to look for; auto takes npu where mx_rec is found (default: auto)")
    parser.add_argument("--data_dir", default="", metavar="PATH",
                        help="prepared data of the run [path] (default: not looked at)")
    parser.add_argument("--model_dir", default="runs/default", metavar="PATH",
                        help="model directory of the run [path] (default: runs/default)")
    parser.add_argument("--use_dynamic_expansion", choices=("true", "false"), default="false", metavar="true|false",
                        help="tables that grow without a fixed capacity (default: false)")
    # What the launching host tells the others.
    parser.add_argument("--table_bytes", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--shared_file", default="", help=argparse.SUPPRESS)
    add_launch_arguments(parser)


def run(parsed: argparse.Namespace, host: Optional[Host] = None, stream: Optional[TextIO] = None,
        table_bytes: Optional[Callable[[str], int]] = None) -> int:
    """Prints the table of the ``preflight`` command, one per host.

    ``table_bytes`` returns the bytes of all tables, with optimizer states, from a data directory.

    Returns:
        The exit status: 1 where something mandatory is missing, else 0.

    Raises:
        UserError: flags that cannot be read, or contradict each other where there are several hosts.
    """
    host, stream = host or this_host(), stream or sys.stdout
    npu = parsed.device == NPU or (parsed.device == "auto" and host.package("mx_rec") is not None)
    options = dataclasses.replace(options_from(parsed, NPU if npu else CPU), dry_run=False)
    expansion = parsed.use_dynamic_expansion == "true" or host.environment.get("USE_DYNAMIC_EXPANSION") == "1"
    size = table_bytes(parsed.data_dir) if table_bytes is not None and parsed.data_dir else parsed.table_bytes
    wanted = Wanted(parsed.model_dir, parsed.data_dir, expansion, size, parsed.shared_file)
    if parsed.shared_file:  # this is one of several hosts, and the launching one prints what it finds
        stream.write(json.dumps(check(options, host, wanted)) + "\n")
        return 0
    environment = compose(options, host) if options.hosts else None
    return 0 if is_ready(options, environment, host, wanted, stream) else 1


def is_ready(options: LaunchOptions, environment: Optional[RankEnvironment], host: Host, wanted: Wanted,
             stream: TextIO, silent: bool = False) -> bool:
    """Prints what this host has, or each host of the ranks' environment, and returns whether the ranks can start.

    With ``silent`` only hosts that lack something mandatory are printed.
    """
    good = True
    if environment is not None and environment.placement.remote:
        good, tables = _every_host(options, environment, host, wanted)
    else:
        tables = {"": check(options, host, wanted)}
    for name, rows in tables.items():
        if missing(rows) or not silent:
            stream.write(("host %s:\n" % name if name else "") + table(rows))
    stream.flush()
    return good and not any(map(missing, tables.values()))


def missing(rows: Sequence[Row]) -> bool:
    """Whether something mandatory is missing."""
    return any(row.status == MISSING for row in rows)


def table(rows: Sequence[Row]) -> str:
    """Returns the rows as text with aligned columns, and a closing line that counts them."""
    name_width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        text = "%-7s  %-*s  %s" % (row.status, name_width, row.name, row.found)
        lines.append(text + ("; fix: %s" % row.fix if row.fix else ""))
    counts = tuple(sum(row.status == status for row in rows) for status in (OK, WARN, MISSING))
    lines.append("preflight: %d ok, %d warnings, %d missing" % counts)
    return "\n".join(lines) + "\n"


def check(options: LaunchOptions, host: Host, wanted: Wanted) -> List[Row]:
    """Checks one host. Paths and scheme of the options may be empty where only the host is looked at."""
    npu = options.device == NPU
    found = {"Python": checks.python_version(host, vendor=npu)}
    if npu:
        if options.rec_package_path:  # the ranks search there, too
            host = dataclasses.replace(host, python_path=host.python_path + tuple(package_folders(options)))
        found.update({
            "TensorFlow": checks.tensorflow(host),
            "C library": checks.c_library(host),
            "Rec SDK (mx_rec)": checks.rec_sdk(host),
            "TF Adapter (npu_bridge)": checks.tf_adapter(host),
            "op library": checks.op_library(host, options.so_path),
            "cust_op_by_addr": checks.custom_op(host, wanted.expansion),
            "MPI": checks.mpi(host),
            "mpi4py": checks.package(host, "install mpi4py, built against the same Open MPI; mx_rec imports it",
                                     "mpi4py"),
            "devices": checks.devices(host, options),
            "driver": checks.driver(host),
            "CANN toolkit": checks.toolkit(host),
            "rank scheme": checks.rank_scheme(host, options),
        })
    else:
        setup = "bash run_estimator.sh setup"
        found["tensorflow"] = checks.package(host, setup, "tensorflow", "tensorflow-cpu")
        found["numpy"] = checks.package(host, setup, "numpy")
        if options.hosts or (options.ranks or 1) > 1:
            found["horovod"] = checks.package(host, setup + " --distributed", "horovod")
        found["memory"] = checks.memory(host, wanted.table_bytes / len(options.hosts.split(",")))
    found["model directory"] = checks.model_directory(wanted.model_dir, vendor=npu)
    found["disk"] = checks.disk(wanted.model_dir, wanted.table_bytes)
    if wanted.data_dir:
        found["data directory"] = checks.data_directory(wanted.data_dir)
    if wanted.shared_file:
        found["shared storage"] = checks.shared_storage(wanted.shared_file)
    rows = [Row(status, name, text, fix) for name, (status, text, fix) in found.items()]
    launching = bool(options.hccl_cfg_json or options.ip or options.hosts)
    return rows + (conflicts(host.environment, launching) if npu else [])


def conflicts(environment: Mapping[str, str], launching: bool) -> List[Row]:
    """Finds variables that would change a run behind its back (npu_bridge_api 2.1, 2.5; rec_sdk_api 5.3).

    Where a launch follows, it removes the other scheme's variables itself.
    """
    rows = []

    def found(status: str, name: str, text: str, fix: str = "") -> None:
        rows.append(Row(status, name, text, fix or "unset %s" % name))

    given = environment.get
    if '"cluster"' in given("TF_CONFIG", ""):
        found(MISSING, "TF_CONFIG", "describes a cluster, which TF Adapter takes for parameter servers")
    for name in ("RESTORE_FROM", "LOCAL_CHECKPOINT_DIR"):
        if given(name):
            found(MISSING, name, "%s: training would start from that checkpoint without being told" % given(name))
    device = given("TF_DEVICE", "NONE")
    if device not in ("", "NONE"):
        found(MISSING if device == "NPU" else WARN, "TF_DEVICE",
              "%s: the saver leaves out tables with TF_DEVICE=NPU" % device)
    if given("POD_NAME"):
        found(WARN, "POD_NAME", "%s: TF Adapter reads it in place of RANK_ID" % given("POD_NAME"),
              "unset POD_NAME unless a cluster manager sets it")
    with_table, without = ([name for name in names if given(name)] for names in (RANK_TABLE_VARIABLES, CM_VARIABLES))
    if with_table and without:
        found(WARN if launching else MISSING, "rank schemes",
              "both %s and %s are set" % (", ".join(with_table), ", ".join(without)),
              "unset one group%s" % (" (the launch removes the one it does not use)" if launching else ""))
    return rows or [Row(OK, "environment", "no variable that changes a run unasked")]


def _every_host(options: LaunchOptions, environment: RankEnvironment, host: Host,
                wanted: Wanted) -> Tuple[bool, Dict[str, List[Row]]]:
    """Checks every host by a process on each, started the way the ranks are; whether these ended well, and the rows."""
    environment = dataclasses.replace(environment, placement=environment.placement.one_each())
    found: Dict[int, str] = {}

    def collect(index: int, text: str) -> None:
        found[index] = found.get(index, "") + text

    try:
        shared = tempfile.NamedTemporaryFile(prefix=".seen-by-all-hosts-", dir=checks.existing(wanted.model_dir))
    except OSError as error:
        raise UserError("model directory %s cannot be written (%s); choose another --model_dir"
                        % (wanted.model_dir, error.strerror or error)) from error
    with shared:
        arguments = _arguments(options, dataclasses.replace(wanted, shared_file=shared.name))
        command = command_line(options, environment, host, "estimator_app.launch.preflight", arguments)
        status = run_ranks(command, environment.apply(host.environment), environment.placement, collect)
    tables = {}
    for index, name in enumerate(environment.placement.hosts):
        try:
            tables[name] = [Row(*row) for row in json.loads(found.get(index, ""))]
        except ValueError:
            tables[name] = [Row(MISSING, "host", "no answer", "check that `ssh %s` works without a password and that "
                                                              "this project lies there under the same path" % name)]
    return status == 0, tables


def _arguments(options: LaunchOptions, wanted: Wanted) -> List[str]:
    """Returns the command line of the check on one of several hosts."""
    flags = {
        "device": options.device, "hosts": options.hosts, "ranks": options.ranks, "ip": options.ip,
        "so_path": options.so_path, "rec_package_path": options.rec_package_path,
        "hccl_cfg_json": options.hccl_cfg_json, "model_dir": os.path.abspath(wanted.model_dir),
        "data_dir": wanted.data_dir and os.path.abspath(wanted.data_dir),
        "use_dynamic_expansion": "true" if wanted.expansion else "", "table_bytes": wanted.table_bytes,
        "shared_file": wanted.shared_file}
    return [word for name, value in flags.items() if value for word in ("--" + name, str(value))]


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(_parser)
    sys.exit(run(_parser.parse_args()))
