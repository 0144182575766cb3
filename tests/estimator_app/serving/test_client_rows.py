"""Rows in the forms of clients: the texts mean what is said of them, by the row-by-row oracle of preparation."""
import dataclasses

import numpy as np
import pytest

from estimator_app.serving import client_rows
from tests.support import rows, served


@pytest.fixture(scope="module")
def oracle(manifest):
    return rows.Oracle(manifest.dataset, served.COLUMNS).learn(served.train_rows())


def cells_of(inputs, dataset):
    """The inputs of ``raw`` as cells of a file."""
    columns = {feature.name: feature.column for feature in dataset.features}
    count = len(next(iter(inputs.values())))
    made = [dict.fromkeys(served.COLUMNS, "") for _ in range(count)]
    for name, values in inputs.items():
        for row, value in enumerate(values[:, 0].tolist()):
            made[row][columns[name]] = value if isinstance(value, str) else "" if value != value else repr(value)
    return [[row[column] for column in served.COLUMNS] for row in made]


def test_texts_mean_what_is_said_of_them(prepared, manifest, oracle):
    cells = served.odd_rows() + served.test_rows()
    sparse = np.array([oracle.sparse(row) for row in cells])
    dense = np.random.RandomState(0).normal(size=(len(cells), 3)).astype(np.float32)
    dense[3, 1] = np.nan
    inputs, meant = client_rows.named(sparse, dense, manifest, prepared.data)
    assert sorted(inputs) == sorted(feature.name for feature in manifest.dataset.features)
    np.testing.assert_array_equal([oracle.sparse(row) for row in cells_of(inputs, manifest.dataset)], meant)
    np.testing.assert_array_equal(np.concatenate([inputs[name] for name in ("price", "age", "score")], axis=1), dense)
    hashed = np.repeat([feature.encoding == "hash" for feature in manifest.dataset.categorical],
                       [feature.width for feature in manifest.dataset.categorical])
    # Only hashes have lost their texts.
    np.testing.assert_array_equal(meant[:, ~hashed], sparse[:, ~hashed])
    np.testing.assert_array_equal((meant == -1)[:, hashed], (sparse == -1)[:, hashed])


def test_values_that_cannot_stand_in_a_list_become_unknown(prepared, manifest, oracle):
    """``item`` has values with the separator of ``seen``, which shares its vocabulary; ``?`` is a missing text."""
    categorical = tuple(dataclasses.replace(feature, separator="1") if feature.name == "seen" else feature
                        for feature in manifest.dataset.categorical)
    files = dataclasses.replace(manifest.dataset.files, missing=("", "NULL", "?"))
    dataset = dataclasses.replace(manifest.dataset, categorical=categorical, files=files)
    changed = dataclasses.replace(manifest, dataset=dataset)
    names = {index: text for text, index in oracle.indexes("item").items()}
    assert any("1" in text for text in names.values())
    sparse = np.full((len(names), dataset.sparse_width), -1, np.int64)
    sparse[:, [0, 10]] = 0
    sparse[:, 1] = sorted(names)
    sparse[:, 2] = sorted(names)
    inputs, meant = client_rows.named(sparse, np.zeros((len(names), 3), np.float32), changed, prepared.data)
    for row, index in enumerate(sorted(names)):
        assert inputs["item"][row, 0] == names[index] and meant[row, 1] == index
        bad = "1" in names[index]
        assert meant[row, 2] == (0 if bad else index)
        assert inputs["seen"][row, 0] == ("!" if bad else names[index])
    assert set(inputs["city"][:, 0]) == {"!"}


def test_vectors_of_no_width_are_no_inputs():
    sparse, dense = np.zeros((2, 3), np.int64), np.zeros((2, 0), np.float32)
    assert list(client_rows.vectors(sparse, dense)) == ["sparse_feature"]
    assert list(client_rows.vectors(sparse[:, :0], np.zeros((2, 1), np.float32))) == ["dense_feature"]
