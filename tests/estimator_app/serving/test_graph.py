"""The serving graph against the formulas of the documentation, written in NumPy, and against what clients may send."""
import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.serving import graph
from estimator_app.serving.graph import ServingGraph
from estimator_app.serving.weights import Table
from feature_specs.errors import DataError, UserError
from tests.support import served
from tests.support.rows import reverse_vocabulary

SMALL = {"expert_num": 2, "expert_layers": (5,), "tower_layers": (4,), "embedding_dim": 4}
CONFIGS = {"concat": Config(model="mmoe", **SMALL),
           "sum": Config(model="ple", input_layer="sum", dense_bins=3, batch_norm=True, task_expert_num=1, **SMALL)}
TWO = ("serving_default", "raw")
LEARNED = served.train_rows()


class Served:
    """A model of random weights: its graph, and what must come out."""

    def __init__(self, prepared, manifest, config, change=None, **arguments):
        self.trained = served.random_model(
            config, served.without_dims(manifest) if config.input_layer == "sum" else manifest)
        if change is not None:
            self.trained = change(self.trained)
        self.dataset = self.trained.model.manifest.dataset
        self.formulas = served.Formulas(self.trained, LEARNED)
        with tf.Graph().as_default():
            self.client = served.Client.of_graph(ServingGraph(self.trained, prepared.data), **arguments)

    def by_values(self, sparse, dense):
        return self.client("serving_default", sparse_feature=np.asarray(sparse, np.int64),
                           dense_feature=np.asarray(dense, np.float32))

    def raw(self, cells, **changes):
        inputs = served.raw_inputs(self.dataset, cells)
        inputs.update(changes)
        return self.client("raw", **inputs)

    def examples(self, *serialized):
        return self.client("examples", examples=np.array(serialized, object))


@pytest.fixture(scope="module")
def plain(prepared, manifest):
    return Served(prepared, manifest, CONFIGS["concat"])


@pytest.mark.parametrize("config", ["concat", pytest.param("sum", marks=pytest.mark.long)])
def test_every_signature_computes_what_the_documentation_says(config, plain, prepared, manifest):
    model = plain if config == "concat" else Served(prepared, manifest, CONFIGS[config])
    cells = served.odd_rows() + served.served_rows(30, 3)
    expected = model.formulas.outputs(cells)
    assert list(expected) == served.OUTPUTS
    sparse, dense = model.formulas.sparse(cells), model.formulas.dense(cells)
    served.assert_agree(model.raw(cells), expected, 2e-6, 2e-5)
    served.assert_agree(model.by_values(sparse, dense), expected, 2e-6, 2e-5)
    raw = served.raw_inputs(model.dataset, cells)
    named = [served.example(**{name: column[row, 0] if column.dtype == object else [float(column[row, 0])]
                               for name, column in raw.items()}) for row in range(len(cells))]
    served.assert_agree(model.examples(*named), expected, 2e-6, 2e-5)
    vectors = [served.example(sparse_feature=sparse[row], dense_feature=dense[row].astype(float))
               for row in range(len(cells))]
    served.assert_agree(model.examples(*vectors), expected, 2e-6, 2e-5)
    # A value that changes nothing would make all this agree too.
    assert len(np.unique(expected["click"])) > 40 and len(np.unique(expected["watch"])) > 40


@pytest.mark.parametrize("column, texts", [
    ("item", ["never seen", "i1,i2", "I1", "i1.0", "?", b"\xff\xfe", "\0", "x" * 100000, " absent"]),
    ("city", ["Paris", "rome", "NULLL", b"\xff"])])
def test_what_the_vocabulary_lacks_is_the_unknown_value(plain, column, texts):
    cells = served.served_rows(1, 5)
    sparse, dense = plain.formulas.sparse(cells), plain.formulas.dense(cells)
    place = {"item": 1, "city": 10}[column]
    known = sparse.copy()
    known[0, place] = 2
    sparse[0, place] = 0
    expected = plain.by_values(sparse, dense)
    assert plain.by_values(known, dense)["click"] != expected["click"]
    for text in texts:
        served.assert_agree(plain.raw(cells, **{column: np.array([[text]], object)}), expected, 0, 0)
        by_name = served.example(sparse_feature=known[0], dense_feature=dense[0].astype(float), **{column: text})
        served.assert_agree(plain.examples(by_name), expected, 0, 0)


def test_values_that_no_vocabulary_has(plain):
    cells = served.served_rows(1, 5)
    sparse, dense = plain.formulas.sparse(cells), plain.formulas.dense(cells)
    sparse[0, :5] = [sparse[0, 0], 0, 0, -1, -1]
    expected = plain.by_values(sparse, dense)
    size = plain.trained.model.manifest.vocabularies["item"].size
    for item, first, second in [(-1, size, -1), (-2 ** 63, 2 ** 62, -2 ** 63), (size, 2 ** 40, -7)]:
        changed = sparse.copy()
        changed[0, 1:4] = [item, first, second]
        served.assert_agree(plain.by_values(changed, dense), expected, 0, 0)


def test_numbers_out_of_range_and_missing(plain):
    cells = served.served_rows(1, 5)
    sparse, dense = plain.formulas.sparse(cells), plain.formulas.dense(cells)
    statistics = [plain.trained.model.manifest.dense_statistics[name] for name in ("price", "age", "score")]

    def of(*numbers):
        return plain.by_values(sparse, [numbers])

    nan, inf = np.nan, np.inf
    assert of(*dense[0])["click"] != of(dense[0, 0], dense[0, 1], 5.0)["click"]
    served.assert_agree(of(nan, nan, nan), of(2.5, statistics[1].mean, statistics[2].mean), 0, 0)
    served.assert_agree(of(inf, inf, 0), of(statistics[0].maximum, statistics[1].maximum, 0), 0, 0)
    served.assert_agree(of(-inf, -inf, 0), of(statistics[0].minimum, statistics[1].minimum, 0), 0, 0)
    for huge in (inf, -inf, 3e38, -3e38):
        found = of(1, 1, huge)
        assert all(0 <= found[name] <= 1 for name in found if name != "watch"), found


def test_what_an_example_leaves_out_is_missing(plain):
    means = [2.5] + [plain.trained.model.manifest.dense_statistics[name].mean for name in ("age", "score")]
    nothing = [0, 0] + [-1] * 8 + [0]
    # A hashed value that is not there is no hash at all; 0 has no row either.
    served.assert_agree(plain.examples(served.example()), plain.by_values([nothing], [means]), 0, 0)
    cells = served.served_rows(1, 5)
    sparse, dense = plain.formulas.sparse(cells), plain.formulas.dense(cells)
    served.assert_agree(plain.examples(served.example(sparse_feature=sparse[0])), plain.by_values(sparse, [means]),
                        0, 0)
    both = served.example(sparse_feature=sparse[0], dense_feature=dense[0].astype(float), seen="i1, i2", score=[0.25],
                          unrelated=3)
    changed = sparse.copy()
    order = plain.formulas.texts.indexes("item")
    changed[0, 2:5] = [order["i1"], order["i2"], -1]
    served.assert_agree(plain.examples(both), plain.by_values(changed, [[dense[0, 0], dense[0, 1], 0.25]]), 0, 0)


@pytest.mark.parametrize("features", [
    {"sparse_feature": [1, 2]}, {"dense_feature": [1.0]}, {"item": 3}, {"price": 3}, {"price": "1"},
    {"item": ["i1", "i2"]}, {"seen": ["i1", "i2"]}, {"price": [1.0, 2.0]}])
def test_a_malformed_example_is_an_invalid_argument(plain, features):
    with pytest.raises(tf.errors.InvalidArgumentError):
        plain.examples(served.example(), served.example(**features))


@pytest.mark.parametrize("data", [b"\xff\xfe no proto", b"hello"])
def test_bytes_that_are_no_example_are_an_invalid_argument(plain, data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        plain.examples(data)


def test_other_shapes_are_invalid_arguments(plain):
    for sparse, dense in (((1, 10), (1, 3)), ((1, 12), (1, 3)), ((1, 11), (1, 4)), ((1, 11), (2, 3)), ((11,), (3,))):
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError)):
            plain.by_values(np.zeros(sparse), np.zeros(dense))
    cells = served.served_rows(2, 5)
    for changes in ({"item": np.array([["a", "b"]] * 2, object)}, {"item": np.array([["a"]], object)},
                    {"item": np.array(["a", "b"], object)}, {"price": np.zeros((2, 2), np.float32)}):
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError)):
            plain.raw(cells, **changes)


def test_no_rows_are_no_outputs(plain):
    for found in (plain.by_values(np.zeros((0, 11)), np.zeros((0, 3))), plain.examples(),
                  plain.raw([], **{feature.name: np.zeros((0, 1), object if feature in plain.dataset.categorical
                                                          else np.float32) for feature in plain.dataset.features})):
        assert sorted(found) == sorted(served.OUTPUTS) and all(value.shape == (0,) for value in found.values())


def test_the_outputs_of_a_row_do_not_depend_on_its_batch(plain):
    cells = served.odd_rows()
    together = plain.raw(cells)
    for place in range(0, len(cells), 5):
        served.assert_agree(plain.raw(cells[place:place + 1]), {
            name: value[place:place + 1] for name, value in together.items()}, 3e-7, 2e-6)


def test_tables_without_rows_contribute_nothing(prepared, manifest):
    def emptied(trained):
        tables = {name: Table(np.zeros(0, np.int64), np.zeros((0, table.rows.shape[1]), np.float32))
                  for name, table in trained.tables.items()}
        return dataclasses.replace(trained, tables=tables)

    model = Served(prepared, manifest, CONFIGS["concat"], emptied, names=TWO)
    cells = served.odd_rows()
    expected = model.formulas.outputs(cells)
    served.assert_agree(model.raw(cells), expected, 2e-6, 2e-5)
    served.assert_agree(model.by_values(model.formulas.sparse(cells), model.formulas.dense(cells)), expected,
                        2e-6, 2e-5)


@pytest.mark.parametrize("kept", ["categorical", "numeric"])
def test_a_dataset_of_one_kind_of_features(prepared, manifest, kept):
    """Only texts or only numbers: the vector of the other kind is no input."""
    dropped = "numeric" if kept == "categorical" else "categorical"
    tables = [table for table in manifest.dataset.tables if kept == "categorical" or table.name == "embeddings"]
    dataset = dataclasses.replace(manifest.dataset, tables=tuple(tables), group="", **{dropped: ()})
    one_kind = dataclasses.replace(manifest, dataset=dataset)
    model = Served(prepared, one_kind, CONFIGS["concat"], names=TWO)
    cells = served.odd_rows()
    if kept == "categorical":
        values, name = model.formulas.sparse(cells), "sparse_feature"
    else:
        values, name = model.formulas.dense(cells), "dense_feature"
    found = model.client("serving_default", **{name: values})
    served.assert_agree(model.raw(cells), found, 0, 0)
    other = served.Formulas(model.trained, LEARNED)
    if kept == "numeric":
        served.assert_agree(found, other.outputs(cells), 2e-6, 2e-5)
    assert len(np.unique(found["click"])) > 5


def test_two_values_of_one_fingerprint_are_refused(prepared, manifest, monkeypatch):
    monkeypatch.setattr(graph, "_FINGERPRINTS", 7)
    with tf.Graph().as_default(), pytest.raises(UserError, match="same 63-bit fingerprint.*hash"):
        ServingGraph(served.random_model(CONFIGS["concat"], manifest), prepared.data)


def test_a_vocabulary_file_that_is_not_there_is_named(manifest, tmp_path):
    with tf.Graph().as_default(), pytest.raises(UserError, match="vocabulary.*cannot be read.*copy it"):
        ServingGraph(served.random_model(CONFIGS["concat"], manifest), str(tmp_path))


def test_a_changed_vocabulary_file_is_refused(prepared, manifest, tmp_path):
    shutil.copytree(prepared.data, str(tmp_path / "data"))
    path = next(info.path for info in manifest.vocabularies.values() if info.path)
    reverse_vocabulary(str(tmp_path / "data" / path))
    with tf.Graph().as_default(), pytest.raises(DataError, match="was changed after it was prepared: its SHA-256"):
        ServingGraph(served.random_model(CONFIGS["concat"], manifest), str(tmp_path / "data"))
