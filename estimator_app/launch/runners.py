"""The command lines of the programs that start ranks: on CPUs horovodrun over Gloo, on NPUs horovodrun over MPI, or
mpirun where there is no horovodrun (rec_sdk_api 7.4).
"""
import os
import shlex
from typing import Sequence, Tuple

from estimator_app.config import CPU
from estimator_app.launch.environment import LaunchOptions, RankEnvironment
from estimator_app.launch.hosts import Host
from estimator_app.launch.rank import LAUNCHER
from feature_specs.checks import refuse

_LOOPBACK = "lo"
# Arguments of mpirun that the launch writes itself, or on which the order of the ranks and the reading of their output
# rest, and what to do instead.
_OWN_MPI_ARGUMENTS = {
    **dict.fromkeys(("np", "n", "c"), "use --ranks"),
    **dict.fromkeys(("H", "host", "hostfile", "machinefile", "default-hostfile", "npernode", "N", "pernode", "map-by",
                     "bynode", "rank-by", "rankfile", "rf"), "use --hosts"),
    **dict.fromkeys(("bind-to", "tag-output", "timestamp-output", "xml", "output-filename", "wdir", "wd"),
                    "leave it out")}


def command_line(options: LaunchOptions, environment: RankEnvironment, host: Host, module: str,
                 arguments: Sequence[str]) -> Tuple[str, ...]:
    """Returns the words that run ``python -m MODULE ARGUMENTS`` once per rank; ConfigError where they could not."""
    placement = environment.placement
    interface = options.network_interface or ("" if placement.remote else _LOOPBACK)
    refuse(placement.remote and interface == _LOOPBACK, "--network_interface lo joins no two hosts; give the interface "
           "that leads to %s, or leave it out", placement.hosts[-1])
    by_name = ["--network-interface", interface] if interface else []
    ranks, hosts = ["-np", str(placement.ranks)], ["-H", placement.text]
    _check_mpi_args(options.mpi_args, environment)
    binding = ["-bind-to", "none", *options.mpi_args]
    if options.device == CPU:
        runner = [_horovodrun(host, options.dry_run), "--gloo", "--disable-cache", *by_name, *ranks, *hosts]
    elif host.which("horovodrun") or not host.which("mpirun"):
        # "=": the value begins with a dash. horovodrun itself exports the environment to the ranks.
        runner = ["horovodrun", *by_name, *ranks, "--mpi-args=" + _quoted(binding), "--mpi", *hosts]
    else:
        runner = ["mpirun", "--allow-run-as-root", "--tag-output", *ranks, *hosts, *binding]
        if placement.remote and interface:
            runner += ["-mca", "btl_tcp_if_include", interface, "-mca", "oob_tcp_if_include", interface]
        # How the ranks find the launching process is set when it listens: not in a dry run.
        for name in sorted(environment.values) + ([] if options.dry_run else [LAUNCHER]):
            runner += ["-x", name]
    return (*runner, host.python, "-m", "estimator_app.launch.rank", module, *arguments)


def _horovodrun(host: Host, dry_run: bool) -> str:
    path = os.path.join(os.path.dirname(host.python), "horovodrun")
    refuse(not dry_run and (not os.access(path, os.X_OK) or host.package("horovod") is None),
           "several ranks on CPUs need Horovod, which is not installed beside %s; run `bash run_estimator.sh setup "
           "--distributed` once", host.python)
    return path


def _check_mpi_args(arguments: Sequence[str], environment: RankEnvironment) -> None:
    for argument, following in zip(arguments, [*arguments[1:], ""]):
        name, variable = argument.lstrip("-").split("=", 1)[0], following.split("=", 1)[0]
        refuse(argument == ":", "--mpi_args: ':' starts a second program; the ranks all run the same one")
        if not argument.startswith("-"):
            continue
        is_removed = variable in environment.removed
        refuse(name == "x" and (is_removed or (variable in environment.values and "=" in following)),
               "--mpi_args: -x %s contradicts the launch, which %s %s; leave it out, docs/npu.md says which variables "
               "keep the value that this command finds", following, "removes" if is_removed else "sets", variable)
        refuse(name in _OWN_MPI_ARGUMENTS and (name, following) != ("bind-to", "none"),
               "--mpi_args: %s contradicts what the launch writes; %s", " ".join((argument, following)).strip(),
               _OWN_MPI_ARGUMENTS.get(name))


def render(environment: RankEnvironment, commands: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Returns a launch as shell text."""
    placement, values = environment.placement, environment.values
    where = placement.text if placement.remote else "this host"
    lines = ["# %s scheme, %d %s on %s" % (environment.scheme, placement.ranks,
                                           "rank" if placement.ranks == 1 else "ranks", where)]
    lines += ["# note: %s" % note for note in notes]
    lines.append("unset %s" % " ".join(sorted(environment.removed)))
    lines += ["export %s=%s" % (name, shlex.quote(values[name])) for name in sorted(values)]
    lines += map(_quoted, commands)
    return "\n".join(lines) + "\n"


def _quoted(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))
