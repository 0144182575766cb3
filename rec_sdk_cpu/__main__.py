"""``python -m rec_sdk_cpu [options] program.py args...``: runs a Rec SDK program on this machine's CPU."""
import argparse
import sys
from typing import List, Optional

from rec_sdk_cpu import installer
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
    parser.add_argument("program", help="the Python file to run")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the program")
    given = parser.parse_args(arguments)
    return Program(path=given.program, arguments=tuple(given.arguments), generation=given.generation,
                   trace=given.trace, force=given.force)


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the program; returns the exit status where it does not exit by itself."""
    try:
        run(parse(arguments))
    except (ProgramError, installer.StandInError) as error:
        print("rec_sdk_cpu: %s" % error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
