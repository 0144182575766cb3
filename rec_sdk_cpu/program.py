"""Runs somebody's program as ``__main__``, with the stand-in installed."""
import os
import runpy
import sys
from dataclasses import dataclass
from typing import List, Tuple

from rec_sdk_cpu import installer

# TF Adapter refuses to build an estimator without a job, which the launch scripts of NPU hosts name.
_JOB_ID = "10086"


class ProgramError(Exception):
    """The program cannot be run; the message says why and what to do."""


@dataclass(frozen=True)
class Program:
    """A program and how it is run.

    Attributes:
        path: the Python file.
        arguments: its arguments, ``sys.argv[1:]``.
        generation: SDK generation, "G2" or "G3".
        trace: whether a report is written to standard error at the end.
        force: whether it runs even where the real packages are installed.
        ranks: how many processes run it together.
    """

    path: str
    arguments: Tuple[str, ...] = ()
    generation: str = "G3"
    trace: bool = False
    force: bool = False
    ranks: int = 1

    def command_line(self) -> List[str]:
        """Returns the arguments of ``python -m rec_sdk_cpu`` that run it as one rank."""
        switches = ["--trace"] * self.trace + ["--force"] * self.force
        return ["--generation", self.generation] + switches + [self.path] + list(self.arguments)


def run(program: Program) -> None:
    """Installs the stand-in and runs the program in this process, to its end.

    The program sees what ``python program.py`` would show it: ``sys.argv``, its folder first on ``sys.path``, and
    ``__name__ == "__main__"``. Its exceptions and exits pass through.

    Raises:
        ProgramError: there is no such file.
        StandInError: the real packages are installed, and ``force`` is not given.
    """
    if not os.path.isfile(program.path):
        raise ProgramError("%s is not a file; give the Python file to run, and its arguments after it" % program.path)
    installer.install(force=program.force, generation=program.generation)
    os.environ.setdefault("JOB_ID", _JOB_ID)
    sys.argv[:] = [program.path] + list(program.arguments)
    # "python -m" puts the working directory first; "python program.py" the program's folder.
    sys.path[0] = os.path.dirname(os.path.abspath(program.path))
    report = None
    # The ranks make the same calls: one report is enough.
    if program.trace and os.environ["OMPI_COMM_WORLD_RANK"] == "0":
        from rec_sdk_cpu import trace
        report = trace.start(program.path)
    try:
        runpy.run_path(program.path, run_name="__main__")
    finally:
        if report is not None:
            report.finish(sys.stderr, sys.exc_info()[1])
