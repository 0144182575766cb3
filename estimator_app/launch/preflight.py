"""The ``preflight`` command and the checks before a launch, on every host of a run."""
import argparse
import dataclasses
import json
import os
import sys
import tempfile
from typing import Dict, List, Optional, Sequence, TextIO, Tuple

from estimator_app.config import CPU, NPU
from estimator_app.launch.environment import LaunchOptions, RankEnvironment, add_launch_arguments, compose, options_from
from estimator_app.launch.hosts import Host, this_host
from estimator_app.launch.preflight_checks import MISSING, OK, WARN, Row, Wanted, check, existing
from estimator_app.launch.processes import run_ranks
from estimator_app.launch.runners import command_line
from feature_specs.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the ``preflight`` command; all are optional."""
    add = parser.add_argument
    add("--device", choices=("auto", CPU, NPU), default="auto", metavar="auto|cpu|npu",
        help="what to look for; auto takes npu where mx_rec is found (default: auto)")
    add("--data_dir", default="", metavar="PATH", help="prepared data of the run [path] (default: not looked at)")
    add("--model_dir", default="runs/default", metavar="PATH",
        help="model directory of the run [path] (default: runs/default)")
    add("--use_dynamic_expansion", choices=("true", "false"), default="false", metavar="true|false",
        help="tables that grow without a fixed capacity (default: false)")
    add_launch_arguments(parser, starts=False)


def run(parsed: argparse.Namespace, host: Optional[Host] = None, stream: Optional[TextIO] = None,
        table_bytes: int = 0) -> int:
    """Prints a table per host and returns the exit status: 1 where something mandatory is missing, else 0."""
    host, stream = host or this_host(), stream or sys.stdout
    npu = parsed.device == NPU or (parsed.device == "auto" and host.package("mx_rec") is not None)
    options = options_from(parsed, NPU if npu else CPU)
    expansion = parsed.use_dynamic_expansion == "true" or host.environment.get("USE_DYNAMIC_EXPANSION") == "1"
    wanted = Wanted(parsed.model_dir, parsed.data_dir, expansion, table_bytes)
    environment = compose(options, host) if options.hosts else None
    return 0 if is_ready(options, environment, host, wanted, stream) else 1


def is_ready(options: LaunchOptions, environment: Optional[RankEnvironment], host: Host, wanted: Wanted,
             stream: TextIO, silent: bool = False) -> bool:
    """Prints what this host has, or each host of the ranks, and returns whether the ranks can start.

    With ``silent`` only hosts that lack something mandatory are printed.
    """
    good = True
    if environment is not None and environment.placement.remote:
        good, tables = _every_host(options, environment, host, wanted)
    else:
        tables = {"": check(options, host, wanted)}
    for name, rows in tables.items():
        if _is_missing(rows) or not silent:
            stream.write(("host %s:\n" % name if name else "") + _table(rows))
    stream.flush()
    return good and not any(map(_is_missing, tables.values()))


def _is_missing(rows: Sequence[Row]) -> bool:
    return any(row.status == MISSING for row in rows)


def _table(rows: Sequence[Row]) -> str:
    name_width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        text = "%-7s  %-*s  %s" % (row.status, name_width, row.name, row.found)
        lines.append(text + ("; fix: %s" % row.fix if row.fix else ""))
    counts = tuple(sum(row.status == status for row in rows) for status in (OK, WARN, MISSING))
    lines.append("preflight: %d ok, %d warnings, %d missing" % counts)
    return "\n".join(lines) + "\n"


def _every_host(options: LaunchOptions, environment: RankEnvironment, host: Host,
                wanted: Wanted) -> Tuple[bool, Dict[str, List[Row]]]:
    """Checks every host by a process on each, started the way the ranks are; whether these ended well, and the rows."""
    environment = dataclasses.replace(environment, placement=dataclasses.replace(environment.placement, slots=1))
    found: Dict[int, str] = {}

    def collect(index: int, text: str) -> None:
        found[index] = found.get(index, "") + text

    try:
        shared = tempfile.NamedTemporaryFile(prefix=".seen-by-all-hosts-", dir=existing(wanted.model_dir))
    except OSError as error:
        raise UserError("model directory %s cannot be written (%s); choose another --model_dir"
                        % (wanted.model_dir, error.strerror or error)) from error
    with shared:
        wanted = dataclasses.replace(wanted, shared_file=shared.name, model_dir=os.path.abspath(wanted.model_dir),
                                     data_dir=wanted.data_dir and os.path.abspath(wanted.data_dir))
        arguments = [json.dumps(dataclasses.asdict(options)), json.dumps(dataclasses.asdict(wanted))]
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


if __name__ == "__main__":  # on one of several hosts; the launching one prints what it finds
    _options, _wanted = map(json.loads, sys.argv[1:])
    print(json.dumps(check(LaunchOptions(**_options), this_host(), Wanted(**_wanted))))
