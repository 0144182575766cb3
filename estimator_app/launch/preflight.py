"""The ``preflight`` command: what an NPU run needs, what is found, what is missing and how to get it.

Nothing of the vendor is imported: importing ``mx_rec`` patches TensorFlow, loads op libraries and starts a probe of a
file system (rec_sdk_api 0.1). Packages are found by their folders, versions by their metadata, hardware by its device
files.
"""
import argparse
import sys
from typing import List, Mapping, Optional, TextIO

from estimator_app.launch import preflight_checks as checks
from estimator_app.launch.environment import (
    CM_VARIABLES,
    RANK_TABLE_VARIABLES,
    LaunchOptions,
    add_launch_arguments,
    options_from,
    package_folders,
)
from estimator_app.launch.hosts import Host, this_host
from estimator_app.launch.preflight_checks import MISSING, OK, WARN, Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the ``preflight`` command; all are optional."""
    parser.add_argument("--device", choices=("auto", "cpu", "npu"), default="auto", metavar="auto|cpu|npu",
                        help="what to look for; auto takes npu where mx_rec is found (default: auto)")
    parser.add_argument("--model_dir", default="runs/default", metavar="PATH",
                        help="model directory of the run [path] (default: runs/default)")
    parser.add_argument("--use_dynamic_expansion", choices=("true", "false"), default="false", metavar="true|false",
                        help="tables that grow without a fixed capacity (default: false)")
    add_launch_arguments(parser)


def run(parsed: argparse.Namespace, host: Optional[Host] = None, stream: Optional[TextIO] = None) -> int:
    """Prints the table of the ``preflight`` command.

    Args:
        parsed: with the flags of :func:`add_arguments`.
        host: the machine, default this one.
        stream: where the table goes, default standard output.

    Returns:
        The exit status: 1 where something mandatory is missing, else 0.

    Raises:
        ConfigError: ``--mpi_args`` cannot be split.
    """
    host = host or this_host()
    options = options_from(parsed)
    npu = parsed.device == "npu" or (parsed.device == "auto" and host.package("mx_rec") is not None)
    if npu:
        expansion = parsed.use_dynamic_expansion == "true" or host.environment.get("USE_DYNAMIC_EXPANSION") == "1"
        rows = check_npu(options, host, parsed.model_dir, expansion)
    else:
        rows = check_cpu(host)
    (stream or sys.stdout).write(table(rows))
    return 1 if missing(rows) else 0


def missing(rows: List[Row]) -> bool:
    """Whether something mandatory is missing."""
    return any(row.status == MISSING for row in rows)


def table(rows: List[Row]) -> str:
    """Returns the rows as text with aligned columns, and a closing line that counts them."""
    name_width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        text = "%-7s  %-*s  %s" % (row.status, name_width, row.name, row.found)
        lines.append(text + ("; fix: %s" % row.fix if row.fix else ""))
    counts = [sum(row.status == status for row in rows) for status in (OK, WARN, MISSING)]
    lines.append("preflight: %d ok, %d warnings, %d missing" % (counts[0], counts[1], counts[2]))
    return "\n".join(lines) + "\n"


def check_cpu(host: Host) -> List[Row]:
    """Checks what a run on a CPU needs."""
    rows = [checks.python_version(host, vendor=False)]
    for name, distributions in (("tensorflow", ("tensorflow", "tensorflow-cpu")), ("numpy", ("numpy",))):
        found = host.package(name)
        rows.append(Row(OK if found else MISSING, name, (host.version(*distributions) or "found") if found else "none",
                        "" if found else "bash run_estimator.sh setup"))
    return rows


def check_npu(options: LaunchOptions, host: Host, model_dir: str, expansion: bool = False,
              ranks: Optional[int] = None) -> List[Row]:
    """Checks what a run on NPUs needs.

    Args:
        options: of the launch; paths and scheme may be empty where only the host is looked at.
        host: the machine.
        model_dir: model directory of the run.
        expansion: whether tables are to grow without a fixed capacity.
        ranks: devices that are needed; None: as many as the scheme says.

    Returns:
        The rows in a fixed order. They never depend on importing a vendor package.
    """
    extra = package_folders(options) if options.rec_package_path else []
    scheme, counted = checks.rank_scheme(options, host)
    generation = checks.generation_of(host, extra)
    rows = [
        checks.python_version(host, vendor=True),
        checks.tensorflow(host),
        checks.c_library(host),
        checks.rec_sdk(host, extra, generation),
        checks.tf_adapter(host, extra),
        checks.op_library(options, host, extra, generation),
        checks.custom_op(host, expansion),
        checks.mpi(host),
        checks.mpi4py(host, extra),
        checks.devices(host, ranks or counted),
        checks.driver(host),
        checks.toolkit(host),
        scheme,
        checks.model_directory(model_dir),
    ]
    return rows + conflicts(host.environment, bool(options.hccl_cfg_json or options.ip))


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
