"""Starts the ranks of an NPU training on this host: environment, command line, signals, exit status.

    run_estimator.sh train --device npu [--ranks N] --so_path P --rec_package_path P (--hccl_cfg_json F | --ip IP)

runs ``python -m estimator_app train --device npu ...`` once per device under horovodrun or mpirun, which give each
process its rank in ``OMPI_COMM_WORLD_*`` (rec_sdk_api 1.3, 7.4). A process that has these variables trains, one that
has not launches. Only processes started here are ever signalled.
"""
import argparse
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TextIO, Tuple

from estimator_app.launch import preflight
from estimator_app.launch.environment import (
    LaunchOptions,
    RankEnvironment,
    add_launch_arguments,
    check_model_dir,
    check_scheme,
    compose,
    missing_paths,
    options_from,
)
from estimator_app.launch.hosts import Host, this_host
from estimator_app.training.phases import Phase, phase_flag
from feature_specs.errors import ConfigError, UserError

_POSITIONAL = "train so_path rec_package_path hccl_json data_path [ip]"
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclasses.dataclass(frozen=True)
class LaunchPlan:
    """A launch, ready to be printed or run.

    Attributes:
        environment: what changes for the ranks.
        commands: argument lists, to be run one after the other.
    """

    environment: RankEnvironment
    commands: Tuple[Tuple[str, ...], ...]


def inside_launch(environment: Mapping[str, str]) -> bool:
    """Whether this process is a rank already, so that it has to train and not to launch again."""
    return bool(environment.get("OMPI_COMM_WORLD_RANK"))


def rank_model_dir(model_dir: str, rank_id: int, rank_size: int) -> str:
    """Returns the model directory of a rank: the same one for all ranks.

    The Rec SDK's saver is collective: every rank writes its slices of the tables into the checkpoint's folder, one of
    them merges the slices and writes the dense files, and every rank restores from there (rec_sdk_api 5.3). With a
    directory per rank the slices would not meet and all ranks but one would find nothing to restore. docs/npu.md has
    the reasoning.

    Args:
        model_dir: as given to the command.
        rank_id: 0-based.
        rank_size: number of ranks.

    Raises:
        ConfigError: the rank is not one of the ranks.
    """
    if rank_size < 1 or not 0 <= rank_id < rank_size:
        raise ConfigError("rank %d of %d does not exist; ranks are counted from 0" % (rank_id, rank_size))
    return model_dir


def expand_positional(arguments: Sequence[str]) -> List[str]:
    """Turns the original script's positional form into flags; other command lines come back as they are.

    Args:
        arguments: the command line, beginning with the command.

    Returns:
        For ``train so_path rec_package_path hccl_json data_path [ip] [flags...]`` the same with ``--device npu`` and
        flags. With an address the rank table is left out, as the original does it.

    Raises:
        ConfigError: the number of positional arguments is not 4 or 5.
    """
    arguments = list(arguments)
    if len(arguments) < 2 or arguments[0] != "train" or arguments[1].startswith("-"):
        return arguments
    values = []
    for argument in arguments[1:]:
        if argument.startswith("-"):
            break
        values.append(argument)
    if len(values) not in (4, 5):
        raise ConfigError("%d positional arguments are given; allowed: %s, or flags (train --help lists them)"
                          % (len(values), _POSITIONAL))
    so_path, rec_package_path, table, data_dir = values[:4]
    scheme = ["--ip", values[4]] if len(values) == 5 and values[4] else ["--hccl_cfg_json", table]
    return (["train", "--device", "npu", "--so_path", so_path, "--rec_package_path", rec_package_path] + scheme
            + ["--data_dir", data_dir] + arguments[1 + len(values):])


def split_arguments(arguments: Sequence[str]) -> Tuple[LaunchOptions, List[str]]:
    """Separates the flags of the launch from those of the ranks.

    Args:
        arguments: the flags after ``train``.

    Returns:
        The launch options, and the flags that every rank gets: all others in their order, without ``--device`` and
        without ``--fresh``, which is for the one process that launches.

    Raises:
        ConfigError: ``--so_path`` or ``--rec_package_path`` is missing, or ``--mpi_args`` cannot be split.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_launch_arguments(parser)
    parser.add_argument("--device")
    parser.add_argument("--fresh", action="store_true")
    parsed, rest = parser.parse_known_args(list(arguments))
    for flag in ("so_path", "rec_package_path"):
        if not getattr(parsed, flag):
            raise ConfigError("--device npu needs --%s; the launch needs --so_path, --rec_package_path and one of "
                              "--hccl_cfg_json and --ip" % flag)
    return options_from(parsed), rest


def phase_arguments(phase: Phase, app_arguments: Sequence[str]) -> List[str]:
    """Returns what follows ``-m estimator_app`` for the ranks of one phase."""
    return ["train", "--device", "npu", "--phase", phase_flag(phase)] + list(app_arguments)


def command_line(options: LaunchOptions, environment: RankEnvironment, host: Host,
                 app_arguments: Sequence[str]) -> Tuple[str, ...]:
    """Returns the argument list that starts all ranks: horovodrun's, or mpirun's where there is no horovodrun.

    Args:
        options: of the launch.
        environment: of the ranks.
        host: the machine.
        app_arguments: what follows ``-m estimator_app``.
    """
    program = (host.python, "-m", "estimator_app") + tuple(app_arguments)
    ranks = str(environment.ranks)
    slots = "localhost:%s" % ranks
    binding = ("-bind-to", "none") + options.mpi_args
    if host.which("horovodrun") or not host.which("mpirun"):
        # "=": the value begins with a dash. horovodrun itself exports the environment to the ranks.
        quoted = " ".join(shlex.quote(argument) for argument in binding)
        return ("horovodrun", "--network-interface", options.network_interface, "-np", ranks,
                "--mpi-args=%s" % quoted, "--mpi", "-H", slots) + program
    exported: Tuple[str, ...] = ()
    for name in sorted(environment.values):
        exported += ("-x", name)
    return ("mpirun", "--allow-run-as-root", "-np", ranks, "-H", slots) + binding + exported + program


def render(plan: LaunchPlan, notes: Sequence[str] = ()) -> str:
    """Returns a launch as shell text: notes, removed and set variables in order of their names, the commands."""
    environment = plan.environment
    lines = ["# %s scheme, %d %s on this host"
             % (environment.scheme, environment.ranks, "rank" if environment.ranks == 1 else "ranks")]
    lines += ["# note: %s" % note for note in notes]
    lines.append("unset %s" % " ".join(sorted(environment.removed)))
    lines += ["export %s=%s" % (name, shlex.quote(environment.values[name])) for name in sorted(environment.values)]
    lines += [" ".join(shlex.quote(argument) for argument in command) for command in plan.commands]
    return "\n".join(lines) + "\n"


def run_command(command: Sequence[str], environment: Dict[str, str]) -> int:
    """Runs a command to its end and hands signals on to it.

    The command gets a session of its own, so that a terminal's Ctrl-C reaches it once, through here. A signal that this
    process ignores (nohup) stays ignored.

    Args:
        command: argument list; no shell is involved.
        environment: the complete environment.

    Returns:
        The exit status; 128 and the signal's number where a signal ended the command.

    Raises:
        UserError: the program cannot be started.
    """
    child: List[subprocess.Popen[bytes]] = []
    early: List[int] = []

    def forward(number: int, _frame: Any) -> None:
        if child:
            child[0].send_signal(number)
        else:
            early.append(number)

    previous = {number: signal.signal(number, forward) for number in _FORWARDED
                if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        try:
            child.append(subprocess.Popen(list(command), env=environment, stdin=subprocess.DEVNULL,
                                          start_new_session=True))
        except OSError as error:
            raise UserError("%s cannot be started (%s); install Open MPI and horovod, or correct PATH"
                            % (command[0], error.strerror or error)) from error
        for number in early:
            child[0].send_signal(number)
        status = child[0].wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def launch(arguments: Sequence[str], model_dir: str, host: Optional[Host] = None,
           stages: Optional[Callable[[int, List[str]], List[List[str]]]] = None,
           before_start: Optional[Callable[[], None]] = None, expansion: bool = False,
           stream: Optional[TextIO] = None) -> int:
    """Launches a training on the NPUs of this host, or prints how it would be launched.

    Args:
        arguments: the flags after ``train``; :func:`expand_positional` has run.
        model_dir: model directory of the run.
        host: the machine, default this one.
        stages: called with the number of ranks and the ranks' flags; returns what follows ``-m estimator_app`` for each
            process set, in order. Default: one training.
        before_start: called once, after the checks and before the first process: what must not be done by every rank,
            such as deleting (``--fresh``).
        expansion: whether tables grow, which needs a further operator package.
        stream: where dry run and preflight are printed, default standard output.

    Returns:
        The exit status: 0; 1 where the preflight finds something missing; that of the first command that fails.

    Raises:
        UserError: the command line, the rank table or the environment cannot be used.
    """
    host = host or this_host()
    stream = stream or sys.stdout
    options, app_arguments = split_arguments(arguments)
    check_scheme(options)
    notes = missing_paths(options)
    if options.hccl_cfg_json and not os.path.isfile(options.hccl_cfg_json):
        notes.append("--hccl_cfg_json %s is no file" % options.hccl_cfg_json)
    problem = check_model_dir(model_dir)
    notes += [problem] if problem else []
    if notes and not options.dry_run:
        raise ConfigError(notes[0])
    environment = compose(options, host)
    if not options.dry_run:
        rows = preflight.check_npu(options, host, model_dir, expansion, environment.ranks)
        stream.write(preflight.table(rows))
        stream.flush()
        if preflight.missing(rows):
            return 1
        if before_start is not None:
            before_start()
    applications = [["train", "--device", "npu"] + app_arguments]
    if stages is not None:
        try:
            applications = stages(environment.ranks, app_arguments)
        except UserError as error:
            if not options.dry_run:
                raise
            notes.append("the evaluations cannot be planned (%s)" % error)
    plan = LaunchPlan(environment, tuple(command_line(options, environment, host, application)
                                         for application in applications))
    if options.dry_run:
        stream.write(render(plan, notes))
        return 0
    for command in plan.commands:
        status = run_command(command, environment.apply(dict(host.environment)))
        if status:
            return status
    return 0
