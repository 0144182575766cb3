"""Tasks: from a network's logits to loss, predictions, metrics and outputs. A new type is a class and its entry.

Nothing outside knows task types: training asks a task for its loss, the report for the names of its scores, the export
for its outputs. Labels, logits, losses and predictions are dicts keyed by task name.
"""
from __future__ import annotations

import dataclasses
import functools
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Type

from estimator_app.model import lazy as tf
from estimator_app.model import metrics
from feature_specs.dataset import BINARY, REGRESSION, DatasetDefinition, TaskDefinition
from feature_specs.errors import ConfigError
from feature_specs.manifest import LabelStatistics, Manifest
from feature_specs.records import LABEL

AUC_MEAN = "auc_mean"
MEAN_LOSS = "mean_loss"


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of a task in a batch."""

    values: tf.Tensor  # float32 [batch], anything in rows that do not count
    counts: tf.Tensor  # float32 [batch], 1 where a row counts for the task, else 0


class Task:
    """What one task makes of logits and labels; ``weight`` is the factor of its loss."""

    #: Names of its scores, the one that it is judged by first.
    scores: Tuple[str, ...] = ()
    #: Those of them of which lower values are better.
    losses: Tuple[str, ...] = ()
    #: Those of them of which neither lower nor higher values are better, by which nothing can be chosen.
    neither: Tuple[str, ...] = ()

    def __init__(self, definition: TaskDefinition, statistics: LabelStatistics, weight: float = 1.0) -> None:
        self.definition = definition
        self.name = definition.name
        self.statistics = statistics
        self.weight = weight

    def metric(self, score: str) -> str:
        """Returns the name of a score of this task, such as ``auc_click``."""
        return "%s_%s" % (score, self.name)

    def loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Returns the loss of every row, float32 [batch]; ``logits`` and ``labels`` float32 [batch]."""
        raise NotImplementedError

    def predictions(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns what is predicted, float32 [batch], in the units of the label's column."""
        raise NotImplementedError

    def metrics(self, logits: tf.Tensor, labels: Labels, batch: metrics.EvaluationBatch) -> Dict[str, metrics.Metric]:
        """Builds the scores, {name: metric}."""
        raise NotImplementedError


class BinaryTask(Task):
    """A label of 0 or 1: log loss, probabilities, exact AUC and average precision, calibration, GAUC with a group."""

    scores: Tuple[str, ...] = ("auc", "pr_auc", "gauc", "log_loss", "calibration")
    losses = ("log_loss",)
    neither = ("calibration",)

    def loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Log loss."""
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, name=self.metric("log_loss"))

    def predictions(self, logits: tf.Tensor) -> tf.Tensor:
        """Probability of the positive class."""
        return tf.sigmoid(logits)

    def metrics(self, logits: tf.Tensor, labels: Labels, batch: metrics.EvaluationBatch) -> Dict[str, metrics.Metric]:
        """The scores of the class; ``calibration`` is the mean prediction over the observed rate."""
        found = {self.metric(score): value for score, value in metrics.ranking_scores(
            self.name, logits, labels.values, labels.counts, batch).items()}
        # Together: three means in one variable.
        values = tf.stack([self.loss(logits, labels.values), tf.sigmoid(logits), labels.values], axis=1)
        for prefix, weights in batch.weightings(labels.counts):
            means, update = metrics.weighted_mean(values, weights, prefix + self.metric("means"), batch.merge)
            log_loss, predicted, observed = tf.unstack(means)
            found[prefix + self.metric("log_loss")] = (log_loss, update)
            found[prefix + self.metric("calibration")] = metrics.ratio((predicted, update), (observed, update))
        return found


class RegressionTask(Task):
    """A number: half the squared error in standard deviations of the (transformed) training labels; RMSE and MAE."""

    scores: Tuple[str, ...] = ("rmse", "mae", "column_rmse", "column_mae")
    losses: Tuple[str, ...] = scores

    def transformed(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns labels in the units of the transform, float32 [batch]: log(1 + x), or as they are."""
        return tf.math.log1p(labels) if self.definition.transform == "log" else labels

    def _outputs(self, logits: tf.Tensor) -> tf.Tensor:
        return self.statistics.mean + self._scale * logits

    @property
    def _scale(self) -> float:
        return self.statistics.std if self.statistics.std > 0 else 1.0

    def loss(self, logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Half the squared error, in standard deviations of the training labels."""
        return 0.5 * tf.square(logits - (self.transformed(labels) - self.statistics.mean) / self._scale)

    def predictions(self, logits: tf.Tensor) -> tf.Tensor:
        """The number, in the units of the column."""
        outputs = self._outputs(logits)
        return tf.math.expm1(outputs) if self.definition.transform == "log" else outputs

    def metrics(self, logits: tf.Tensor, labels: Labels, batch: metrics.EvaluationBatch) -> Dict[str, metrics.Metric]:
        """``rmse`` and ``mae`` in the transform's units; with a transform also ``column_rmse`` and ``column_mae``."""
        errors = {"": self._outputs(logits) - self.transformed(labels.values)}
        if self.definition.transform != "none":
            errors["column_"] = self.predictions(logits) - labels.values
        found: Dict[str, metrics.Metric] = {}
        for prefix, weights in batch.weightings(labels.counts):
            for units, error in errors.items():
                rmse, mse, mae = (prefix + units + self.metric(score) for score in ("rmse", "mse", "mae"))
                square, update = metrics.weighted_mean(tf.square(error), weights, mse, batch.merge)
                found[rmse] = (tf.sqrt(square), update)
                found[mae] = metrics.weighted_mean(tf.abs(error), weights, mae, batch.merge)
        return found


TASK_TYPES: Dict[str, Type[Task]] = {BINARY: BinaryTask, REGRESSION: RegressionTask}


class TaskSet:
    """All tasks of a dataset, in label order, and the relations between them; with groups of rows there is GAUC."""

    def __init__(self, tasks: Sequence[Task], has_group: bool = False) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.has_group = has_group

    @property
    def names(self) -> Tuple[str, ...]:
        """Names of the tasks, in label order."""
        return tuple(self.tasks)

    @property
    def main_metric(self) -> str:
        """The metric that the best checkpoint is chosen by: the mean AUC, or the mean loss where no task has one."""
        return AUC_MEAN if self._auc_names() else MEAN_LOSS

    def selectable(self) -> List[str]:
        """Returns the metrics that a run can be judged by."""
        names = [AUC_MEAN] if self._auc_names() else []
        neither = {task.metric(score) for task in self.tasks.values() for score in task.neither}
        return names + [MEAN_LOSS] + [name for name in self.score_names() if name not in neither]

    def score_names(self) -> List[str]:
        """Returns the names of all scores, the main one of every task first."""
        per_task = [[task.metric(score) for score in task.scores if score != "gauc" or self.has_group]
                    for task in self.tasks.values()]
        return [names[0] for names in per_task] + [name for names in per_task for name in names[1:]]

    def main_scores(self) -> List[str]:
        """Returns the name of every task's main score, which progress and report show."""
        return self.score_names()[:len(self.tasks)]

    def is_loss(self, name: str) -> bool:
        """Returns whether lower values of a metric are better."""
        return name == MEAN_LOSS or any(name == task.metric(score) for task in self.tasks.values()
                                        for score in task.losses)

    def check_selectable(self, flag: str, name: str) -> None:
        """Refuses (ConfigError) a metric that a run cannot be judged by, naming those that there are."""
        if name and name not in self.selectable():
            raise ConfigError("%s %s is not known; choose from %s" % (flag, name, ", ".join(self.selectable())))

    def labels(self, features: Mapping[str, tf.Tensor]) -> Dict[str, Labels]:
        """Returns {task: labels} of a batch; ``where`` takes the rows out whose other label is not 1."""
        @functools.lru_cache(maxsize=None)
        def of(name: str) -> Labels:
            label, where = features[LABEL][:, self.names.index(name)], self.tasks[name].definition.where
            values = tf.cast(label, tf.float32)
            known = tf.math.is_finite(values) if label.dtype.is_floating else label >= 0
            counts = tf.cast(known, tf.float32)
            if where:
                counts *= tf.cast(tf.equal(of(where).values, 1.0), tf.float32) * of(where).counts
            return Labels(tf.where(known, values, tf.zeros_like(values)), counts)

        return {name: of(name) for name in self.tasks}

    def related(self, logits: Mapping[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
        """Returns {task: logits float32 [batch]} of the joint probabilities, where a task is ``given`` another (ESMM).

        log(p / (1 - p)) of p = sigmoid(a) sigmoid(b) is formed of logarithms, so that it cannot overflow.
        """
        @functools.lru_cache(maxsize=None)
        def joint(name: str) -> tf.Tensor:
            given = self.tasks[name].definition.given
            return joint_logits(joint(given), logits[name]) if given else logits[name]

        return {name: joint(name) for name in self.tasks}

    def training_loss(self, logits: Mapping[str, tf.Tensor], labels: Mapping[str, Labels],
                      row_weights: Optional[tf.Tensor]) -> tf.Tensor:
        """Returns what is minimised, float32 scalar: weighted losses of all tasks and rows over tasks times rows.

        It divides by the rows of the batch, not by those that count, so that the ranks of a global batch agree.
        ``logits`` are those of :meth:`related`, ``row_weights`` float32 [batch].
        """
        losses = tf.stack([task.weight * labels[name].counts * task.loss(logits[name], labels[name].values)
                           for name, task in self.tasks.items()])
        if row_weights is not None:
            losses *= row_weights
        return tf.reduce_sum(losses) / tf.cast(tf.size(losses), tf.float32)

    def predictions(self, logits: Mapping[str, tf.Tensor]) -> Dict[str, tf.Tensor]:
        """Returns {output: float32 [batch]}: every task, and ``<task>_given_<other>`` where a task is given another."""
        # The joint probability, and besides that of the task alone where it builds on another one.
        return {output: self.tasks[name].predictions(logit) for name, joint in self.related(logits).items()
                for output, logit in zip(self.tasks[name].definition.outputs, (joint, logits[name]))}

    def output_names(self) -> List[str]:
        """Returns the names of :meth:`predictions`, in order."""
        return [name for task in self.tasks.values() for name in task.definition.outputs]

    def metrics(self, logits: Mapping[str, tf.Tensor], labels: Mapping[str, Labels],
                batch: metrics.EvaluationBatch) -> Dict[str, metrics.Metric]:
        """Builds the metrics of an evaluation: every task's scores, ``mean_loss``, ``auc_mean`` and ``examples``."""
        found: Dict[str, metrics.Metric] = {}
        losses = []
        for name, task in self.tasks.items():
            found.update(task.metrics(logits[name], labels[name], batch))
            losses.append(metrics.weighted_mean(task.loss(logits[name], labels[name].values), labels[name].counts,
                                                "loss_%s" % name, batch.merge))
        found[MEAN_LOSS] = metrics.mean_of_defined(losses)
        aucs = [found[name] for name in self._auc_names()]
        if aucs:
            found[AUC_MEAN] = metrics.mean_of_defined(aucs)
        found["examples"] = metrics.count(batch.valid, batch.merge)
        return found

    def _auc_names(self) -> List[str]:
        return [task.metric("auc") for task in self.tasks.values() if "auc" in task.scores]


def joint_logits(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Returns the logits of sigmoid(first) * sigmoid(second), float32, without forming either."""
    log_both = tf.math.log_sigmoid(first) + tf.math.log_sigmoid(second)
    log_not = tf.reduce_logsumexp(tf.stack([tf.math.log_sigmoid(-first),
                                            tf.math.log_sigmoid(first) + tf.math.log_sigmoid(-second)]), axis=0)
    return log_both - log_not


def make_tasks(manifest: Manifest, task_weights: Sequence[str] = ()) -> TaskSet:
    """Returns the tasks of a dataset; ``task_weights`` are ``task=weight`` texts, a task that is not named has 1, and
    ConfigError is raised where one is malformed, names an unknown task or one twice, or where no weight is above 0."""
    dataset = manifest.dataset
    unknown = [task for task in dataset.tasks if task.type not in TASK_TYPES]
    if unknown:
        raise ConfigError("task %s: type %s is not known; choose from %s"
                          % (unknown[0].name, unknown[0].type, ", ".join(sorted(TASK_TYPES))))
    weights = _parse_weights(task_weights, dataset)
    return TaskSet([TASK_TYPES[task.type](task, manifest.label_statistics[task.name], weights[task.name])
                    for task in dataset.tasks], bool(dataset.group))


def _parse_weights(texts: Sequence[str], dataset: DatasetDefinition) -> Dict[str, float]:
    weights: Dict[str, float] = {}
    for text in texts:
        task, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if task not in dataset.task_names or task in weights or not 0.0 <= value < float("inf"):
            raise ConfigError("task_weights %s is not understood; give task=weight once per task, weights of 0 or "
                              "more; tasks: %s" % (text, ", ".join(dataset.task_names)))
        weights[task] = value
    found = {task: weights.get(task, 1.0) for task in dataset.task_names}
    if not any(found.values()):
        raise ConfigError("task_weights are 0 for every task; give one task a weight above 0")
    return found
