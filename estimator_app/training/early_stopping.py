"""When training ends early: a function of the evaluations so far, so that a resumed run stops where an unbroken one
does."""
from typing import Any, Dict, List, Optional

from estimator_app.model_dir import history


def stop_reason(evaluations: List[Dict[str, Any]], metric: str, lower_is_better: bool, patience: int) -> Optional[str]:
    """Returns why training ends now, or None where it continues.

    Args:
        evaluations: all so far on the same data, in order.
        metric: what counts; an evaluation in which it is undefined brings no new best.
        lower_is_better: whether the metric is a loss.
        patience: evaluations without a new best that end it; 0 for never.
    """
    best = history.best_of(evaluations, metric, lower_is_better)
    if not patience or best is None:
        return None
    since = len(evaluations) - 1 - evaluations.index(best)
    if since < patience:
        return None
    return "no new best %s in %d evaluations, best %.5f at step %d" % (metric, since, best[metric], best["global_step"])
