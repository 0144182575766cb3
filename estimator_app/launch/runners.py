"""The command lines of the programs that start ranks: on CPUs horovodrun over Gloo, on NPUs horovodrun over MPI, or
mpirun where there is no horovodrun (rec_sdk_api 7.4).
"""
import os
import shlex
from typing import List, Sequence, Tuple

from estimator_app.launch.environment import CPU, LaunchOptions, RankEnvironment
from estimator_app.launch.hosts import LOCAL, Host
from estimator_app.launch.rank import LAUNCHER
from feature_specs.errors import ConfigError

APP = "estimator_app"
_LOOPBACK = "lo"
# Arguments of mpirun that the launch writes itself or that its reading of the output and the ranks' order rest on, by
# the flag that says the same.
_OWN_MPI_ARGUMENTS = {
    "--ranks": ("np", "n", "c"),
    "--hosts": ("H", "host", "hostfile", "machinefile", "default-hostfile", "npernode", "N", "pernode", "map-by",
                "bynode", "rank-by", "rankfile", "rf"),
    "": ("bind-to", "tag-output", "timestamp-output", "xml", "output-filename", "wdir", "wd")}


def command_line(options: LaunchOptions, environment: RankEnvironment, host: Host, module: str,
                 arguments: Sequence[str]) -> Tuple[str, ...]:
    """Returns the argument list that runs a module once per rank.

    Args:
        options: of the launch.
        environment: of the ranks.
        host: the machine.
        module: what follows ``-m``.
        arguments: what follows the module.

    Raises:
        ConfigError: a CPU launch without Horovod, or an argument for mpirun that contradicts the launch.
    """
    placement = environment.placement
    interface = options.network_interface or ("" if placement.remote else _LOOPBACK)
    if placement.remote and interface == _LOOPBACK:
        raise ConfigError("--network_interface lo joins no two hosts; give the interface that leads to %s, or leave it "
                          "out" % placement.hosts[-1])
    ranks = str(placement.ranks)
    by_name = ("--network-interface", interface) if interface else ()
    program = (host.python, "-m", "estimator_app.launch.rank", module) + tuple(arguments)
    if options.device == CPU:
        if options.mpi_args:
            raise ConfigError("--mpi_args is for the launch on NPUs; leave it out with --device cpu")
        return (horovodrun(host, options.dry_run), "--gloo", "--disable-cache") + by_name + (
            "-np", ranks, "-H", placement.text) + program
    check_mpi_args(options.mpi_args, environment)
    binding = ("-bind-to", "none") + options.mpi_args
    if host.which("horovodrun") or not host.which("mpirun"):
        # "=": the value begins with a dash. horovodrun itself exports the environment to the ranks.
        quoted = " ".join(shlex.quote(argument) for argument in binding)
        return ("horovodrun",) + by_name + ("-np", ranks, "--mpi-args=%s" % quoted, "--mpi", "-H",
                                            placement.text) + program
    extra: Tuple[str, ...] = ()
    if placement.remote and interface:
        extra = ("-mca", "btl_tcp_if_include", interface, "-mca", "oob_tcp_if_include", interface)
    # How the ranks find the launching process is set when it listens: not in a dry run.
    for name in sorted(environment.values) + ([] if options.dry_run else [LAUNCHER]):
        extra += ("-x", name)
    return ("mpirun", "--allow-run-as-root", "--tag-output", "-np", ranks, "-H",
            placement.text) + binding + extra + program


def horovodrun(host: Host, dry_run: bool = False) -> str:
    """Returns Horovod's launcher: that of the interpreter's own environment.

    Raises:
        ConfigError: Horovod is not installed; not in a dry run.
    """
    path = os.path.join(os.path.dirname(host.python), "horovodrun")
    if not dry_run and (not os.access(path, os.X_OK) or host.package("horovod") is None):
        raise ConfigError("several ranks on CPUs need Horovod, which is not installed beside %s; run "
                          "`bash run_estimator.sh setup --distributed` once" % host.python)
    return path


def check_mpi_args(arguments: Sequence[str], environment: RankEnvironment) -> None:
    """Refuses what contradicts the launch's own arguments and variables.

    Raises:
        ConfigError: naming the argument and what to use.
    """
    for index, argument in enumerate(arguments):
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        name = argument.lstrip("-").split("=", 1)[0]
        variable = following.split("=", 1)[0]
        if argument == ":":
            raise ConfigError("--mpi_args: ':' starts a second program; the ranks all run the same one")
        if not argument.startswith("-"):
            continue
        if name == "x" and (variable in environment.removed or (variable in environment.values and "=" in following)):
            raise ConfigError("--mpi_args: -x %s contradicts the launch, which %s %s; leave it out, docs/npu.md says "
                              "which variables keep the value that this command finds"
                              % (following, "removes" if variable in environment.removed else "sets", variable))
        for flag, names in _OWN_MPI_ARGUMENTS.items():
            if name in names and (name, following) != ("bind-to", "none"):
                raise ConfigError("--mpi_args: %s contradicts what the launch writes; %s" % (
                    " ".join((argument, following)).strip(), "use %s" % flag if flag else "leave it out"))


def render(environment: RankEnvironment, commands: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Returns a launch as shell text: notes, removed and set variables in order of their names, the commands."""
    placement = environment.placement
    where = "on this host" if placement.hosts == (LOCAL,) else "on %s" % placement.text
    lines: List[str] = ["# %s scheme, %d %s %s" % (environment.scheme, placement.ranks,
                                                   "rank" if placement.ranks == 1 else "ranks", where)]
    lines += ["# note: %s" % note for note in notes]
    lines.append("unset %s" % " ".join(sorted(environment.removed)))
    lines += ["export %s=%s" % (name, shlex.quote(environment.values[name])) for name in sorted(environment.values)]
    lines += [" ".join(shlex.quote(argument) for argument in command) for command in commands]
    return "\n".join(lines) + "\n"
