"""Where a training step spends its time: ``bash run_estimator.sh bench profile``.

TensorFlow's tracer over some steps on batches in memory, at the reference model's size unless ``--network_num`` says
otherwise. Op times add up over threads, so that their sum may exceed the time of a step.
"""
import argparse
import collections
import json
import re
import sys
from typing import Any, Dict, List, Sequence, Tuple

from benchmarks._harness import machine_facts

FIELDS, TASKS, IDS = 29, 2, 500
_WARM_UP_STEPS = 20
_OP_TYPE = re.compile(r" = ([A-Za-z0-9_]+)\(")


def measure(batch_size: int, steps: int, network_num: int = 1) -> Dict[str, Any]:
    """Traces steps.

    Args:
        batch_size: rows.
        steps: traced ones.
        network_num: networks side by side.

    Returns:
        ``nodes`` that run in a step, and ``ops``: [[type, times it runs in a step, microseconds per step]], the longest
        first.
    """
    from benchmarks import _app
    import tensorflow as tf  # isort: skip
    dataset = _app.definition(FIELDS, TASKS)
    step: Any = _app.our_step(dataset, IDS, _app.random_batches(dataset, batch_size, IDS, 16), traced=True,
                              network_num=network_num)[0]
    for _ in range(_WARM_UP_STEPS):
        step()
    options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
    counts: Dict[str, int] = collections.Counter()
    micros: Dict[str, int] = collections.Counter()
    for _ in range(steps):
        metadata = tf.compat.v1.RunMetadata()
        step(options=options, run_metadata=metadata)
        for kind, duration in _ops(metadata):
            counts[kind] += 1
            micros[kind] += duration
    ops: List[List[Any]] = [[kind, round(counts[kind] / steps, 1), round(micros[kind] / steps, 1)] for kind in counts]
    return {"benchmark": "profile", "batch_size": batch_size, "network_num": network_num, "steps": steps,
            "nodes": round(sum(counts.values()) / steps, 1), "ops": sorted(ops, key=lambda item: -item[2])}


def _ops(metadata: Any) -> List[Tuple[str, int]]:
    """Returns (op type, microseconds) of every node that ran."""
    found = []
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            match = _OP_TYPE.search(node.timeline_label)
            found.append((match.group(1) if match else node.node_name,
                          node.op_end_rel_micros - node.op_start_rel_micros))
    return found


def main(arguments: Sequence[str]) -> int:
    """Prints a JSON line and a table per batch size."""
    parser = argparse.ArgumentParser(prog="bench profile", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[32, 4096], metavar="N",
                        help="batch sizes [rows] (default: 32 4096)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="traced steps (default: 10)")
    parser.add_argument("--network_num", type=int, default=1, metavar="N", help="networks (default: 1)")
    parser.add_argument("--most", type=int, default=14, metavar="N", help="ops that are listed (default: 14)")
    args = parser.parse_args(list(arguments))
    for batch_size in args.batch_size:
        found = measure(batch_size, args.steps, args.network_num)
        sys.stdout.write(json.dumps(dict(found, **machine_facts()), sort_keys=True) + "\n")
        sys.stdout.write("batch %d: %g nodes run in a step\n" % (batch_size, found["nodes"]))
        for kind, count, duration in found["ops"][:args.most]:
            sys.stdout.write("  %-28s %6g times %12.1f us\n" % (kind, count, duration))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
