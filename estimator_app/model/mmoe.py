"""The multi-gate mixture of experts (Ma et al., KDD 2018) on a pooled embedding row and dense values.

The pooled embedding is the one-hot part of the first layer (rec_sdk_api 9.3): of its columns, the first
``expert_num * expert_size`` belong to the experts' pre-activations, then ``expert_num`` to each gate's logits. The
dense values go through one fused kernel of the same width.
"""
import tensorflow as tf

from estimator_app.model.layers import REFERENCE_CONSTANT, NetworkOutput, NetworkShape, first_layer, mix, tower

MmoeShape = NetworkShape
MmoeOutput = NetworkOutput


def embedding_initializer(reference_init: bool, seed: int, stddev: float) -> tf.keras.initializers.Initializer:
    """Returns the initializer of the table: one of the kinds that the SDK keeps in every cache mode (3.3)."""
    if reference_init:
        return tf.compat.v1.constant_initializer(REFERENCE_CONSTANT)
    return tf.compat.v1.truncated_normal_initializer(stddev=stddev, seed=seed)


def build_mmoe(pooled: tf.Tensor, dense: tf.Tensor, shape: NetworkShape, reference_init: bool = False, seed: int = 0,
               keep_prob: float = 1.0) -> NetworkOutput:
    """Builds the network.

    Args:
        pooled: float32 [batch, width], summed embedding rows: the columns of one network after the other.
        dense: float32 [batch, D], normalised dense values; D may be 0.
        shape: sizes.
        reference_init: constant weights, as the original port has them.
        seed: of initial weights and dropout.
        keep_prob: share of the expert outputs kept; 1.0 outside training.

    Returns:
        Logits of the positive class and gate weights per task.
    """
    with tf.compat.v1.variable_scope("mmoe"):
        experts, gate_logits = first_layer(pooled, dense, shape, reference_init, seed, keep_prob)
        assert gate_logits is not None
        mixed, weights = mix(experts, gate_logits)
        logits, gates = {}, {}
        # [tasks, networks, batch, expert_size]: a tower is one product over the networks.
        for number, (task, inputs) in enumerate(zip(shape.tasks, tf.unstack(tf.transpose(mixed, [2, 1, 0, 3])))):
            logits[task] = tower(inputs, shape.tower_size, task, reference_init, seed + 1 + number)
            gates[task] = weights[:, :, number]
    return NetworkOutput(logits, gates, experts)
