"""What several ranks hold of a table, as files: each writes its share, rank 0 merges them into one slice file.

A checkpoint has no trace of the number of ranks, so that any number can load it: each takes the keys that it owns.
"""
import glob
import os
import shutil
from typing import Iterator, List, Mapping

import numpy as np

from rec_sdk_cpu.core import ranks, sparse_files
from rec_sdk_cpu.core.history import CLOCK_KEY
from rec_sdk_cpu.core.merged_states import MergedState

_CHUNK_BYTES = 64 << 20


def share_directory(directory: str, rank: int) -> str:
    """Returns where a rank writes its share of a sparse folder; those who look for checkpoints do not see it."""
    parent, base = os.path.split(directory)
    return os.path.join(parent, ".%s.rank%d" % (base, rank))


def owned(keys: np.ndarray, is_dp: bool) -> np.ndarray:
    """Returns which keys (int64 [n]) this rank holds, bool [n]: all of a replicated table, and all on one rank."""
    if is_dp or not ranks.several():
        return np.ones(keys.shape, np.bool_)
    return (keys % ranks.get_rank_size() == ranks.get_rank_id()) | (keys == CLOCK_KEY)


def merge(directory: str, writer: sparse_files.FolderWriter, table: str, dim: int, is_dp: bool,
          kept: Mapping[str, MergedState]) -> None:
    """Writes one table out of the shares of all ranks.

    Args:
        directory: the sparse folder that the shares belong to.
        writer: of that folder.
        table: name of the table.
        dim: values per row.
        is_dp: whether every rank has the whole table; rank 0's is taken.
        kept: the states that go into the TensorFlow checkpoint instead.

    Raises:
        SparseFilesError: a share is missing or damaged.
    """
    # The order of the SDK, which sorts the names of its slices (rec_sdk_api 5.3).
    numbers = [0] if is_dp else sorted(range(ranks.get_rank_size()), key=str)
    shares = [share_directory(directory, number) for number in numbers]
    writer.write_keys(table, np.concatenate([sparse_files.read_keys(share, table) for share in shares]))
    for state in sparse_files.states(shares[0], table):
        if state in kept:
            kept[state].keep(np.concatenate([sparse_files.open_rows(share, table, state) for share in shares]))
        else:
            writer.write_rows(table, state, dim, _chunks(shares, table, state, dim))
    histories = [sparse_files.read_history(share, table) for share in shares]
    known = [history for history in histories if history is not None]
    if known:
        writer.write_history(table, _merged_history(np.concatenate(known)))


def remove(directory: str) -> None:
    """Removes the shares of a sparse folder, of any number of ranks."""
    parent, base = os.path.split(directory)
    for path in glob.glob(os.path.join(glob.escape(parent), ".%s.rank*" % glob.escape(base))):
        shutil.rmtree(path)


def _chunks(shares: List[str], table: str, state: str, dim: int) -> Iterator[np.ndarray]:
    count = max(1, _CHUNK_BYTES // (4 * dim))
    for share in shares:
        rows = sparse_files.open_rows(share, table, state)
        for start in range(0, rows.shape[0], count):
            yield rows[start:start + count]


def _merged_history(history: np.ndarray) -> np.ndarray:
    """Returns int64 [m, 3] in the order of the ids; every rank has a clock, of which the latest time counts."""
    clock = history[:, 0] == CLOCK_KEY
    others = history[~clock]
    others = others[np.argsort(others[:, 0], kind="stable")]
    return np.concatenate([history[clock].max(axis=0, keepdims=True), others]) if clock.any() else others
