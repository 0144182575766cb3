"""The collectives of ``hccl_ops`` on values that NumPy can make too, and failures that all ranks share."""
import os
import time
from typing import Any, Dict, List

import numpy as np
import tensorflow as tf

from rec_sdk_cpu.core import config, ranks

REDUCTIONS = ("sum", "min", "max", "prod")
SLEEP = 0.6


def given(rank: int, dtype: Any) -> np.ndarray:
    """The values of a rank, [8, 3]: 8 rows split over 2 and 4 ranks."""
    values = np.random.RandomState(rank).uniform(1, 5, [8, 3])
    return values.astype(dtype)


def counts(size: int) -> np.ndarray:
    """How many values rank i sends to rank j, int64 [ranks, ranks]; one of them none."""
    matrix = np.arange(size * size).reshape(size, size) % 4
    matrix[0, 1] = 0
    return matrix.astype(np.int64)


def run(folder: str) -> None:
    """Runs the ops and writes what this rank received to ``<folder>/operations.rank<k>.npz``."""
    from npu_bridge.npu_init import npu_allreduce
    from rec_sdk_common.util.tf_adapter import hccl_ops
    config.reset()
    config.init(max_steps=-1)
    rank, size = ranks.get_rank_id(), ranks.get_rank_size()
    results: Dict[str, Any] = {}
    with tf.Graph().as_default():
        fetches: Dict[str, tf.Tensor] = {}
        for dtype in ("float32", "int64"):
            mine = tf.constant(given(rank, dtype))
            for reduction in REDUCTIONS:
                fetches["allreduce/%s/%s" % (dtype, reduction)] = hccl_ops.allreduce(mine, reduction)
                fetches["reduce/%s/%s" % (dtype, reduction)] = hccl_ops.reduce(mine, reduction, size - 1)
                fetches["reduce_scatter/%s/%s" % (dtype, reduction)] = hccl_ops.reduce_scatter(mine, reduction, size)
            fetches["allgather/%s" % dtype] = hccl_ops.allgather(mine, size)
            fetches["broadcast/%s" % dtype] = hccl_ops.broadcast([mine, mine + 1], 1)[1]
        weight = tf.constant(given(rank, np.float32))
        total = hccl_ops.allreduce(weight * weight, "sum")
        fetches["gradient"] = tf.gradients(tf.reduce_sum(total * (rank + 1.0)), weight)[0]
        fetches["mean"] = npu_allreduce(weight, "mean")
        matrix = counts(size)
        sent = np.random.RandomState(50 + rank).normal(size=matrix[rank].sum()).astype(np.float32)
        results["sent"] = sent
        fetches["all_to_all_v_c"] = hccl_ops.all_to_all_v_c(tf.constant(sent), tf.constant(matrix), rank)
        # Blocks lie in the opposite order, with a gap of one value between them.
        fetches["all_to_all_v"] = hccl_ops.all_to_all_v(
            tf.constant(sent), tf.constant(matrix[rank]), tf.constant(_starts(matrix[rank])),
            tf.constant(matrix[:, rank]), tf.constant(backwards(matrix[:, rank])))
        barrier = hccl_ops.allreduce(tf.constant(1), "sum")
        with tf.compat.v1.Session() as session:
            for name, value in fetches.items():
                results[name] = session.run(value)
            results["waited"] = _wait(session, barrier, rank)
    results.update(_failures())
    results.update(_replicated())
    results.update(_saving(folder))
    np.savez(os.path.join(folder, "operations.rank%d" % rank), **results)


def backwards(lengths: np.ndarray) -> np.ndarray:
    """Where blocks of the given lengths begin if the last rank's comes first, with gaps of one."""
    return (_starts(lengths[::-1] + 1))[::-1].copy()


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def _wait(session: Any, barrier: tf.Tensor, rank: int) -> List[float]:
    """Times three barriers on a constant; the last rank's neighbour comes late to the third."""
    seconds = []
    for number in range(3):
        if rank == 1 and number == 2:
            time.sleep(SLEEP)
        begin = time.monotonic()
        session.run(barrier)
        seconds.append(time.monotonic() - begin)
    return seconds


def _failures() -> Dict[str, str]:
    """Messages of steps that fail on all ranks at once."""
    from mx_rec.core.embedding import create_table, sparse_lookup
    size = ranks.get_rank_size()
    messages = {}
    for name, settings, rows, ids, send_count in (
            ("send_count", {"use_dynamic": False}, 400, np.arange(40), 3),
            ("overflow", {}, 16, np.arange(40), None), ("negative", {}, 400, -np.arange(1, 9), None)):
        config.reset()
        config.init(max_steps=-1, **settings)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            table = create_table(key_dtype=tf.int64, dim=2, name="t", device_vocabulary_size=rows,
                                 emb_initializer=tf.compat.v1.zeros_initializer())
            assert table.capacity() == rows and table.slice_device_vocabulary_size == -(-rows // size)
            out = sparse_lookup(table, tf.constant(ids, tf.int64), send_count=send_count, modify_graph=True)
            session.run(tf.compat.v1.global_variables_initializer())
            try:
                session.run(out)
            except tf.errors.InvalidArgumentError as error:
                messages["message/" + name] = str(error)
    return messages


def _replicated() -> Dict[str, np.ndarray]:
    """The rows of a replicated table whose initializer has no seed."""
    from mx_rec.core.embedding import create_table
    config.reset()
    config.init(max_steps=-1)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(ranks.get_rank_id())
        table = create_table(key_dtype=tf.int64, dim=2, name="t", device_vocabulary_size=6, is_dp=True,
                             emb_initializer=tf.compat.v1.truncated_normal_initializer())
        session.run(tf.compat.v1.global_variables_initializer())
        return {"replicated": session.run(table.variable)}


def _saving(folder: str) -> Dict[str, Any]:
    """Saves where the last rank cannot write, and then where all can."""
    from mx_rec.core.embedding import create_table, sparse_lookup
    config.reset()
    config.init(max_steps=-1)
    rank, size = ranks.get_rank_id(), ranks.get_rank_size()
    path = os.path.join(os.path.realpath(folder), "saving")
    share = os.path.join(path, ".sparse-model.ckpt.rank%d" % (size - 1))
    os.makedirs(path, exist_ok=True)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        table = create_table(key_dtype=tf.int64, dim=2, name="t", device_vocabulary_size=60,
                             emb_initializer=tf.compat.v1.constant_initializer(rank + 1.0))
        out = sparse_lookup(table, tf.range(12, dtype=tf.int64), modify_graph=True)
        tf.compat.v1.train.get_or_create_global_step()
        saver = tf.compat.v1.train.Saver()
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(out)
        if rank == size - 1:
            # A file where the share's folder has to be.
            with open(share, "w"):
                pass
        try:
            saver.save(session, os.path.join(path, "model.ckpt"))
            failed = ""
        except (RuntimeError, OSError) as error:
            failed = "%s: %s" % (type(error).__name__, error)
        left = sorted(os.listdir(path))
        if rank == size - 1:
            os.remove(share)
        saver.save(session, os.path.join(path, "model.ckpt"))
    return {"failed": failed, "left": left, "saved": sorted(os.listdir(path))}
