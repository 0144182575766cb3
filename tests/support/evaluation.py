"""Runs the metrics of an evaluation on arrays, on one rank or on several: threads stand in for processes."""
import threading

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from estimator_app.model.metrics import EvaluationBatch, RankMerge, expert_metrics
from feature_specs.records import LABEL

WAIT_SECONDS = 60


class Evaluation:
    """The graph of an evaluation, which takes any rows that fit its batches.

    Args:
        tasks: the task set.
        steps: batches.
        batch_size: rows per batch.
        has_weights, has_group: whether rows have weights for the second set of scores, and groups.
        ranks: number of ranks that this is one of.
        expert_sizes: (experts, size) where there are experts and a gate of the first task, or None.
        float_labels: dtype of the labels.
    """

    def __init__(self, tasks, steps, batch_size, has_weights=False, has_group=False, ranks=1, expert_sizes=None,
                 float_labels=True):
        self.rows, self.batch_size = steps * batch_size, batch_size
        first = tasks.names[0]
        kind, fill = (tf.float32, -np.inf) if float_labels else (tf.int64, -2)
        kinds = {"label": (kind, [len(tasks.names)], fill)}
        kinds.update({"logits_" + name: (tf.float32, [], 9.0) for name in tasks.names})
        kinds.update({"weights": (tf.float32, [], 3.0)} if has_weights else {})
        kinds.update({"group": (tf.int64, [], 3)} if has_group else {})
        if expert_sizes:
            kinds.update({"experts": (tf.float32, list(expert_sizes), 3.0),
                          "gate": (tf.float32, list(expert_sizes[:1]), 0.3)})
        self.kinds = kinds
        with tf.Graph().as_default() as graph:
            self.fed = fed = {name: tf.compat.v1.placeholder(kind, [batch_size] + shape)
                              for name, (kind, shape, _) in kinds.items()}
            label = fed["label"]
            valid = tf.logical_not(tf.math.is_inf(label[:, 0]) if float_labels else tf.equal(label[:, 0], -2))
            batch = EvaluationBatch(valid, steps, batch_size, RankMerge(ranks), fed.get("weights"), fed.get("group"))
            logits = tasks.related({name: fed["logits_" + name] for name in tasks.names})
            metrics = tasks.metrics(logits, tasks.labels({LABEL: label}), batch)
            if expert_sizes:
                metrics.update(expert_metrics(fed["experts"], {first: fed["gate"]}, valid, batch.merge))
            self.start = tf.compat.v1.local_variables_initializer()
            self.updates = [update for _, update in metrics.values()]
            self.values = {name: value for name, (value, _) in metrics.items()}
        # Threads of its own: a rank that waits in a collective must not keep the others from running.
        self.session = tf.compat.v1.Session(graph=graph, config=tf.compat.v1.ConfigProto(
            use_per_session_threads=ranks > 1, inter_op_parallelism_threads=4 if ranks > 1 else 1,
            intra_op_parallelism_threads=1, graph_options=tf.compat.v1.GraphOptions(
                rewrite_options=rewriter_config_pb2.RewriterConfig(disable_meta_optimizer=True))))

    def run(self, logits, labels, weights=None, group=None, experts=None, gate=None):
        """Feeds rows in batches, the last ones filled up with padding rows; returns the values of all metrics."""
        given = {"label": labels, "weights": weights, "group": group, "experts": experts, "gate": gate}
        given.update({"logits_" + name: value for name, value in logits.items()})
        padded = {}
        for name, (kind, shape, fill) in self.kinds.items():
            values = np.asarray(given[name], kind.as_numpy_dtype)
            padded[name] = np.concatenate([values, np.full([self.rows - len(labels)] + shape, fill, values.dtype)])
        self.session.run(self.start)
        for begin in range(0, self.rows, self.batch_size):
            self.session.run(self.updates, {self.fed[name]: value[begin:begin + self.batch_size]
                                            for name, value in padded.items()})
        return self.session.run(self.values)


def evaluate(tasks, logits, labels, batch_size, weights=None, group=None):
    """One evaluation of some rows, in as many batches as they need."""
    return Evaluation(tasks, -(-len(labels) // batch_size), batch_size, weights is not None, group is not None,
                      float_labels=labels.dtype.kind == "f").run(logits, labels, weights, group)


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


def gauc(scores, labels, group):
    """AUC within groups other than 0, weighted by their rows, by a loop over pairs; NaN where none has both classes."""
    total = rows = 0.0
    for name in np.unique(group):
        if name == 0:  # rows without a group
            continue
        mine, kinds = scores[group == name], labels[group == name]
        positive, negative = mine[kinds == 1], mine[kinds == 0]
        if not len(positive) or not len(negative):
            continue
        won = sum(float(a > b) + 0.5 * float(a == b) for a in positive for b in negative)
        total += won / (len(positive) * len(negative)) * len(mine)
        rows += len(mine)
    return total / rows if rows else float("nan")
