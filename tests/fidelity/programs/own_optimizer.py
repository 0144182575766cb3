"""An optimizer of the program's own, derived from TensorFlow's and from CustomizedOptimizer: decay, and momentum."""
import argparse
from collections import defaultdict

import numpy as np
import tensorflow as tf
from batches import dataset, mean_loss, network
from mx_rec.constants.constants import ASCEND_SPARSE_LOOKUP_ID_OFFSET, ASCEND_SPARSE_LOOKUP_LOCAL_EMB
from mx_rec.core.embedding import create_table, sparse_lookup
from mx_rec.graph.modifier import GraphModifierHook
from mx_rec.optimizers.base import CustomizedOptimizer
from mx_rec.util import ConfigInitializer, get_dense_and_sparse_variable, import_host_pipeline_ops, init
from tensorflow.python.framework import ops
from tensorflow.python.training import gradient_descent

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("--kind", choices=["decay", "momentum", "address"], default="decay")
args = parser.parse_args()
DECAY, RATE = 0.01, 0.2


class Decaying(gradient_descent.GradientDescentOptimizer, CustomizedOptimizer):
    """row -= rate * (g + decay * row), duplicates one after the other; or on addresses."""

    name_counter = defaultdict(int)

    def __init__(self, learning_rate, name="Decaying"):
        self.optimizer_type = "gradient_descent"
        self.optim_param_list = []
        super()._get_name(name=name)
        super().__init__(learning_rate=learning_rate, use_locking=False, name=self.unique_name)
        self._slot_num, self._derivative = 0, 1

    def get_slot_init_values(self):
        return []

    def _apply_sparse_duplicate_indices(self, grad, var):
        rows = tf.expand_dims(grad.indices, 1)
        step = (grad.values + DECAY * tf.gather(var, grad.indices)) * self._learning_rate_tensor
        return tf.compat.v1.scatter_nd_add(var, rows, -step, use_locking=self._use_locking)

    def _apply_sparse(self, grad, addr):
        library = import_host_pipeline_ops()
        rows = library.embedding_lookup_by_address(addr, embedding_dim=grad.shape.as_list()[-1], embedding_type=1)
        return library.embedding_update_by_address(addr, -(grad + DECAY * rows) * self._learning_rate_tensor,
                                                   update_type=0)

    def _apply_dense(self, grad, var):
        raise NotImplementedError("You are using a wrong type of variable.")


class Heavy(Decaying):
    """m = 0.9 m + g, row -= rate * m, on the sum over the occurrences of a row; m is a slot of TensorFlow's."""

    def _create_slots(self, var_list):
        for variable in var_list:
            self._zeros_slot(variable, "m", self._name + "/momentum")

    def _apply_sparse_duplicate_indices(self, grad, var):
        total, rows = self.sum_same_id_gradients(grad=grad.values, var=var, is_expansion=False)
        slot, places = self.get_slot(var, "m"), tf.expand_dims(rows, 1)
        old = tf.gather(slot, rows)
        new = 0.9 * old + total
        return tf.group(tf.compat.v1.scatter_nd_add(slot, places, new - old),
                        tf.compat.v1.scatter_nd_add(var, places, -self._learning_rate_tensor * new))


init(max_steps=-1, use_dynamic_expansion=args.kind == "address")
batch = tf.compat.v1.data.make_one_shot_iterator(dataset(12, 1)).get_next()
table = create_table(tf.int64, 4, "table", tf.compat.v1.constant_initializer(0.1), device_vocabulary_size=100)
loss = mean_loss(network(sparse_lookup(table, batch["ids"], is_train=True, modify_graph=True), batch["numbers"]),
                 batch["label"])
dense_variables, sparse_variables = get_dense_and_sparse_variable()
dense = tf.compat.v1.train.GradientDescentOptimizer(0.1)
gradients = dense.compute_gradients(loss, var_list=dense_variables)
sparse = (Heavy if args.kind == "momentum" else Decaying)(RATE)
ConfigInitializer.get_instance().optimizer_config.optimizer_instance = sparse
if args.kind == "address":
    local = tf.compat.v1.get_collection(ASCEND_SPARSE_LOOKUP_LOCAL_EMB)
    targets = tf.compat.v1.get_collection(ASCEND_SPARSE_LOOKUP_ID_OFFSET)
    sparse_gradients = [ops.convert_to_tensor(gradient) for gradient in tf.gradients(loss, local)]
    before = sparse_gradients
else:
    targets = sparse_variables
    sparse_gradients = tf.gradients(loss, sparse_variables)
    before = [gradient.values for gradient in sparse_gradients]
with tf.control_dependencies(before):
    dense_update = dense.apply_gradients([(tf.identity(gradient), variable) for gradient, variable in gradients])
train_op = tf.group(dense_update, sparse.apply_gradients(list(zip(sparse_gradients, targets))))
tf.compat.v1.train.get_or_create_global_step()
losses = []
with tf.compat.v1.train.MonitoredTrainingSession(hooks=[GraphModifierHook()]) as sess:
    while not sess.should_stop():
        losses.append(sess.run([loss, train_op])[0])
np.savez(args.output, losses=losses, slots=sparse.slot_num, derivative=sparse.derivative, name=sparse.unique_name)
