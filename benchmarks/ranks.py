"""What several ranks on one machine cost: ``bash run_estimator.sh bench ranks``.

Examples per second of a training step of the stand-in (one table, a network of one hidden layer, lazy Adam and Adam) on
1, 2 and 4 ranks with the same global batch, in turn. The ranks share the machine's cores, so what is seen is the price
of the exchange; ranks are for correctness at the desk and for tables that one machine cannot hold.
"""
import json
import statistics
import sys
import time
from typing import Any, Callable, Dict, List, Sequence

from benchmarks import _harness

FIELDS, DIM, HIDDEN, KEYS = 29, 16, 64, 100000
_WARM_UP = 5


def measure(ranks: int, batch_size: int, steps: int) -> float:
    """Starts some ranks and returns their examples/s together."""
    launcher = [] if ranks == 1 else ["-m", "rec_sdk_cpu.rank_launcher", "--ranks", str(ranks), "--", sys.executable]
    output = _harness.run_python(launcher + ["-m", "benchmarks.ranks", "--worker", str(batch_size), str(steps)])
    return float(json.loads(output.splitlines()[-1])["examples_per_second"])


def compare(counts: Sequence[int], batch_sizes: Sequence[int], pairs: int, steps: int) -> List[Dict[str, Any]]:
    """Measures every number of ranks in turn.

    Returns:
        One result per batch size and number of ranks; ``of_one_rank`` is the median of the ratios of the rounds.
    """
    results = []
    for batch_size in batch_sizes:
        sides: Dict[str, Callable[[], float]] = {
            str(count): (lambda count=count: measure(count, batch_size, steps))  # type: ignore[misc] # noqa: B023
            for count in counts}
        speeds = _harness.alternate(sides, pairs, 0)
        for count in counts:
            ratios = [many / one for many, one in zip(speeds[str(count)], speeds[str(counts[0])])]
            results.append({"benchmark": "ranks", "ranks": count, "batch_size": batch_size,
                            "examples_per_second": round(statistics.median(speeds[str(count)])),
                            "of_one_rank": round(statistics.median(ratios), 3)})
    return results


def work(batch_size: int, steps: int) -> Dict[str, Any]:
    """Trains on this rank's share of each batch; returns the examples/s of all ranks."""
    import numpy as np

    import rec_sdk_cpu
    rec_sdk_cpu.install()
    import tensorflow as tf
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    from mx_rec.core.embedding import create_table, sparse_lookup
    from mx_rec.optimizers.lazy_adam import create_hash_optimizer
    from mx_rec.util.initialize import init
    from rec_sdk_common.communication.hccl.hccl_info import get_rank_id, get_rank_size
    from rec_sdk_common.util.tf_adapter import hccl_ops

    init(max_steps=-1)
    size = get_rank_size()
    table = create_table(key_dtype=tf.int64, dim=DIM, name="table", device_vocabulary_size=2 * KEYS,
                         emb_initializer=tf.compat.v1.truncated_normal_initializer(stddev=0.05, seed=1),
                         all2all_gradients_op="sum_gradients_and_div_by_ranksize")
    ids = tf.compat.v1.placeholder(tf.int64, [batch_size // size, FIELDS])
    labels = tf.compat.v1.placeholder(tf.float32, [batch_size // size, 1])
    pooled = tf.reduce_sum(sparse_lookup(table, ids, modify_graph=True), axis=1)
    hidden = tf.compat.v1.layers.dense(pooled, HIDDEN, tf.nn.relu)
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(
        labels=labels, logits=tf.compat.v1.layers.dense(hidden, 1)))
    adam = tf.compat.v1.train.AdamOptimizer()
    dense = [(hccl_ops.allreduce(gradient, "sum") / size if size > 1 else gradient, variable)
             for gradient, variable in adam.compute_gradients(loss)]
    rows = create_hash_optimizer(0.001).apply_gradients([(tf.gradients(loss, table.variable)[0], table.variable)])
    train = tf.group(adam.apply_gradients(dense), rows)
    random = np.random.RandomState(get_rank_id())
    batches = [{ids: random.randint(0, KEYS, ids.shape.as_list()), labels: random.randint(0, 2, labels.shape.as_list())}
               for _ in range(8)]
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        for step in range(_WARM_UP):
            session.run(train, batches[step % len(batches)])
        began = time.perf_counter()
        for step in range(steps):
            session.run(train, batches[step % len(batches)])
        seconds = time.perf_counter() - began
    return {"examples_per_second": batch_size * steps / seconds}


def _label(result: Dict[str, Any]) -> str:
    return "ranks, batch size %d, %d ranks" % (result["batch_size"], result["ranks"])


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    if arguments and arguments[0] == "--worker":
        sys.stdout.write("%s\n" % json.dumps(work(int(arguments[1]), int(arguments[2]))))
        return 0
    parser = _harness.new_parser("ranks", __doc__, pairs=3)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], metavar="N",
                        help="numbers of ranks; the ratios are to the first (default: 1 2 4)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[512, 4096], metavar="B",
                        help="global batch sizes (default: 512 4096)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="steps per measurement (default: 100)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        results = compare(args.ranks[:2], [64], 1, 5)
    else:
        results = compare(args.ranks, args.batch_sizes, args.pairs, args.steps)
    for result in results:
        sys.stdout.write("%-36s %9d examples/s, %6.3f of %d rank%s\n" % (
            _label(result), result["examples_per_second"], result["of_one_rank"], results[0]["ranks"],
            "s" if results[0]["ranks"] > 1 else ""))
    _harness.report(results, _label)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
