"""Saves the tables of a graph beside the TensorFlow checkpoint and loads them again (rec_sdk_api 5.3)."""
import contextlib
import functools
import logging
import os
import shutil
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import tensorflow as tf

from rec_sdk_cpu.core import rank_shares, ranks, sparse_files
from rec_sdk_cpu.core.collectives import Agreement
from rec_sdk_cpu.core.graph_state import GraphState
from rec_sdk_cpu.core.table import BaseSparseEmbedding

logger = logging.getLogger("rec_sdk_cpu")

_CHUNK_BYTES = 64 << 20


class _StateOps(NamedTuple):
    read: tf.Tensor
    write: tf.Operation
    initialize: tf.Operation
    ensure: tf.Operation


class TableOps:
    """The ops that move one table between session and files; made before the graph is finalised."""

    def __init__(self, table: BaseSparseEmbedding):
        self.table = table
        with tf.name_scope("%s_files" % table.table_name):
            self.keys = tf.compat.v1.placeholder(tf.int64, [None], name="keys")
            self.rows = tf.compat.v1.placeholder(tf.int64, [None], name="rows")
            self.values = tf.compat.v1.placeholder(tf.float32, [None, table.emb_size], name="values")
            self.count = tf.compat.v1.placeholder(tf.int64, [], name="count")
            self.export = table.index.export()
            self.insert = table.index.insert(self.keys, self.rows)
            self.clear = table.index.clear()
            self.states: Dict[str, _StateOps] = {}
            for name, state in table.states().items():
                variable = state.variable
                self.states[name] = _StateOps(
                    read=tf.gather(variable, self.rows),
                    write=tf.group(variable.scatter_update(tf.IndexedSlices(self.values, self.rows))),
                    initialize=variable.initializer, ensure=state.ensure(self.count))
            if table.history is not None:
                self.history = tf.compat.v1.placeholder(tf.int64, [None, 3], name="history")
                self.export_history = table.history.export()
                self.load_history = table.history.load(self.history[:, 0], self.history[:, 1:])

    def save(self, session: Any, writer: sparse_files.FolderWriter) -> None:
        """Writes keys, rows, optimizer states and history; rows in the order of their numbers."""
        keys, rows = session.run(self.export)
        order = np.argsort(rows, kind="stable")
        keys, rows = keys[order], rows[order]
        name, dim = self.table.table_name, self.table.emb_size
        writer.write_keys(name, keys)
        if rows.size:
            # A state grows with the first update of a row; rows that had none yet take their initial values here.
            for ops in self.states.values():  # one after the other: a growing one is in memory twice
                session.run(ops.ensure, {self.count: rows[-1] + 1})
        for state, ops in self.states.items():
            writer.write_rows(name, state, dim, self._read_chunks(session, ops, rows))
        if self.table.history is not None:
            ids, values = session.run(self.export_history)
            history = np.concatenate([ids[:, None], values], axis=1)
            writer.write_history(name, history[np.argsort(ids, kind="stable")])

    def load(self, session: Any, directory: str, optimizer_states: bool = True) -> None:
        """Replaces the table by the one of a sparse folder.

        Args:
            session: the session.
            directory: the sparse folder.
            optimizer_states: False leaves the optimizer states at their initial values.

        Raises:
            SparseFilesError: files are missing or do not fit.
            RuntimeError: the table is too small for the keys.
        """
        name = self.table.table_name
        saved_keys = sparse_files.read_keys(directory, name)
        mine = np.flatnonzero(rank_shares.owned(saved_keys, self.table.is_dp))
        keys = saved_keys[mine]
        capacity = self.table.index.capacity
        if capacity is not None and keys.size > capacity:
            raise RuntimeError(
                "Table %s: the checkpoint %s holds %d keys%s, more than its capacity %d; set a greater "
                "`device_vocabulary_size`" % (name, directory, keys.size, " of this rank" if ranks.several() else "",
                                              capacity))
        session.run([ops.initialize for ops in self.states.values()] + [self.clear])
        for ops in self.states.values():
            session.run(ops.ensure, {self.count: keys.size})
        for state, ops in self.states.items():
            if state != sparse_files.EMBEDDING_FOLDER and not optimizer_states:
                continue
            if state in self.table.merged_states:
                merged = self.table.merged_states[state].read(
                    sparse_files.checkpoint_path(directory), saved_keys.size)
                self._load_rows(session, ops, functools.partial(np.asarray, merged), mine)
                continue
            shape = sparse_files.open_rows(directory, name, state).shape
            if shape != (saved_keys.size, self.table.emb_size):
                raise sparse_files.SparseFilesError("%s/%s/%s has shape %s, expected %s" % (
                    directory, name, state, list(shape), [saved_keys.size, self.table.emb_size]))
            self._load_rows(session, ops, functools.partial(sparse_files.open_rows, directory, name, state), mine)
        if keys.size:
            session.run(self.insert, {self.keys: keys, self.rows: np.arange(keys.size, dtype=np.int64)})
        if self.table.history is not None:
            history = sparse_files.read_history(directory, name)
            if history is None:
                history = self.table.history.assumed(keys)
            owned = rank_shares.owned(history[:, 0], self.table.is_dp)
            session.run(self.load_history, {self.history: history[owned]})

    def _load_rows(self, session: Any, ops: _StateOps, opened: Callable[[], np.ndarray], mine: np.ndarray) -> None:
        """Writes the rows whose places in a file are ``mine`` (int64 [n]) into the table's rows 0, 1, ..."""
        for start in range(0, mine.size, self._chunk_rows()):
            part = mine[start:start + self._chunk_rows()]
            # Opened anew for each chunk: the pages of a mapping stay in memory as long as it does.
            session.run(ops.write, {self.rows: np.arange(start, start + part.size, dtype=np.int64),
                                    self.values: np.asarray(opened()[part])})

    def _chunk_rows(self) -> int:
        return max(1, _CHUNK_BYTES // (4 * self.table.emb_size))

    def _read_chunks(self, session: Any, ops: _StateOps, rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, rows.size, self._chunk_rows()):
            yield session.run(ops.read, {self.rows: rows[start:start + self._chunk_rows()]})


class SparseSaver:
    """Saves and restores all tables of a graph that have ``is_save``.

    With several ranks saving is a collective call: each writes its share, and rank 0 merges them.
    """

    def __init__(self, state: GraphState):
        self._state = state
        self._tables: List[TableOps] = [TableOps(table) for table in state.tables.values() if table.is_save]
        self._unsaved = [variable.initializer for table in state.tables.values() if not table.is_save
                         for variable in table.sparse_variables()]
        self._shares_written: Optional[Agreement] = None
        self._finished: Optional[Agreement] = None
        if ranks.several():
            self._shares_written, self._finished = Agreement("saver.shares"), Agreement("saver.finished")

    def write_share(self, session: Any, checkpoint_path: str) -> None:
        """Writes what this rank holds, and waits for the others; does nothing where there is one rank.

        Raises:
            RuntimeError: another rank could not write its share.
        """
        if self._shares_written is None:
            return
        directory = sparse_files.sparse_directory(checkpoint_path)
        share = rank_shares.share_directory(directory, ranks.get_rank_id())
        try:
            with sparse_files.FolderWriter(share) as writer:
                for ops in self._tables:
                    if not ops.table.is_dp or ranks.get_rank_id() == 0:
                        ops.save(session, writer)
        except BaseException:
            self._shares_written.all(session, False)
            raise
        if not self._shares_written.all(session, True):
            shutil.rmtree(share, ignore_errors=True)
            raise RuntimeError("another rank could not write its share of %s; its own message says why" % directory)

    def save(self, session: Any, checkpoint_path: str) -> Dict[str, List[int]]:
        """Writes the sparse folder of a checkpoint, on rank 0 alone; it appears whole or not at all.

        Returns:
            {path inside the folder: [size, CRC-32]}.
        """
        directory = sparse_files.sparse_directory(checkpoint_path)
        with sparse_files.FolderWriter(directory) as writer:
            for ops in self._tables:
                if self._shares_written is None:
                    ops.save(session, writer)
                else:
                    rank_shares.merge(directory, writer, ops.table.table_name, ops.table.emb_size, ops.table.is_dp,
                                      ops.table.merged_states)
        if self._shares_written is not None:
            rank_shares.remove(directory)
        return writer.checksums

    @contextlib.contextmanager
    def together(self, session: Any) -> Iterator[None]:
        """Holds every rank until rank 0 has done what stands inside; does nothing where there is one rank.

        Raises:
            RuntimeError: another rank failed inside.
        """
        if self._finished is None:
            yield
            return
        try:
            yield
        except BaseException:
            self._finished.all(session, False)
            raise
        if not self._finished.all(session, True):
            raise RuntimeError("rank 0 could not save the checkpoint; its own message says why")

    def restore(self, session: Any, checkpoint_path: str) -> None:
        """Loads the sparse folder of a checkpoint into the session's tables.

        Raises:
            FileExistsError: the folder does not exist (the SDK's exception for it).
            SparseFilesError: a table is missing or damaged.
            PermissionError: files that the SDK refuses to load.
            RuntimeError: a table is too small for its keys.
        """
        directory = sparse_files.sparse_directory(checkpoint_path)
        if not os.path.isdir(directory):
            raise FileExistsError("the sparse checkpoint folder %s does not exist; the checkpoint is not complete"
                                  % directory)
        sparse_files.check_permissions(directory)
        for table in self._tables:
            table.load(session, directory)
        session.run(self._unsaved)
        self._state.restored = True


def delete(checkpoint_path: str) -> None:
    """Removes the sparse folder of a checkpoint whose TensorFlow files are gone."""
    directory = sparse_files.sparse_directory(checkpoint_path)
    if os.path.isdir(directory):
        # Renamed first: a half-removed folder must not look like a checkpoint.
        parent, base = os.path.split(os.path.abspath(directory))
        doomed = os.path.join(parent, ".%s.deleted-%d" % (base, os.getpid()))
        os.rename(directory, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        logger.debug("removed %s", directory)
