"""What training minimises."""
from typing import Dict

import tensorflow as tf

from estimator_app.layers import EnsembleOutput


def task_losses(logits: Dict[str, tf.Tensor], labels: Dict[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
    """Returns the log loss of every row, {task: float32 [batch]}.

    Args:
        logits: {task: float32 [batch]}.
        labels: {task: int64 [batch]}, 0 or 1; padding rows have -1 and must be masked by the caller.
    """
    return {task: tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.cast(labels[task], tf.float32), logits=logits[task], name="log_loss_%s" % task) for task in logits}


def training_loss(output: EnsembleOutput, labels: Dict[str, tf.Tensor]) -> tf.Tensor:
    """Returns the float32 scalar that is minimised: the mean log loss over tasks and rows, summed over the networks.

    The networks share no weight, so with the sum each one trains as it would alone.

    Args:
        output: of the networks.
        labels: {task: int64 [batch]}, 0 or 1.
    """
    tasks = list(labels)
    # All tasks of all networks side by side: one set of ops, forward and backward, however many there are.
    logits = tf.stack([member.logits[task] for member in output.members for task in tasks], axis=1)
    targets = tf.cast(tf.stack([labels[task] for task in tasks] * len(output.members), axis=1), tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits, name="log_loss")
    return tf.reduce_sum(losses) / tf.cast(tf.size(labels[tasks[0]]) * len(tasks), tf.float32)
