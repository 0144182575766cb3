"""The programs' model in NumPy, float64, without TensorFlow: forward, backward, and the optimizers' rules."""
import numpy as np

from tests.fidelity.programs.batches import batches  # noqa: F401 - the tests take the data from here


class Model:
    """logit = (sum of the rows) w + numbers v; rows begin at 0.1 and appear in training only."""

    def __init__(self, dim=4, start=0.1):
        self.rows, self.start, self.dim = {}, start, dim
        self.w, self.v = np.full([dim, 1], 0.5), np.full([2, 1], -0.25)
        self.states, self.step = {}, 0

    def pooled(self, ids, is_train):
        if is_train:
            for key in ids.ravel():
                self.rows.setdefault(int(key), np.full(self.dim, self.start))
        zero = np.zeros(self.dim)
        return np.stack([sum(self.rows.get(int(key), zero) for key in row) for row in ids])

    def predict(self, batch, is_train=False):
        logits = (self.pooled(batch["ids"], is_train) @ self.w + batch["numbers"] @ self.v)[:, 0]
        return 1 / (1 + np.exp(-logits))

    def loss(self, batch, is_train=False):
        p = self.predict(batch, is_train)
        return float(np.mean(-batch["label"] * np.log(p) - (1 - batch["label"]) * np.log(1 - p)))

    def gradients(self, batch):
        """{key: gradient summed over its occurrences}, and those of w and v."""
        error = ((self.predict(batch) - batch["label"]) / len(batch["label"]))[:, None]
        by_key = {}
        for row, ids in zip(error @ self.w.T, batch["ids"]):
            for key in ids:
                by_key[int(key)] = by_key.get(int(key), 0) + row
        return by_key, self.pooled(batch["ids"], False).T @ error, batch["numbers"].T.astype(float) @ error

    def train(self, batch, dense, sparse):
        """One step; returns the loss before it. dense and sparse are rules (model, name or key, value, gradient)."""
        loss = self.loss(batch, is_train=True)
        self.step += 1
        by_key, w, v = self.gradients(batch)
        self.w, self.v = dense(self, "w", self.w, w), dense(self, "v", self.v, v)
        for key, gradient in by_key.items():
            self.rows[key] = sparse(self, key, self.rows[key], gradient)
        return loss


def descent(rate, decay=0.0):
    return lambda model, name, value, gradient: value - rate * (gradient + decay * value)


def momentum(rate):
    def update(model, name, value, gradient):
        model.states[name] = 0.9 * model.states.get(name, 0) + gradient
        return value - rate * model.states[name]
    return update


def adam(rate):
    """Adam for dense values, and lazy Adam for rows: both are corrected by the number of steps of the run."""
    def update(model, name, value, gradient):
        m, v = model.states.get(name, (0, 0))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient ** 2
        model.states[name] = m, v
        return value - rate * np.sqrt(1 - 0.999 ** model.step) / (1 - 0.9 ** model.step) * m / (np.sqrt(v) + 1e-8)
    return update
