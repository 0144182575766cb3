"""What all benchmarks share: alternating pairs, workers in processes of their own, results as JSON lines and a table.

A machine that other work shares gives other absolute figures from minute to minute. Both sides of a comparison
therefore take turns in one run, and the result is the median of the ratios inside the pairs, with their spread.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from estimator_app.parsers import PROG, Parser
from feature_specs.cores import usable_cores
from feature_specs.files import PROJECT

DATA_VARIABLE = "CENSUS_KDD_DIR"
DATASETS = ("census", "shop")


class WorkerError(Exception):
    """A process of a benchmark failed."""


class Bound(NamedTuple):
    """What a figure of a result must reach.

    Attributes:
        field: of the result.
        least, most: the bound; None where there is none.
    """

    field: str
    least: Optional[float] = None
    most: Optional[float] = None

    def holds(self, result: Dict[str, Any]) -> bool:
        """Returns whether a result keeps the bound."""
        value = result[self.field]
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def text(self) -> str:
        """Returns the bound as a reader expects it."""
        return ">= %g" % self.least if self.least is not None else "<= %g" % (self.most or 0.0)


def machine_facts() -> Dict[str, Any]:
    """Returns what a figure depends on besides the program."""
    return {"cores": usable_cores(), "machine": platform.machine(), "processor": _processor(),
            "python": platform.python_version(), "numpy": np.__version__,
            "load": [round(value, 2) for value in os.getloadavg()]}


def alternate(sides: Dict[str, Callable[[], float]], pairs: int, warm_up: int = 1) -> Dict[str, List[float]]:
    """Runs all sides in turn, and says on standard error how far it is.

    Args:
        sides: {name: function that measures once}.
        pairs: counted rounds.
        warm_up: rounds before them that do not count.

    Returns:
        {name: figures, one per counted round}.
    """
    found: Dict[str, List[float]] = {name: [] for name in sides}
    for number in range(pairs + warm_up):
        for name, measure in sides.items():
            value = measure()
            sys.stderr.write("round %d of %d%s, %s: %s\n" % (
                number + 1, pairs + warm_up, "" if number >= warm_up else " (warm-up)", name, _short(value)))
            if number >= warm_up:
                found[name].append(value)
    return found


def per_second(step: Callable[[], Any], seconds: float) -> float:
    """Returns how often a function runs per second, over so many seconds after a tenth as warm-up."""
    rate = 0.0
    for limit in (seconds / 10, seconds):
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < limit:
            step()
            count += 1
        rate = count / (time.perf_counter() - began)
    return rate


def compared(benchmark: str, unit: str, speeds: Dict[str, List[float]], **settings: Any) -> Dict[str, Any]:
    """Returns the result of a comparison.

    Args:
        benchmark: its name.
        unit: of the speeds; more is better.
        speeds: {``ours``: figures, ``reference``: figures}, pair by pair.
        **settings: what else the result holds.
    """
    ratios = [ours / reference for ours, reference in zip(speeds["ours"], speeds["reference"])]
    return dict(settings, benchmark=benchmark, unit=unit, pairs=len(ratios),
                ours=_figure(statistics.median(speeds["ours"])), ours_best=_figure(max(speeds["ours"])),
                reference=_figure(statistics.median(speeds["reference"])),
                reference_best=_figure(max(speeds["reference"])),
                ratio=round(statistics.median(ratios), 2), ratio_least=round(min(ratios), 2),
                ratio_most=round(max(ratios), 2))


def report(results: Sequence[Dict[str, Any]], label: Callable[[Dict[str, Any]], str],
           bounds: Sequence[Bound] = ()) -> None:
    """Prints one JSON line per result, then a table of the ratios.

    Args:
        results: of :func:`compared`.
        label: the text that tells a row from the others.
        bounds: what holds or not; those whose field a result lacks are left out.
    """
    facts = machine_facts()
    for result in results:
        sys.stdout.write(json.dumps(dict(result, **facts), sort_keys=True) + "\n")
    if any("ratio" in result for result in results):
        sys.stdout.write("%-34s %12s %12s %9s %17s  %s\n" % ("", "ours", "reference", "ratio", "spread", "unit"))
    for result in results:
        if "ratio" not in result:
            continue
        sys.stdout.write("%-34s %12s %12s %8.2fx %7.2fx - %6.2fx  %s\n" % (
            label(result), _short(result["ours"]), _short(result["reference"]), result["ratio"],
            result["ratio_least"], result["ratio_most"], result["unit"]))
    for result in results:
        report_bounds(label(result), result, bounds)
    sys.stdout.flush()


def report_bounds(name: str, result: Dict[str, Any], bounds: Sequence[Bound]) -> None:
    """Prints a line per bound that concerns a result."""
    for bound in list(bounds) + [Bound(*item) for item in result.get("bounds", [])]:
        if bound.field in result:
            sys.stdout.write("%-34s %s %s, bound %s: %s\n" % (
                name, bound.field, _short(result[bound.field]), bound.text(),
                "holds" if bound.holds(result) else "DOES NOT HOLD"))


def run_worker(*arguments: str) -> Dict[str, Any]:
    """Runs ``python -m benchmarks._worker`` and returns the JSON object of its last line.

    Raises:
        WorkerError: the exit status is not 0.
    """
    return json.loads(run_python(["-m", "benchmarks._worker"] + list(arguments)).splitlines()[-1])


def run_python(arguments: Sequence[str]) -> str:
    """Runs this Python in a process of its own and returns its standard output.

    Raises:
        WorkerError: the exit status is not 0.
    """
    path = os.pathsep.join([PROJECT] + [item for item in [os.environ.get("PYTHONPATH")] if item])
    done = subprocess.run([sys.executable] + list(arguments), capture_output=True, text=True,
                          env={"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONWARNINGS": "ignore", **os.environ,
                               "PYTHONPATH": path})
    if done.returncode:
        raise WorkerError("%s: exit status %d: %s" % (" ".join(arguments[:4]), done.returncode,
                                                      done.stderr.strip()[-2000:]))
    return done.stdout


def peer_python() -> str:
    """Returns the Python that peers run in: TF2_PYTHON, or that of ``setup --peers``.

    Raises:
        WorkerError: there is none.
    """
    found = os.environ.get("TF2_PYTHON") or sys.prefix.rstrip(os.sep) + "-tf2/bin/python"
    if not os.path.isfile(found):
        raise WorkerError("peers need another Python: run setup --peers, or set TF2_PYTHON to one with the packages of "
                          "requirements-tf2.txt and requirements-peers-tf2.txt")
    return found


def run_peer(python: str, what: str, specification: str) -> Dict[str, Any]:
    """Runs a peer in its own Python and returns the JSON object that it prints.

    Raises:
        WorkerError: the exit status is not 0.
    """
    script = os.path.join(PROJECT, "benchmarks", "_peers.py")
    # Alone on the path: nothing of this Python's packages may be found by the other one.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([python, script, what, specification], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise WorkerError("%s of %s: exit status %d: %s" % (what, python, done.returncode, done.stderr.strip()[-2000:]))
    return json.loads(done.stdout.splitlines()[-1])


def new_parser(name: str, description: Optional[str], pairs: int = 5, chooses_data: bool = False
               ) -> argparse.ArgumentParser:
    """Returns a parser with the flags of every benchmark, and of those that choose it the data."""
    parser = Parser(prog="%s bench %s" % (PROG, name), description=description, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=pairs, metavar="N",
                        help="counted pairs of runs (default: %d)" % pairs)
    parser.add_argument("--quick", action="store_true",
                        help="tiny data and one pair: shows that the benchmark runs, not how fast anything is")
    parser.add_argument("--source", default=os.environ.get(DATA_VARIABLE, ""), metavar="PATH",
                        help="folder with the raw census text; without it made-up rows in the same format [path] "
                             "(default: the environment variable %s)" % DATA_VARIABLE)
    if chooses_data:
        parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=list(DATASETS), metavar="NAME",
                            help="census, shop or both (default: both)")
    return parser


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()


def _figure(value: float) -> float:
    return round(value) if value >= 100 else float("%.4g" % value)


def _short(value: float) -> str:
    return "{:,.0f}".format(value) if value >= 100 else "%.4g" % value
