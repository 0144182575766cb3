"""Starts the ranks of a training or an evaluation under horovodrun or mpirun: on NPUs one per device, on CPUs over
Horovod, on one host or several. A process that has mpirun's variables is a rank and trains, one that has not launches
(rec_sdk_api 1.3, 7.4).
"""
import argparse
import contextlib
import itertools
import sys
from typing import Callable, ContextManager, Iterable, List, Mapping, Optional, Sequence, TextIO, Tuple

from estimator_app.config import NPU
from estimator_app.launch import preflight
from estimator_app.launch.environment import LaunchOptions, add_launch_arguments, compose, options_from, unusable_paths
from estimator_app.launch.hosts import Host, this_host
from estimator_app.launch.processes import run_ranks
from estimator_app.launch.rank import LAUNCHER
from estimator_app.launch.runners import command_line, render
from feature_specs.checks import refuse
from feature_specs.errors import ConfigError, UserError

_NPU_FLAGS = ("so_path", "rec_package_path", "hccl_cfg_json", "ip", "mpi_args")


def inside_launch(environment: Mapping[str, str]) -> bool:
    """Whether this process is a rank, which trains and does not launch again."""
    return bool(environment.get("OMPI_COMM_WORLD_RANK"))


def launched_here(environment: Mapping[str, str]) -> bool:
    """Whether :func:`launch` started this rank, and holds the lock and plans the phases; a user's own MPI did not."""
    return inside_launch(environment) and bool(environment.get(LAUNCHER))


def wants_ranks(parsed: argparse.Namespace) -> bool:
    """Whether a command line with :func:`add_launch_arguments` asks for several ranks, or for other hosts."""
    refuse(parsed.ranks is not None and parsed.ranks < 1, "--ranks %d; allowed: a number from 1 on", parsed.ranks)
    return bool(parsed.hosts) or parsed.ranks not in (None, 1)


def check_flags(parsed: argparse.Namespace, device: str) -> None:
    """Refuses (ConfigError) flags of the launch on NPUs on another device."""
    for flag in _NPU_FLAGS if device != NPU else ():
        refuse(getattr(parsed, flag), "--%s is for the launch on NPUs; add --device npu, or leave it out", flag)


def expand_positional(arguments: Sequence[str]) -> List[str]:
    """Turns the original script's positional form into flags; other command lines come back as they are.

    With an address the rank table is left out, as the original does it.
    """
    values = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments[1:]))
    if not values or arguments[0] != "train":
        return list(arguments)
    refuse(len(values) not in (4, 5), "%s: not one of train's flags, such as --data_dir DIR (train --help lists them); "
           "without flags, train takes so_path rec_package_path hccl_json data_path [ip]", " ".join(values))
    so_path, rec_package_path, table, data_dir, *address = values
    return ["train", "--device", "npu", "--so_path", so_path, "--rec_package_path", rec_package_path,
            *(["--ip", *address] if any(address) else ["--hccl_cfg_json", table]),
            "--data_dir", data_dir, *arguments[1 + len(values):]]


def split_arguments(arguments: Sequence[str], device: str = NPU) -> Tuple[LaunchOptions, List[str]]:
    """Separates the flags of the launch, or refuses them (ConfigError), from those that every rank gets: all others but
    ``--device`` and ``--fresh``, which is for the one process that launches.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_launch_arguments(parser)
    parser.add_argument("--device")
    parser.add_argument("--fresh", action="store_true")
    parsed, rest = parser.parse_known_args(list(arguments))
    check_flags(parsed, device)
    for flag in ("so_path", "rec_package_path"):
        refuse(device == NPU and not getattr(parsed, flag), "--device npu needs --%s; the launch needs --so_path, "
               "--rec_package_path and one of --hccl_cfg_json and --ip", flag)
    return options_from(parsed, device), rest


def launch(arguments: Sequence[str], model_dir: str, host: Optional[Host] = None,
           stages: Optional[Callable[[int, List[str]], Iterable[List[str]]]] = None,
           expansion: bool = False, stream: Optional[TextIO] = None, device: str = NPU, command: str = "train",
           data_dir: str = "", table_bytes: int = 0, lock: Optional[ContextManager[None]] = None) -> int:
    """Launches the ranks of a training or an evaluation, or prints how they would be launched.

    Args:
        arguments: the flags after the command; :func:`expand_positional` has run.
        stages: called with the number of ranks and the ranks' flags; returns what follows ``-m estimator_app`` for each
            process set, in order; a generator is asked for the next set when one has ended. Default: the command, once.
        expansion, data_dir, table_bytes: for the preflight, as its :class:`.preflight_checks.Wanted` has them.
        lock: held from after the preflight to the end of the last process; not in a dry run.

    Returns:
        The exit status: 0; 1 where the preflight finds something missing; that of the first command that fails.
    """
    host, stream = host or this_host(), stream or sys.stdout
    options, app_arguments = split_arguments(arguments, device)
    environment = compose(options, host)
    notes = unusable_paths(options, model_dir)
    if notes and not options.dry_run:
        raise ConfigError(notes[0])
    ranks = environment.placement.ranks
    applications: Iterable[List[str]] = [[command, "--device", device] + app_arguments]

    def line(application: Sequence[str]) -> Tuple[str, ...]:
        return command_line(options, environment, host, "estimator_app", application)

    if options.dry_run:
        try:
            applications = list(stages(ranks, app_arguments)) if stages else applications
        except UserError as error:
            notes.append("the evaluations cannot be planned (%s)" % error)
        stream.write(render(environment, [line(application) for application in applications], notes))
        return 0
    line([])  # refuses what cannot be started
    wanted = preflight.Wanted(model_dir, data_dir, expansion, table_bytes)
    if not preflight.is_ready(options, environment, host, wanted, stream, silent=device != NPU):
        return 1
    with lock or contextlib.ExitStack():
        for application in stages(ranks, app_arguments) if stages else applications:
            status = run_ranks(line(application), environment.apply(host.environment), environment.placement)
            if status:
                return status
    return 0
