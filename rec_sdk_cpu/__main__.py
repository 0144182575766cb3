"""``python -m rec_sdk_cpu [options] program.py args...``: runs a Rec SDK program on this machine's CPU."""
import argparse
import sys
from typing import List, Optional

from rec_sdk_cpu import installer, rank_launcher
from rec_sdk_cpu.program import Program, ProgramError, run


def parse(arguments: Optional[List[str]] = None) -> Program:
    """Reads the command line; what follows the program's name belongs to the program.

    Args:
        arguments: without the interpreter's part; None for this process's.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rec_sdk_cpu", description="Runs a program that is written for Ascend's Rec SDK on a CPU, as "
                                                  "__main__, with the stand-in under the SDK's module names.")
    parser.add_argument("--generation", choices=installer.GENERATIONS, default="G3",
                        help="SDK generation to reproduce: G3 (7.3, 26.0), or G2 (6.0)")
    parser.add_argument("--trace", action="store_true",
                        help="at the end, report on standard error which SDK calls the program made and what differs "
                             "on a device")
    parser.add_argument("--force", action="store_true", help="run even where the real packages are installed")
    parser.add_argument("--ranks", type=int, default=1, metavar="N",
                        help="run N ranks of the program on this machine (default 1); needs Horovod")
    parser.add_argument("program", help="the Python file to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the program")
    given = parser.parse_args(arguments)
    if not 1 <= given.ranks <= rank_launcher.MAX_RANKS:
        parser.error("argument --ranks: must be in [1, %d], given %d" % (rank_launcher.MAX_RANKS, given.ranks))
    return Program(path=given.program, arguments=tuple(given.arguments), generation=given.generation,
                   trace=given.trace, force=given.force, ranks=given.ranks)


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the program; returns the exit status where it does not exit by itself."""
    program = parse(arguments)
    try:
        if program.ranks > 1:
            return rank_launcher.run([sys.executable, "-m", "rec_sdk_cpu"] + program.command_line(), program.ranks)
        run(program)
    except (ProgramError, installer.StandInError, rank_launcher.LaunchError) as error:
        print("rec_sdk_cpu: %s" % error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
