"""Early stopping, and the best step of every task, from the evaluations that ``metrics.jsonl`` holds.

Nothing is kept between two evaluations but that file, so a run that goes on after an interruption stops where an
uninterrupted one does.
"""
import json
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

from estimator_app.config import Config
from estimator_app.metric_names import AUC_PREFIX, is_loss
from estimator_app.model_dir import history
from estimator_app.model_dir.directory import BEST_STEPS_FILE


def best_of(evaluations: Sequence[Mapping[str, Any]], metric: str) -> Optional[int]:
    """Returns the position of the first evaluation whose metric no other one exceeds (falls below, for losses).

    Args:
        evaluations: in order; those without the metric do not count.
        metric: its name.

    Returns:
        The position, or None where no evaluation has the metric.
    """
    sign = -1.0 if is_loss(metric) else 1.0
    best: Optional[int] = None
    for number, entry in enumerate(evaluations):
        if metric in entry and (best is None or sign * entry[metric] > sign * evaluations[best][metric]):
            best = number
    return best


def reason_to_stop(evaluations: Sequence[Mapping[str, Any]], metric: str, patience: int) -> Optional[str]:
    """Returns why training ends now, or None where it goes on.

    Args:
        evaluations: all so far, in order.
        metric: what counts.
        patience: evaluations without a new best that end it; 0 for never.
    """
    best = best_of(evaluations, metric)
    if not patience or best is None or len(evaluations) - 1 - best < patience:
        return None
    return "no new best %s in %d evaluations, best %.5f at step %d" % (
        metric, len(evaluations) - 1 - best, evaluations[best][metric], evaluations[best]["global_step"])


def best_steps(evaluations: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> Dict[str, Dict[str, Any]]:
    """Returns {auc_<task>: {"step", "value"}} of each task's best evaluation.

    Args:
        evaluations: in order.
        tasks: names of the tasks.
    """
    found = {}
    for name in (AUC_PREFIX + task for task in tasks):
        best = best_of(evaluations, name)
        if best is not None:
            found[name] = {"step": evaluations[best]["global_step"], "value": evaluations[best][name]}
    return found


def evaluations_of(model_dir: str) -> List[Dict[str, Any]]:
    """Returns the evaluations of a model directory in order, one per step."""
    by_step = {entry["global_step"]: entry for entry in history.read(model_dir) if entry["kind"] == history.EVALUATION}
    return [by_step[step] for step in sorted(by_step)]


def note_best_steps(model_dir: str, tasks: Sequence[str]) -> None:
    """Writes ``best_steps.json``: the best evaluation of every task so far."""
    path = os.path.join(model_dir, BEST_STEPS_FILE)
    with open(path + ".tmp", "w", encoding="utf-8") as stream:
        json.dump(best_steps(evaluations_of(model_dir), tasks), stream, indent=1, sort_keys=True)
        stream.write("\n")
    os.replace(path + ".tmp", path)


def look(config: Config) -> Optional[str]:
    """Returns why the training of a model directory ends now, or None where it goes on."""
    if not config.early_stopping_patience:
        return None
    return reason_to_stop(evaluations_of(config.model_dir), config.early_stopping_metric,
                          config.early_stopping_patience)
