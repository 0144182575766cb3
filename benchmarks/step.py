"""The training step alone against the reference way: ``bash run_estimator.sh bench step``.

Both sides are fed the same rows from memory: the census with the preset ``plain`` (summed rows, the size of the
original), the shop's log with ``mmoe.json`` (concatenated vectors). The hash lookup, the slots and the lazy
optimizer of the stand-in are inside our step. ``--profile`` lists the ops of our step instead.
"""
import collections
import os
import re
import statistics
import sys
import tempfile
from typing import Any, Dict, List, Sequence

from benchmarks import _data, _harness

PRESETS = {"census": "plain", "shop": os.path.join(os.path.dirname(os.path.abspath(__file__)), "mmoe.json")}
_OP_TYPE = re.compile(r" = ([A-Za-z0-9_]+)\(")
_TRACED, _WARM_UP = 20, 10


def measure(data_dir: str, name: str, batch_size: int, pairs: int, seconds: float) -> Dict[str, Any]:
    """Measures alternating pairs, examples/s, each measurement some seconds long."""
    from benchmarks import _app, _reference
    model = _app.make(data_dir, PRESETS[name], batch_size=batch_size)
    batches = _app.batches_in_memory(model, max(2, min(16, 32768 // batch_size)))
    plain = _reference.from_ours(model, batches)
    ours = _app.our_step(model, batches)[0]
    rows = max(int(plain["sparse_feature"].max()) + 1, sum(table.keys for table in model.encoding.tables))
    reference = _app.plain_step(_reference.model_fn_of(model, rows), plain)[0]
    speeds = _harness.alternate({"ours": lambda: batch_size * _harness.per_second(ours, seconds),
                                 "reference": lambda: batch_size * _harness.per_second(reference, seconds)}, pairs)
    return _harness.compared("step", "examples/s", speeds, dataset=name, batch_size=batch_size,
                             keys=sum(table.keys for table in model.encoding.tables))


def profile(data_dir: str, name: str, batch_size: int) -> Dict[str, Any]:
    """Traces our step: ``nodes`` that run, and ``ops``: [[type, times, median of microseconds per step]], the longest
    first."""
    import tensorflow as tf

    from benchmarks import _app
    model = _app.make(data_dir, PRESETS[name], batch_size=batch_size)
    step = _app.our_step(model, _app.batches_in_memory(model, 4))[0]
    for _ in range(_WARM_UP):
        step()
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    counts: Dict[str, int] = collections.Counter()
    steps: List[Dict[str, int]] = []
    for _ in range(_TRACED):
        steps.append(collections.Counter())
        metadata = tf.compat.v1.RunMetadata()
        step(options=options, run_metadata=metadata)
        for node in [node for device in metadata.step_stats.dev_stats for node in device.node_stats]:
            match = _OP_TYPE.search(node.timeline_label)
            kind = match.group(1) if match else node.node_name
            counts[kind] += 1
            steps[-1][kind] += node.op_end_rel_micros - node.op_start_rel_micros
    ops: List[List[Any]] = [[kind, round(counts[kind] / _TRACED, 1), statistics.median(found[kind] for found in steps)]
                            for kind in counts]
    return {"benchmark": "step", "dataset": name, "batch_size": batch_size,
            "nodes": round(sum(counts.values()) / _TRACED, 1), "ops": sorted(ops, key=lambda item: -item[2])}


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("step", __doc__, chooses_data=True)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[32, 512, 4096], metavar="N",
                        help="batch sizes (default: 32 512 4096)")
    parser.add_argument("--profile", action="store_true", help="list the ops of our step and their time")
    args = parser.parse_args(list(arguments))
    rows, sizes = (300, [16]) if args.quick else (20000, args.batch_size)
    results = []
    for name in args.datasets:
        with tempfile.TemporaryDirectory() as directory:
            data = _data.prepared_pair(directory, name, args.source, rows, 64)[0]["ours"]
            for size in sizes:
                results.append(profile(data, name, size) if args.profile else measure(
                    data, name, size, 1 if args.quick else args.pairs, 0.05 if args.quick else 1.0))
    _harness.report(results, lambda result: "step, %s, batch %d" % (result["dataset"], result["batch_size"]))
    for result in results if args.profile else []:
        sys.stdout.write("%s, batch %d: %g nodes run in a step\n" % (result["dataset"], result["batch_size"],
                                                                    result["nodes"]))
        for kind, count, duration in result["ops"][:14]:
            sys.stdout.write("  %-28s %6g times %12.1f us\n" % (kind, count, duration))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
