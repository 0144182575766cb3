"""An exported model as its clients see it: files, signatures, real command-line clients, bad requests, deltas."""
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from estimator_app.serving import assets as serving_assets
from estimator_app.serving import export, export_check, export_delta
from estimator_app.serving.export import CheckRows, calls, export_model, read_model
from feature_specs.errors import UserError
from tests.estimator_app.serving.serving_models import STEP, make_model, server_call, write_checkpoint
from tests.estimator_app.serving.test_serving_graph import decode_log

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TASKS = ("click", "buy", "stay")
TF2_CLIENT = """
import json, sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
given = np.load(sys.argv[2])
print(tf.__version__)
raw = {name: tf.constant(given[name].astype(object) if given[name].dtype.kind == "U" else given[name])
       for name in given.files}
found = model.signatures["raw"](**raw)
print(json.dumps({task: value.numpy()[:, 0].tolist() for task, value in found.items()}))
print(json.dumps({name: sorted(f.structured_outputs) for name, f in model.signatures.items()}))
"""


class Exported:
    """An exported model of eight ranks' checkpoint, and calls of its signatures."""

    def __init__(self, root):
        # Without the prepared data the check predicts from the checkpoint's arrays: no Estimator, quick.
        self.config, self.manifest, arrays = make_model(root, ranks=8, keep_data=False)
        self.base = os.path.join(str(root), "served")
        self.path = export_model(self.config.model_dir, "latest", self.base, check_rows=64)
        self.model = read_model(self.config.model_dir, "latest")
        self.ids, self.dense, _ = arrays["test"]
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        self.server_calls = {}
        with self.session.graph.as_default():
            self.signatures = tf.compat.v1.saved_model.load(self.session, ["serve"], self.path).signature_def

    def __call__(self, signature, inputs):
        """Probabilities float32 [n, tasks]; all checks are left to the graph."""
        definition = self.signatures[signature]
        names = sorted(definition.inputs)
        if signature not in self.server_calls:
            self.server_calls[signature] = server_call(
                self.session, [definition.inputs[name].name for name in names],
                [definition.outputs[task].name for task in TASKS])
        return np.concatenate(self.server_calls[signature](*[np.asarray(inputs[name]) for name in names]), axis=1)

    def calls(self, rows=50):
        return calls(CheckRows(self.ids[:rows], self.dense[:rows], {}, ""), self.manifest)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("export"))


def text(values):
    return np.array([[value] for value in values], dtype=object)


def raw_inputs(exported, **changes):
    inputs = {name: value[:1] for name, value in exported.calls(1)["raw"].items()}
    inputs = {name: value.astype(object) if value.dtype.kind == "U" else value for name, value in inputs.items()}
    inputs.update(changes)
    return inputs


def test_files_of_a_version(exported):
    assert sorted(os.listdir(exported.base)) == ["1"] and os.path.basename(exported.path) == "1"
    found = {os.path.relpath(os.path.join(folder, name), exported.path)
             for folder, _, names in os.walk(exported.path) for name in names}
    assert {"saved_model.pb", "model_card.json", "assets/vocabulary.txt", "assets.extra/tf_serving_warmup_requests",
            "variables/variables.index"} <= found
    with open(os.path.join(exported.path, "saved_model.pb"), "rb") as stream:
        assert os.path.dirname(exported.base).encode() not in stream.read()
    with open(os.path.join(exported.path, "model_card.json")) as stream:
        card = json.load(stream)
    assert card["checkpoint_step"] == STEP and card["tasks"] == list(TASKS)
    assert card["encoding_sha256"] == exported.manifest.encoding_fingerprint()
    assert set(card["check"]["differences"]) == {"serving_default", "examples", "raw"}


def test_the_three_signatures_agree(exported):
    forms = exported.calls()
    by_ids = exported("serving_default", forms["serving_default"])
    raw = exported("raw", {name: value.astype(object) if value.dtype.kind == "U" else value
                           for name, value in forms["raw"].items()})
    examples = exported("examples", {"examples": np.array(forms["examples"]["examples"], dtype=object)})
    assert by_ids.shape == (50, 3) and by_ids.dtype == np.float32
    np.testing.assert_array_equal(by_ids, raw)
    np.testing.assert_array_equal(by_ids, examples)


def test_blanks_do_not_matter_and_unknown_values_are_out_of_vocabulary(exported):
    plain = exported("raw", raw_inputs(exported, a=text(["a3"])))
    np.testing.assert_array_equal(plain, exported("raw", raw_inputs(exported, a=text(["  a3\t "]))))
    ids = exported.ids[:1].copy()
    ids[0, 0] = len(exported.manifest.vocabularies["a"])
    unknown = exported("serving_default", {"sparse_feature": ids, "dense_feature": exported.dense[:1]})
    assert (plain != unknown).all()
    for value in ("", "zzz", "b1", "(any other value)", " (any other value)", "A3", b"\xff\xfe", "\0", "x" * 100000):
        np.testing.assert_array_equal(unknown, exported("raw", raw_inputs(exported, a=text([value]))))


def test_what_an_example_leaves_out_has_its_default(exported):
    first = {name: value[0] for name, value in exported.calls(1)["serving_default"].items()}
    unknown = [size + offset for size, offset in zip(
        (len(exported.manifest.vocabularies[column]) for column in "abc"), exported.manifest.id_offsets().values())]
    mean = [exported.manifest.dense_statistics[column].mean for column in "xy"]

    def one(features):
        return exported("examples", {"examples": np.array([serving_assets.encode_example(features)], dtype=object)})

    def by_ids(ids, dense):
        return exported("serving_default", {"sparse_feature": np.int64([ids]), "dense_feature": np.float32([dense])})

    np.testing.assert_array_equal(one({}), by_ids(unknown, mean))
    np.testing.assert_array_equal(one({"sparse_feature": first["sparse_feature"]}),
                                  by_ids(first["sparse_feature"], mean))
    np.testing.assert_array_equal(one({"b": " b2", "y": 1.5, "unrelated": 3}),
                                  by_ids([unknown[0], exported.manifest.id_offsets()["b"] + 2, unknown[2]],
                                         [mean[0], 1.5]))
    changed = dict(first, a="a1", x=2.0)
    ids = [1] + list(first["sparse_feature"][1:])
    np.testing.assert_array_equal(one(changed), by_ids(ids, [2.0, first["dense_feature"][1]]))


@pytest.mark.parametrize("features", [
    {"sparse_feature": np.int64([1, 2])}, {"dense_feature": np.float32([1, 2, 3])}, {"a": 1}, {"x": 3}, {"x": "1"},
    {"a": ["a1", "a2"]}])
def test_a_malformed_example_is_an_invalid_argument(exported, features):
    data = np.array([serving_assets.encode_example(features)], dtype=object)
    with pytest.raises(tf.errors.InvalidArgumentError):
        exported("examples", {"examples": data})


@pytest.mark.parametrize("shape", [(2, 2), (1, 2), (2,), (), (2, 1, 1), (3, 1)])
def test_a_column_of_another_shape_is_an_invalid_argument(exported, shape):
    with pytest.raises(tf.errors.InvalidArgumentError):
        exported("raw", raw_inputs(exported, x=np.ones(shape, np.float32)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        exported("raw", raw_inputs(exported, a=np.full(shape, "a1", dtype=object)))


def score_or_refuse(call, *arguments):
    """Calls; a refusal must be an InvalidArgument, probabilities must be numbers in [0, 1]."""
    try:
        found = call(*arguments)
    except tf.errors.InvalidArgumentError:
        return 0
    assert found.dtype == np.float32 and ((found >= 0) & (found <= 1)).all()
    return len(found)


NUMBERS = st.lists(st.floats(width=32) | st.sampled_from([float("nan"), float("inf"), float("-inf"), 3.4e38, -0.0]),
                   min_size=1, max_size=12)
TEXTS = st.lists(st.text(max_size=20) | st.binary(max_size=20) | st.sampled_from(["", " ", "a1", " b2 ", "\0", "c\t0"]),
                 min_size=1, max_size=12)


def test_ten_thousand_random_rows(exported):
    scored = []

    @settings(max_examples=100, database=None, derandomize=True,
              suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(TEXTS, NUMBERS, st.lists(st.integers(-2 ** 63, 2 ** 63 - 1), min_size=1, max_size=12),
           st.binary(max_size=60), st.integers(0, 2 ** 31 - 1), st.integers(1, 4))
    def rows(texts, numbers, ids, junk, seed, width):
        random = np.random.RandomState(seed)
        count = 100
        raw = {column: text([texts[index] for index in random.randint(len(texts), size=count)]) for column in "abc"}
        raw.update((column, np.float32(numbers)[random.randint(len(numbers), size=(count, 1))]) for column in "xy")
        by_ids = {"sparse_feature": np.int64(ids)[random.randint(len(ids), size=(count, 3))],
                  "dense_feature": np.concatenate([raw["x"], raw["y"]], axis=1)}
        scored.append(score_or_refuse(exported, "raw", raw))
        assert score_or_refuse(exported, "serving_default", by_ids) == count
        known = [serving_assets.encode_example({"a": "a1", "x": raw["x"][row, 0], "b": str(raw["b"][row, 0])})
                 for row in range(10)]
        assert score_or_refuse(exported, "examples", {"examples": np.array(known, dtype=object)}) == 10
        damaged = bytearray(known[0])
        damaged[seed % len(damaged)] ^= 1 + seed % 255
        for broken in (junk, bytes(damaged), known[0][:seed % len(known[0])]):
            score_or_refuse(exported, "examples", {"examples": np.array(known[:3] + [broken], dtype=object)})
        wide = dict(raw, x=np.ones((count, width), np.float32))
        assert score_or_refuse(exported, "raw", wide) == (count if width == 1 else 0)
        wide = dict(by_ids, sparse_feature=np.zeros((count, width), np.int64))
        assert score_or_refuse(exported, "serving_default", wide) == (count if width == 3 else 0)

    rows()
    assert sum(scored) == 100 * len(scored) >= 10000


def test_only_ops_of_a_fresh_tensorflow(exported):
    with open(os.path.join(exported.path, "saved_model.pb"), "rb") as stream:
        graph = saved_model_pb2.SavedModel.FromString(stream.read()).meta_graphs[0].graph_def
    used = {node.op for node in graph.node} | {node.op for item in graph.library.function for node in item.node_def}
    script = ("from tensorflow.python.framework import op_def_registry, ops\n"
              "import tensorflow as tf\n"
              "print('\\n'.join(sorted(op_def_registry.get_registered_ops())))")
    listed = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True,
                            cwd=exported.path)
    assert len(used) > 20 and used <= set(listed.stdout.split())


def test_warm_up_requests_decode_and_score(exported):
    path = os.path.join(exported.path, serving_assets.WARMUP_PATH)
    requests = [decode_log(record) for record in tf.compat.v1.io.tf_record_iterator(path)]
    assert sorted({signature for _, signature, _ in requests}) == ["examples", "raw", "serving_default"]
    sizes = {len(exported(signature, inputs)) for _, signature, inputs in requests}
    assert {name for name, _, _ in requests} == {"small"} and sizes == {1, 32}


def test_versions_count_up_and_bad_exports_leave_nothing(exported, tmp_path, monkeypatch):
    base = str(tmp_path / "served")
    shutil.copytree(exported.path, os.path.join(base, "9"))
    os.mkdir(os.path.join(base, "not-a-version"))
    assert export_model(exported.config.model_dir, "20", base, check_rows=8) == os.path.join(base, "10")

    def other_weights(session, weights, table_name):
        dense = {name: value + np.float32(1e-3) for name, value in weights.dense.items()}
        export_assign(session, weights._replace(dense=dense), table_name)

    export_assign, write = export.assign_weights, export.write_saved_model

    def write_other(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(export, "assign_weights", other_weights)
            write(*arguments)

    monkeypatch.setattr(export, "write_saved_model", write_other)
    with pytest.raises(UserError, match="differs by .* allowed: 1e-06"):
        export_model(exported.config.model_dir, "latest", base, check_rows=8)
    assert sorted(os.listdir(base)) == ["10", "9", "not-a-version"]
    with pytest.raises(UserError, match="nothing is exported"):
        export_model(exported.config.model_dir, "latest", str(tmp_path / "new"), check_rows=8)
    assert not (tmp_path / "new").exists()


def test_wrong_requests_for_an_export_are_one_line(exported, tmp_path):
    with pytest.raises(UserError, match="train first"):
        export_model(str(tmp_path / "nowhere"), "latest", str(tmp_path / "out"))
    with pytest.raises(UserError, match="step 7"):
        export_model(exported.config.model_dir, "7", str(tmp_path / "out"))
    with pytest.raises(UserError, match="does not exist"):
        export_model(exported.config.model_dir, "latest", str(tmp_path / "out"), data_dir=str(tmp_path / "no_data"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        export_model(exported.config.model_dir, "latest", str(tmp_path / "file"))
    assert not (tmp_path / "out").exists()


def test_the_check_finds_every_difference(exported, tmp_path):
    forms, rows = exported.calls(4), str(tmp_path / "rows.npz")
    truth = exported("serving_default", forms["serving_default"])
    export_check.save_rows(rows, forms, {task: truth[:, place] for place, task in enumerate(TASKS)})
    assert export_check.main(["--saved_model", exported.path, "--rows", rows]) == 0
    truth[2, 1] += 2e-6
    export_check.save_rows(rows, forms, {task: truth[:, place] for place, task in enumerate(TASKS)})
    assert export_check.main(["--saved_model", exported.path, "--rows", rows]) == 1


def test_export_and_prediction_never_import_the_sdk(exported):
    script = ("import sys\nimport estimator_app.serving.export, estimator_app.serving.predict\n"
              "import estimator_app.serving.export_delta\n"
              "print([name for name in sys.modules if name.split('.')[0] in ('mx_rec', 'npu_bridge', 'hccl')])")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True,
                          cwd=PROJECT)
    assert done.stdout.strip() == "[]"


def test_the_check_uses_the_estimators_own_predictions(tmp_path):
    config, _, _ = make_model(tmp_path, line_per_sample=3)
    path = export_model(config.model_dir, "latest")
    assert path == os.path.join(config.model_dir, "export", "1")
    with open(os.path.join(path, "model_card.json")) as stream:
        check = json.load(stream)["check"]
    assert check["rows"] == 50 and "Estimator" in check["source"]
    assert max(max(tasks.values()) for tasks in check["differences"].values()) <= 1e-6


def cli(*arguments):
    program = os.path.join(os.path.dirname(sys.executable), "saved_model_cli")
    done = subprocess.run([program] + list(arguments), capture_output=True, text=True, check=False,
                          env=dict(os.environ, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="3"))
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("signature", ["serving_default", "examples", "raw"])
def test_saved_model_cli_runs_every_signature(exported, tmp_path, signature):
    if signature == "raw":
        given = ["--input_exprs", "a=[['a1'],['zzz']];b=[[' b2'],['']];c=[['c0'],['c1']];"
                                  "x=np.float32([[1],[2]]);y=np.float32([[3],[np.nan]])"]
        expected = exported("raw", {"a": text(["a1", "zzz"]), "b": text(["b2", ""]), "c": text(["c0", "c1"]),
                                    "x": np.float32([[1], [2]]), "y": np.float32([[3], [np.nan]])})
    elif signature == "examples":
        given = ["--input_examples", "examples=[{'sparse_feature':[1,7,15],'x':[1.0]},{}]"]
        data = [serving_assets.encode_example({"sparse_feature": np.int64([1, 7, 15]), "x": 1.0}),
                    serving_assets.encode_example({})]
        expected = exported("examples", {"examples": np.array(data, dtype=object)})
    else:
        np.save(str(tmp_path / "ids.npy"), exported.ids[:2])
        given = ["--inputs", "sparse_feature=%s/ids.npy" % tmp_path,
                 "--input_exprs", "dense_feature=np.float32([[1,2],[3,4]])"]
        expected = exported("serving_default", {"sparse_feature": exported.ids[:2],
                                                "dense_feature": np.float32([[1, 2], [3, 4]])})
    cli("run", "--dir", exported.path, "--tag_set", "serve", "--signature_def", signature, "--outdir", str(tmp_path),
        *given)
    found = np.concatenate([np.load(str(tmp_path / ("%s.npy" % task))) for task in TASKS], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_saved_model_cli_shows_the_signatures(exported):
    shown = cli("show", "--dir", exported.path, "--all")
    for name in ("serving_default", "examples", "raw"):
        assert "signature_def['%s']" % name in shown
    assert re.search(r"inputs\['sparse_feature'\] tensor_info:\s+dtype: DT_INT64\s+shape: \(-1, 3\)", shown)
    assert re.search(r"outputs\['buy'\] tensor_info:\s+dtype: DT_FLOAT\s+shape: \(-1, 1\)", shown)


def test_tensorflow_2_serves_it(exported, tmp_path):
    python = os.environ.get("TF2_PYTHON")
    if not python:
        pytest.skip("TF2_PYTHON does not name a Python that has TensorFlow 2; \"setup --tf2\" makes one")
    raw = exported.calls(16)["raw"]
    np.savez(str(tmp_path / "raw.npz"), **raw)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, "-c", TF2_CLIENT, exported.path, str(tmp_path / "raw.npz")], capture_output=True,
                          text=True, check=False, env=dict(environment, TF_CPP_MIN_LOG_LEVEL="3"))
    assert done.returncode == 0, done.stderr[-2000:]
    version, found, signatures = done.stdout.splitlines()[-3:]
    assert version.startswith("2.")
    assert all(sorted(outputs) == sorted(TASKS) for outputs in json.loads(signatures).values())
    expected = exported("raw", {name: value.astype(object) if value.dtype.kind == "U" else value
                                for name, value in raw.items()})
    for place, task in enumerate(TASKS):
        # Two TensorFlow versions round logarithms and products differently.
        np.testing.assert_allclose(json.loads(found)[task], expected[:, place], atol=1e-5)


def test_a_delta_makes_what_a_full_export_would(exported, tmp_path):
    config, base = exported.config, str(tmp_path / "served")
    shutil.copytree(exported.path, os.path.join(base, "1"))
    write_checkpoint(config, exported.manifest, 25, change=lambda dense, keys, rows: (
        rows.__setitem__(slice(0, 2), rows[:2] + 1), dense["mmoe/first_layer/bias"].__iadd__(0.5)))
    try:
        delta = export_delta.export_delta(config.model_dir, "25", STEP, base)
        with np.load(os.path.join(delta, "delta.npz")) as arrays:
            assert len(arrays["keys"]) == 2 and arrays["rows"].shape == (2, 3 * 4 + 3 * 3)
            assert [name for name in arrays.files if name.startswith("dense:")] == ["dense:mmoe/first_layer/bias"]
        refreshed = export_delta.apply_delta(os.path.join(base, "1"), delta)
        assert os.path.basename(refreshed) == "2"
        full = export_model(config.model_dir, "25", base, check_rows=8)
        found = [tf.train.load_checkpoint(os.path.join(path, "variables", "variables")) for path in (refreshed, full)]
        for name in found[1].get_variable_to_shape_map():
            np.testing.assert_array_equal(found[0].get_tensor(name), found[1].get_tensor(name))
        rows = str(tmp_path / "rows.npz")
        model = read_model(config.model_dir, "25")
        expected = export._graph_expected(model, exported.ids[:8], exported.dense[:8])
        export_check.save_rows(rows, exported.calls(8), expected)
        assert export_check.main(["--saved_model", refreshed, "--rows", rows]) == 0
        with pytest.raises(UserError, match="does not belong"):
            export_delta.apply_delta(refreshed, delta)
        with pytest.raises(UserError, match="is there already"):
            export_delta.export_delta(config.model_dir, "25", STEP, base)
        with pytest.raises(UserError, match="not older"):
            export_delta.export_delta(config.model_dir, "20", 25, base)
    finally:
        from estimator_app.model_dir import checkpoints
        checkpoints.delete(config.model_dir, 25)
    assert sorted(os.listdir(base)) == ["1", "2", "3", "delta-20-25"]


@pytest.mark.parametrize("newer", ["model_card.json", "delta.json"])
def test_a_newer_card_or_delta_is_refused(tmp_path, newer):
    from estimator_app.serving import export_delta
    note = export_delta.NOTE_FILE if newer == "delta.json" else newer
    for name in ("model_card.json", export_delta.NOTE_FILE):
        (tmp_path / name).write_text(json.dumps({"format_version": 2 if name == note else 1}))
    with pytest.raises(UserError, match="%s has format version 2" % note):
        export_delta.apply_delta(str(tmp_path), str(tmp_path))
