"""key -> row of one embedding table, inside the graph: hash lookup, insertion, removal, export, import."""
from typing import Optional, Tuple

import tensorflow as tf
from tensorflow.python.ops import gen_lookup_ops, lookup_ops

OVERFLOW = ("Device cache overflow! Please set a grater value for `device_vocabulary_size`. Table %s holds %d keys on "
            "this rank and has no row for the new ones (capacity, keys in use, new keys):")
NEGATIVE_KEY = "Table %s: ids must be >= 0, -1 is the SDK's internal invalid key; given (smallest id):"


class KeyIndex:
    """The hash index of a table.

    Rows are given out in order of arrival, those of evicted keys first. The state lives in the session: a
    :class:`MutableHashTable` that no TensorFlow checkpoint holds, because the keys belong into the sparse checkpoint
    folder.

    Attributes:
        capacity: keys that fit; None for no limit.
    """

    def __init__(self, table_name: str, capacity: Optional[int]):
        self._name = table_name
        self.capacity = capacity
        self._last_insert: Tuple[tf.Operation, ...] = ()
        self._hash = _hash_table("%s_index" % table_name, "keys")
        self._free: Optional[lookup_ops.MutableHashTable] = None

    def find(self, keys: tf.Tensor) -> tf.Tensor:
        """Looks keys up without inserting.

        Args:
            keys: int64 [n], distinct.

        Returns:
            int64 [n]: the row of each key, -1 where it has none. A negative key fails the step.
        """
        rows = self._hash.lookup(keys)
        with tf.control_dependencies([tf.cond(tf.reduce_any(rows < 0), lambda: self._check_keys(keys), tf.no_op)]):
            return tf.identity(rows)

    def find_or_insert(self, keys: tf.Tensor) -> tf.Tensor:
        """Looks keys up and gives unseen ones the next free rows.

        Args:
            keys: int64 [n], distinct.

        Returns:
            int64 [n]: the row of each key. A negative key, or more keys than rows, fails the step.
        """
        # Lookups of one table in one step insert one after the other: two of them may meet the same new key.
        with tf.control_dependencies(self._last_insert):
            rows = self._hash.lookup(keys)
            rows = tf.cond(tf.reduce_any(rows < 0), lambda: self._insert(keys, rows), lambda: tf.identity(rows))
        self._last_insert = (rows.op,)
        return rows

    def size(self) -> tf.Tensor:
        """Returns the number of keys in use, int64 scalar."""
        return self._hash.size()

    def export(self) -> Tuple[tf.Tensor, tf.Tensor]:
        """Returns all keys and their rows, two int64 [n] in no particular order."""
        return self._hash.export()

    def insert(self, keys: tf.Tensor, rows: tf.Tensor) -> tf.Operation:
        """Returns an op that enters keys (int64 [n]) at given rows (int64 [n])."""
        return self._hash.insert(keys, rows)

    def clear(self) -> tf.Operation:
        """Returns an op that removes all keys and forgets all freed rows."""
        tables = [self._hash] if self._free is None else [self._hash, self._free]
        return tf.group(*(remove(table, table.export()[0]) for table in tables))

    def allow_release(self) -> None:
        """Prepares the index for :meth:`release`; must come before the lookups that insert."""
        if self._free is None:
            self._free = _hash_table("%s_index" % self._name, "free_rows")

    def release(self, keys: tf.Tensor) -> tf.Tensor:
        """Removes keys and keeps their rows for new ones.

        Args:
            keys: int64 [n], distinct.

        Returns:
            int64 [m]: the rows that became free; keys without a row do not count.
        """
        self.allow_release()
        assert self._free is not None
        rows = self._hash.lookup(keys)
        freed = tf.boolean_mask(rows, rows >= 0)
        count = self._free.size()
        with tf.control_dependencies([freed, count]):
            removed = remove(self._hash, keys)
            kept = self._free.insert(count + tf.range(tf.size(freed, out_type=tf.int64)), freed)
        with tf.control_dependencies([removed, kept]):
            return tf.identity(freed)

    def _check_keys(self, keys: tf.Tensor) -> tf.Operation:
        smallest = tf.reduce_min(keys)
        return tf.debugging.Assert(smallest >= 0, [NEGATIVE_KEY % self._name, smallest])

    def _insert(self, keys: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        new_keys = tf.boolean_mask(keys, rows < 0)
        used = self._hash.size()
        count = tf.shape(new_keys, out_type=tf.int64)[0]
        checks = [self._check_keys(new_keys)]
        if self.capacity is not None:
            checks.append(tf.debugging.Assert(
                used + count <= self.capacity,
                [OVERFLOW % (self._name, self.capacity), tf.constant(self.capacity, tf.int64), used, count]))
        with tf.control_dependencies(checks):
            new_rows = self._take_rows(used, count)
        with tf.control_dependencies([self._hash.insert(new_keys, new_rows)]):
            return self._hash.lookup(keys)

    def _take_rows(self, used: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        if self._free is None:
            return used + tf.range(count)
        free = self._free.size()
        reused = tf.minimum(free, count)
        positions = tf.range(free - reused, free)
        taken = self._free.lookup(positions)
        with tf.control_dependencies([taken]):
            removed = remove(self._free, positions)
        with tf.control_dependencies([removed]):
            # Every row given out so far is either in use or free.
            return tf.concat([taken, used + free + tf.range(count - reused)], axis=0)


def remove(table: lookup_ops.MutableHashTable, keys: tf.Tensor) -> tf.Operation:
    """Returns an op that removes keys (int64 [n]) from a hash table; TensorFlow 1.15's class has no method for it."""
    return gen_lookup_ops.lookup_table_remove_v2(table.resource_handle, keys)


def _hash_table(scope: str, name: str) -> lookup_ops.MutableHashTable:
    with tf.name_scope(scope):
        return lookup_ops.MutableHashTable(tf.int64, tf.int64, default_value=-1, name=name, checkpoint=False)
