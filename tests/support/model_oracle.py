"""The model's formulas in NumPy and float64, one expert, task and row at a time; shares no code with the product."""
import math

import numpy as np


def sigmoid(value):
    return 1.0 / (1.0 + np.exp(-np.asarray(value, np.float64)))


def softmax(values):
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def pooled(table, keys, pooling):
    """[n, dim] of {key: row} and int64 [n, width]; key 0 is an empty place."""
    size = len(next(iter(table.values())))
    result = np.zeros((len(keys), size))
    for number, places in enumerate(keys):
        rows = [table[key] for key in places.tolist() if key != 0]
        if rows:
            result[number] = np.sum(rows, axis=0) / (len(rows) if pooling == "mean" else 1)
    return result


def normalised(values, name, training, variables, momentum_free_epsilon=1e-3):
    """Batch normalisation of [n, units]."""
    mean, variance = (values.mean(axis=0), values.var(axis=0)) if training else (
        variables[name + "/moving_mean"], variables[name + "/moving_variance"])
    return (variables[name + "/gamma"] * (values - mean) / np.sqrt(variance + momentum_free_epsilon)
            + variables[name + "/beta"])


class Network:
    """One of the networks with given weights.

    Args:
        config: settings of sizes.
        tasks: names.
        variables: {name: array}, as the graph names them.
    """

    def __init__(self, config, tasks, variables):
        self.config, self.tasks = config, list(tasks)
        self.v = {name[len(config.model) + 1:]: np.asarray(value, np.float64) for name, value in variables.items()
                  if name.startswith(config.model + "/")}

    def first_layer(self, numbers, summed=None, vectors=None):
        """Pre-activations [n, width] of the input layer ``sum`` or ``concat``."""
        if summed is None:
            return (np.concatenate(list(vectors) + [numbers], axis=1) @ self.v["first_layer/kernel"]
                    + self.v["first_layer/bias"])
        first = summed + self.v["first_layer/bias"]
        return first + numbers @ self.v["first_layer/kernel"] if numbers.shape[1] else first

    def expert(self, number, first, training):
        """[n, size] of one expert."""
        sizes = self.config.expert_layers
        hidden = first[:, number * sizes[0]:(number + 1) * sizes[0]]
        for layer, units in enumerate(sizes):
            if layer:
                hidden = (hidden @ self.v["experts_%d/kernel" % layer][number]
                          + self.v["experts_%d/bias" % layer][number, 0])
            if self.config.batch_norm:
                mine = slice(number * units, (number + 1) * units)
                name = "experts_%d_norm" % layer
                own = {key: value[mine] for key, value in self.v.items() if key.startswith(name + "/")}
                hidden = normalised(hidden, name, training, own)
            hidden = np.maximum(hidden, 0)
        return hidden

    def tower(self, task, values):
        for layer in range(len(self.config.tower_layers)):
            name = "tower_%s/hidden_%d/" % (task, layer)
            values = np.maximum(values @ self.v[name + "kernel"] + self.v[name + "bias"], 0)
        both = values @ self.v["tower_%s/output/kernel" % task] + self.v["tower_%s/output/bias" % task]
        # Of a softmax over two outputs, as the original has it.
        probability = softmax(both)[:, 1]
        return np.log(probability / (1 - probability))

    def run(self, first, training=False):
        """Returns {task: logits [n]} and {task: gate weights [n, experts]}."""
        config, tasks = self.config, self.tasks
        shared, own = config.expert_num, config.task_expert_num if config.model == "ple" else 0
        total = shared + own * len(tasks)
        experts = [self.expert(number, first, training) for number in range(total)]
        logits, gates = {}, {}
        for place, task in enumerate(tasks):
            if config.model == "shared_bottom":
                logits[task] = self.tower(task, np.concatenate(experts, axis=1))
                continue
            seen = list(range(shared)) + [shared + place * own + number for number in range(own)]
            begin = total * config.expert_layers[0] + place * (shared + own)
            gates[task] = softmax(first[:, begin:begin + shared + own])
            mixed = sum(gates[task][:, [column]] * experts[number] for column, number in enumerate(seen))
            logits[task] = self.tower(task, mixed)
        return logits, gates


class Tasks:
    """Losses, predictions and scores of a dataset's tasks, row by row.

    Args:
        dataset: the definition.
        label_statistics: {task: mean and std}.
    """

    def __init__(self, dataset, label_statistics):
        self.dataset, self.statistics = dataset, label_statistics

    def known(self, labels, name):
        """bool [n]: rows that count for a task."""
        names = list(self.dataset.task_names)
        column = labels[:, names.index(name)]
        counts = np.isfinite(column) & (column >= 0)
        other = self.dataset.task(name).where
        if other:
            counts &= self.known(labels, other) & (labels[:, names.index(other)] == 1)
        return counts

    def probability(self, logits, name):
        """p(task), through all tasks that it is given."""
        given = self.dataset.task(name).given
        own = sigmoid(logits[name])
        return own * self.probability(logits, given) if given else own

    def transformed(self, name, values):
        return np.log1p(values) if self.dataset.task(name).transform == "log" else values

    def number(self, logits, name):
        """A regression's prediction in the units of the transform."""
        statistics = self.statistics[name]
        return statistics.mean + (statistics.std or 1.0) * np.asarray(logits[name], np.float64)

    def row_losses(self, logits, labels, name):
        """float64 [n], NaN in rows that do not count."""
        column = labels[:, list(self.dataset.task_names).index(name)].astype(np.float64)
        losses = np.full(len(column), np.nan)
        outputs = (self.number if self.dataset.task(name).type == "regression" else self.probability)(logits, name)
        for row in np.flatnonzero(self.known(labels, name)):
            if self.dataset.task(name).type == "regression":
                error = self.transformed(name, column[row]) - outputs[row]
                losses[row] = 0.5 * (error / (self.statistics[name].std or 1.0)) ** 2
            else:
                p = outputs[row]
                losses[row] = -(math.log(p) if column[row] else math.log1p(-p))
        return losses

    def training_loss(self, logits, labels, row_weights=None, task_weights=None):
        weights = np.ones(len(labels)) if row_weights is None else row_weights
        total = 0.0
        for name in self.dataset.task_names:
            total += (task_weights or {}).get(name, 1.0) * np.nansum(
                self.row_losses(logits, labels, name) * weights)
        return total / (len(labels) * len(self.dataset.tasks))


def numeric_gradient(function, array, places, step=1e-5):
    """Central differences of a function of an array, changed in place, at some flat places."""
    flat = array.reshape(-1)
    assert np.shares_memory(flat, array)
    found = []
    for place in places:
        before = flat[place]
        flat[place] = before + step
        above = function()
        flat[place] = before - step
        below = function()
        flat[place] = before
        found.append((above - below) / (2 * step))
    return np.array(found)
