"""What each rank runs: trains the cases and leaves what it has in ``<folder>/<case>.rank<k>.npz``.

``python -m tests.rec_sdk_cpu.ranks.program FOLDER [FROM]``; FROM is the folder of an earlier number of ranks, whose
checkpoints are taken over.
"""
import importlib
import os
import sys
from typing import Any, Dict, List

import numpy as np

import rec_sdk_cpu

rec_sdk_cpu.install()

import tensorflow as tf  # noqa: E402

from rec_sdk_cpu.core import config, lookup, ranks  # noqa: E402
from rec_sdk_cpu.core.customized_optimizer import CustomizedOptimizer  # noqa: E402
from tests.rec_sdk_cpu.ranks import operations  # noqa: E402
from tests.rec_sdk_cpu.ranks.cases import BATCH, IDS, KEYS, MOVED, STEPS, TRAINING, Case  # noqa: E402

THREADS = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=2)


class Model:
    """Tables, a dense weight, and a train step on this rank's share of each batch."""

    def __init__(self, case: Case):
        from mx_rec.core.embedding import create_table, sparse_lookup
        from mx_rec.util.variable import get_dense_and_sparse_variable

        self.case, self.rank, self.size = case, ranks.get_rank_id(), ranks.get_rank_size()
        rows = BATCH // self.size
        self.ids = [tf.compat.v1.placeholder(tf.int64, [rows, IDS], name="ids%d" % number)
                    for number in range(case.lookups)]
        self.labels = tf.compat.v1.placeholder(tf.float32, [rows])
        self.time = tf.compat.v1.placeholder(tf.int64, [])
        tf.compat.v1.train.get_or_create_global_step()
        start = (tf.compat.v1.truncated_normal_initializer(stddev=0.3, seed=3) if case.start is None
                 else tf.compat.v1.constant_initializer(case.start))
        self.tables = [create_table(key_dtype=tf.int64, dim=4 + number, name="table%d" % number, emb_initializer=start,
                                    **dict({"device_vocabulary_size": 400}, **case.table))
                       for number in range(case.tables)]
        batch = self._batch()
        pooled: List[tf.Tensor] = []
        for table in self.tables:
            for number in range(case.lookups):
                ids, arguments = self._ids_of(batch, table, number)
                embedded = sparse_lookup(table, ids, send_count=case.send_count, batch=batch, **arguments)
                pooled.append(lookup.pooled_product(embedded, None, None) if case.pooled
                              else tf.reduce_sum(embedded, axis=1))
        self.asked = tf.compat.v1.placeholder(tf.int64, [None])
        # Evaluation by tensor cannot stand beside FeatureSpecs in one graph, so that these are looked up by the core.
        self.found = [lookup.embedding_lookup(table, self.asked, False, True, None) for table in self.tables]
        features = tf.concat(pooled, axis=1)
        weight = tf.compat.v1.get_variable("weight", [features.shape[1], 1],
                                           initializer=tf.compat.v1.ones_initializer())
        errors = tf.square(tf.squeeze(tf.matmul(features, weight), 1) - self.labels)
        divided = case.table.get("all2all_gradients_op", "sum_gradients") != "sum_gradients"
        # Summed gradients go with a loss that is divided by the global batch, divided ones with a mean per rank.
        self.loss = tf.reduce_mean(errors) if divided else tf.reduce_sum(errors) / BATCH
        dense, sparse = get_dense_and_sparse_variable()
        self.train = self._train_op(dense, sparse, divided)
        self.evict = [table.evict() for table in self.tables if case.eviction is not None]
        self.exported = []
        for table in self.tables:
            states = {name: state.variable for name, state in table.states().items()}
            if case.optimizer[0] == "adagrad":
                # On one rank its accumulator is not among the states of the sparse folder.
                states["%s_accumulator" % self.optimizer.optimizer_type] = self.optimizer.get_slot(
                    table.variable, "acc")
            self.exported.append((table.index.export(), states))
        self.histories = [table.history.export() for table in self.tables if table.history is not None]
        self.saver = tf.compat.v1.train.Saver()
        self.weight = weight

    def _batch(self) -> Dict[str, tf.Tensor]:
        from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
        batch = {"ids%d" % number: ids for number, ids in enumerate(self.ids)}
        batch["time"] = self.time
        self.specs: Dict[Any, Any] = {}
        if self.case.feature_specs:
            specs = [FeatureSpec("time", is_timestamp=True)] if self.case.access is not None else []
            for table in self.tables:
                for number in range(self.case.lookups):
                    arguments = {} if self.case.access is None else {
                        "access_threshold": self.case.access, "eviction_threshold": self.case.eviction,
                        "faae_coefficient": self.case.coefficient}
                    self.specs[table.table_name, number] = FeatureSpec(
                        "ids%d" % number, table_name=table.table_name, index_key="ids%d" % number,
                        batch_size=int(self.labels.shape[0]), **arguments)
            get_asc_insert_func(tgt_key_specs=specs + list(self.specs.values()))(batch)
        elif self.case.access is not None:
            tf.compat.v1.add_to_collection("ASCEND_TIMESTAMP", self.time)
        return batch

    def _ids_of(self, batch: Dict[str, tf.Tensor], table: Any, number: int) -> Any:
        if self.case.feature_specs:
            return self.specs[table.table_name, number], {}
        arguments: Dict[str, Any] = {"modify_graph": True}
        if self.case.access is not None:
            arguments["access_and_evict_config"] = {
                "access_threshold": self.case.access, "eviction_threshold": self.case.eviction,
                "faae_coefficient": self.case.coefficient}
        return self.ids[number], arguments

    def _train_op(self, dense: Any, sparse: Any, divided: bool) -> tf.Operation:
        from rec_sdk_common.util.tf_adapter import hccl_ops
        adam = tf.compat.v1.train.AdamOptimizer(0.01)
        gradients = adam.compute_gradients(self.loss, dense)
        if self.size > 1:
            gradients = [(hccl_ops.allreduce(gradient, "sum") / (self.size if divided else 1), variable)
                         for gradient, variable in gradients]
        name, arguments = self.case.optimizer
        module = importlib.import_module("mx_rec.optimizers." + name)
        create = next(getattr(module, function) for function in (
            "create_hash_optimizer", "create_hash_optimizer_by_address", "create_hash_optimizer_by_addr")
            if hasattr(module, function))
        optimizer = self.optimizer = create(**arguments)
        if config.ConfigInitializer.get_instance().use_dynamic_expansion:
            local = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_LOCAL_EMB")
            targets = tf.compat.v1.get_collection("ASCEND_SPARSE_LOOKUP_ID_OFFSET")
            pairs = list(zip(tf.gradients(self.loss, local), targets))
        else:
            pairs = list(zip(tf.gradients(self.loss, sparse), sparse))
        # The tables first: their gradients are of the weights before the step.
        with tf.control_dependencies([gradient for gradient, _ in gradients]):
            tables = optimizer.apply_gradients(pairs)
        with tf.control_dependencies([tables]):
            step = adam.apply_gradients(gradients)
        with tf.control_dependencies([step]):
            return tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1).op

    def steps(self, session: Any, first: int, last: int) -> List[float]:
        """Trains on the same global batches whatever the number of ranks; returns this rank's losses."""
        losses = []
        mine = slice(self.rank * BATCH // self.size, (self.rank + 1) * BATCH // self.size)
        for step in range(first, last):
            random = np.random.RandomState(100 + step)
            feeds = {ids: np.minimum(random.geometric(0.07, [BATCH, IDS]), KEYS - 1)[mine] for ids in self.ids}
            feeds[self.labels] = random.normal(size=BATCH)[mine]
            feeds[self.time] = step + 1
            losses.append(session.run([self.loss, self.train], feeds)[0])
            if self.evict and step % 10 == 9:
                session.run(self.evict)
        return losses

    def state(self, session: Any) -> Dict[str, np.ndarray]:
        """Returns what this rank has: its keys, their rows and states, histories, the weight, looked-up rows."""
        values = {"weight": session.run(self.weight)}
        for number, ((keys, rows), states) in enumerate(self.exported):
            found_keys, found_rows = session.run([keys, rows])
            values["table%d/key" % number] = found_keys
            for name, variable in states.items():
                values["table%d/%s" % (number, name)] = session.run(variable)[found_rows]
            values["table%d/size" % number] = np.array(self.tables[number].size())
        for number, history in enumerate(self.histories):
            ids, counts = session.run(history)
            values["history%d" % number] = np.concatenate([ids[:, None], counts], axis=1)
        asked = np.arange(KEYS + 5)
        for number, rows in enumerate(session.run(self.found, {self.asked: np.roll(asked, self.rank)})):
            values["found%d" % number] = np.roll(rows, -self.rank, axis=0)
        return values


def run_case(name: str, case: Case, folder: str, earlier: str) -> None:
    """Trains a case, or takes over its checkpoint, and writes what this rank has."""
    config.reset()
    # As in a process of its own: an optimizer's name, and with it that of its variables, counts the ones before.
    CustomizedOptimizer.name_counter.clear()
    config.init(max_steps=-1, **case.settings)
    with tf.Graph().as_default():
        model = Model(case)
        with tf.compat.v1.Session(config=THREADS) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            values: Dict[str, Any] = {}
            if earlier:
                # Copies of a replicated table, and the dense weights, come from the checkpoint on every rank.
                model.saver.restore(session, os.path.join(earlier, name, "model.ckpt-1"))
                values = {"restored/" + key: value for key, value in model.state(session).items()}
            first = STEPS if earlier else 0
            values["losses"] = model.steps(session, first, first + (STEPS if not earlier else 6))
            values.update(model.state(session))
            if name in MOVED:
                os.makedirs(os.path.join(folder, name), exist_ok=True)
                model.saver.save(session, os.path.join(os.path.realpath(folder), name, "model.ckpt"), 1)
            np.savez(os.path.join(folder, "%s.rank%d" % (name, ranks.get_rank_id())), **values)


def main(folder: str, earlier: str = "") -> None:
    """Runs every case; one rank that only takes checkpoints over has trained before."""
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    trained = {} if earlier and not ranks.several() else TRAINING
    for name, case in dict(trained, **MOVED).items():
        run_case(name, case, folder, earlier if name in MOVED else "")
    if ranks.several():
        operations.run(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
