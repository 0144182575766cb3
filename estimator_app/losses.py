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
    means = []
    for member in output.members:
        losses = task_losses(member.logits, labels)
        means.append(tf.add_n([tf.reduce_mean(loss) for loss in losses.values()]) / len(losses))
    return tf.add_n(means) if len(means) > 1 else means[0]
