"""The ``preflight`` command and the checks before a launch, on every host of a run: what is needed, found and missing,
and how to get it.

Nothing of the vendor is imported: importing ``mx_rec`` patches TensorFlow, loads op libraries and starts a probe of a
file system (rec_sdk_api 0.1). Packages are found by their folders, versions by their metadata, hardware by its device
files.
"""
import argparse
import contextlib
import dataclasses
import json
import os
import secrets
import sys
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence, TextIO

from estimator_app.launch import preflight_checks as checks
from estimator_app.launch.environment import (
    CM_VARIABLES,
    CPU,
    NPU,
    RANK_TABLE_VARIABLES,
    LaunchOptions,
    RankEnvironment,
    add_launch_arguments,
    check_scheme,
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
    """What a run is to have.

    Attributes:
        model_dir: model directory.
        data_dir: prepared data; empty: not looked at.
        expansion: whether tables are to grow without a fixed capacity.
        table_bytes: memory of all tables with their optimizer states; 0: unknown.
        shared_file: file that the launching host has made and that every host must see; empty: one host.
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

    Args:
        parsed: with the flags of :func:`add_arguments`.
        host: the machine, default this one.
        stream: where the tables go, default standard output.
        table_bytes: returns the bytes of all tables, with optimizer states, from a data directory.

    Returns:
        The exit status: 1 where something mandatory is missing, else 0.

    Raises:
        UserError: flags that cannot be read, or contradict each other where there are several hosts.
    """
    host, stream = host or this_host(), stream or sys.stdout
    npu = parsed.device == NPU or (parsed.device == "auto" and host.package("mx_rec") is not None)
    options = options_from(parsed, NPU if npu else CPU)
    size = table_bytes(parsed.data_dir) if table_bytes is not None and parsed.data_dir else parsed.table_bytes
    wanted = Wanted(parsed.model_dir, parsed.data_dir, parsed.use_dynamic_expansion == "true"
                    or host.environment.get("USE_DYNAMIC_EXPANSION") == "1", size, parsed.shared_file)
    if options.hosts:
        if npu:
            check_scheme(options)
        environment = compose(options, host)
        if environment.placement.remote:
            return 0 if _on_every_host(options, environment, host, wanted, stream) else 1
    rows = check(options, host, wanted)
    stream.write(table(rows))
    return 1 if missing(rows) else 0


def before_launch(options: LaunchOptions, environment: RankEnvironment, host: Host, wanted: Wanted,
                  stream: TextIO) -> bool:
    """Checks all hosts before the ranks start; returns whether they can. On CPUs only what is missing is printed."""
    always = options.device == NPU
    if environment.placement.remote:
        return _on_every_host(options, environment, host, wanted, stream, always)
    rows = check(options, host, wanted)
    if always or missing(rows):
        stream.write(table(rows))
        stream.flush()
    return not missing(rows)


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
    counts = [sum(row.status == status for row in rows) for status in (OK, WARN, MISSING)]
    lines.append("preflight: %d ok, %d warnings, %d missing" % (counts[0], counts[1], counts[2]))
    return "\n".join(lines) + "\n"


def check(options: LaunchOptions, host: Host, wanted: Wanted) -> List[Row]:
    """Checks one host; the rows are in a fixed order and never depend on importing a vendor package.

    Args:
        options: of the launch; paths and scheme may be empty where only the host is looked at.
        host: the machine.
        wanted: what the run is to have.
    """
    if options.device == CPU:
        share = 1.0 / len(options.hosts.split(","))
        rows = [checks.python_version(host, vendor=False), checks.package(host, "tensorflow", "tensorflow-cpu"),
                checks.package(host, "numpy")]
        if options.hosts or (options.ranks or 1) > 1:
            rows.append(checks.package(host, "horovod", command="setup --distributed"))
        rows.append(checks.memory(host, wanted.table_bytes * share))
    else:
        rows = _npu_rows(options, host, wanted)
    rows.append(checks.model_directory(wanted.model_dir, options.device == NPU))
    rows.append(checks.disk(wanted.model_dir, wanted.table_bytes))
    if wanted.data_dir:
        rows.append(checks.data_directory(wanted.data_dir))
    if wanted.shared_file:
        rows.append(checks.shared_storage(wanted.shared_file))
    return rows + (conflicts(host.environment, bool(options.hccl_cfg_json or options.ip or options.hosts))
                   if options.device == NPU else [])


def _npu_rows(options: LaunchOptions, host: Host, wanted: Wanted) -> List[Row]:
    extra = package_folders(options) if options.rec_package_path else []
    scheme, ranks = checks.rank_scheme(options, host)
    generation = checks.generation_of(host, extra)
    return [
        checks.python_version(host, vendor=True),
        checks.tensorflow(host),
        checks.c_library(host),
        checks.rec_sdk(host, extra, generation),
        checks.tf_adapter(host, extra),
        checks.op_library(options, host, extra, generation),
        checks.custom_op(host, wanted.expansion),
        checks.mpi(host),
        checks.mpi4py(host, extra),
        checks.devices(host, ranks),
        checks.driver(host),
        checks.toolkit(host),
        scheme,
    ]


def conflicts(environment: Mapping[str, str], launching: bool) -> List[Row]:
    """Finds variables that would change a run behind its back (npu_bridge_api 2.1, 2.5; rec_sdk_api 5.3).

    Args:
        environment: of the caller.
        launching: whether a launch follows, which removes the other scheme's variables itself.

    Returns:
        A row per conflict, or one row that says that there is none.
    """
    rows = []
    if '"cluster"' in environment.get("TF_CONFIG", ""):
        rows.append(Row(MISSING, "TF_CONFIG", "describes a cluster, which TF Adapter takes for parameter servers",
                        "unset TF_CONFIG"))
    for name in ("RESTORE_FROM", "LOCAL_CHECKPOINT_DIR"):
        if environment.get(name):
            rows.append(Row(MISSING, name, "%s: training would start from that checkpoint without being told"
                            % environment[name], "unset %s" % name))
    if environment.get("TF_DEVICE", "NONE") not in ("", "NONE"):
        rows.append(Row(MISSING if environment["TF_DEVICE"] == "NPU" else WARN, "TF_DEVICE",
                        "%s: the saver leaves out tables with TF_DEVICE=NPU" % environment["TF_DEVICE"],
                        "unset TF_DEVICE"))
    if environment.get("POD_NAME"):
        rows.append(Row(WARN, "POD_NAME", "%s: TF Adapter reads it in place of RANK_ID" % environment["POD_NAME"],
                        "unset POD_NAME unless a cluster manager sets it"))
    with_table = sorted(name for name in RANK_TABLE_VARIABLES if environment.get(name))
    without = sorted(name for name in CM_VARIABLES if environment.get(name))
    if with_table and without:
        rows.append(Row(WARN if launching else MISSING, "rank schemes", "both %s and %s are set"
                        % (", ".join(with_table), ", ".join(without)),
                        "unset one group%s" % (" (the launch removes the one it does not use)" if launching else "")))
    return rows or [Row(OK, "environment", "no variable that changes a run unasked")]


def _on_every_host(options: LaunchOptions, environment: RankEnvironment, host: Host, wanted: Wanted,
                   stream: TextIO, always: bool = True) -> bool:
    """Starts a process per host, the way the ranks are started, and prints what each finds, or only what is missing."""
    placement = environment.placement.one_each()
    found: Dict[int, str] = {}

    def collect(index: int, text: str) -> None:
        found[index] = found.get(index, "") + text

    with _shared_file(wanted.model_dir) as path:
        command = command_line(options, environment, host, "estimator_app.launch.preflight",
                               _arguments(options, dataclasses.replace(wanted, shared_file=path)), placement)
        status = run_ranks(command, environment.apply(dict(host.environment)), placement, collect)
    good = status == 0
    for index, name in enumerate(placement.hosts):
        try:
            rows = [Row(*row) for row in json.loads(found.get(index, ""))]
        except ValueError:
            rows = [Row(MISSING, "host", "no answer", "check that `ssh %s` works without a password and that this "
                                                      "project lies there under the same path" % name)]
        good = good and not missing(rows)
        if always or missing(rows):
            stream.write("host %s:\n%s" % (name, table(rows)))
    stream.flush()
    return good


def _arguments(options: LaunchOptions, wanted: Wanted) -> List[str]:
    """Returns the command line of the check on one of several hosts."""
    result = ["--device", options.device, "--model_dir", os.path.abspath(wanted.model_dir),
              "--use_dynamic_expansion", "true" if wanted.expansion else "false",
              "--table_bytes", str(wanted.table_bytes), "--shared_file", wanted.shared_file, "--hosts", options.hosts]
    data_dir = os.path.abspath(wanted.data_dir) if wanted.data_dir else ""
    for flag, value in (("--data_dir", data_dir), ("--so_path", options.so_path), ("--ip", options.ip),
                        ("--rec_package_path", options.rec_package_path), ("--hccl_cfg_json", options.hccl_cfg_json),
                        ("--ranks", options.ranks)):
        result += [flag, str(value)] if value else []
    return result


@contextlib.contextmanager
def _shared_file(model_dir: str) -> Iterator[str]:
    """Makes a file of an unforeseeable name where the model directory is or will be, and removes it again."""
    path = os.path.join(checks.existing(model_dir), ".seen-by-all-hosts-%s" % secrets.token_hex(8))
    try:
        with open(path, "w", encoding="ascii"):
            pass
    except OSError as error:
        raise UserError("model directory %s cannot be written (%s); choose another --model_dir"
                        % (model_dir, error.strerror or error)) from error
    try:
        yield path
    finally:
        os.remove(path)


def main(arguments: Sequence[str]) -> int:
    """Checks this host as one of several and prints the rows as JSON."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_arguments(parser)
    parsed = parser.parse_args(list(arguments))
    wanted = Wanted(parsed.model_dir, parsed.data_dir, parsed.use_dynamic_expansion == "true", parsed.table_bytes,
                    parsed.shared_file)
    rows = check(options_from(parsed, parsed.device), this_host(), wanted)
    sys.stdout.write(json.dumps([dataclasses.astuple(row) for row in rows]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
