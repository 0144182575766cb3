"""An NPUEstimator on several ranks with one model directory: trains or resumes, saves, evaluates.

``python -m tests.rec_sdk_cpu.ranks.estimator_program MODEL_DIR RESULT LAST_STEP``
"""
import json
import sys

import rec_sdk_cpu

rec_sdk_cpu.install()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

BATCH, STEPS, EVERY = 8, 6, 3


def main(model_dir: str, result: str, last: str) -> None:
    """Trains to a step, then evaluates; each rank leaves what it measured."""
    from mx_rec.core.embedding import create_table, sparse_lookup
    from mx_rec.graph.modifier import GraphModifierHook
    from mx_rec.optimizers.lazy_adam import create_hash_optimizer
    from mx_rec.util.initialize import init
    from mx_rec.util.variable import get_dense_and_sparse_variable
    from npu_bridge.npu_init import NPUEstimator, NPURunConfig
    from rec_sdk_common.communication.hccl.hccl_info import get_rank_id, get_rank_size
    from rec_sdk_common.util.tf_adapter import hccl_ops

    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    init(max_steps=-1, save_steps=EVERY)
    rank, size = get_rank_id(), get_rank_size()

    def input_fn():
        random = np.random.RandomState(7)
        ids, labels = random.randint(0, 40, [2 * STEPS * BATCH, 3]), random.normal(size=[2 * STEPS * BATCH])
        data = tf.data.Dataset.from_tensor_slices(({"ids": ids.astype(np.int64)}, labels.astype(np.float32)))
        # Global batch b holds rows b * BATCH and on; a rank takes every size-th row of it.
        return data.shard(size, rank).batch(BATCH // size, drop_remainder=True).prefetch(1)

    def model_fn(features, labels, mode):
        training = mode == tf.estimator.ModeKeys.TRAIN
        table = create_table(key_dtype=tf.int64, dim=4, name="table", device_vocabulary_size=100,
                             emb_initializer=tf.compat.v1.constant_initializer(0.1),
                             all2all_gradients_op="sum_gradients_and_div_by_ranksize")
        embedded = sparse_lookup(table, features["ids"], modify_graph=True, is_train=training)
        # Another value on each rank: only the broadcast of rank 0's makes them equal.
        weight = tf.compat.v1.get_variable("weight", [4, 1],
                                           initializer=tf.compat.v1.constant_initializer(1.0 + 0.5 * rank))
        predicted = tf.squeeze(tf.matmul(tf.reduce_sum(embedded, axis=1), weight), 1)
        loss = tf.reduce_mean(tf.square(predicted - labels))
        if not training:
            return tf.estimator.EstimatorSpec(mode, loss=loss)
        dense, sparse = get_dense_and_sparse_variable()
        adam = tf.compat.v1.train.AdamOptimizer(0.01)
        pairs = [(hccl_ops.allreduce(gradient, "sum") / size, variable)
                 for gradient, variable in adam.compute_gradients(loss, dense)]
        rows = create_hash_optimizer(0.05).apply_gradients(zip(tf.gradients(loss, sparse), sparse))
        # One after the other: the gradients of the rows read the weight that Adam changes.
        with tf.control_dependencies([rows] + [gradient for gradient, _ in pairs]):
            applied = adam.apply_gradients(pairs)
        with tf.control_dependencies([applied]):
            train = tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1).op
        tf.compat.v1.summary.scalar("training_loss", loss)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train)

    estimator = NPUEstimator(model_fn, config=NPURunConfig(
        model_dir=model_dir, save_checkpoints_steps=EVERY, save_summary_steps=2, keep_checkpoint_max=2,
        session_config=tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=2)))
    estimator.train(input_fn, hooks=[GraphModifierHook()], max_steps=int(last))
    metrics = estimator.evaluate(input_fn, steps=4, hooks=[GraphModifierHook()])
    with open("%s.rank%d" % (result, rank), "w") as stream:
        json.dump({"loss": float(metrics["loss"]), "step": int(metrics["global_step"]),
                   "weight": estimator.get_variable_value("weight").tolist()}, stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
