"""The networks between the input layer and the tasks: MMoE, PLE, shared bottom. A new one is a class and its entry.

A network reads its first layer with ``inputs.linear(name, units)``. With the ``sum`` input layer that is the summed
table rows themselves (plus a kernel for the numbers), so a network says beforehand how many units it takes there
(:attr:`Network.width`); with ``concat`` it is a dense layer on the field vectors and numbers, which a network may
also use as they are (``inputs.vectors``, ``inputs.numbers``).
"""
from __future__ import annotations

import dataclasses
import math
from typing import Dict, Optional, Sequence, Tuple, Type

from estimator_app.config import Config
from estimator_app.model import lazy as tf
from feature_specs.checks import check_choice
from feature_specs.errors import ConfigError

REFERENCE_CONSTANT = 0.1


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a network sees of a batch."""

    config: Config
    summed: Optional[tf.Tensor]  # float32 [batch, width], sum of the table rows (``sum``); None with ``concat``
    vectors: Dict[str, tf.Tensor]  # {field: float32 [batch, dim of its table]} (``concat``); empty with ``sum``
    numbers: tf.Tensor  # float32 [batch, D], normalised; D may be 0
    # The vectors side by side, float32 [batch, fields * dim] per table in the order of ``vectors``, as a lookup makes
    # them, so that nothing is taken apart and put together again. Empty: not at hand.
    blocks: Tuple[tf.Tensor, ...] = ()

    def linear(self, name: str, units: int) -> tf.Tensor:
        """Returns a first layer without activation, float32 [batch, units]; with ``sum`` there is one, and ConfigError
        is raised where its ``units`` are not the width that the network has declared."""
        if self.summed is None:
            parts = list(self.blocks) or list(self.vectors.values())
            return dense(tf.concat(parts + [self.numbers], axis=1), units, name, self.config)
        if self.summed.shape[1].value != units:
            raise ConfigError("model %s reads %d units of the input layer and declares a width of %d; make "
                              "Network.width equal to what it reads"
                              % (self.config.model, units, self.summed.shape[1].value))
        with tf.compat.v1.variable_scope(name):
            first = self.summed + _bias([units])
            if self.numbers.shape[1].value:
                first += tf.matmul(self.numbers, kernel([self.numbers.shape[1].value, units], self.config))
        return first


@dataclasses.dataclass(frozen=True)
class NetworkOutput:
    """What a network computes."""

    logits: Dict[str, tf.Tensor]  # {task: float32 [batch]}, before any relation between tasks
    # {task: float32 [batch, experts that the gate weighs]}, weights that sum to 1; empty without gates.
    gates: Dict[str, tf.Tensor]
    experts: tf.Tensor  # float32 [batch, experts, size], after dropout
    penalty: Optional[tf.Tensor] = None  # float32 scalar that training adds to the loss, such as a gate's regulariser


class Network:
    """A network for the tasks of these names; subclasses build it in :meth:`__call__`."""

    def __init__(self, config: Config, tasks: Sequence[str]) -> None:
        self.config = config
        self.tasks = tuple(tasks)

    @property
    def width(self) -> int:
        """Units that the network reads of the input layer ``sum``: the embedding dimension there."""
        raise NotImplementedError("a network declares its width")

    def __call__(self, inputs: Inputs, is_training: bool) -> NetworkOutput:
        """Builds the network in the current graph."""
        raise NotImplementedError("a network builds its output")

    def gated(self, mixed: tf.Tensor, weights: tf.Tensor, experts: tf.Tensor) -> NetworkOutput:
        """Builds the towers on what the tasks' gates of float32 [batch, tasks, n] have mixed, [batch, tasks, size]."""
        # Taken apart at once: the gradient of slices would be a sum of padded tensors.
        logits = {task: tower(part, task, self.config) for task, part in zip(self.tasks, tf.unstack(mixed, axis=1))}
        return NetworkOutput(logits, dict(zip(self.tasks, tf.unstack(weights, axis=1))), experts)


class Mmoe(Network):
    """Multi-gate mixture of experts (Ma et al., KDD 2018): every task has a gate of its own over all experts."""

    def __init__(self, config: Config, tasks: Sequence[str]) -> None:
        if config.expert_num < 2:
            raise ConfigError("model mmoe with %d expert (of the preset, where --expert_num is not given) has gates "
                              "that weigh nothing; give --expert_num 4, or another --model" % config.expert_num)
        super().__init__(config, tasks)

    @property
    def width(self) -> int:
        """All experts' first layers, then ``expert_num`` logits of each gate."""
        return self.config.expert_num * (self.config.expert_layers[0] + len(self.tasks))

    def __call__(self, inputs: Inputs, is_training: bool) -> NetworkOutput:
        """Builds the experts, a softmax gate per task and the towers."""
        count, tasks = self.config.expert_num, len(self.tasks)
        first = inputs.linear("first_layer", self.width)
        # One split, whose gradient is one concatenation; slices would each add a gradient of the full width.
        expert_part, gate_part = tf.split(first, [self.width - count * tasks, count * tasks], axis=1)
        experts = expert_outputs(expert_part, count, self.config, is_training)
        mixed, weights = mix(experts, tf.reshape(gate_part, [-1, tasks, count]))
        return self.gated(mixed, weights, experts)


class SharedBottom(Network):
    """The shared bottom: all experts side by side are one layer that every tower reads whole; there are no gates."""

    @property
    def width(self) -> int:
        """All experts' first layers."""
        return self.config.expert_num * self.config.expert_layers[0]

    def __call__(self, inputs: Inputs, is_training: bool) -> NetworkOutput:
        """Builds the bottom and the towers."""
        first = inputs.linear("first_layer", self.width)
        experts = expert_outputs(first, self.config.expert_num, self.config, is_training)
        bottom = tf.reshape(experts, [-1, self.config.expert_num * self.config.expert_layers[-1]])
        return NetworkOutput({task: tower(bottom, task, self.config) for task in self.tasks}, {}, experts)


class Ple(Network):
    """PLE with one extraction level (Tang et al., RecSys 2020): a task's gate weighs the shared experts and its own."""

    @property
    def width(self) -> int:
        """Shared experts, then those of each task; then each gate's logits of the experts that it weighs."""
        shared, own, tasks = self.config.expert_num, self.config.task_expert_num, len(self.tasks)
        return (shared + own * tasks) * self.config.expert_layers[0] + tasks * (shared + own)

    def __call__(self, inputs: Inputs, is_training: bool) -> NetworkOutput:
        """Builds all experts, a gate per task and the towers."""
        shared, own, tasks = self.config.expert_num, self.config.task_expert_num, len(self.tasks)
        gate_units = tasks * (shared + own)
        first = inputs.linear("first_layer", self.width)
        expert_part, gate_part = tf.split(first, [self.width - gate_units, gate_units], axis=1)
        experts = expert_outputs(expert_part, shared + own * tasks, self.config, is_training)
        weights = tf.nn.softmax(tf.reshape(gate_part, [-1, tasks, shared + own]))
        of_shared, of_own = tf.split(weights, [shared, own], axis=2)
        # One product for all gates: a task's own experts in their place, and 0 for those of the others.
        in_place = tf.reshape(tf.expand_dims(of_own, 2) * tf.eye(tasks)[:, :, None], [-1, tasks, tasks * own])
        return self.gated(tf.matmul(tf.concat([of_shared, in_place], axis=2), experts), weights, experts)


NETWORKS: Dict[str, Type[Network]] = {"mmoe": Mmoe, "ple": Ple, "shared_bottom": SharedBottom}


def make_network(config: Config, tasks: Sequence[str]) -> Network:
    """Returns the network that ``config.model`` names; ConfigError where there is none of that name."""
    check_choice("model", config.model, sorted(NETWORKS))
    return NETWORKS[config.model](config, tasks)


def expert_outputs(first: tf.Tensor, count: int, config: Config, is_training: bool) -> tf.Tensor:
    """Returns the outputs of ``count`` experts, float32 [batch, count, expert_layers[-1]], from their first layers
    without activation, float32 [batch, count * expert_layers[0]]."""
    hidden, width = tf.nn.relu(_normalised(first, "experts_0", config, is_training)), config.expert_layers[0]
    for number, units in enumerate(config.expert_layers[1:], 1):
        with tf.compat.v1.variable_scope("experts_%d" % number):
            weights, bias = kernel([count, width, units], config, salt=number), _bias([count, 1, units])
            # Side by side, an expert's columns are cut out and put together row by row; one product of
            # [count, batch, n] would need transposed copies, which take several times as long.
            parts = [tf.matmul(part, of_expert) for part, of_expert in zip(
                tf.split(hidden, count, axis=1), tf.unstack(weights))]
            flat = tf.concat(parts, axis=1) + tf.reshape(bias, [count * units])
        hidden, width = tf.nn.relu(_normalised(flat, "experts_%d" % number, config, is_training)), units
    hidden = tf.reshape(hidden, [-1, count, width])
    if is_training and config.expert_dropout:
        from npu_bridge.npu_init import npu_ops
        hidden = npu_ops.dropout(hidden, 1.0 - config.expert_dropout, seed=config.seed)
    return hidden


def mix(experts: tf.Tensor, gate_logits: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor]:
    """Returns the gated sums float32 [batch, gates, size] and the weights float32 [batch, gates, n] of gates that all
    see the ``experts`` float32 [batch, n, size]; ``gate_logits`` float32 [batch, gates, n]."""
    weights = tf.nn.softmax(gate_logits)
    # A batched product: the broadcast product would make and read [batch, n, size] several times. One for all gates,
    # whose gradient by the experts is one product too.
    return tf.matmul(weights, experts), weights


def tower(inputs: tf.Tensor, task: str, config: Config) -> tf.Tensor:
    """Returns a task's logits, float32 [batch], from float32 [batch, n]: the difference of a 2-way softmax's inputs."""
    with tf.compat.v1.variable_scope("tower_%s" % task):
        for number, units in enumerate(config.tower_layers):
            inputs = tf.nn.relu(dense(inputs, units, "hidden_%d" % number, config))
        # The difference is taken of the weights, once, and not of every row's two outputs.
        difference = tf.constant([[-1.0], [1.0]])
        with tf.compat.v1.variable_scope("output"):
            weights, bias = kernel([inputs.shape[1].value, 2], config), tf.expand_dims(_bias([2]), 0)
            return tf.reshape(tf.matmul(inputs, tf.matmul(weights, difference)) + tf.matmul(bias, difference), [-1])


def dense(inputs: tf.Tensor, units: int, name: str, config: Config) -> tf.Tensor:
    """Returns a dense layer without activation, float32 [batch, units], of float32 [batch, n]."""
    with tf.compat.v1.variable_scope(name):
        bias = _bias([units])
        return tf.matmul(inputs, kernel([inputs.shape[1].value, units], config)) + bias


def kernel(shape: Sequence[int], config: Config, salt: int = 0) -> tf.Variable:
    """Returns the variable ``kernel`` of the current scope: Glorot's uniform values by the last two sizes, a function
    of the seed and the variable's name, so that no two layers begin alike."""
    if config.reference_init:
        initializer = tf.compat.v1.constant_initializer(REFERENCE_CONSTANT)
    else:
        limit = math.sqrt(6.0 / (shape[-2] + shape[-1]))
        name = tf.compat.v1.get_variable_scope().name
        of_name = sum((place + 1) * ord(letter) for place, letter in enumerate(name))
        initializer = tf.compat.v1.random_uniform_initializer(
            -limit, limit, seed=(config.seed + salt + of_name) % (2 ** 31 - 1))
    return tf.compat.v1.get_variable("kernel", shape, initializer=initializer)


def _bias(shape: Sequence[int]) -> tf.Variable:
    return tf.compat.v1.get_variable("bias", shape, initializer=tf.compat.v1.zeros_initializer())


def _normalised(inputs: tf.Tensor, name: str, config: Config, is_training: bool) -> tf.Tensor:
    if not config.batch_norm:
        return inputs
    return tf.compat.v1.layers.batch_normalization(inputs, training=is_training, momentum=0.95, name="%s_norm" % name)
