"""Trains, saves, and goes on from the saved model when it is started again; tables in HBM, DDR or on SSD."""
import argparse
import os

import numpy as np
import tensorflow as tf
from batches import batches, mean_loss, network
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.util.initialize import ConfigInitializer, init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--model_dir")
parser.add_argument("--mode", choices=["HBM", "DDR", "SSD"], default="HBM")
parser.add_argument("--first", type=int, default=0)
parser.add_argument("--last", type=int, default=10)
args = parser.parse_args()

init(max_steps=-1, save_steps=-1)
saved = tf.train.latest_checkpoint(args.model_dir)
if saved is not None:
    ConfigInitializer.get_instance().if_load = True
sizes = {"HBM": {"device_vocabulary_size": 100}, "DDR": {"device_vocabulary_size": 50, "host_vocabulary_size": 100},
         "SSD": {"device_vocabulary_size": 50, "host_vocabulary_size": 50, "ssd_vocabulary_size": 100,
                 "ssd_data_path": [args.model_dir]}}
rows = batches(20, 1)[args.first:args.last]
data = tf.compat.v1.data.Dataset.from_tensor_slices({name: np.stack([row[name] for row in rows]) for name in rows[0]})
iterator = tf.compat.v1.data.make_initializable_iterator(data.prefetch(2))
batch = iterator.get_next()
table = create_table(tf.int64, 4, "table", tf.compat.v1.constant_initializer(0.1), **sizes[args.mode])
loss = mean_loss(network(sparse_lookup(table, batch["ids"], is_train=True, modify_graph=True), batch["numbers"]),
                 batch["label"])
dense_variables, sparse_variables = get_dense_and_sparse_variable()
dense, sparse = tf.compat.v1.train.AdamOptimizer(0.01), create_hash_optimizer(0.02)
gradients = dense.compute_gradients(loss, var_list=dense_variables)
sparse_gradients = tf.gradients(loss, sparse_variables)
step = tf.compat.v1.train.get_or_create_global_step()
with tf.control_dependencies([gradient.values for gradient in sparse_gradients]):
    dense_update = dense.apply_gradients([(tf.identity(gradient), variable) for gradient, variable in gradients])
train_op = tf.group(dense_update, sparse.apply_gradients(zip(sparse_gradients, sparse_variables)),
                    tf.compat.v1.assign_add(step, 1))
saver = tf.compat.v1.train.Saver(max_to_keep=3)
modify_graph_and_start_emb_cache()
with tf.compat.v1.Session() as sess:
    sess.run(tf.compat.v1.global_variables_initializer())
    if saved is not None:
        saver.restore(sess, saved)
    sess.run(ConfigInitializer.get_instance().train_params_config.get_initializer(True))
    losses = [sess.run([loss, train_op])[0] for _ in rows]
    saver.save(sess, os.path.join(args.model_dir, "model.ckpt"), global_step=int(sess.run(step)))
    np.savez(args.output, losses=losses, size=table.size(), capacity=table.capacity())
terminate_config_initializer()
