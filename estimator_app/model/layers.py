"""What all heads share: sizes, initial values, the fused first layer and the towers.

Several networks are built as one: their weights and values lie side by side, so that a step has as many ops as that of
one network has.
"""
import math
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf

REFERENCE_CONSTANT = 0.1


class NetworkShape(NamedTuple):
    """Sizes of the network.

    Attributes:
        tasks: names of the tasks.
        expert_num: experts that all tasks share.
        expert_size: units of an expert.
        tower_size: units of a tower.
        model: ``mmoe``, ``shared_bottom`` or ``ple``.
        task_expert_num: experts that each task has for itself; only ``ple`` has them.
        network_num: independent networks whose logits are averaged.
    """

    tasks: Sequence[str]
    expert_num: int
    expert_size: int
    tower_size: int
    model: str = "mmoe"
    task_expert_num: int = 0
    network_num: int = 1

    @property
    def experts(self) -> int:
        """All experts, shared ones first, then those of each task."""
        own = self.task_expert_num if self.model == "ple" else 0
        return self.expert_num + own * len(self.tasks)

    @property
    def gate_size(self) -> int:
        """Experts that the gate of a task weighs; 0 where there are no gates."""
        return {"shared_bottom": 0, "mmoe": self.expert_num}.get(self.model, self.expert_num + self.task_expert_num)

    @property
    def network_width(self) -> int:
        """Columns of the fused first layer of one network: all experts, then a gate per task."""
        return self.experts * self.expert_size + len(self.tasks) * self.gate_size

    @property
    def width(self) -> int:
        """The embedding dimension: the columns of all networks side by side."""
        return self.network_num * self.network_width


class NetworkOutput(NamedTuple):
    """What the networks compute; each one is trained on its own loss.

    Attributes:
        logits: {task: float32 [networks, batch]}, of the positive class.
        gates: {task: float32 [batch, networks, gate_size]}, weights that sum to 1; empty without gates.
        experts: float32 [batch, networks, experts, expert_size], after dropout.
    """

    logits: Dict[str, tf.Tensor]
    gates: Dict[str, tf.Tensor]
    experts: tf.Tensor


class EnsembleOutput(NamedTuple):
    """What all networks compute together.

    Attributes:
        logits: {task: float32 [batch]}, mean over the networks.
        networks: what the single networks compute.
    """

    logits: Dict[str, tf.Tensor]
    networks: NetworkOutput


def kernel_initializer(reference_init: bool, seed: int, inputs: int, outputs: int) -> tf.keras.initializers.Initializer:
    """Returns the initializer of dense kernels: Glorot's uniform one, for the sizes of a single network's kernel.

    Args:
        reference_init: constant weights instead.
        seed: of the values.
        inputs, outputs: units on either side of one kernel.
    """
    if reference_init:
        return tf.compat.v1.constant_initializer(REFERENCE_CONSTANT)
    limit = math.sqrt(6.0 / (inputs + outputs))
    return tf.compat.v1.random_uniform_initializer(-limit, limit, seed=seed)


def first_layer(pooled: tf.Tensor, dense: tf.Tensor, shape: NetworkShape, reference_init: bool, seed: int,
                keep_prob: float) -> Tuple[tf.Tensor, Optional[tf.Tensor]]:
    """Builds the fused first layer; the pooled embedding is its one-hot part.

    Args:
        pooled: float32 [batch, width], summed embedding rows: the columns of one network after the other.
        dense: float32 [batch, D], normalised dense values; D may be 0.
        shape: sizes.
        reference_init: constant weights.
        seed: of initial weights and dropout.
        keep_prob: share of the expert outputs kept; 1.0 outside training.

    Returns:
        Expert outputs float32 [batch, networks, experts, expert_size], and the gates' logits float32
        [batch, networks, tasks, gate_size] (None where the head has no gates).
    """
    units = shape.experts * shape.expert_size
    bias = tf.compat.v1.get_variable("first_layer/bias", [shape.width], initializer=tf.compat.v1.zeros_initializer())
    first = pooled + bias
    inputs = dense.shape[1].value
    if inputs:
        kernel = tf.compat.v1.get_variable(
            "first_layer/kernel", [inputs, shape.width],
            initializer=kernel_initializer(reference_init, seed, inputs, shape.network_width))
        first += tf.matmul(dense, kernel)
    expert_part, gate_logits = first, None
    if shape.gate_size:
        # One split, whose gradient is one concatenation; slices would each add a gradient of the full width.
        expert_part, gate_part = tf.split(tf.reshape(first, [-1, shape.network_num, shape.network_width]),
                                          [units, shape.network_width - units], axis=2)
        gate_logits = tf.reshape(gate_part, [-1, shape.network_num, len(shape.tasks), shape.gate_size])
    experts = tf.reshape(tf.nn.relu(expert_part), [-1, shape.network_num, shape.experts, shape.expert_size])
    if keep_prob < 1.0:
        from npu_bridge.npu_init import npu_ops
        experts = npu_ops.dropout(experts, keep_prob, seed=seed)
    return experts, gate_logits


def mix(experts: tf.Tensor, gate_logits: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns the gated sums float32 [..., gates, expert_size] and the weights float32 [..., gates, n].

    Args:
        experts: float32 [..., n, expert_size].
        gate_logits: float32 [..., gates, n], of gates that all see these experts.
    """
    weights = tf.nn.softmax(gate_logits)
    # A batched product: the broadcast product would make and read [batch, n, expert_size] several times. One for all
    # gates, whose gradient by the experts is one product too.
    return tf.matmul(weights, experts), weights


def tower(inputs: tf.Tensor, size: int, task: str, reference_init: bool, seed: int) -> tf.Tensor:
    """Returns the logits of the positive class, float32 [networks, batch]: differences of a 2-way softmax's logits.

    Args:
        inputs: float32 [networks, batch, n].
        size: hidden units.
        task: name of the task.
        reference_init: constant weights.
        seed: of the initial weights.
    """
    with tf.compat.v1.variable_scope("tower_%s" % task):
        hidden = tf.nn.relu(_dense(inputs, size, "hidden", reference_init, seed))
        both = _dense(hidden, 2, "output", reference_init, seed + 1000)
        # The difference as a product: TensorFlow merges the two backward passes of a step (train_op.py) only as far as
        # their ops are equal, and the negations in the gradients of slices and subtraction stay apart.
        logits = tf.matmul(tf.reshape(both, [-1, 2]), tf.constant([[-1.0], [1.0]]))
        return tf.reshape(logits, [inputs.shape[0].value, -1])


def _dense(inputs: tf.Tensor, units: int, name: str, reference_init: bool, seed: int) -> tf.Tensor:
    """Returns float32 [networks, batch, units]; ``inputs`` are [networks, batch, n]."""
    networks, _, width = inputs.shape.as_list()
    with tf.compat.v1.variable_scope(name):
        kernel = tf.compat.v1.get_variable("kernel", [networks, width, units],
                                           initializer=kernel_initializer(reference_init, seed, width, units))
        bias = tf.compat.v1.get_variable("bias", [networks, units], initializer=tf.compat.v1.zeros_initializer())
        return tf.matmul(inputs, kernel) + tf.expand_dims(bias, 1)
