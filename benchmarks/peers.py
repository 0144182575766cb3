"""Training speed against peers: ``bash run_estimator.sh bench peers`` (after ``setup --peers``).

Ours trains from files, the peers from arrays in memory of the same rows: on the census a Keras MMoE (keras-mmoe's
network, written anew for TensorFlow 2), on the shop's log DeepCTR's MMoE (TensorFlow 1.15). Each run is a process of
its own and they take turns; compilation and warm-up do not count.
"""
import os
import shutil
import sys
import tempfile
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness
from benchmarks.step import PRESETS

PEERS = {"census": "keras", "shop": "deepctr"}
LEAST = {("census", 32): 4.0, ("census", 512): 2.0, ("census", 4096): 2.0, ("shop", 512): 1.5, ("shop", 4096): 1.5}


def measure(directory: str, data_dir: str, name: str, batch_size: int, pairs: int, rows: int,
            warm_up: int = 1) -> Dict[str, Any]:
    """Measures alternating pairs, examples/s; both train about so many rows."""
    # DeepCTR runs on TensorFlow 1.15, in this Python.
    python = sys.executable if name == "shop" else _harness.peer_python()
    train = os.path.join(directory, "train.npz")
    if not os.path.isfile(train):
        _data.write_arrays(data_dir, "train", train)
    given = _data.specification(data_dir, os.path.join(directory, "specification.json"), train=train,
                                batch_size=batch_size, rows=rows)
    steps = max(4, rows // batch_size)

    def ours() -> float:
        model = os.path.join(directory, "model")
        shutil.rmtree(model, ignore_errors=True)
        return _harness.run_worker(
            "train", "--way", "ours", "--data_dir", data_dir, "--preset", PRESETS[name], "--steps", str(steps),
            "--save_steps", str(steps), "--warm_up", str(max(1, steps // 10)), "--settings",
            '{"batch_size": %d, "model_dir": "%s"}' % (batch_size, model))["examples_per_second"]

    speeds = _harness.alternate(
        {"ours": ours, "reference": lambda: _harness.run_peer(python, PEERS[name], given)["examples_per_second"]},
        pairs, warm_up)
    least = LEAST.get((name, batch_size))
    return _harness.compared("peers", "examples/s", speeds, dataset=name, batch_size=batch_size, peer=PEERS[name],
                             bounds=[["ratio", least, None]] if least else [])


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement; returns 2 where there is no Python for the peers."""
    parser = _harness.new_parser("peers", __doc__, chooses_data=True)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[32, 512, 4096], metavar="N",
                        help="batch sizes (default: 32 512 4096)")
    parser.add_argument("--rows", type=int, default=60000, metavar="N", help="training rows (default: 60000)")
    args = parser.parse_args(list(arguments))
    rows = 640 if args.quick else args.rows
    results: List[Dict[str, Any]] = []
    try:
        for name in args.datasets:
            with tempfile.TemporaryDirectory() as directory:
                data = _data.prepared_pair(directory, name, args.source, rows, 64)[0]["ours"]
                for size in [32] if args.quick else args.batch_size:
                    results.append(measure(directory, data, name, size, 1 if args.quick else args.pairs,
                                           min(rows, 1500 * size), 0 if args.quick else 1))
    except _harness.WorkerError as error:
        sys.stderr.write("error: %s\n" % error)
        return 2
    _harness.report([dict(result, bounds=[]) if args.quick else result for result in results],
                    lambda result: "%s, %s, batch %d" % (result["peer"], result["dataset"], result["batch_size"]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
