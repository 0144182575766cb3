"""A training loop with sess.run: several steps per run, evaluation between, graph modification or FeatureSpecs."""
import argparse

import numpy as np
import tensorflow as tf
from batches import dataset, mean_loss, network
from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
from mx_rec.core.asc.manager import start_asc_pipeline
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
from mx_rec.optimizers.lazy_adam import create_hash_optimizer
from mx_rec.util.initialize import ConfigInitializer, init, terminate_config_initializer
from mx_rec.util.variable import get_dense_and_sparse_variable
from npu_bridge.npu_init import util

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--steps", type=int, default=20)
parser.add_argument("--loop", type=int, default=10)
parser.add_argument("--specs", action="store_true")
parser.add_argument("--unordered", action="store_true")
args = parser.parse_args()

init(train_steps=-1, eval_steps=-1, save_steps=-1, max_steps=args.steps, use_dynamic=True)
table = create_table(key_dtype=tf.int64, dim=tf.TensorShape([4]), name="table",
                     emb_initializer=tf.compat.v1.constant_initializer(0.1), device_vocabulary_size=100)


def build(is_train, count, seed):
    data = dataset(count, seed)
    spec = FeatureSpec("ids", table_name="table", index_key="ids") if args.specs else None
    if args.specs:
        data = data.map(get_asc_insert_func(tgt_key_specs=[spec], is_training=is_train))
    iterator = tf.compat.v1.data.make_initializable_iterator(data)
    batch = iterator.get_next()
    embedded = sparse_lookup(table, spec if args.specs else batch["ids"], is_train=is_train, name="ids_lookup",
                             modify_graph=not args.specs, batch=batch)
    embedded = tf.reshape(embedded, [8, 3, 4])
    with tf.compat.v1.variable_scope("network", reuse=tf.compat.v1.AUTO_REUSE):
        logits = network(embedded, batch["numbers"])
    return iterator, batch, mean_loss(logits, batch["label"]), tf.sigmoid(logits)


train_iterator, _, train_loss, _ = build(True, args.steps, 1)
eval_iterator, eval_batch, eval_loss, eval_prediction = build(False, 3, 2)
dense_variables, sparse_variables = get_dense_and_sparse_variable()
dense = tf.compat.v1.train.AdamOptimizer(0.01)
sparse = create_hash_optimizer(learning_rate=0.02)
gradients = dense.compute_gradients(train_loss, var_list=dense_variables)
sparse_gradients = tf.gradients(train_loss, sparse_variables)
with tf.control_dependencies([] if args.unordered else [gradient.values for gradient in sparse_gradients]):
    dense_update = dense.apply_gradients([(tf.identity(gradient), variable) for gradient, variable in gradients])
train_op = tf.group(dense_update, sparse.apply_gradients(zip(sparse_gradients, sparse_variables)))

with tf.compat.v1.Session(config=tf.compat.v1.ConfigProto()) as sess:
    if args.specs:
        start_asc_pipeline()
        start_train, start_eval = train_iterator.initializer, eval_iterator.initializer
        label = eval_batch["label"]
    else:
        modify_graph_and_start_emb_cache(dump_graph=False)
        parameters = ConfigInitializer.get_instance().train_params_config
        start_train, start_eval = parameters.get_initializer(True), parameters.get_initializer(False)
        label = parameters.get_target_batch(False)["label"]
    sess.run(tf.compat.v1.global_variables_initializer())
    sess.run(start_train)
    loop = util.set_iteration_per_loop(sess, train_op, args.loop)
    losses, sizes = [], []
    for _ in range(args.steps // args.loop):
        losses.append(sess.run([loop, train_loss])[1])
        sizes.append("%d of %d" % (table.size(), table.capacity()))
    sess.run(start_eval)
    evaluated = []
    while True:
        try:
            evaluated.append(sess.run([eval_loss, eval_prediction, label]))
        except tf.errors.OutOfRangeError:
            break
    np.savez(args.output, losses=losses, sizes=sizes, eval_loss=[item[0] for item in evaluated],
             prediction=np.concatenate([item[1] for item in evaluated]),
             label=np.concatenate([item[2] for item in evaluated]))
terminate_config_initializer()
