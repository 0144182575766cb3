"""Gradient-boosted trees on the same split, for comparison: ``bash run_estimator.sh bench trees``.

What a practitioner would use on a table of this size. One classifier of scikit-learn per task on the raw columns: the
29 categorical ones as categories, the numbers as they are, without the survey weight. The settings are fixed; nothing
is chosen on the evaluation rows. Needs the test tools (``bash run_estimator.sh setup --dev``).
"""
import argparse
import json
import os
import sys
import time
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from benchmarks._harness import DATA_VARIABLE, machine_facts
from feature_specs.census import CENSUS

TRAIN_NAMES = "census-income.data.gz", "census-income.data"
TEST_NAMES = "census-income.test.gz", "census-income.test"
SETTINGS = {"max_iter": 300, "max_leaf_nodes": 15, "learning_rate": 0.05, "l2_regularization": 5.0,
            "min_samples_leaf": 40, "early_stopping": False}
_LEFT_OUT = "instance_weight"


def measure(train_path: str, test_path: str, seed: int) -> Dict[str, Any]:
    """Trains and scores one classifier per task.

    Args:
        train_path, test_path: raw text, plain or gzip.
        seed: of the classifiers.

    Returns:
        ``auc_<task>``, ``seconds`` of training and ``rows``.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    (train, test), categorical = columns(train_path, test_path)
    found: Dict[str, Any] = {"rows": len(train[0])}
    began = time.time()
    for number, task in enumerate(CENSUS.task_names):
        model = HistGradientBoostingClassifier(categorical_features=categorical, random_state=seed, **SETTINGS)
        model.fit(train[0], train[1][:, number])
        found["auc_" + task] = float(roc_auc_score(test[1][:, number], model.predict_proba(test[0])[:, 1]))
    return dict(found, seconds=round(time.time() - began, 1))


def columns(train_path: str, test_path: str) -> Tuple[List[Tuple[np.ndarray, np.ndarray]], List[bool]]:
    """Reads both files.

    Returns:
        (inputs float64 [rows, columns], labels bool [rows, tasks]) of either file, and which columns are categories;
        a category that the training file does not have is missing (NaN).
    """
    import pandas as pd
    frames = [pd.read_csv(path, header=None, names=CENSUS.columns, skipinitialspace=True, na_filter=False)
              for path in (train_path, test_path)]
    names = list(CENSUS.sparse_columns) + [name for name in CENSUS.dense_columns if name != _LEFT_OUT]
    parts: List[List[np.ndarray]] = [[], []]
    for name in names:
        if name not in CENSUS.sparse_columns:
            for part, frame in zip(parts, frames):
                part.append(frame[name].to_numpy(np.float64))
            continue
        codes = {value: code for code, value in enumerate(sorted(frames[0][name].astype(str).unique()))}
        for part, frame in zip(parts, frames):
            part.append(frame[name].astype(str).map(codes).to_numpy(np.float64))
    labels = [np.stack([(frame[task.label_column].str.strip() == task.positive_value).to_numpy()
                        for task in CENSUS.tasks], axis=1) for frame in frames]
    return ([(np.stack(part, axis=1), label) for part, label in zip(parts, labels)],
            [name in CENSUS.sparse_columns for name in names])


def main(arguments: Sequence[str]) -> int:
    """Measures and prints a JSON line; 2 where it cannot run."""
    parser = argparse.ArgumentParser(prog="bench trees", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default=os.environ.get(DATA_VARIABLE, ""), metavar="PATH",
                        help="folder with census-income.data and census-income.test, plain or .gz (default: the "
                             "environment variable %s)" % DATA_VARIABLE)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the classifiers (default: 0)")
    args = parser.parse_args(list(arguments))
    paths = []
    for kinds in (TRAIN_NAMES, TEST_NAMES):
        there = [os.path.join(args.source, name) for name in kinds if os.path.isfile(os.path.join(args.source, name))]
        if not args.source or not there:
            sys.stderr.write("error: %s is not in %s; give --source, a folder that holds both census files, or set %s\n"
                             % (kinds[1], args.source or "any folder", DATA_VARIABLE))
            return 2
        paths.append(there[0])
    try:
        found = measure(paths[0], paths[1], args.seed)
    except ImportError as error:
        sys.stderr.write("error: %s; it comes with the test tools: bash run_estimator.sh setup --dev\n" % error)
        return 2
    sys.stdout.write(json.dumps(dict(machine_facts(), benchmark="trees", settings=SETTINGS, **found), sort_keys=True)
                     + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
