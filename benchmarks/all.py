"""All speed benchmarks, one after the other: ``bash run_estimator.sh bench all``; flags go to each of them."""
import importlib
import sys
from typing import Sequence

from benchmarks import _harness

NAMES = ("prepare", "input", "step", "train", "eval", "predict", "tables", "startup", "memory")


def main(arguments: Sequence[str]) -> int:
    """Runs the benchmarks; returns the first exit status that is not 0."""
    if _harness.new_parser("all", __doc__).parse_args(list(arguments)).quick:
        sys.stdout.write("tiny data, to see that everything runs: the figures mean nothing\n")
    for name in NAMES:
        sys.stdout.write("== %s\n" % name)
        sys.stdout.flush()
        status = importlib.import_module("benchmarks." + name).main(arguments)
        if status:
            return int(status)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
