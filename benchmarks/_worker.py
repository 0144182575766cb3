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

from benchmarks import _app, _reference  # noqa: E402
from feature_specs.cores import usable_cores  # noqa: E402
from feature_specs.manifest import TEST_SPLIT, TRAIN_SPLIT  # noqa: E402

OURS, REFERENCE = "ours", "reference"


class Clock(tf.compat.v1.train.SessionRunHook):
    """Notes when the counted steps begin and end.

    Attributes:
        first: wall-clock time at the end of the first step.
        began: ``perf_counter`` before the first counted step.
        steps: counted steps.
    """

    def __init__(self, warm_up: int):
        self._left = warm_up
        self.first = 0.0
        self.began = 0.0
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


def train(args: argparse.Namespace, model: Any) -> Dict[str, Any]:
    """Trains from records to the last checkpoint; the time of all checkpoints after the warm-up counts."""
    clock, config = Clock(args.warm_up), model.config
    if args.way == REFERENCE:
        estimator = _reference.estimator(model, config.model_dir, args.save_steps, config.threads or usable_cores())
        estimator.train(lambda: _reference.batches(model.manifest, config.data_dir, TRAIN_SPLIT, config.batch_size,
                                                   True), hooks=[clock], max_steps=args.steps)
    else:
        from estimator_app.training.hooks import SignalHook
        from estimator_app.training.progress import ProgressHook
        runtime = _runtime(model, args)
        os.makedirs(config.model_dir, exist_ok=True)
        hooks: List[Any] = [ProgressHook(runtime.run), SignalHook(runtime.run, runtime.guard), clock]
        runtime.estimator.train(runtime.train_input_fn, hooks=runtime.hooks(hooks), max_steps=args.steps)
    # Back from train(): hooks behind the clock, which save the last checkpoint, are done too.
    seconds = time.perf_counter() - clock.began
    return {"examples_per_second": clock.steps * config.batch_size / seconds, "steps": clock.steps,
            "first_step": clock.first}


def evaluate(args: argparse.Namespace, model: Any) -> Dict[str, Any]:
    """Evaluates the evaluation rows with fresh weights; a checkpoint after one step comes first."""
    clock, config = Clock(args.warm_up), model.config
    rows = model.manifest.split(TEST_SPLIT).rows
    if args.way == REFERENCE:
        estimator = _reference.estimator(model, config.model_dir, 1, config.threads or usable_cores())
        estimator.train(lambda: _reference.batches(model.manifest, config.data_dir, TRAIN_SPLIT, config.batch_size,
                                                   True), max_steps=1)
        estimator.evaluate(lambda: _reference.batches(model.manifest, config.data_dir, TEST_SPLIT,
                                                      config.eval_batch_size, False),
                           hooks=[clock], steps=rows // config.eval_batch_size)
    else:
        from estimator_app.training.steps import TRAIN_AND_EVALUATE
        runtime = _runtime(model, args, TRAIN_AND_EVALUATE)
        runtime.estimator.train(runtime.train_input_fn, hooks=runtime.hooks([_SaveFirst(config.model_dir)]),
                                max_steps=1)
        runtime.estimator.evaluate(runtime.eval_input_fn, hooks=runtime.hooks([clock]),
                                   steps=runtime.run.numbers.eval_steps)
    seconds = time.perf_counter() - clock.began
    return {"examples_per_second": min(clock.steps * config.eval_batch_size, rows) / seconds, "steps": clock.steps,
            "first_step": clock.first}


class _SaveFirst(tf.compat.v1.train.CheckpointSaverHook):
    """Saves after the first step: where training and evaluation take turns, the app's own loop saves."""

    def __init__(self, model_dir: str):
        super().__init__(model_dir, save_steps=1)


def _runtime(model: Any, args: argparse.Namespace, kind: str = "train") -> Any:
    from estimator_app.device import prepare_device
    prepare_device("cpu")
    from estimator_app.training.run_start import Run
    from estimator_app.training.runtime import Runtime
    from estimator_app.training.steps import Phase, step_numbers
    numbers = step_numbers(model.config, model.manifest, 0, 0, 1)
    return Runtime(Run(model, numbers, 0, []), Phase(kind, 0, args.steps, args.save_steps))


def main(arguments: Sequence[str]) -> int:
    """Measures what the flags say."""
    parser = argparse.ArgumentParser(prog="benchmarks._worker", description=__doc__)
    parser.add_argument("stage", choices=("train", "eval"))
    parser.add_argument("--way", choices=(OURS, REFERENCE), required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--steps", type=int, default=1, help="of the training")
    parser.add_argument("--save_steps", type=int, default=1)
    parser.add_argument("--warm_up", type=int, required=True, help="steps before the clock starts")
    parser.add_argument("--settings", default="{}", help="more settings of the app, JSON")
    args = parser.parse_args(list(arguments))
    # More epochs than any measurement reaches: the steps decide.
    settings = dict({"train_epoch": 1000}, **json.loads(args.settings))
    model = _app.make(args.data_dir, args.preset, **settings)
    result = {"train": train, "eval": evaluate}[args.stage](args, model)
    result["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
