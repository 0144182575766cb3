"""One side of one measurement, in a process of its own; prints a JSON object. Other modules start it."""
import argparse
import json
import os
import resource
import sys
import time
import warnings
from typing import Any, Dict, List, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
warnings.simplefilter("ignore")

import tensorflow as tf  # noqa: E402

from benchmarks import _reference  # noqa: E402
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT, Manifest, read_manifest  # noqa: E402
from preprocessing.cores import usable_cores  # noqa: E402

OURS, REFERENCE = "ours", "reference"


class Clock(tf.compat.v1.train.SessionRunHook):
    """Notes when the counted steps begin and end.

    Attributes:
        first: wall-clock time at the end of the first step.
        began, ended: ``perf_counter`` before the first counted step, and after the session's end.
        steps: counted steps.
    """

    def __init__(self, warm_up: int):
        self._left = warm_up
        self.first = 0.0
        self.began = 0.0
        self.ended = 0.0
        self.steps = 0

    def before_run(self, run_context: Any) -> None:
        """Starts the clock when the warm-up is over."""
        del run_context
        if self._left == 0 and not self.began:
            self.began = time.perf_counter()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Counts a step."""
        del run_context, run_values
        self.first = self.first or time.time()
        if self._left:
            self._left -= 1
        else:
            self.steps += 1

    def end(self, session: Any) -> None:
        """Stops the clock; the last checkpoint may come behind it, see :func:`train`."""
        del session
        self.ended = time.perf_counter()


def train(args: argparse.Namespace, manifest: Manifest) -> Dict[str, Any]:
    """Trains from records to the last checkpoint; the time of all checkpoints after the warm-up counts."""
    clock = Clock(args.warm_up)
    if args.way == REFERENCE:
        estimator = _reference.estimator(manifest, args.model_dir, args.save_steps, args.threads or usable_cores())
        estimator.train(lambda: _reference.batches(manifest, args.data_dir, TRAIN_SPLIT, args.batch_size, True),
                        hooks=[clock], max_steps=args.steps)
    else:
        runtime = _runtime(args, manifest)
        from estimator_app.training.interruption import SignalHook
        from estimator_app.training.progress import ProgressHook
        os.makedirs(args.model_dir, exist_ok=True)
        hooks: List[Any] = [ProgressHook(args.model_dir, args.steps, args.batch_size, 100),
                            SignalHook(args.model_dir), clock]
        runtime.estimator.train(runtime.train_input_fn, hooks=runtime.hooks(hooks), max_steps=runtime.numbers.max_steps)
    # Back from train(): hooks behind the clock, which save the last checkpoint, are done too.
    seconds = time.perf_counter() - clock.began
    return {"examples_per_second": clock.steps * args.batch_size / seconds, "steps": clock.steps,
            "microseconds_per_step": 1e6 * seconds / clock.steps, "first_step": clock.first}


def evaluate(args: argparse.Namespace, manifest: Manifest) -> Dict[str, Any]:
    """Evaluates the evaluation rows with fresh weights; a checkpoint without training comes first."""
    clock = Clock(args.warm_up)
    rows = manifest.split(TEST_SPLIT).rows
    if args.way == REFERENCE:
        estimator = _reference.estimator(manifest, args.model_dir, args.save_steps, args.threads or usable_cores())
        estimator.train(lambda: _reference.batches(manifest, args.data_dir, TRAIN_SPLIT, args.batch_size, True),
                        max_steps=1)
        estimator.evaluate(lambda: _reference.batches(manifest, args.data_dir, TEST_SPLIT, args.batch_size, False),
                           hooks=[clock], steps=rows // args.batch_size)
    else:
        runtime = _runtime(args, manifest, whole=True)
        runtime.estimator.train(runtime.train_input_fn, hooks=runtime.hooks(), max_steps=runtime.numbers.max_steps)
        runtime.estimator.evaluate(runtime.eval_input_fn, hooks=runtime.hooks([clock]),
                                   steps=runtime.numbers.eval_steps)
    seconds = time.perf_counter() - clock.began
    return {"examples_per_second": min(clock.steps * args.batch_size, rows) / seconds, "steps": clock.steps,
            "first_step": clock.first}


def _runtime(args: argparse.Namespace, manifest: Manifest, whole: bool = False) -> Any:
    from estimator_app.device import prepare_device
    prepare_device("cpu")
    from estimator_app.config import Config
    from estimator_app.training.runtime import build_runtime
    from input_fn.plan import plan_training
    settings = json.loads(args.settings)
    config = Config(data_dir=args.data_dir, model_dir=args.model_dir, batch_size=args.batch_size,
                    eval_batch_size=args.batch_size, eval_interval=args.save_steps, threads=args.threads, **settings)
    per_epoch = plan_training(manifest.split(TRAIN_SPLIT), manifest.line_per_sample, args.batch_size,
                              config.window_rows).steps_per_epoch
    epochs = -(-args.steps // per_epoch)
    return build_runtime(config.replace(train_epoch=epochs), manifest, True,
                         phase="" if whole or args.steps == epochs * per_epoch else "train:0:%d" % args.steps)


def main(arguments: Sequence[str]) -> int:
    """Measures what the flags say."""
    parser = argparse.ArgumentParser(prog="benchmarks._worker", description=__doc__)
    parser.add_argument("stage", choices=("train", "eval"))
    parser.add_argument("--way", choices=(OURS, REFERENCE), required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--batch_size", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="of the training")
    parser.add_argument("--save_steps", type=int, required=True)
    parser.add_argument("--warm_up", type=int, required=True, help="steps before the clock starts")
    parser.add_argument("--threads", type=int, default=0, help="0: what each side chooses by itself")
    parser.add_argument("--settings", default="{}", help="more settings of the app, JSON")
    args = parser.parse_args(list(arguments))
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    manifest = read_manifest(args.data_dir)
    result = {"train": train, "eval": evaluate}[args.stage](args, manifest)
    result["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
