"""What training minimises."""
from typing import Dict, Mapping, Optional, Sequence

import tensorflow as tf

from estimator_app.model.layers import NetworkOutput
from feature_specs.errors import ConfigError


def parse_task_weights(texts: Sequence[str], tasks: Sequence[str]) -> Dict[str, float]:
    """Reads ``task=weight`` texts.

    Args:
        texts: what was given.
        tasks: names of all tasks.

    Returns:
        {task: weight}, in the order of the tasks; 1.0 where none was given.

    Raises:
        ConfigError: a text is malformed, names an unknown task or one twice, or no task has a weight above 0.
    """
    weights: Dict[str, float] = {}
    for text in texts:
        task, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if task not in tasks or task in weights or not 0.0 <= value < float("inf"):
            raise ConfigError("task_weights %s is not understood; give task=weight once per task, weights of 0 or "
                              "more; tasks: %s" % (text, ", ".join(tasks)))
        weights[task] = value
    found = {task: weights.get(task, 1.0) for task in tasks}
    if not any(found.values()):
        raise ConfigError("task_weights are 0 for every task; give one task a weight above 0")
    return found


def task_losses(logits: Dict[str, tf.Tensor], labels: Dict[str, tf.Tensor],
                label_smoothing: float = 0.0) -> Dict[str, tf.Tensor]:
    """Returns the log loss of every row, {task: float32 [batch]}.

    Args:
        logits: {task: float32 [batch]}.
        labels: {task: int64 [batch]}, 0 or 1; padding rows have -1 and must be masked by the caller.
        label_smoothing: s in y * (1 - s) + s / 2, the target of a label y.
    """
    losses = {}
    for task in logits:
        losses[task] = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=_targets(labels[task], label_smoothing), logits=logits[task], name="log_loss_%s" % task)
    return losses


def training_loss(output: NetworkOutput, labels: Dict[str, tf.Tensor], label_smoothing: float = 0.0,
                  task_weights: Optional[Mapping[str, float]] = None) -> tf.Tensor:
    """Returns the float32 scalar that is minimised: the mean log loss over tasks and rows, summed over the networks.

    The networks share no weight, so with the sum each one trains as it would alone.

    Args:
        output: of the networks.
        labels: {task: int64 [batch]}, 0 or 1.
        label_smoothing: see :func:`task_losses`.
        task_weights: {task: factor of its loss before the mean}; None for 1 each.
    """
    tasks = list(labels)
    # All tasks of all networks side by side: one set of ops, forward and backward, however many there are.
    logits = tf.stack([output.logits[task] for task in tasks])
    targets = _targets(tf.stack([labels[task] for task in tasks]), label_smoothing)
    targets = tf.tile(tf.expand_dims(targets, 1), [1, logits.shape[1].value, 1])
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits, name="log_loss")
    factors = [1.0 if task_weights is None else task_weights[task] for task in tasks]
    if any(factor != 1.0 for factor in factors):
        losses *= tf.reshape(tf.constant(factors, tf.float32), [-1, 1, 1])
    return tf.reduce_sum(losses) / tf.cast(tf.size(labels[tasks[0]]) * len(tasks), tf.float32)


def _targets(labels: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    targets = tf.cast(labels, tf.float32)
    return targets * (1.0 - label_smoothing) + 0.5 * label_smoothing if label_smoothing else targets
