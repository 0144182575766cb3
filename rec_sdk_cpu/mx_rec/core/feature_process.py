"""Stand-in for ``mx_rec.core.feature_process``: eviction of ids that were not seen for long (rec_sdk_api 5.1, 6)."""
import logging
import time
from typing import Any, Optional

import tensorflow as tf

from rec_sdk_cpu.core import constants, graph_state
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import MAX_INT32, Bool, Int, checked

logger = logging.getLogger("rec_sdk_cpu")


class EvictHook(tf.compat.v1.train.SessionRunHook):
    """Drops ids whose time is up, every so many seconds or steps; for training, after GraphModifierHook.

    After each step: where ``evict_time_interval`` seconds have gone by since the last time, or the global step is a
    multiple of ``evict_step_interval``, the tables drop the ids that were not seen for their eviction threshold. Rows
    that become free start again with initial values and are the first to be given out; their optimizer states stay.
    A global step that never moves from 0 triggers in every step, as in the SDK.

    Source: rec_sdk_api 5.1, 6.
    """

    @checked(Bool("evict_enable"), Int("evict_time_interval", 1, MAX_INT32),
             Int("evict_step_interval", 1, MAX_INT32, optional=True))
    def __init__(self, evict_enable: bool = False, evict_time_interval: int = constants.DEFAULT_EVICT_TIME_INTERVAL,
                 evict_step_interval: Optional[int] = None):
        ConfigInitializer.get_instance()
        self._enabled = evict_enable
        self._seconds = evict_time_interval
        self._steps = evict_step_interval
        self._since = time.time()
        self._evict: Optional[tf.Tensor] = None

    def begin(self) -> None:
        """Builds the eviction.

        Raises:
            RuntimeError: the pipeline of this graph does not run: the hook must come after GraphModifierHook.
            ValueError: dynamic expansion, which excludes eviction.
        """
        if not self._enabled:
            return
        if ConfigInitializer.get_instance().use_dynamic_expansion:
            raise ValueError("EvictHook is not supported with dynamic expansion")
        state = graph_state.of()
        if not state.pipeline_started:
            raise RuntimeError("EvictHook must come after GraphModifierHook in the list of hooks")
        counts = [table.evict() for table in state.tables.values()
                  if table.history is not None and table.history.limits.eviction is not None]
        self._evict = tf.add_n(counts) if counts else tf.constant(0, tf.int64)
        self._since = time.time()

    def before_run(self, run_context: Any) -> Any:
        """Asks for the global step."""
        del run_context
        if not self._enabled:
            return None
        return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.train.get_global_step())

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Evicts where it is time to."""
        if not self._enabled:
            return
        step = run_values.results
        now = time.time()
        if now - self._since > self._seconds or (self._steps is not None and step % self._steps == 0):
            self._since = now
            count = run_context.session.run(self._evict)
            logger.info("step %d: %d rows evicted", step, count)
