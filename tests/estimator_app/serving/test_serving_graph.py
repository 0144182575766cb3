"""The serving graph against a NumPy forward pass, and the files beside it."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tensorflow.core.framework import tensor_pb2

from estimator_app.serving import assets as serving_assets
from estimator_app.serving import reference as serving_reference
from estimator_app.serving.export import read_model
from estimator_app.serving.graph import Scorer, assign_weights, build_ids_signature
from estimator_app.serving.weights import network_shape, read_weights
from feature_specs.encoding import make_encoding
from feature_specs.errors import UserError
from tests.estimator_app.serving.serving_models import STEP, make_model, server_call, write_checkpoint


def score(model, ids, dense):
    """Probabilities [n, tasks] of the serving_default signature; fed past Python's shape checks, as a server does."""
    dataset = model.manifest.dataset
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        scorer = Scorer(dataset, network_shape(model.config, dataset), model.encoding)
        signature = build_ids_signature(scorer, dataset)
        assign_weights(session, model.weights, dataset.table_name)
        call = server_call(session, [signature.inputs[name].name for name in ("sparse_feature", "dense_feature")],
                           [signature.outputs[task].name for task in dataset.task_names])
        return np.concatenate(call(np.asarray(ids, np.int64), np.asarray(dense, np.float32)), axis=1)


def encode_in_numpy(ids, dense, model):
    """Encoding written from its definition; returns all ids and normalised values."""
    statistics = [model.manifest.dense_statistics[column] for column in model.manifest.dataset.dense_columns]
    known = np.where(np.isnan(dense), np.float32([item.mean for item in statistics]), dense).astype(np.float64)
    columns = [ids]
    for row, place in enumerate(model.encoding.binned_columns):
        columns.append((np.searchsorted(model.encoding.bin_edges[row], known[:, place].astype(np.float32), side="left")
                        + model.encoding.bin_offsets[row])[:, None])
    if model.config.dense_transform != "none":
        known = np.clip(known, [item.minimum for item in statistics], [item.maximum for item in statistics])
    if model.config.dense_transform == "log_standard":
        known = np.sign(known) * np.log1p(np.abs(known))
        known = (known - [item.log_mean for item in statistics]) / [item.log_std for item in statistics]
    elif model.config.dense_transform == "standard":
        known = (known - [item.mean for item in statistics]) / [item.std for item in statistics]
    return np.concatenate(columns, axis=1), known


def expected(model, ids, dense):
    """Probabilities [n, tasks] from the formulas."""
    all_ids, normalised = encode_in_numpy(ids, dense, model)
    found = serving_reference.numpy_probabilities(
        all_ids, normalised, model.weights.dense, model.weights.table,
        network_shape(model.config, model.manifest.dataset))
    return np.stack([found[task] for task in model.manifest.dataset.task_names], axis=1)


@pytest.mark.parametrize("settings", [
    {}, {"dense_bins": 0}, {"dense_transform": "standard", "use_multi_lookup": True},
    {"dense_transform": "none", "dense_bins": 8}, {"drop_dense": ("x",), "expert_num": 1},
    {"network_num": 3}, {"model": "shared_bottom"}, {"model": "ple", "task_expert_num": 3, "network_num": 2}])
def test_graph_equals_the_formulas(tmp_path, settings):
    config, _, arrays = make_model(tmp_path, **settings)
    model = read_model(config.model_dir, "latest")
    ids, dense, _ = arrays["test"]
    dense = dense.copy()
    dense[3, 0] = np.nan
    if not settings.get("drop_dense"):
        np.testing.assert_allclose(score(model, ids, dense), expected(model, ids, dense), atol=5e-6)
    found = score(model, ids, dense)
    assert found.shape == (50, 3) and found.std(axis=0).min() > 0.01


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config, _, arrays = make_model(tmp_path_factory.mktemp("serving"))
    return read_model(config.model_dir, "latest"), arrays["test"]


def test_an_id_without_a_row_adds_nothing(trained):
    model, (ids, dense, _) = trained
    missing = np.flatnonzero(~model.weights.table[:-1].any(axis=1))
    assert len(missing) == 3
    changed = [ids[:1].copy() for _ in range(4)]
    for value, array in zip((missing[0], -7, model.encoding.num_ids, 2 ** 62), changed):
        array[0, 1] = value
    found = score(model, np.concatenate(changed), np.repeat(dense[:1], 4, axis=0))
    np.testing.assert_allclose(found, np.repeat(found[:1], 4, axis=0), atol=1e-7)


def test_nan_is_the_mean_and_infinities_are_the_training_range(trained):
    model, (ids, _, _) = trained
    statistics = [model.manifest.dense_statistics[column] for column in model.manifest.dataset.dense_columns]
    given = [[np.nan, np.nan], [np.inf, -np.inf], [3e38, -3e38]]
    extremes = [statistics[0].maximum, statistics[1].minimum]
    same = [[item.mean for item in statistics], extremes, extremes]
    np.testing.assert_allclose(score(model, ids[:3], given), score(model, ids[:3], same), atol=1e-7)


def test_infinities_without_normalisation_give_probabilities(tmp_path):
    config, _, arrays = make_model(tmp_path, dense_transform="none", dense_bins=0)
    model = read_model(config.model_dir, "latest")
    found = score(model, arrays["test"][0][:4],
                  [[np.inf, -np.inf], [3.4e38, 3.4e38], [np.nan, np.inf], [-np.inf, -np.inf]])
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1


@pytest.mark.parametrize("width,dense_width", [(2, 2), (4, 2), (3, 1), (3, 3)])
def test_a_wrong_width_is_an_invalid_argument(trained, width, dense_width):
    model, _ = trained
    with pytest.raises(tf.errors.InvalidArgumentError):
        score(model, np.zeros((2, width)), np.zeros((2, dense_width)))


def test_rows_that_do_not_match_and_no_rows(trained):
    model, _ = trained
    with pytest.raises(tf.errors.InvalidArgumentError):
        score(model, np.zeros((2, 3)), np.zeros((3, 2)))
    assert score(model, np.zeros((0, 3)), np.zeros((0, 2))).shape == (0, 3)


def test_eight_ranks_give_the_same_weights_as_one(tmp_path):
    one, _, _ = make_model(tmp_path / "one", ranks=1)
    eight, _, _ = make_model(tmp_path / "eight", ranks=8)
    first, second = read_model(one.model_dir, "latest").weights, read_model(eight.model_dir, "latest").weights
    np.testing.assert_array_equal(first.table, second.table)
    assert first.table_rows == len(first.table) - 4 and first.step == STEP
    assert not first.table[-1].any()


def test_a_dataset_without_dense_columns(tmp_path):
    config, manifest, arrays = make_model(tmp_path, dense_bins=0)
    dataset = dataclasses.replace(manifest.dataset, dense_columns=())
    manifest = dataclasses.replace(manifest, dataset=dataset, dense_statistics={})
    write_checkpoint(config, manifest, 30)
    encoding = make_encoding(manifest, "log_standard", 0)
    weights = read_weights(config.model_dir + "/model.ckpt-30", config, dataset, encoding)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = build_ids_signature(Scorer(dataset, network_shape(config, dataset), encoding), dataset)
        assign_weights(session, weights, dataset.table_name)
        assert set(signature.inputs) == {"sparse_feature"}
        found = session.run(signature.outputs, {signature.inputs["sparse_feature"]: arrays["test"][0]})
    assert found["click"].shape == (50, 1)


@pytest.mark.parametrize("change,words", [
    (lambda config: {"expert_num": 4}, "shape"),
    (lambda config: {"dense_bins": 0}, "key"),
])
def test_a_checkpoint_of_another_model_is_refused(tmp_path, change, words):
    config, manifest, _ = make_model(tmp_path)
    other = config.replace(**change(config))
    encoding = make_encoding(manifest, other.dense_transform, other.dense_bins)
    with pytest.raises(UserError, match=words):
        read_weights(config.model_dir + "/model.ckpt-20", other, manifest.dataset, encoding)


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    config, manifest, _ = make_model(tmp_path)
    write_checkpoint(config, manifest, 30, change=lambda dense, keys, rows: rows.__setitem__((0, 0), np.nan))
    with pytest.raises(UserError, match="not finite"):
        read_model(config.model_dir, "30")


def test_damaged_files_are_one_line(tmp_path):
    config, _, _ = make_model(tmp_path)
    with open(config.model_dir + "/model.ckpt-20.index", "wb") as stream:
        stream.write(b"junk")
    with pytest.raises(UserError, match="cannot be read") as caught:
        read_model(config.model_dir, "20")
    assert "\n" not in str(caught.value)


def test_vocabulary_lines_are_in_id_order(trained):
    manifest = trained[0].manifest
    lines = serving_assets.vocabulary_lines(manifest)
    assert len(lines) == manifest.num_ids()
    assert lines[0] == "a\ta0" and lines[6] == "b\tb0" and lines[5].startswith("a\t ")


def test_a_vocabulary_that_lookups_cannot_reach_is_refused(trained):
    manifest = trained[0].manifest
    for value in (" blank", "two\nlines", "return\r"):
        vocabularies = dict(manifest.vocabularies, a=("a0", value))
        with pytest.raises(UserError, match="column a"):
            serving_assets.vocabulary_lines(dataclasses.replace(manifest, vocabularies=vocabularies))


def serving_messages():
    """The server's messages, built from a description of their fields."""
    file = descriptor_pb2.FileDescriptorProto(name="serving.proto", package="t", syntax="proto3")
    fields = {"ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
              "Entry": [("key", 1, "string"), ("value", 2, "bytes")],
              "PredictRequest": [("model_spec", 1, ".t.ModelSpec"), ("inputs", 2, "*.t.Entry")],
              "PredictLog": [("request", 1, ".t.PredictRequest")],
              "PredictionLog": [("predict_log", 6, ".t.PredictLog")]}
    kinds = {"string": 9, "bytes": 12}
    for name, items in fields.items():
        message = file.message_type.add(name=name)
        for field, number, kind in items:
            message.field.add(name=field, number=number, label=3 if kind[0] == "*" else 1,
                              type=kinds.get(kind, 11), type_name=None if kind in kinds else kind.lstrip("*"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.MessageFactory(pool).GetPrototype(pool.FindMessageTypeByName("t.PredictionLog"))


def decode_log(data):
    """Returns (model name, signature, {input: array}) of a PredictionLog."""
    request = serving_messages().FromString(data).predict_log.request
    inputs = {entry.key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(entry.value)) for entry in request.inputs}
    return request.model_spec.name, request.model_spec.signature_name, inputs


def test_prediction_logs_decode():
    texts = np.array([["x" * 300], [""]], dtype=object)
    name, signature, inputs = decode_log(serving_assets.encode_prediction_log(
        "census", "raw", {"age": np.float32([[1.5], [2]]), "race": texts}))
    assert (name, signature) == ("census", "raw")
    np.testing.assert_array_equal(inputs["age"], np.float32([[1.5], [2]]))
    assert inputs["race"].tolist() == [[b"x" * 300], [b""]]
