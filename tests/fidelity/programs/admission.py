"""Feature admission and eviction (FAAE), with FeatureSpecs or with graph modification."""
import argparse

import numpy as np
import tensorflow as tf
from batches import batches
from mx_rec.constants.constants import ASCEND_TIMESTAMP, LIBREC_TF_REC_V1_CPU_SO
from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.core.feature_process import EvictHook
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.optimizers.gradient_descent import create_hash_optimizer
from mx_rec.util.initialize import init, terminate_config_initializer
from mx_rec.util.ops import import_host_pipeline_ops

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--specs", action="store_true")
parser.add_argument("--coefficient", type=int, default=1)
parser.add_argument("--evict", action="store_true")
args = parser.parse_args()

init(max_steps=-1)
rows = batches(10, 1)
data = tf.compat.v1.data.Dataset.from_tensor_slices({"ids": np.stack([row["ids"] for row in rows])})
# A clock of its own, 100 seconds per batch; programs take return_timestamp of the op library.
now = import_host_pipeline_ops(LIBREC_TF_REC_V1_CPU_SO).return_timestamp(tf.constant([1], tf.int64))
assert now.dtype == tf.int64
clock = tf.compat.v1.data.Dataset.range(1, 11).map(lambda step: 1000 + step * 100)
data = tf.compat.v1.data.Dataset.zip((data, clock)).map(lambda batch, time: dict(batch, timestamp=time))
specs = None
if args.specs:
    specs = [FeatureSpec("ids", table_name="table", access_threshold=4, eviction_threshold=250,
                         faae_coefficient=args.coefficient), FeatureSpec("timestamp", is_timestamp=True)]
    data = data.map(get_asc_insert_func(tgt_key_specs=specs, is_training=True))
batch = tf.compat.v1.data.make_one_shot_iterator(data.prefetch(1)).get_next()
table = create_table(tf.int64, 2, "table", tf.compat.v1.constant_initializer(1.0), device_vocabulary_size=50)
step = tf.compat.v1.train.get_or_create_global_step()
if args.specs:
    embedded = sparse_lookup(table, specs[0], is_train=True, batch=batch)
else:
    tf.compat.v1.add_to_collection(ASCEND_TIMESTAMP, batch["timestamp"])
    embedded = sparse_lookup(table, batch["ids"], is_train=True, modify_graph=True, access_and_evict_config={
        "access_threshold": 4, "eviction_threshold": 250, "faae_coefficient": args.coefficient})
embedded = tf.reshape(embedded, [8, 3, 2])
loss = tf.reduce_sum(embedded)
tf.compat.v1.train.AdamOptimizer().compute_gradients(loss, [tf.compat.v1.get_variable("unused", [1])])
update = create_hash_optimizer(0.01).apply_gradients(zip(tf.gradients(loss, [table.variable]), [table.variable]))
with tf.control_dependencies([update]):
    train_op = tf.compat.v1.assign_add(step, 1)
hooks = [GraphModifierHook(modify_graph=not args.specs)]
if args.evict:
    hooks.append(EvictHook(evict_enable=True, evict_time_interval=10000, evict_step_interval=5))
admitted, sizes = [], []
with tf.compat.v1.train.MonitoredTrainingSession(hooks=hooks) as sess:
    while not sess.should_stop():
        admitted.append(sess.run([embedded, train_op])[0][:, :, 0] != 0)
        sizes.append(table.size())
np.savez(args.output, admitted=np.stack(admitted), sizes=sizes)
terminate_config_initializer()
