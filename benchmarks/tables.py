"""What the size of the table costs: ``bash run_estimator.sh bench tables``.

Time per step with the same number of distinct keys per batch on tables that hold more and more keys, ours in turn for
all sizes, and plain Adam over the whole table beside it; then the memory per key at the reference model's width. The
growth runs with a narrow network (12 columns), so that ten million keys fit into the memory of a small machine.
"""
import os
import statistics
import sys
import time
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from benchmarks import _harness

FIELDS, TASKS, BATCH_SIZE, DISTINCT = 29, 2, 512, 1000
MOST_GROWTH, MOST_MEMORY = 1.3, 1.25
_SLOTS = 2
_NARROW: Dict[str, Any] = {"expert_num": 2, "expert_size": 4}
_INSERTED_AT_ONCE = 1 << 20


def growth(sizes: Sequence[int], rounds: int, steps: int, distinct: int = DISTINCT) -> List[Dict[str, Any]]:
    """Measures the time per step for several table sizes in turn.

    Args:
        sizes: keys in the table, ascending.
        rounds: counted rounds.
        steps: per measurement.
        distinct: different keys of a batch.

    Returns:
        One result per size; ``growth`` is the median over the rounds of its time over the time of the first size.
    """
    from benchmarks import _app
    dataset = _app.definition(FIELDS, TASKS)
    sides: Dict[str, Callable[[], float]] = {}
    for size in sizes:
        batches = _app.random_batches(dataset, BATCH_SIZE, size, 16, min(distinct, size))
        step, session, table = _app.our_step(dataset, size, batches, capacity=size, **_NARROW)
        fill(session, table, size)
        sides[str(size)] = _seconds(step, steps)
    times = _harness.alternate(sides, rounds, 1)
    first = times[str(sizes[0])]
    results = []
    for size in sizes:
        ratios = [value / other for value, other in zip(times[str(size)], first)]
        results.append({
            "benchmark": "tables", "keys": size, "distinct_keys_per_batch": distinct, "batch_size": BATCH_SIZE,
            "microseconds_per_step": round(1e6 * statistics.median(times[str(size)]), 1),
            "growth": round(statistics.median(ratios), 3), "growth_least": round(min(ratios), 3),
            "growth_most": round(max(ratios), 3), "bounds": [["growth", None, MOST_GROWTH]]})
    return results


def against_reference(sizes: Sequence[int], pairs: int, steps: int) -> List[Dict[str, Any]]:
    """Compares our step with plain Adam over the whole table, at the reference model's width; steps/s."""
    from benchmarks import _app
    dataset = _app.definition(FIELDS, TASKS)
    results = []
    for size in sizes:
        batches = _app.random_batches(dataset, BATCH_SIZE, size, 16, min(DISTINCT, size))
        ours, session, table = _app.our_step(dataset, size, batches, capacity=size)
        fill(session, table, size)
        reference, _ = _app.reference_step(dataset, size, batches)
        seconds = _seconds(ours, steps), _seconds(reference, max(1, min(steps, 30000 * 50 // size)))
        speeds = _harness.alternate({"ours": lambda: 1.0 / seconds[0](),  # noqa: B023
                                     "reference": lambda: 1.0 / seconds[1]()}, pairs, 1)  # noqa: B023
        results.append(_harness.compared("tables", "steps/s", speeds, keys=size, batch_size=BATCH_SIZE))
    return results


def memory(keys: int) -> Dict[str, Any]:
    """Measures the resident memory of a table of the reference model's width with lazy Adam's states, full of keys."""
    from benchmarks import _app
    dataset = _app.definition(FIELDS, TASKS)
    batches = _app.random_batches(dataset, 32, keys, 2)
    # Everything but the table, once before: code and arenas that the first session allocates are no table.
    small, session, _ = _app.our_step(dataset, 64, _app.random_batches(dataset, 32, 64, 2))
    small()
    before = _resident()
    step, session, table = _app.our_step(dataset, keys, batches, capacity=keys)
    fill(session, table, keys)
    step()
    used = (_resident() - before) / keys
    least = 4 * table.emb_size * (1 + _SLOTS)
    return {"benchmark": "tables", "keys": keys, "columns": table.emb_size, "bytes_per_key": round(used, 1),
            "least_bytes_per_key": least, "memory": round(used / least, 3), "bounds": [["memory", None, MOST_MEMORY]]}


def fill(session: Any, table: Any, keys: int) -> None:
    """Enters the keys from 0 on into a table's index."""
    import tensorflow as tf
    with table.variable.graph.as_default():
        chunk = tf.compat.v1.placeholder(tf.int64, [None])
        insert = table.index.insert(chunk, chunk)
    for start in range(0, keys, _INSERTED_AT_ONCE):
        session.run(insert, {chunk: np.arange(start, min(keys, start + _INSERTED_AT_ONCE))})


def _seconds(step: Callable[[], Any], steps: int) -> Callable[[], float]:
    def measure() -> float:
        for _ in range(min(steps, 5)):
            step()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        return (time.perf_counter() - began) / steps

    return measure


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _label(result: Dict[str, Any]) -> str:
    return "%s, %s keys" % ("memory" if "memory" in result else "tables", "{:,}".format(result["keys"]))


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("tables", __doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=[10 ** power for power in range(3, 8)], metavar="N",
                        help="keys in the table (default: 1000 to 10000000)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        results = [memory(2000)] + growth([100, 1000], 1, 2) + against_reference([1000], 1, 2)
        results = [dict(result, bounds=[]) for result in results]
    else:
        results = [memory(300000)] + growth(args.keys, args.pairs, 100)
        results += against_reference([size for size in args.keys if size <= 1000000], args.pairs, 30)
    for result in results:
        if "growth" in result:
            sys.stdout.write("%-34s %8.0f us/step, %5.3f of the first (%.3f - %.3f)\n" % (
                _label(result), result["microseconds_per_step"], result["growth"], result["growth_least"],
                result["growth_most"]))
    _harness.report(results, _label)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
