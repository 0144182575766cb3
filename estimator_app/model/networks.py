"""The heads on top of the pooled embedding: one entry for all of them, and those besides MMoE.

All heads take the same input, table, metrics and export; only the columns of the fused first layer mean something else.
"""
from typing import Any, Callable, Dict

import tensorflow as tf

from estimator_app.model.layers import EnsembleOutput, NetworkOutput, NetworkShape, first_layer, mix, tower
from estimator_app.model.mmoe import build_mmoe

_Builder = Callable[..., NetworkOutput]


def network_shape(config: Any, tasks: Any) -> NetworkShape:
    """Returns the sizes of the network.

    Args:
        config: the settings (:class:`estimator_app.config.Config`).
        tasks: names of the tasks.
    """
    return NetworkShape(tuple(tasks), config.expert_num, config.expert_size, config.tower_size, config.model,
                        config.task_expert_num, config.network_num)


def build_network(pooled: tf.Tensor, dense: tf.Tensor, shape: NetworkShape, reference_init: bool = False,
                  seed: int = 0, keep_prob: float = 1.0) -> EnsembleOutput:
    """Builds ``shape.network_num`` independent networks of the kind that ``shape.model`` names.

    Args:
        pooled: float32 [batch, width], summed embedding rows.
        dense: float32 [batch, D], normalised dense values; D may be 0.
        shape: sizes.
        reference_init: constant weights.
        seed: of initial weights and dropout.
        keep_prob: share of the expert outputs kept; 1.0 outside training.

    Returns:
        Logits per task, and what the single networks compute.
    """
    networks = _BUILDERS[shape.model](pooled, dense, shape, reference_init, seed, keep_prob)
    return EnsembleOutput({task: tf.reduce_mean(networks.logits[task], axis=0) for task in shape.tasks}, networks)


def build_shared_bottom(pooled: tf.Tensor, dense: tf.Tensor, shape: NetworkShape, reference_init: bool = False,
                        seed: int = 0, keep_prob: float = 1.0) -> NetworkOutput:
    """Builds the shared bottom: one layer of ``expert_num * expert_size`` units that every tower reads whole.

    Args as in :func:`build_network`; there are no gates.
    """
    with tf.compat.v1.variable_scope("shared_bottom"):
        experts, _ = first_layer(pooled, dense, shape, reference_init, seed, keep_prob)
        bottom = tf.transpose(tf.reshape(experts, [-1, shape.network_num, shape.experts * shape.expert_size]),
                              [1, 0, 2])
        logits = {task: tower(bottom, shape.tower_size, task, reference_init, seed + 1 + number)
                  for number, task in enumerate(shape.tasks)}
    return NetworkOutput(logits, {}, experts)


def build_ple(pooled: tf.Tensor, dense: tf.Tensor, shape: NetworkShape, reference_init: bool = False, seed: int = 0,
              keep_prob: float = 1.0) -> NetworkOutput:
    """Builds PLE with one extraction level (Tang et al., RecSys 2020: customised gate control).

    A task's gate weighs the shared experts and the task's own ones; no task sees the experts of another.

    Args as in :func:`build_network`; a gate's columns are the shared experts, then the task's own.
    """
    own, shared = shape.task_expert_num, shape.expert_num
    with tf.compat.v1.variable_scope("ple"):
        experts, gate_logits = first_layer(pooled, dense, shape, reference_init, seed, keep_prob)
        assert gate_logits is not None
        logits, gates = {}, {}
        for number, task in enumerate(shape.tasks):
            begin = shared + number * own
            visible = tf.concat([experts[:, :, :shared], experts[:, :, begin:begin + own]], axis=2)
            mixed, weights = mix(visible, gate_logits[:, :, number:number + 1])
            gates[task] = weights[:, :, 0]
            logits[task] = tower(tf.transpose(mixed[:, :, 0], [1, 0, 2]), shape.tower_size, task, reference_init,
                                 seed + 1 + number)
    return NetworkOutput(logits, gates, experts)


_BUILDERS: Dict[str, _Builder] = {"mmoe": build_mmoe, "shared_bottom": build_shared_bottom, "ple": build_ple}
