"""Evaluation on several ranks: threads in the place of processes, a rendezvous in the place of HCCL."""
import threading

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.model.gate_metrics import gate_metrics
from estimator_app.model.layers import EnsembleOutput, NetworkOutput
from estimator_app.model.metrics import evaluation_metrics
from estimator_app.model.rank_merge import RankMerge
from feature_specs import sdk

TASKS = ("income", "marital")
EXPERTS, SIZE, BATCH = 3, 4, 16
WAIT_SECONDS = 60


class Ranks:
    """Ranks as threads: the n-th collective of one meets the n-th of the others, or the wait ends in an error."""

    def __init__(self, size):
        self.size = size
        self.calls = [0] * size
        self.slots = {}
        self.here = threading.local()
        self.barrier = threading.Barrier(size, timeout=WAIT_SECONDS)

    def allgather(self, tensor, rank_size):
        assert rank_size == self.size
        rank = self.here.rank

        def exchange(value):
            number = self.calls[rank]
            self.calls[rank] += 1
            self.slots[number, rank] = value
            self.barrier.wait()
            parts = [self.slots[number, other] for other in range(self.size)]
            assert len({(part.shape, part.dtype) for part in parts}) == 1
            return np.concatenate(parts)

        assert tensor.dtype in (tf.float32, tf.int32)
        gathered = tf.compat.v1.py_func(exchange, [tensor], tensor.dtype)
        gathered.set_shape([tensor.shape[0].value * self.size] + tensor.shape.as_list()[1:])
        return gathered

    def run(self, function):
        """Calls function(rank) on every rank; returns the results, or raises the first error."""
        results, errors = [None] * self.size, []

        def work(rank):
            self.here.rank = rank
            try:
                results[rank] = function(rank)
            except Exception as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results


def rows(count, seed):
    random = np.random.RandomState(seed)
    labels = (random.uniform(size=(count, len(TASKS))) < [0.1, 0.4]).astype(np.int64)
    # Rounded, so that scores of different ranks are equal.
    logits = np.round(random.normal(size=labels.shape) + labels, 1).astype(np.float32)
    gates = random.dirichlet(np.ones(EXPERTS), (count, len(TASKS))).astype(np.float32)
    experts = random.exponential(size=(count, EXPERTS, SIZE)).astype(np.float32)
    return logits, labels, gates, experts, random.uniform(0.5, 2.0, count).astype(np.float32)


def evaluate(arrays, steps, merge_size):
    """The metrics of one rank; its rows are padded to the given number of batches."""
    count = len(arrays[0])
    padded = [np.concatenate([part, np.full((steps * BATCH - count,) + part.shape[1:], -1 if part.dtype == np.int64
                                            else 0.3, part.dtype)]) for part in arrays]
    # Threads of its own: a rank that waits in a collective must not keep the others from running.
    own = tf.compat.v1.ConfigProto(use_per_session_threads=True, inter_op_parallelism_threads=4)
    with tf.Graph().as_default(), tf.compat.v1.Session(config=own) as session:
        feeds = [tf.compat.v1.placeholder(part.dtype, (BATCH,) + part.shape[1:]) for part in padded]
        logits, labels, gates, experts, row_weights = feeds
        by_task = {task: logits[:, n] for n, task in enumerate(TASKS)}
        label_of = {task: labels[:, n] for n, task in enumerate(TASKS)}
        losses = {task: tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(label_of[task], tf.float32), logits=by_task[task]) for task in TASKS}
        valid = labels[:, 0] >= 0
        networks = NetworkOutput({task: logit[tf.newaxis] for task, logit in by_task.items()},
                                 {task: gates[:, n, tf.newaxis] for n, task in enumerate(TASKS)},
                                 experts[:, tf.newaxis])
        merge = RankMerge(merge_size)
        metrics = evaluation_metrics(by_task, label_of, losses, valid, steps, BATCH, row_weights, merge)
        metrics.update(gate_metrics(EnsembleOutput(by_task, networks), tf.cast(valid, tf.float32), merge))
        session.run(tf.compat.v1.local_variables_initializer())
        updates = [update for _, update in metrics.values()]
        for start in range(0, steps * BATCH, BATCH):
            session.run(updates, {feed: part[start:start + BATCH] for feed, part in zip(feeds, padded)})
        return session.run({name: value for name, (value, _) in metrics.items()})


@pytest.mark.parametrize("counts", [(50, 33), (40, 17, 0), (16, 16, 16, 16)])
def test_ranks_find_together_what_one_rank_finds_on_all_rows(monkeypatch, counts):
    arrays = rows(sum(counts), len(counts))
    ends = np.cumsum(counts)
    ranks = Ranks(len(counts))
    monkeypatch.setattr(sdk, "allgather", ranks.allgather)
    steps = -(-max(counts) // BATCH)
    found = ranks.run(lambda rank: evaluate(
        [part[ends[rank] - counts[rank]:ends[rank]] for part in arrays], steps, len(counts)))
    wanted = evaluate(arrays, -(-sum(counts) // BATCH), 1)
    assert wanted["examples"] == sum(counts) and 0.6 < wanted["auc_income"] < 0.95
    for result in found:
        assert result.keys() == wanted.keys()
        for name, value in wanted.items():
            np.testing.assert_allclose(result[name], value, atol=2e-6, err_msg=name)
            np.testing.assert_array_equal(result[name], found[0][name], err_msg=name)
    assert len(set(ranks.calls)) == 1 and ranks.calls[0] > 0


def test_one_rank_adds_no_op():
    with tf.Graph().as_default() as graph:
        tensor = tf.constant([1.0])
        count = len(graph.get_operations())
        assert RankMerge().sum(tensor) is tensor and RankMerge(1).gather(tensor) is tensor
        assert len(graph.get_operations()) == count


def test_collectives_keep_their_order(monkeypatch):
    monkeypatch.setattr(sdk, "allgather", lambda tensor, size: tf.concat([tensor] * size, axis=0))
    with tf.Graph().as_default():
        merge = RankMerge(2)
        first, second = merge.gather(tf.constant([1.0])), merge.gather(tf.constant([2.0]))
        before = {operation for tensor in second.op.inputs for operation in tensor.op.control_inputs}
        assert first.op in before
