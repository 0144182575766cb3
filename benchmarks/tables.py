"""What the size of the table costs: ``bash run_estimator.sh bench tables``.

Time per step of the preset ``default`` on the census's columns, with the same number of distinct keys per batch, on a
table that holds more and more keys, all sizes in turn; plain Adam over the whole table beside it; and the resident
memory per key.
"""
import functools
import multiprocessing
import os
import statistics
import sys
import tempfile
from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from benchmarks import _data, _harness

BATCH_SIZE, DISTINCT = 512, 1000
MOST_GROWTH, MOST_MEMORY, INDEX_BYTES, SLOTS = 1.3, 1.1, 60, 2
_INSERTED_AT_ONCE = 1 << 20
# Enough that what a session needs besides the table does not count.
_MEASURED_KEYS = {"plain": 500000, "default": 3000000}


def growth(data_dir: str, sizes: Sequence[int], rounds: int, seconds: float) -> List[Dict[str, Any]]:
    """Measures the time per step for several table sizes in turn: a result per size; ``growth`` is the median over the
    rounds of its time over the time of the first size."""
    sides: Dict[str, Callable[[], float]] = {}
    for size in sizes:
        step = _full(data_dir, "default", size)[0]
        sides[str(size)] = functools.partial(_seconds, step, seconds)
    times = _harness.alternate(sides, rounds, 1)
    first = times[str(sizes[0])]
    results = []
    for size in sizes:
        ratios = [value / other for value, other in zip(times[str(size)], first)]
        results.append({
            "benchmark": "tables", "keys": size, "distinct_keys_per_batch": min(DISTINCT, size),
            "batch_size": BATCH_SIZE, "microseconds_per_step": round(1e6 * statistics.median(times[str(size)]), 1),
            "growth": round(statistics.median(ratios), 3), "growth_least": round(min(ratios), 3),
            "growth_most": round(max(ratios), 3), "bounds": [["growth", None, MOST_GROWTH]]})
    return results


def _seconds(step: Callable[[], Any], seconds: float) -> float:
    return 1.0 / _harness.per_second(step, seconds)


def against_reference(data_dir: str, size: int, pairs: int, seconds: float) -> Dict[str, Any]:
    """Compares our step with plain Adam over the whole table; steps/s."""
    from benchmarks import _app, _reference
    model, batches = _batches(data_dir, "default", size)
    ours = _full(data_dir, "default", size)[0]
    plain = _reference.from_ours(model, batches)
    reference = _app.plain_step(_reference.model_fn_of(model, max(size, int(plain["sparse_feature"].max()) + 1)),
                                plain)[0]
    speeds = _harness.alternate({"ours": lambda: _harness.per_second(ours, seconds),
                                 "reference": lambda: _harness.per_second(reference, seconds)}, pairs, 1)
    return _harness.compared("tables", "steps/s", speeds, keys=size, batch_size=BATCH_SIZE)


def memory(data_dir: str, preset: str, keys: int) -> Dict[str, Any]:
    """Measures the resident memory of a static table with lazy Adam's states, full of keys."""
    # Everything but the table, once before: code and arenas that the first session allocates are no table.
    _full(data_dir, preset, 2000)[0]()
    before = _resident()
    step, table, session = _full(data_dir, preset, keys)
    step()
    used = (_resident() - before) / keys
    del session
    most = MOST_MEMORY * 4 * table.emb_size * (1 + SLOTS) + INDEX_BYTES
    return {"benchmark": "tables", "keys": keys, "columns": table.emb_size, "bytes_per_key": round(used, 1),
            "bounds": [["bytes_per_key", None, most]]}


def _batches(data_dir: str, preset: str, size: int) -> Any:
    """Returns a model and batches whose keys are random ones below a size, so many distinct ones in a batch."""
    from benchmarks import _app
    from feature_specs.records import table_keys
    model = _app.make(data_dir, preset, batch_size=BATCH_SIZE, table_capacity=size)
    batches = _app.batches_in_memory(model, 8)
    entry, random = table_keys(model.encoding.tables[0].name), np.random.RandomState(1)
    pools = [random.randint(1, size, 2 * DISTINCT)[:min(DISTINCT, size - 1)] for _ in range(8)]
    shape = batches[entry].shape[1:]
    batches[entry] = np.stack([pool[random.randint(0, len(pool), shape)] for pool in pools]).astype(np.int64)
    return model, batches


def _full(data_dir: str, preset: str, size: int) -> Any:
    """Returns a training step, its table, which holds all keys below a size, and the session."""
    import tensorflow as tf

    from benchmarks import _app
    model, batches = _batches(data_dir, preset, size)
    step, session, table = _app.our_step(model, batches)
    with table.variable.graph.as_default():
        chunk = tf.compat.v1.placeholder(tf.int64, [None])
        insert = table.index.insert(chunk, chunk)
    for start in range(0, size, _INSERTED_AT_ONCE):
        session.run(insert, {chunk: np.arange(start, min(size, start + _INSERTED_AT_ONCE))})
    return step, table, session


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _label(result: Dict[str, Any]) -> str:
    what = "memory, %d columns" % result["columns"] if "columns" in result else "tables"
    return "%s, %s keys" % (what, "{:,}".format(result["keys"]))


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("tables", __doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=[10 ** power for power in range(3, 8)], metavar="N",
                        help="keys in the table (default: 1000 to 10000000)")
    args = parser.parse_args(list(arguments))
    with tempfile.TemporaryDirectory() as directory:
        data = _data.prepared_pair(directory, "census", args.source, 5000, 64)[0]["ours"]
        if args.quick:
            results = [memory(data, "default", 3000)] + growth(data, [1000, 3000], 1, 0.05)
            results = [dict(result, bounds=[]) for result in results + [against_reference(data, 3000, 1, 0.05)]]
        else:
            # Each in a process of its own: what one table has freed, the next one would not count.
            context = multiprocessing.get_context("spawn")
            results = []
            for preset, keys in _MEASURED_KEYS.items():
                with context.Pool(1) as pool:
                    results.append(pool.apply(memory, (data, preset, keys)))
            results += growth(data, args.keys, args.pairs, 1.0)
            results += [against_reference(data, size, args.pairs, 1.0) for size in args.keys if size <= 1000000]
    for result in results:
        if "growth" in result:
            sys.stdout.write("%-34s %8.0f us/step, %5.3f of the first (%.3f - %.3f)\n" % (
                _label(result), result["microseconds_per_step"], result["growth"], result["growth_least"],
                result["growth_most"]))
    _harness.report(results, _label)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
