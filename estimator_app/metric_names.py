"""Names of the evaluation metrics, for modules that do not need TensorFlow."""
from typing import List, Sequence

from feature_specs.errors import ConfigError

AUC_PREFIX = "auc_"
PR_AUC_PREFIX = "pr_auc_"
LOG_LOSS_PREFIX = "log_loss_"
CALIBRATION_PREFIX = "calibration_"
RELIABILITY_PREFIX = "reliability_"
WEIGHTED_PREFIX = "weighted_"
AUC_MEAN = "auc_mean"
LOSS = "mean_loss"
EXAMPLES = "examples"


def selectable(tasks: Sequence[str]) -> List[str]:
    """Returns the metrics that a run can be judged by: higher is better, but for losses.

    Args:
        tasks: names of the tasks.
    """
    return [AUC_MEAN, LOSS] + [prefix + task for prefix in (AUC_PREFIX, PR_AUC_PREFIX, LOG_LOSS_PREFIX)
                               for task in tasks]


def check_selectable(flag: str, name: str, tasks: Sequence[str]) -> None:
    """Refuses a metric that a run cannot be judged by.

    Args:
        flag: that named it, for the message.
        name: the metric.
        tasks: names of the tasks.

    Raises:
        ConfigError: the metric is not one of :func:`selectable`.
    """
    if name not in selectable(tasks):
        raise ConfigError("%s %s is not known; choose from %s" % (flag, name, ", ".join(selectable(tasks))))


def is_loss(name: str) -> bool:
    """Returns whether lower values of a metric are better."""
    return name == LOSS or name.startswith(LOG_LOSS_PREFIX)
