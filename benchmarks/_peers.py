"""What peers do with the same rows, on whatever TensorFlow is there; imports nothing of the project.

    python _peers.py scores|keras|deepctr|deepctr_scores SPECIFICATION   # the specification is JSON, as what is printed
"""
import json
import os
import resource
import sys
import time
from typing import Any, Dict, List, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

HASHED = 1 << 20
CHOICES_OF_C = (0.03, 0.3)
MOST_VALUES, MOST_ROUNDS, PATIENCE = 5000, 400, 25
# Passes over the data that DeepCTR may make; fewer where the data is large.
PASSES, FEW_PASSES, MOST_EXAMPLES = (1, 3, 10), (1, 2), 2000000
SEEDS = (1, 2, 3, 4, 5)
TREES = {"learning_rate": 0.1, "num_leaves": 31, "min_data_in_leaf": 40, "cat_smooth": 20, "min_data_per_group": 50,
         "bagging_fraction": 0.9, "bagging_freq": 1, "feature_fraction": 0.8, "verbosity": -1, "deterministic": True}


Specification = Dict[str, Any]
Fields = List[Dict[str, Any]]


class Rows:
    """Rows of one split: label [n, T], sparse [n, W] with -1 for no value, dense [n, D] with NaN for missing."""

    def __init__(self, path: str) -> None:
        arrays = np.load(path)
        self.label, self.sparse, self.dense = arrays["label"], arrays["sparse"], arrays["dense"]


def area(labels: Any, scores: Any) -> float:
    """Returns the exact area under the ROC curve, ties half."""
    order = np.argsort(scores, kind="mergesort")
    _, place, counts = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    positive = labels[order] == 1
    ones = positive.sum()
    return float((ranks[positive].sum() - ones * (ones + 1) / 2.0) / (ones * (len(labels) - ones)))


def scores(specification: Specification) -> Dict[str, Dict[str, float]]:
    """Logistic regression and LightGBM: {peer: {metric: value}}; C and rounds are chosen on validation rows."""
    found: Dict[str, Dict[str, float]] = {"logistic": {}, "lightgbm": {}}
    splits = [Rows(specification[name]) for name in ("fit", "validate", "train", "test")]
    for number, task in enumerate(specification["tasks"]):
        known = [np.flatnonzero(np.isfinite(rows.label[:, number])) for rows in splits]
        labels = [rows.label[kept, number] for rows, kept in zip(splits, known)]
        if task["type"] == "binary":
            metric, columns = "auc_" + task["name"], _hashed(splits, known, specification["fields"])
            found["logistic"][metric] = area(labels[3], _logistic(columns, labels))
            measure = area
        else:
            metric = "rmse_" + task["name"]
            labels = [np.log1p(values) for values in labels] if task["transform"] == "log" else labels
            measure = _rmse
        found["lightgbm"][metric] = measure(labels[3], _trees(splits, known, labels, specification["fields"], task))
        print("%s %s" % (metric, {peer: values.get(metric) for peer, values in found.items()}), file=sys.stderr)
    return found


def _rmse(labels: Any, scores: Any) -> float:
    return float(np.sqrt(np.mean((labels - scores) ** 2)))


def _logistic(columns: Any, labels: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    best = max(CHOICES_OF_C, key=lambda choice: area(labels[1], LogisticRegression(C=choice, max_iter=60).fit(
        columns[0], labels[0]).decision_function(columns[1])))
    return LogisticRegression(C=best, max_iter=60).fit(columns[2], labels[2]).decision_function(columns[3])


def _hashed(splits: List[Rows], known: List[Any], fields: Fields) -> List[Any]:
    """Returns sparse matrices: every value of every column in one of 2**20 places, logarithms of the numbers beside."""
    from scipy import sparse
    # A shared vocabulary does not share weights: the column is hashed with the value.
    salts = np.concatenate([np.full(field["width"], place) for place, field in enumerate(fields)] or [np.zeros(0)])
    found = []
    training = [np.sign(splits[i].dense) * np.log1p(np.abs(splits[i].dense)) for i in (0, 2)]
    for i, (rows, kept) in enumerate(zip(splits, known)):
        values = rows.sparse[kept].astype(np.uint64)
        places = ((values + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
                  ^ (salts.astype(np.uint64) + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F))
        places = (places * np.uint64(0xFF51AFD7ED558CCD)) >> np.uint64(44)
        there = rows.sparse[kept] >= 0
        matrix = sparse.csr_matrix((np.ones(there.sum(), np.float32), places[there].astype(np.int64), np.concatenate(
            [[0], np.cumsum(there.sum(axis=1))])), shape=(len(kept), HASHED))
        base = training[0 if i < 2 else 1]
        numbers = np.sign(rows.dense[kept]) * np.log1p(np.abs(rows.dense[kept]))
        numbers = np.nan_to_num((numbers - np.nanmean(base, axis=0)) / np.maximum(np.nanstd(base, axis=0), 1e-6))
        found.append(sparse.hstack([matrix, sparse.csr_matrix(numbers.astype(np.float32))], format="csr"))
    return found


def _trees(splits: List[Rows], known: List[Any], labels: List[Any], fields: Fields, task: Specification) -> Any:
    """Returns LightGBM's scores of the test rows: columns of up to 5,000 values, short lists as a column per value."""
    import lightgbm
    tables: List[Any] = []
    categorical: List[int] = []
    for rows, kept in zip(splits, known):
        columns: List[Any] = []
        start, categorical = 0, []
        for field in fields:
            part = rows.sparse[kept, start:start + field["width"]]
            start += field["width"]
            if field["values"] > MOST_VALUES:
                continue
            if field["width"] == 1:
                categorical.append(len(columns))
                columns.append(part[:, 0].astype(np.float64))
            else:
                columns.append((part >= 0).sum(axis=1).astype(np.float64))
                columns += [(part == value).any(axis=1).astype(np.float64) for value in range(
                    field["values"] if field["values"] <= 64 else 0)]
        tables.append(np.column_stack(columns + [rows.dense[kept]]))
    settings = dict(TREES, objective="binary" if task["type"] == "binary" else "regression",
                    metric="auc" if task["type"] == "binary" else "rmse")
    fit, validate = (lightgbm.Dataset(table, label, categorical_feature=categorical, free_raw_data=False)
                     for table, label in zip(tables[:2], labels[:2]))
    rounds = lightgbm.train(settings, fit, MOST_ROUNDS, valid_sets=[validate], callbacks=[
        lightgbm.early_stopping(PATIENCE, verbose=False)]).best_iteration
    whole = lightgbm.Dataset(tables[2], labels[2], categorical_feature=categorical)
    return lightgbm.train(settings, whole, rounds).predict(tables[3])


def keras(specification: Specification) -> Dict[str, float]:
    """Trains keras-mmoe's network, written anew, on one-hot columns in memory; returns examples/s.

    As there: categories one-hot, 8 experts of 4 units as one kernel, a softmax gate per task, towers of 8 units,
    Adam; a compiled ``fit`` over arrays.
    """
    import tensorflow as tf
    rows, fields = Rows(specification["train"]), specification["fields"]
    inputs = _one_hot(rows, fields, specification["rows"])
    labels = [rows.label[:len(inputs), number] for number in range(len(specification["tasks"]))]

    class Mmoe(tf.keras.layers.Layer):
        """The multi-gate mixture of experts."""

        def __init__(self, experts: int, units: int, tasks: int) -> None:
            super().__init__()
            self.experts, self.units, self.tasks = experts, units, tasks

        def build(self, shape: Any) -> None:
            """Makes the kernels."""
            self.kernel = self.add_weight("experts", [shape[-1], self.units, self.experts])
            self.bias = self.add_weight("bias", [self.units, self.experts], initializer="zeros")
            self.gates = [self.add_weight("gate_%d" % number, [shape[-1], self.experts])
                          for number in range(self.tasks)]

        def call(self, values: Any) -> List[Any]:
            """Returns a mixture per task."""
            experts = tf.nn.relu(tf.tensordot(values, self.kernel, axes=1) + self.bias)
            return [tf.reduce_sum(experts * tf.expand_dims(tf.nn.softmax(tf.matmul(values, gate)), 1), axis=2)
                    for gate in self.gates]

    source = tf.keras.Input([inputs.shape[1]])
    outputs = [tf.keras.layers.Dense(1, activation="sigmoid")(tf.keras.layers.Dense(8, activation="relu")(mixed))
               for mixed in Mmoe(8, specification.get("units", 16), len(labels))(source)]
    model = tf.keras.Model(source, outputs)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    return _fitted(model, inputs, labels, specification["batch_size"])


def _one_hot(rows: Rows, fields: Fields, most: int) -> Any:
    sparse, dense = rows.sparse[:most], np.nan_to_num(rows.dense[:most])
    parts = [np.eye(field["values"], dtype=np.float32)[np.maximum(sparse[:, place], 0)]
             for place, field in enumerate(fields)]
    scale = dense.max(axis=0) - dense.min(axis=0)
    return np.concatenate(parts + [((dense - dense.min(axis=0)) / np.maximum(scale, 1e-9)).astype(np.float32)], axis=1)


def deepctr(specification: Specification) -> Dict[str, float]:
    """Trains DeepCTR's MMoE from arrays in memory; returns examples/s."""
    rows, most = Rows(specification["train"]), specification["rows"]
    columns, inputs = _deepctr_inputs(rows, specification["fields"], np.zeros(rows.dense.shape[1]), 1.0)
    labels = [np.nan_to_num(rows.label[:most, number]) for number in range(rows.label.shape[1])]
    return _fitted(_deepctr_model(columns, specification["tasks"]), {
        name: values[:most] for name, values in inputs.items()}, labels, specification["batch_size"])


def deepctr_scores(specification: Specification) -> Dict[str, Dict[str, float]]:
    """DeepCTR's MMoE: {"deepctr": {metric: mean of the seeds}}, of the tasks that have a label in every row.

    Adam and batches of 256, as its documentation has them; the passes over the data are chosen on validation rows.
    """
    splits = {name: Rows(specification[name]) for name in ("fit", "validate", "train", "test")}
    numbers = [number for number in range(len(specification["tasks"]))
               if all(np.isfinite(rows.label[:, number]).all() for rows in splits.values())]
    for rows in splits.values():
        rows.label = rows.label[:, numbers]
    given = dict(specification, tasks=[specification["tasks"][number] for number in numbers])
    passes = [count for count in PASSES if count * len(splits["train"].label) <= MOST_EXAMPLES] or list(FEW_PASSES)
    tried = _deepctr_run(given, splits["fit"], splits["validate"], passes, 1)
    goodness = [sum(value if name.startswith("auc_") else -value for name, value in found.items()) for found in tried]
    best = passes[int(np.argmax(goodness))]
    results = [_deepctr_run(given, splits["train"], splits["test"], [best], seed)[0] for seed in SEEDS]
    print("deepctr: %d passes; %s" % (best, results), file=sys.stderr)
    return {"deepctr": {name: float(np.mean([item[name] for item in results])) for name in results[0]}}


def _deepctr_run(specification: Specification, train: Rows, test: Rows, stops: List[int], seed: int
                 ) -> List[Dict[str, float]]:
    """Trains once, and scores the test rows after each of so many passes."""
    import tensorflow as tf
    tf.keras.backend.clear_session()
    tf.compat.v1.set_random_seed(seed)
    np.random.seed(seed)
    fields, tasks, scale = specification["fields"], specification["tasks"], _logarithm(train.dense)
    center, spread = np.nanmean(scale, axis=0), np.maximum(np.nanstd(scale, axis=0), 1e-6)
    columns, inputs = _deepctr_inputs(train, fields, center, spread)
    _, held_out = _deepctr_inputs(test, fields, center, spread)
    labels = [_deepctr_labels(known, task, known) for known, task in zip(train.label.T, tasks)]
    model = _deepctr_model(columns, tasks)
    found = []
    for count in range(1, max(stops) + 1):
        model.fit(inputs, labels, batch_size=256, epochs=1, verbose=0, shuffle=True)
        if count in stops:
            found.append(deepctr_metrics(model.predict(held_out, batch_size=4096), tasks, train.label, test.label))
    return found


def deepctr_metrics(outputs: Any, tasks: List[Specification], train: Any, test: Any) -> Dict[str, float]:
    """Returns {metric: value} of outputs [n, 1], one or a list with one per task, for labels [n, T] of test rows."""
    found = {}
    outputs = outputs if isinstance(outputs, list) else [outputs]
    for task, known, labels, output in zip(tasks, train.T, test.T, outputs):
        right = _deepctr_labels(labels, task, known)
        if task["type"] == "binary":
            found["auc_" + task["name"]] = area(right, output[:, 0])
        else:
            unit = np.log1p(known) if task["transform"] == "log" else known
            found["rmse_" + task["name"]] = float(unit.std()) * _rmse(right, output[:, 0])
    return found


def _logarithm(dense: Any) -> Any:
    return np.sign(dense) * np.log1p(np.abs(dense))


def _deepctr_labels(values: Any, task: Specification, train: Any) -> Any:
    """Returns labels of 0 and 1, or numbers in standard deviations of the training labels."""
    if task["type"] == "binary":
        return values.astype(np.float32)
    if task["transform"] == "log":
        values, train = np.log1p(values), np.log1p(train)
    return ((values - train.mean()) / max(float(train.std()), 1e-9)).astype(np.float32)


def _deepctr_inputs(rows: Rows, fields: Fields, center: Any, spread: Any) -> Tuple[List[Any], Dict[str, Any]]:
    """Returns DeepCTR's columns and inputs: embeddings of 16 values, lists pooled by mean, logarithms of numbers."""
    from deepctr.feature_column import DenseFeat, SparseFeat, VarLenSparseFeat
    columns: List[Any] = []
    inputs: Dict[str, Any] = {}
    start = 0
    for field in fields:
        part = rows.sparse[:, start:start + field["width"]]
        start += field["width"]
        # Place 0 is DeepCTR's padding of lists.
        values = np.where(part < 0, 0, 1 + part % field["values"]).astype(np.int64)
        single = SparseFeat(field["name"], field["values"] + 1, embedding_dim=16,
                            embedding_name=field["vocabulary"])
        if field["width"] == 1:
            columns.append(single)
            inputs[field["name"]] = values[:, 0]
        else:
            columns.append(VarLenSparseFeat(single, maxlen=field["width"], combiner="mean"))
            inputs[field["name"]] = values
    dense = np.nan_to_num((_logarithm(rows.dense) - center) / spread).astype(np.float32)
    for place in range(dense.shape[1]):
        name = "number_%d" % place
        columns.append(DenseFeat(name, 1))
        inputs[name] = dense[:, place]
    return columns, inputs


def _deepctr_model(columns: List[Any], tasks: List[Specification]) -> Any:
    """Returns DeepCTR's MMoE, compiled: 4 experts of (64, 32), towers of 16, the sizes of the preset."""
    import tensorflow as tf
    from deepctr.models import MMOE
    kinds = [task["type"] for task in tasks]
    model = MMOE(columns, num_experts=4, expert_dnn_hidden_units=(64, 32), tower_dnn_hidden_units=(16,),
                 gate_dnn_hidden_units=(), l2_reg_embedding=0, task_types=kinds,
                 task_names=[task["name"] for task in tasks])
    model.compile(tf.keras.optimizers.Adam(), loss=[
        "binary_crossentropy" if kind == "binary" else "mse" for kind in kinds])
    return model


def _fitted(model: Any, inputs: Any, labels: Any, batch_size: int) -> Dict[str, float]:
    """Trains an epoch that does not count, which compiles, and one that does."""
    rows = len(labels[0]) // batch_size * batch_size
    arrays = {name: value[:rows] for name, value in inputs.items()} if isinstance(inputs, dict) else inputs[:rows]
    labels = [value[:rows].astype(np.float32) for value in labels]
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        model.fit(arrays, labels, batch_size=batch_size, epochs=1, verbose=0, shuffle=True)
        seconds = time.perf_counter() - began
    return {"examples_per_second": rows / seconds, "rows": rows,
            "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0}


if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as stream:
        given = json.load(stream)
    ways = {"scores": scores, "keras": keras, "deepctr": deepctr, "deepctr_scores": deepctr_scores}
    print(json.dumps(ways[sys.argv[1]](given)))
