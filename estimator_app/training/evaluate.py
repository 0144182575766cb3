"""The ``eval`` command: one pass over the evaluation rows with a chosen checkpoint."""
from typing import Any, Dict

from estimator_app.config import Config
from estimator_app.metric_names import (
    AUC_PREFIX,
    CALIBRATION_PREFIX,
    EXAMPLES,
    LOG_LOSS_PREFIX,
    LOSS,
    PR_AUC_PREFIX,
    RELIABILITY_PREFIX,
    WEIGHTED_PREFIX,
)
from estimator_app.model_dir import checkpoints
from estimator_app.model_dir import directory as model_directory
from estimator_app.training.runtime import build_runtime
from estimator_app.training.train import explained_input_errors, plain_metrics
from feature_specs.manifest import TEST_SPLIT, Manifest, check_shards, read_manifest


def evaluate(config: Config, trained_on: Manifest, checkpoint: str) -> Dict[str, Any]:
    """Evaluates a checkpoint.

    Args:
        config: settings of the trained model; ``data_dir`` names the data to evaluate on.
        trained_on: manifest of the training data.
        checkpoint: ``latest``, ``best`` or a step number.

    Returns:
        See :func:`summary`.

    Raises:
        UserError: checkpoint or data are missing, or do not fit the model.
    """
    path = checkpoints.resolve(config.model_dir, checkpoint)
    manifest = read_manifest(config.data_dir)
    model_directory.check_same_data(trained_on, manifest, config)
    check_shards(manifest, config.data_dir, TEST_SPLIT)
    runtime = build_runtime(config, manifest, training=False)
    try:
        with explained_input_errors(manifest, config.data_dir, (TEST_SPLIT,)):
            metrics = plain_metrics(runtime.estimator.evaluate(
                runtime.eval_input_fn, steps=runtime.numbers.eval_steps, hooks=runtime.hooks(), checkpoint_path=path))
    finally:
        runtime.close()
    return summary(metrics, manifest.dataset.task_names)


def summary(metrics: Dict[str, Any], tasks: Any) -> Dict[str, Any]:
    """Returns the figures that ``eval`` prints as JSON.

    Args:
        metrics: of the evaluation.
        tasks: names of the tasks.

    Returns:
        global_step, examples, loss; per task ``auc_``, ``pr_auc_``, ``log_loss_`` and ``calibration_``, the same with
        ``weighted_`` where rows have weights, and ``reliability_`` with one list each of predicted and observed rates
        and rows.
    """
    result: Dict[str, Any] = {"global_step": metrics["global_step"], "examples": metrics[EXAMPLES],
                              "loss": metrics[LOSS]}
    for weighted in ("", WEIGHTED_PREFIX):
        names = [weighted + prefix + task for prefix in (AUC_PREFIX, PR_AUC_PREFIX, LOG_LOSS_PREFIX,
                                                         CALIBRATION_PREFIX) for task in tasks]
        result.update((name, metrics[name]) for name in names if name in metrics)
    for task in tasks:
        result[RELIABILITY_PREFIX + task] = dict(zip(("predicted", "observed", "rows"),
                                                     metrics[RELIABILITY_PREFIX + task]))
    return result
