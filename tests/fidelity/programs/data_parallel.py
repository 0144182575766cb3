"""Data-parallel training: every rank takes its share of each batch, dense gradients are averaged by the program."""
import argparse

import numpy as np
import tensorflow as tf
from batches import batches, mean_loss, network
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.util.initialize import ConfigInitializer, init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable
from rec_sdk_common.communication.hccl import get_rank_id, get_rank_size
from rec_sdk_common.util import hccl_ops

parser = argparse.ArgumentParser()
parser.add_argument("output")
args = parser.parse_args()

init(max_steps=-1)
rank, ranks = get_rank_id(), get_rank_size()
rows = [{name: value[rank::ranks] for name, value in batch.items()} for batch in batches(20, 1)]
data = tf.compat.v1.data.Dataset.from_tensor_slices({name: np.stack([row[name] for row in rows]) for name in rows[0]})
batch = tf.compat.v1.data.make_initializable_iterator(data.prefetch(2)).get_next()
table = create_table(tf.int64, 4, "table", tf.compat.v1.constant_initializer(0.1), device_vocabulary_size=100,
                     all2all_gradients_op="sum_gradients_and_div_by_ranksize")
loss = mean_loss(network(sparse_lookup(table, batch["ids"], is_train=True, modify_graph=True), batch["numbers"]),
                 batch["label"])
dense_variables, sparse_variables = get_dense_and_sparse_variable()
dense, sparse = tf.compat.v1.train.AdamOptimizer(0.01), create_hash_optimizer(0.02)
gradients = [(hccl_ops.allreduce(gradient, "sum") / float(ranks) if ranks > 1 else gradient, variable)
             for gradient, variable in dense.compute_gradients(loss, var_list=dense_variables)]
sparse_gradients = tf.gradients(loss, sparse_variables)
with tf.control_dependencies([gradient.values for gradient in sparse_gradients]):
    dense_update = dense.apply_gradients([(tf.identity(gradient), variable) for gradient, variable in gradients])
train_op = tf.group(dense_update, sparse.apply_gradients(zip(sparse_gradients, sparse_variables)))
mean = hccl_ops.allreduce(loss, "sum") / float(ranks) if ranks > 1 else loss
modify_graph_and_start_emb_cache()
with tf.compat.v1.Session() as sess:
    sess.run(tf.compat.v1.global_variables_initializer())
    sess.run(ConfigInitializer.get_instance().train_params_config.get_initializer(True))
    losses = [sess.run([mean, train_op])[0] for _ in rows]
    np.savez("%s.%d.npz" % (args.output, rank), losses=losses, size=table.size(), capacity=table.capacity())
terminate_config_initializer()
