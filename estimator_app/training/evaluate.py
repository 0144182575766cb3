"""The ``eval`` command, and what an evaluation's result is made of."""
import contextlib
from typing import Any, Dict

import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model.definition import make_model
from estimator_app.model.metrics import WEIGHTED_PREFIX
from estimator_app.model.tasks import MEAN_LOSS
from estimator_app.model_dir import checkpoints, directory
from estimator_app.model_dir.history import plain
from estimator_app.training.runtime import evaluation_runtime
from feature_specs.data_files import verify_shards
from feature_specs.manifest import TEST_SPLIT, Manifest, read_manifest


def evaluate(config: Config, trained_on: Manifest, checkpoint: str) -> Dict[str, Any]:
    """Evaluates a checkpoint, ``latest``, ``best`` or a step number, on the data of ``config.data_dir``.

    Returns what ``eval`` prints as JSON: global_step, examples, mean_loss and every task's scores, those with
    ``weighted_`` where rows have weights; None where one is not defined. Raises UserError where checkpoint or data are
    missing, or do not fit the model, whose data has the manifest ``trained_on``.
    """
    manifest = read_manifest(config.data_dir)
    directory.check_same_encoding(trained_on, manifest, config, may_grow=True)
    verify_shards(manifest, config.data_dir, splits=(TEST_SPLIT,))
    model = make_model(config, manifest)
    chosen = checkpoints.resolve(config.model_dir, checkpoint, model.table_dims())
    with contextlib.closing(evaluation_runtime(model)) as runtime, runtime.guard.explained_errors(TEST_SPLIT):
        # A training beside us may delete the checkpoint between the look and the restore: then the next one counts.
        for attempt in range(3):
            try:
                result = runtime.estimator.evaluate(
                    runtime.eval_input_fn, steps=runtime.run.numbers.eval_steps, hooks=runtime.hooks(),
                    checkpoint_path=chosen.path)
                break
            except (tf.errors.NotFoundError, ValueError, OSError):
                if attempt == 2 or chosen.problem() is None:
                    raise
                chosen = checkpoints.resolve(config.model_dir, checkpoint, model.table_dims())
        runtime.guard.check()
    metrics, names = plain_metrics(result), model.tasks.score_names()
    shown = {"global_step": metrics["global_step"], "examples": metrics["examples"],
             MEAN_LOSS: metrics[MEAN_LOSS]}
    return dict(shown, **{name: metrics[name] for name in names + [WEIGHTED_PREFIX + name for name in names]
                          if name in metrics})


def plain_metrics(eval_result: Dict[str, Any]) -> Dict[str, Any]:
    """Returns Estimator metrics as Python numbers, None where one is not defined; without the unweighted ``loss`` of
    batches, whose place the exact ``mean_loss`` takes."""
    metrics = plain({name: value.tolist() for name, value in eval_result.items() if name != "loss"})
    return dict(metrics, examples=int(metrics["examples"]))
