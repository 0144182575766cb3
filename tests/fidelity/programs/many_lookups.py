"""One table looked up 128 times in training and in evaluation, from a one-shot iterator."""
import argparse

import numpy as np
import tensorflow as tf
from batches import IDS
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph import do_merge_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.optimizers.gradient_descent import create_hash_optimizer
from mx_rec.util.initialize import ConfigInitializer, init

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--lookups", type=int, default=128)
args = parser.parse_args()

init(max_steps=-1)
ids = np.random.RandomState(3).randint(0, IDS, (4, args.lookups, 5)).astype(np.int64)
batch = tf.compat.v1.data.make_one_shot_iterator(
    tf.compat.v1.data.Dataset.from_tensor_slices({"ids": ids}).prefetch(1)).get_next()
table = create_table(tf.int64, 3, "table", tf.compat.v1.constant_initializer(0.5), device_vocabulary_size=100)
trained = [sparse_lookup(table, batch["ids"][number], is_train=True, modify_graph=True)
           for number in range(args.lookups)]
weights = np.linspace(0.1, 1.0, args.lookups).astype(np.float32)
loss = tf.add_n([weight * tf.reduce_sum(tf.square(rows)) for weight, rows in zip(weights, trained)])
do_merge_lookup(is_train=True)
train_op = create_hash_optimizer(0.001).apply_gradients(
    zip(tf.gradients(loss, [table.variable]), [table.variable]))
known = tf.constant(list(range(IDS)), tf.int64)
evaluated = sparse_lookup(table, known, is_train=False, modify_graph=True)
modify_graph_and_start_emb_cache()
assert ConfigInitializer.get_instance().train_params_config.get_initializer(True) is None, "it is a one-shot iterator"
with tf.compat.v1.Session() as sess:
    sess.run(tf.compat.v1.global_variables_initializer())
    losses = []
    while True:
        try:
            losses.append(sess.run([loss, train_op])[0])
        except tf.errors.OutOfRangeError:
            break
    np.savez(args.output, losses=losses, rows=sess.run(evaluated), ids=ids, weights=weights, size=table.size())
