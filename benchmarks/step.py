"""The training step alone against the reference way: ``bash run_estimator.sh bench step``.

Both sides are fed from memory and have the reference model's size. The hash lookup, the slots and the lazy optimizer of
the stand-in are inside our step. ``overhead`` is what the Estimator's loop with all hooks of a training adds to the
bare step, in milliseconds.
"""
import os
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, List, Sequence

from benchmarks import _harness

FIELDS, TASKS, IDS = 29, 2, 515
MOST_OVERHEAD = 0.15
_STEPS = {32: 2000, 512: 400, 4096: 60}


def measure(batch_sizes: Sequence[int], pairs: int, steps: int = 0, warm_up: int = 1) -> List[Dict[str, Any]]:
    """Measures alternating pairs.

    Args:
        batch_sizes: to measure.
        pairs: counted pairs.
        steps: per measurement; 0 for about a second.
        warm_up: pairs before the counted ones.

    Returns:
        One result per batch size, examples/s.
    """
    from benchmarks import _app
    results = []
    for batch_size in batch_sizes:
        dataset = _app.definition(FIELDS, TASKS)
        batches = _app.random_batches(dataset, batch_size, IDS, max(2, 65536 // batch_size))
        count = steps or _STEPS.get(batch_size, max(20, 200000 // batch_size))
        sides = {"ours": _speed(_app.our_step(dataset, IDS, batches)[0], batch_size, count),
                 "reference": _speed(_app.reference_step(dataset, IDS, batches)[0], batch_size, max(1, count // 3))}
        results.append(_harness.compared("step", "examples/s", _harness.alternate(sides, pairs, warm_up),
                                         batch_size=batch_size, fields=FIELDS, tasks=TASKS, ids=IDS))
    return results


def overhead(rounds: int, steps: int) -> Dict[str, Any]:
    """Measures the Estimator's loop and the bare step in turn, in one session of the training command's making.

    Args:
        rounds: counted rounds.
        steps: of each kind per round.

    Returns:
        A result with ``overhead_ms`` (median) and its spread.
    """
    import tensorflow as tf

    from benchmarks import _app
    from estimator_app.device import prepare_device
    prepare_device("cpu")
    from mx_rec.core.asc.helper import get_asc_insert_func
    from mx_rec.graph.modifier import GraphModifierHook
    from npu_bridge.npu_init import NPUEstimator, npu_hooks_append

    from estimator_app.config import Config
    from estimator_app.model.model_fn import ModelContext, make_model_fn
    from estimator_app.training.interruption import SignalHook
    from estimator_app.training.progress import ProgressHook
    from estimator_app.training.runtime import run_config
    from feature_specs.spec_list import FeatureSpecLists, create_feature_spec_list
    from rec_sdk_cpu.core import config as sdk_config
    dataset = _app.definition(FIELDS, TASKS)
    total = (rounds + 1) * steps
    sdk_config.reset()
    from mx_rec.util.initialize import init
    init(max_steps=total, train_steps=-1, eval_steps=-1, save_steps=total)
    specs = FeatureSpecLists()
    batches = _app.random_batches(dataset, 32, IDS, 64)
    train_ops: List[Any] = []

    def input_fn() -> Any:
        features = tf.data.Dataset.from_tensor_slices(batches).repeat()
        made = create_feature_spec_list(dataset, 1, False, None, None)
        specs.put(made, True)
        return features.map(get_asc_insert_func(tgt_key_specs=made, is_training=True)).prefetch(8)

    class Rounds(tf.compat.v1.train.SessionRunHook):
        """After every so many steps of the loop, as many bare ones."""

        def __init__(self) -> None:
            self.count, self.began = 0, time.perf_counter()
            self.loop: List[float] = []
            self.bare: List[float] = []
            self._bare_step: Any = None

        def after_run(self, run_context: Any, run_values: Any) -> None:
            del run_values
            self.count += 1
            if self.count % steps:
                return
            self.loop.append((time.perf_counter() - self.began) / steps)
            if self._bare_step is None:
                self._bare_step = run_context.session.make_callable(train_ops[0])
            began = time.perf_counter()
            for _ in range(steps):
                self._bare_step()
            self.bare.append((time.perf_counter() - began) / steps)
            self.began = time.perf_counter()

    with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w", encoding="utf-8") as quiet:
        config = Config(batch_size=32, model_dir=directory)
        inner = make_model_fn(ModelContext(config, dataset, _app.encoding_of(dataset, IDS), specs, 1, 1))

        def model_fn(features: Any, labels: Any, mode: str) -> Any:
            spec = inner(features, labels, mode)
            # The bare steps must not move the counter that ends the loop.
            step = tf.compat.v1.train.get_global_step()
            with tf.control_dependencies([spec.train_op]):
                train_ops.append(tf.compat.v1.assign_sub(step, 1).op)
            return spec

        clock = Rounds()
        hooks = [GraphModifierHook(modify_graph=False), ProgressHook(directory, total, 32, 100, stream=quiet),
                 SignalHook(directory)]
        NPUEstimator(model_fn=model_fn, config=run_config(config, total)).train(
            input_fn, hooks=npu_hooks_append(hooks + [clock]), max_steps=total)
    found = [1000.0 * (loop - bare) for loop, bare in zip(clock.loop[1:], clock.bare[1:])]
    return {"benchmark": "step", "overhead_ms": round(statistics.median(found), 4),
            "overhead_least_ms": round(min(found), 4), "overhead_most_ms": round(max(found), 4), "batch_size": 32,
            "bare_step_ms": round(1000.0 * statistics.median(clock.bare[1:]), 4),
            "bounds": [["overhead_ms", None, MOST_OVERHEAD]]}


def _speed(step: Callable[[], Any], batch_size: int, count: int) -> Callable[[], float]:
    def measure_steps() -> float:
        for _ in range(max(1, count // 20)):
            step()
        began = time.perf_counter()
        for _ in range(count):
            step()
        return count * batch_size / (time.perf_counter() - began)

    return measure_steps


def main(arguments: Sequence[str]) -> int:
    """Runs the measurement."""
    parser = _harness.new_parser("step", __doc__)
    parser.add_argument("--batch_size", type=int, nargs="+", default=sorted(_STEPS), metavar="N",
                        help="batch sizes (default: 32 512 4096)")
    args = parser.parse_args(list(arguments))
    if args.quick:
        results = measure([16], 1, 3, 0) + [dict(overhead(1, 3), bounds=[])]
    else:
        results = measure(args.batch_size, args.pairs) + [overhead(100, 50)]
    _harness.report(results, lambda result: "step, batch %d" % result["batch_size"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
