"""Peak memory of whole trainings: ``bash run_estimator.sh bench memory``.

The default training of the census, and trainings of the preset ``default`` on files with 1 and 10 million different
hashed ids (a hundred in a row), from files to the last checkpoint, each in a process of its own.
"""
import os
import sys
import tempfile
import time
from typing import Any, Dict, Sequence

import numpy as np

from benchmarks import _data, _harness

IDS_PER_ROW = 100
BOUNDS = {1000000: 1600.0, 10000000: 5000.0}
MOST_CENSUS = 600.0
_PEAK = ("import resource, subprocess, sys; subprocess.run([sys.executable] + sys.argv[1:], check=True); "
         "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
_DATASET = """name: ids
files: {format: csv, header: true, separator: "\\t"}
features:
  ids: {type: categorical, encoding: hash, separator: ",", max_length: %d}
  number: {type: numeric}
tasks:
  first: {type: binary, column: first}
  second: {type: binary, column: second}
"""


def census(directory: str, source: str, rows: int) -> Dict[str, Any]:
    """Trains two epochs of the census preset."""
    data = _data.prepared(directory, _data.raw_text(directory, source, rows, max(64, rows // 4))[:2], 8)
    return {"benchmark": "memory", "what": "census, %d rows" % rows, "bounds": [["peak_megabytes", None, MOST_CENSUS]],
            "peak_megabytes": _peak(data, os.path.join(directory, "model"), "census", min(512, rows // 2), 2)}


def hashed(directory: str, ids: int) -> Dict[str, Any]:
    """Trains an epoch on rows that hold so many different ids; seconds are a training's, start-up included."""
    path, rows, random = os.path.join(directory, "ids.tsv"), ids // IDS_PER_ROW, np.random.RandomState(1)
    with open(path, "w", encoding="ascii") as stream:
        stream.write("ids\tnumber\tfirst\tsecond\n")
        for row in range(rows):
            first = row * IDS_PER_ROW
            stream.write("%s\t%.3f\t%d\t%d\n" % (",".join(map(str, range(first, first + IDS_PER_ROW))),
                                                 random.normal(), random.randint(2), random.randint(2)))
    dataset, data = os.path.join(directory, "ids.yaml"), os.path.join(directory, "ids")
    with open(dataset, "w", encoding="ascii") as stream:
        stream.write(_DATASET % IDS_PER_ROW)
    _harness.run_python(["-m", "estimator_app", "prepare", "--dataset", dataset, "--train_data_path", path, "--split",
                         "0.3" if rows < 1000 else "0.01", "--output_path", data])
    began = time.perf_counter()
    peak = _peak(data, os.path.join(directory, "ids_model"), "default", min(512, rows // 4), 1)
    return {"benchmark": "memory", "what": "%s hashed ids" % "{:,}".format(ids), "peak_megabytes": peak,
            "training_seconds": round(time.perf_counter() - began, 1),
            "bounds": [["peak_megabytes", None, BOUNDS[ids]]] if ids in BOUNDS else []}


def _peak(data_dir: str, model_dir: str, preset: str, batch_size: int, epochs: int) -> float:
    """Returns the largest resident memory of a training in MB.

    A process between this one and the command: until it runs its own program, a child counts with its parent's memory,
    which is large after other benchmarks.
    """
    arguments = ["-m", "estimator_app", "train", "--device", "cpu", "--data_dir", data_dir, "--model_dir", model_dir,
                 "--preset", preset, "--batch_size", str(batch_size), "--train_epoch", str(epochs)]
    return round(float(_harness.run_python(["-c", _PEAK] + arguments).splitlines()[-1]) / 1024.0, 1)


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("memory", __doc__)
    parser.add_argument("--ids", type=int, nargs="+", default=sorted(BOUNDS), metavar="N",
                        help="different ids (default: 1000000 10000000)")
    args = parser.parse_args(list(arguments))
    results = []
    for ids in [2000] if args.quick else args.ids:
        with tempfile.TemporaryDirectory() as directory:
            results.append(hashed(directory, ids))
    with tempfile.TemporaryDirectory() as directory:
        results.append(census(directory, args.source, 512 if args.quick else _data.PUBLISHED_ROWS))
    _harness.report([dict(result, bounds=[]) if args.quick else result for result in results],
                    lambda result: "memory, %s" % result["what"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
