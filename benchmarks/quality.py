"""Model quality by one protocol on any dataset: ``bash run_estimator.sh bench quality --dataset NAME``.

The training file trains the preset with several seeds, by the ordinary commands; the last checkpoint counts, never the
best one, and the evaluation file is read once per model. With ``--baselines`` logistic regression, LightGBM and DeepCTR
see the same rows; their own choices (C, rounds, passes) are made on a fifth of the training rows. Flags that are not
known here go to ``train``. Bounds stand in ``quality_baselines.json``; they are for runs without such flags.

Validation rows for choices of ours: ``--validation N`` trains on four fifths of the training file, by a split of seed
N, and reports on the rest; the evaluation file is not read then.
"""
import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness
from benchmarks._public import DATA_SETS, DataSet
from estimator_app.config import from_arguments
from estimator_app.parsers import PROG, Parser, build_parser
from feature_specs.errors import DataError

BASELINES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "quality_baselines.json")
DATA_VARIABLE = "CENSUS_KDD_DIR"
_VALIDATION_SHARE = "0.2"
_SCORES = ("auc_", "gauc_", "rmse_")


def prepare(data: DataSet, paths: Sequence[str], output: str, validation: int = 0) -> str:
    """Prepares the files of a data set, or with a number the training file alone, split by it; returns the path."""
    test = (["--split", _VALIDATION_SHARE, "--seed", str(validation)] if validation
            else ["--test_data_path", paths[1]])
    _command("prepare", "--dataset", data.dataset, "--train_data_path", paths[0], "--output_path", output,
             "--max_bad_rows", str(data.max_bad_rows), *test)
    return output


def measure(data_dir: str, directory: str, seeds: Sequence[int], flags: Sequence[str], threads: int
            ) -> List[Dict[str, Any]]:
    """Trains and evaluates once per seed.

    Args:
        data_dir: prepared data.
        directory: for the models.
        seeds: of the runs.
        flags: more flags of ``train``.
        threads: of TensorFlow; 0 for one per core.

    Returns:
        What ``eval`` prints, with ``seed`` and ``seconds`` (training, start-up included).
    """
    results = []
    for seed in seeds:
        model = os.path.join(directory, "model_%d" % seed)
        began = time.time()
        # The interval is longer than any run: one evaluation, at the end.
        _command("train", "--device", "cpu", "--data_dir", data_dir, "--model_dir", model, "--seed", str(seed),
                 "--threads", str(threads), "--eval_interval", "1000000", *flags)
        seconds = time.time() - began
        found = json.loads(_command("eval", "--device", "cpu", "--model_dir", model, "--threads",
                                    str(threads)).splitlines()[-1])
        results.append(dict(found, seed=seed, seconds=round(seconds, 1)))
        sys.stderr.write("seed %d, %.0f s: %s\n" % (seed, seconds, ", ".join(
            "%s %.5f" % item for item in sorted(found.items()) if item[0].startswith(_SCORES) and item[1])))
    return results


def baselines(data_dir: str, validation_dir: str, directory: str, python: str) -> Dict[str, Dict[str, float]]:
    """Returns {peer: {metric: value}} of logistic regression, LightGBM and DeepCTR's MMoE on the same rows.

    DeepCTR runs in this Python, for which its release is made, the others in that of the peers.
    """
    paths = {}
    for name, folder, split in (("fit", validation_dir, "train"), ("validate", validation_dir, "test"),
                                ("train", data_dir, "train"), ("test", data_dir, "test")):
        paths[name] = os.path.join(directory, name + ".npz")
        _data.write_arrays(folder, split, paths[name])
    specification = _data.specification(data_dir, os.path.join(directory, "specification.json"), **paths)
    return dict(_harness.run_peer(python, "scores", specification),
                **_harness.run_peer(sys.executable, "deepctr_scores", specification))


def summary(results: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, float]]:
    """Returns {score: mean and spread (sample standard deviation, 0 for one run)}."""
    names = sorted(name for name in results[0] if name.startswith(_SCORES) or name == "seconds")
    return {name: {"mean": statistics.mean(item[name] for item in results),
                   "spread": statistics.stdev([item[name] for item in results]) if len(results) > 1 else 0.0}
            for name in names if all(item[name] is not None for item in results)}


def bounds(dataset: str) -> Dict[str, float]:
    """Returns {score: the smallest mean that passes} of a data set, with the settings that are its own."""
    with open(BASELINES, encoding="utf-8") as stream:
        return json.load(stream).get(dataset, {})


def failures(found: Dict[str, Dict[str, float]], least: Dict[str, float]) -> List[str]:
    """Returns one sentence per score whose mean lies below its bound or is missing; ``least``: {score: bound}."""
    lines = []
    for name, bound in sorted(least.items()):
        value = found[name]["mean"] if name in found else float("nan")
        if not value >= bound:
            lines.append("%s: mean %.5f is below %.5f" % (name, value, bound))
    return lines


def _command(*arguments: str) -> str:
    return _harness.run_python(["-m", "estimator_app"] + list(arguments))


def _print_table(found: Dict[str, Dict[str, float]], peers: Dict[str, Dict[str, float]]) -> None:
    columns = sorted({name for values in peers.values() for name in values} | {
        name for name in found if name.startswith(_SCORES)})
    sys.stdout.write("%-12s" % "" + "".join("%24s" % name for name in columns) + "\n")
    sys.stdout.write("%-12s" % "ours" + "".join("%24s" % (
        "%.5f +- %.5f" % (found[name]["mean"], found[name]["spread"]) if name in found else "n/a")
        for name in columns) + "\n")
    for peer, values in peers.items():
        sys.stdout.write("%-12s" % peer + "".join("%24s" % ("%.5f" % values[name] if name in values else "n/a")
                                                  for name in columns) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Runs the protocol; returns 0 where all means reach their bounds, 1 where not, 2 where it cannot run."""
    parser = Parser(prog="%s bench quality" % PROG, description=__doc__, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="census", choices=sorted(DATA_SETS), metavar="|".join(sorted(DATA_SETS)),
                        help="the data set (default: census)")
    parser.add_argument("--source", default=os.environ.get(DATA_VARIABLE, ""), metavar="PATH",
                        help="folder with the published files; shop needs none (default: the environment variable %s)"
                             % DATA_VARIABLE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020, 2021, 2022, 2023, 2024], metavar="N",
                        help="seeds (default: 2020 to 2024)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads [threads] (default: one per core)")
    parser.add_argument("--validation", type=int, default=0, metavar="N",
                        help="report on validation rows of the split of this seed (default: 0, the evaluation file)")
    parser.add_argument("--baselines", action="store_true",
                        help="also logistic regression, LightGBM and DeepCTR's MMoE, after setup --peers")
    parsed, flags = parser.parse_known_args(list(arguments))
    # Refuses what train would refuse, before anything is prepared.
    given = build_parser("train", flags).parse_args(flags)
    from_arguments(vars(given), given.chosen_preset, os.environ)
    data = DATA_SETS[parsed.dataset]
    least = {} if parsed.validation or flags else bounds(parsed.dataset)
    try:
        with tempfile.TemporaryDirectory() as directory:
            paths = data.make(parsed.source, directory)
            folder = prepare(data, paths, os.path.join(directory, "data"), parsed.validation)
            results = measure(folder, directory, parsed.seeds, flags, parsed.threads)
            peers = {}
            if parsed.baselines:
                split = prepare(data, paths, os.path.join(directory, "validation"), 1)
                peers = baselines(folder, split, directory, _harness.peer_python())
    except (DataError, _harness.WorkerError) as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    found = summary(results)
    problems = failures(found, least)
    sys.stdout.write(json.dumps({"benchmark": "quality", "dataset": parsed.dataset, "runs": results, "summary": found,
                                 "baselines": peers, "least": least, "flags": flags, "passed": not problems},
                                sort_keys=True) + "\n")
    _print_table(found, peers)
    for line in problems:
        sys.stderr.write("failed: %s\n" % line)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
