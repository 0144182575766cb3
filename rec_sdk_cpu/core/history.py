"""Admission and eviction: what a table remembers of each id (rec_sdk_api 6, admission/eviction semantics)."""
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import lookup_ops

from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.core.key_index import remove

THRESHOLD_ERROR = ("threshold config, or timestamp error: table %s: %s")
TIMESTAMP_NOT_POSITIVE = "Table %s: the timestamp of a batch must be > 0; given:"
# Ids are never negative, so this key is free to hold the latest timestamp of the table.
CLOCK_KEY = -1


class Thresholds(NamedTuple):
    """Admission and eviction of one table.

    Attributes:
        access: occurrences that admit an id.
        eviction: seconds after which an id that was not seen is dropped; None for never.
    """

    access: int
    eviction: Optional[int]


def thresholds(table_name: str, access: Optional[int], eviction: Optional[int]) -> Optional[Thresholds]:
    """Reads the two thresholds as the SDK's host does (rec_sdk_api 2.1).

    Args:
        table_name: for messages.
        access: access_threshold or None.
        eviction: eviction_threshold or None.

    Returns:
        The thresholds, or None where admission is off: both are None or 0.

    Raises:
        ValueError: eviction without admission; or -1, which the SDK takes for a configuration error.
    """
    if not access and not eviction:
        return None
    if access is None or access < 0:
        raise ValueError(THRESHOLD_ERROR % (
            table_name, "access_threshold %s and eviction_threshold %s do not go together; to switch admission or "
                        "eviction off pass None, not -1" % (access, eviction)))
    return Thresholds(access, eviction if eviction is not None and eviction > 0 else None)


class KeyHistory:
    """{id: (count, time it was seen last)} of one table, in the session.

    Lookups of one table in one step count first, all of them, and decide then: the SDK sees the ids of a batch as
    one list.
    """

    def __init__(self, table_name: str, limits: Thresholds):
        self._name = table_name
        self.limits = limits
        self._last_count: List[tf.Operation] = []
        self._decisions: List[tf.Operation] = []
        with tf.name_scope("%s_history" % table_name):
            self._hash = lookup_ops.MutableHashTable(
                tf.int64, tf.int64, default_value=tf.constant([0, 0], tf.int64), name="counts", checkpoint=False)

    def admit(self, keys: tf.Tensor, occurrences: tf.Tensor, coefficient: int,
              timestamp: Optional[tf.Tensor]) -> tf.Tensor:
        """Counts the ids of a training batch and tells which are admitted.

        Args:
            keys: int64 [n], distinct.
            occurrences: int64 [n], how often each stands in the batch.
            coefficient: ``faae_coefficient``.
            timestamp: int64 scalar, seconds; None where the dataset has none.

        Returns:
            bool [n]: count so far, this batch included, reaches the access threshold.
        """
        with tf.control_dependencies(self._last_count + self._checks(keys, timestamp)):
            now = tf.constant(0, tf.int64) if timestamp is None else tf.cast(timestamp, tf.int64)
            known = self._hash.lookup(keys)
            # set_threshold of the op library may have changed the threshold; 0 stops the counting only.
            changed = graph_state.of().changed_threshold(self._name)
            count = known[:, 0] + tf.where(tf.equal(changed, 0), tf.zeros_like(occurrences), occurrences * coefficient)
            updates = [self._hash.insert(keys, tf.stack([count, tf.maximum(known[:, 1], now)], axis=1))]
            if timestamp is not None:
                latest = tf.maximum(self.clock(), now)
                updates.append(self._hash.insert([tf.constant(CLOCK_KEY, tf.int64)], [tf.stack([0 * latest, latest])]))
            counted = tf.group(*updates)
        self._last_count = [counted]
        for decision in self._decisions:
            decision._add_control_input(counted)
        with tf.control_dependencies([counted]):
            counts = self._hash.lookup(keys)
        self._decisions.append(counts.op)
        return counts[:, 0] >= tf.where(changed > 0, changed, tf.constant(self.limits.access, tf.int64))

    def clock(self) -> tf.Tensor:
        """Returns the latest timestamp that the table saw, int64 scalar, 0 for none."""
        return self._hash.lookup(tf.constant([CLOCK_KEY], tf.int64))[0, 1]

    def drop_expired(self) -> tf.Tensor:
        """Forgets the ids whose time is up and returns them, int64 [n].

        An id without a time (its checkpoint had no history) stays until it was seen once.
        """
        if self.limits.eviction is None:
            return tf.zeros([0], tf.int64)
        keys, values = self._hash.export()
        seen = values[:, 1]
        expired = (keys != CLOCK_KEY) & (seen > 0) & (self.clock() - seen >= self.limits.eviction)
        gone = tf.boolean_mask(keys, expired)
        with tf.control_dependencies([remove(self._hash, gone)]):
            return tf.identity(gone)

    def export(self) -> Tuple[tf.Tensor, tf.Tensor]:
        """Returns ids int64 [n] and (count, last time) int64 [n, 2]; the id -1 carries the table's latest time."""
        keys, values = self._hash.export()
        return keys, tf.reshape(values, [-1, 2])

    def load(self, keys: tf.Tensor, values: tf.Tensor) -> tf.Operation:
        """Returns an op that replaces everything by ids (int64 [n]) and (count, last time) (int64 [n, 2])."""
        with tf.control_dependencies([remove(self._hash, self._hash.export()[0])]):
            return self._hash.insert(keys, values)

    def assumed(self, keys: np.ndarray) -> np.ndarray:
        """Returns the history of ids whose checkpoint has none, int64 [n, 3]: admitted, last time unknown."""
        return np.stack([keys, np.full_like(keys, self.limits.access), np.zeros_like(keys)], axis=1)

    def _checks(self, keys: tf.Tensor, timestamp: Optional[tf.Tensor]) -> List[tf.Operation]:
        checks = [tf.debugging.Assert(tf.reduce_all(keys >= 0), ["Table %s: ids must be >= 0; given (smallest id):"
                                                                 % self._name, tf.reduce_min(keys)])]
        if timestamp is not None:
            checks.append(tf.debugging.Assert(timestamp > 0, [TIMESTAMP_NOT_POSITIVE % self._name, timestamp]))
        return checks
