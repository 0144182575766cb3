"""Quality gate: trains the default preset on the real census data and compares with the recorded baselines.

``python -m benchmarks.quality`` runs the ordinary commands (prepare, train, eval) in processes of their own. The
evaluated checkpoint is the last one, never the best: choosing one on the evaluation rows would flatter the model.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Dict, List, Sequence

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASELINES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "quality_baselines.json")
DATA_VARIABLE = "CENSUS_KDD_DIR"


class CommandError(Exception):
    """A command of the app failed."""


def run_command(*arguments: str) -> str:
    """Runs ``python -m estimator_app`` and returns its standard output.

    Raises:
        CommandError: the exit status is not 0.
    """
    path = os.pathsep.join([PROJECT] + [item for item in [os.environ.get("PYTHONPATH")] if item])
    done = subprocess.run([sys.executable, "-m", "estimator_app"] + list(arguments), capture_output=True, text=True,
                          env=dict(os.environ, PYTHONPATH=path))
    if done.returncode:
        raise CommandError("%s: exit status %d: %s" % (" ".join(arguments[:1]), done.returncode,
                                                       done.stderr.strip()[-500:]))
    return done.stdout


def measure(source: str, seeds: Sequence[int], flags: Sequence[str], threads: int) -> List[Dict[str, Any]]:
    """Trains and evaluates once per seed.

    Args:
        source: folder that holds the raw census text.
        seeds: of the runs.
        flags: more flags of ``train``.
        threads: of TensorFlow; 0 for one per core.

    Returns:
        What ``eval`` prints, with ``seed``, ``seconds`` (training, start-up included) and ``parameters``.
    """
    results = []
    with tempfile.TemporaryDirectory() as directory:
        data = os.path.join(directory, "data")
        run_command("prepare", "--source", source, "--output_path", data)
        for seed in seeds:
            model = os.path.join(directory, "model_%d" % seed)
            began = time.time()
            # The interval is longer than any run: one evaluation, at the end.
            run_command("train", "--data_dir", data, "--model_dir", model, "--seed", str(seed), "--threads",
                        str(threads), "--eval_interval", "1000000", *flags)
            seconds = time.time() - began
            printed = json.loads(run_command("eval", "--model_dir", model, "--threads",
                                             str(threads)).splitlines()[-1])
            # Scores only: reliability has lists.
            found = {name: value for name, value in printed.items() if not isinstance(value, dict)}
            results.append(dict(found, seed=seed, seconds=round(seconds, 1), parameters=parameters(model)))
            sys.stderr.write("seed %d: %s\n" % (seed, ", ".join(
                "%s %.5f" % (name, value) for name, value in sorted(found.items()) if name.startswith("auc_"))))
    return results


def parameters(model_dir: str) -> int:
    """Returns the trained numbers in the latest checkpoint: dense variables and table rows, no optimizer states."""
    import tensorflow as tf

    from estimator_app.serving.export import read_model
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    weights = read_model(model_dir, "latest").weights
    return sum(value.size for value in weights.dense.values()) + weights.table_rows * weights.table.shape[1]


def summary(results: Sequence[Dict[str, Any]]) -> Dict[str, Dict[str, float]]:
    """Returns {metric: mean and spread (sample standard deviation, 0 for one run)} of the AUCs and the seconds."""
    names = sorted(name for name in results[0] if name.startswith("auc_") or name == "seconds")
    return {name: {"mean": statistics.mean(item[name] for item in results),
                   "spread": statistics.stdev([item[name] for item in results]) if len(results) > 1 else 0.0}
            for name in names}


def failures(found: Dict[str, Dict[str, float]], least: Dict[str, float]) -> List[str]:
    """Returns one sentence per metric whose mean lies below its bound or is missing.

    Args:
        found: see :func:`summary`.
        least: {metric: smallest mean that passes}.
    """
    lines = []
    for name, bound in sorted(least.items()):
        value = found[name]["mean"] if name in found else float("nan")
        if not value >= bound:
            lines.append("%s: mean %.5f is below %.5f" % (name, value, bound))
    return lines


def main(arguments: Sequence[str]) -> int:
    """Runs the gate; returns 0 where all means reach their bounds, 1 where not, 2 where it cannot run."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=os.environ.get(DATA_VARIABLE, ""), metavar="PATH",
                        help="folder with census-income.data and census-income.test, plain or .gz (default: the "
                             "environment variable %s)" % DATA_VARIABLE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2020, 2021, 2022], metavar="N",
                        help="seeds (default: 2020 2021 2022)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="threads [threads] (default: one per core)")
    parser.add_argument("--baselines", default=BASELINES, metavar="FILE", help="recorded figures (default: %s)"
                        % os.path.relpath(BASELINES, PROJECT))
    parsed, flags = parser.parse_known_args(list(arguments))
    if not parsed.source or not os.path.isdir(parsed.source):
        sys.stderr.write("error: no census data: give --source, or set %s to a folder that holds census-income.data "
                         "and census-income.test\n" % DATA_VARIABLE)
        return 2
    try:
        with open(parsed.baselines, encoding="utf-8") as stream:
            recorded = json.load(stream)
        results = measure(parsed.source, parsed.seeds, flags, parsed.threads)
    except (CommandError, OSError, ValueError) as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    found = summary(results)
    problems = failures(found, recorded["least"])
    sys.stdout.write(json.dumps({"benchmark": "quality", "runs": results, "summary": found, "least": recorded["least"],
                                 "recorded_at": recorded["commit"], "passed": not problems}, sort_keys=True) + "\n")
    for line in problems:
        sys.stderr.write("failed: %s (recorded at commit %s by: %s)\n" % (line, recorded["commit"],
                                                                           recorded["command"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
