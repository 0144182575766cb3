"""Checkpoints as serving reads them: every table and variable, whatever order the keys have, and what is refused."""
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.model_dir import sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from estimator_app.serving.weights import read_model
from feature_specs.errors import UserError
from tests.support import served

STEP = 12


def test_weights_are_those_of_the_checkpoint(place):
    trained = place.trained()
    checkpoint = Checkpoint(place.model, STEP)
    assert trained.checkpoint.step == STEP and sorted(trained.tables) == ["embeddings", "users"]
    reader = tf.train.load_checkpoint(checkpoint.path)
    assert len(trained.dense) > 10
    for name, value in trained.dense.items():
        np.testing.assert_array_equal(value, reader.get_tensor(name))
    for name, table in trained.tables.items():
        with open(os.path.join(checkpoint.tables, name, "key", "slice.data"), "rb") as stream:
            keys = np.frombuffer(stream.read(), np.int64)
        with open(os.path.join(checkpoint.tables, name, "embedding", "slice.data"), "rb") as stream:
            values = np.frombuffer(stream.read(), np.float32).reshape(len(keys), -1)
        assert values.shape[1] == {"embeddings": 4, "users": 3}[name] == table.rows.shape[1]
        np.testing.assert_array_equal(table.keys, np.sort(keys))
        expected = dict(zip(keys.tolist(), values.tolist()))
        assert dict(zip(table.keys.tolist(), table.rows.tolist())) == expected


def test_the_order_of_the_keys_does_not_matter(own):
    before = own.trained().tables["embeddings"]
    # As eight ranks write them: rank by rank, in the order of the ranks' names.
    served.rewrite_table(own.model, STEP, "embeddings", lambda keys, rows: tuple(
        part[np.argsort(keys % 8, kind="stable")] for part in (keys, rows)))
    os.remove(Checkpoint(own.model, STEP).path + ".checksums")
    keys = sparse_tables.read_keys(Checkpoint(own.model, STEP).tables, "embeddings")
    assert (np.diff(keys) < 0).any()
    after = own.trained().tables["embeddings"]
    np.testing.assert_array_equal(before.keys, after.keys)
    np.testing.assert_array_equal(before.rows, after.rows)


@pytest.mark.parametrize("change, message", [
    (lambda keys, rows: (None, None), "has no table users"),
    (lambda keys, rows: (keys, rows[:, :2]), "rows of 2 values.*make it 3.*another model"),
    (lambda keys, rows: (keys, np.where(rows == rows[1, 1], np.nan, rows).astype(np.float32)),
     "users holds.*not finite")])
def test_a_table_that_does_not_fit_is_refused(own, change, message):
    served.rewrite_table(own.model, STEP, "users", change)
    os.remove(Checkpoint(own.model, STEP).path + ".checksums")
    with pytest.raises(UserError, match=message):
        own.trained()


@pytest.mark.parametrize("settings, message", [
    ({"tower_layers": [9]}, "variable mmoe/tower_.* has shape.*another model"),
    ({"model": "ple"}, "has no variable ple/.*another model")])
def test_variables_that_do_not_fit_are_refused(own, settings, message):
    path = os.path.join(own.model, "args.json")
    with open(path) as stream:
        stored = json.load(stream)
    for stage in stored["stages"]:
        stage["config"].update(settings)
    stored.get("config", {}).update(settings)
    with open(path, "w") as stream:
        json.dump(stored, stream)
    with pytest.raises(UserError, match=message):
        own.trained()


@pytest.mark.parametrize("checkpoint, message", [("7", "7"), ("newest", "newest")])
def test_a_checkpoint_that_is_not_there_is_named(place, checkpoint, message):
    with pytest.raises(UserError, match=message):
        read_model(place.model, checkpoint)


def test_damaged_files_are_refused(own):
    path = Checkpoint(own.model, STEP).path + ".data-00000-of-00001"
    with open(path, "r+b") as stream:
        stream.truncate(100)
    with pytest.raises(UserError, match="step 12 is not whole.*data-00000-of-00001"):
        read_model(own.model, str(STEP))
    os.remove(Checkpoint(own.model, STEP).path + ".checksums")
    with pytest.raises(UserError, match="ckpt-12 cannot be read"):
        read_model(own.model, str(STEP))
