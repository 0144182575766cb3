"""The hook that ends a training session early."""
from typing import Any, Optional, Sequence

import tensorflow as tf

from estimator_app.config import Config
from estimator_app.metric_names import check_selectable
from estimator_app.training import early_stopping
from feature_specs.errors import ConfigError


class EarlyStopHook(tf.compat.v1.train.SessionRunHook):
    """Ends training right after the evaluation that decides it; its checkpoint is the last one."""

    def __init__(self, config: Config, tasks: Sequence[str], rank_size: int):
        """Checks the settings.

        Args:
            config: settings.
            tasks: names of the tasks.
            rank_size: number of ranks.

        Raises:
            ConfigError: the metric is unknown, or there are several ranks, which would not stop together.
        """
        check_selectable("early_stopping_metric", config.early_stopping_metric, tasks)
        if config.early_stopping_patience and rank_size > 1:
            raise ConfigError("early_stopping_patience goes with one rank only, given %d ranks" % rank_size)
        self._config = config
        self.reason: Optional[str] = None

    def look(self) -> Optional[str]:
        """Reads the evaluations so far; returns and keeps the reason to stop, or None."""
        self.reason = early_stopping.look(self._config)
        return self.reason

    def before_run(self, run_context: Any) -> None:
        """Ends the session, without another step, where the last evaluation gave a reason."""
        del run_context
        if self.reason is not None:
            # What sessions take for the regular end of the input; request_stop would run one step more.
            raise tf.errors.OutOfRangeError(None, None, self.reason)
