"""An exported model as its clients see it, and an export that goes wrong: nothing is left of it."""
import glob
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from estimator_app.model_dir import checkpoints
from estimator_app.model_dir.checkpoints import Checkpoint
from estimator_app.serving import export, graph, predict
from estimator_app.serving.export import ExportRequest, export_model
from feature_specs.errors import ConfigError, UserError
from tests.support import cli_runner, rows, runs, served

SIGNATURES = ["examples", "raw", "serving_default"]
TF2_CLIENT = """
import json, sys
import numpy as np
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
given = json.load(open(sys.argv[2]))
found = {}
for name, inputs in given.items():
    signature = model.signatures[name]
    kinds = signature.structured_input_signature[1]
    values = {key: tf.constant([[float("nan") if cell is None else cell for cell in row] for row in value],
                               kinds[key].dtype) for key, value in inputs.items()}
    found[name] = {key: value.numpy()[:, 0].tolist() for key, value in signature(**values).items()}
print(tf.__version__)
print(json.dumps(found))
"""


def export_to(place, folder, **options):
    return export_model(ExportRequest(place.model, export_dir=str(folder), **options))


def card_of(path):
    with open(os.path.join(path, "model_card.json")) as stream:
        return json.load(stream)


@pytest.fixture
def quick(monkeypatch):
    """The Estimator's part is not what these tests are about: its predictions come from the serving graph."""
    def predicted(trained, request, folder):
        manifest = export.read_manifest(trained.model.config.data_dir)
        sparse, dense = export.read_rows(trained.model.config.data_dir, manifest, 8)
        values = predict.make_scorer(trained, 1)(sparse, dense)
        return export.CheckRows(sparse, dense, dict(zip(trained.model.tasks.output_names(), values.T)), "test")

    monkeypatch.setattr(export, "_check_rows", predicted)


def test_every_signature_predicts_what_the_estimator_does(exported, place):
    assert sorted(exported.expected) == sorted(served.OUTPUTS)
    assert all(len(value) == served.TEST_ROWS for value in exported.expected.values())
    trained = place.trained()
    dataset = trained.model.manifest.dataset
    formulas = served.Formulas(trained, served.train_rows())
    cells = served.test_rows()
    sparse, dense = formulas.sparse(cells), formulas.dense(cells)
    raw = served.raw_inputs(dataset, cells)
    served.assert_agree(exported.client("raw", **raw), exported.expected)
    served.assert_agree(exported.client("serving_default", sparse_feature=sparse, dense_feature=dense),
                        exported.expected)
    examples = [served.example(**{name: value[row, 0] if value.dtype == object else [float(value[row, 0])]
                                  for name, value in raw.items()}) for row in range(len(cells))]
    served.assert_agree(exported.client("examples", examples=np.array(examples, object)), exported.expected)
    # And both are what the documentation says.
    served.assert_agree(exported.expected, formulas.outputs(cells), 2e-6, 2e-5)


def test_odd_texts_mean_what_they_mean_in_preparation(exported, place):
    cells = served.odd_rows()
    formulas = served.Formulas(place.trained(), served.train_rows())
    found = exported.client("raw", **served.raw_inputs(place.trained().model.manifest.dataset, cells))
    served.assert_agree(found, formulas.outputs(cells), 2e-6, 2e-5)


def test_files_and_card_of_a_version(exported, place):
    assert os.path.basename(exported.path) == "1" and os.listdir(os.path.dirname(exported.path)) == ["1"]
    assert sorted(os.listdir(exported.path)) == ["model_card.json", "saved_model.pb", "variables"]
    card = card_of(exported.path)
    assert card["checkpoint_step"] == 12 and card["tasks"] == ["click", "buy", "keep", "rate", "watch"]
    assert list(card["outputs"]) == sorted(served.OUTPUTS)
    assert card["outputs"]["watch"] == "float32 [batch, 1], in the units of the label's column"
    assert card["outputs"]["buy_given_click"] == "float32 [batch, 1], probability"
    assert sorted(card["signatures"]) == SIGNATURES
    assert "seen x 3" in card["signatures"]["serving_default"]
    check = card["check"]
    assert check["rows"] == served.TEST_ROWS and "predicted by the Estimator" in check["source"]
    for differences in check["differences"].values():
        assert sorted(differences) == sorted(served.OUTPUTS)
        assert all(0 <= value <= (1e-5 if name == "watch" else 1e-6) for name, value in differences.items())
    tables = place.trained().tables
    assert card["tables"] == {name: {"rows": len(table.keys), "dim": table.rows.shape[1]}
                              for name, table in tables.items()}
    assert card["metrics"]["auc_click"] > 0.5
    # Nothing tells where it was trained.
    for name in ("model_card.json", "saved_model.pb"):
        assert place.root.encode() not in rows.read_bytes(os.path.join(exported.path, name))


def test_stock_ops_and_small_graph(exported):
    """The tables are variables; the graph has no op that TensorFlow does not bring along."""
    model = saved_model_pb2.SavedModel.FromString(rows.read_bytes(os.path.join(exported.path, "saved_model.pb")))
    stock = set(stock_ops())
    definition = model.meta_graphs[0].graph_def
    used = {node.op for node in definition.node} | {node.op for function in definition.library.function
                                                    for node in function.node_def}
    assert used <= stock and len(used) > 20
    assert len(rows.read_bytes(os.path.join(exported.path, "saved_model.pb"))) < 1 << 20


def stock_ops():
    """Names of the ops of a TensorFlow that has loaded nothing else."""
    program = ("from tensorflow.python.framework import op_def_registry as r, ops\nimport tensorflow, json\n"
               "print(json.dumps(sorted(r.get_registered_ops())))")
    return json.loads(subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)


@pytest.mark.long
def test_versions_count_up(quick, place, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    # A digit to Unicode, and no number.
    (tmp_path / "\u00b2").mkdir()
    assert os.path.basename(export_to(place, tmp_path, checkpoint="12")) == "8"
    assert sorted(os.listdir(str(tmp_path))) == ["7", "8", "notes", "\u00b2"]
    # A server's user must be able to read it.
    assert os.stat(str(tmp_path / "8")).st_mode & 0o777 == 0o755


@pytest.mark.long
def test_where_the_prepared_data_is_gone_the_signatures_check_each_other(own, tmp_path):
    shutil.rmtree(own.data)
    path = export_to(own, tmp_path / "served", check_rows=40)
    card = card_of(path)
    assert card["check"]["rows"] == 40 and "prepared data is not there" in card["check"]["source"]
    assert "  " not in card["check"]["source"]
    with pytest.raises(UserError, match="nowhere does not exist"):
        export_to(own, tmp_path / "other", data_dir=str(tmp_path / "nowhere"))
    assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_nothing_is_left_of_an_export_that_differs(quick, place, tmp_path, monkeypatch):
    base = tmp_path / "served"
    (base / "1").mkdir(parents=True)
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differs by .* for output .* of signature .*; nothing is exported"):
        export_to(place, base)
    assert os.listdir(str(base)) == ["1"]


@pytest.mark.long
def test_what_others_put_into_a_new_directory_stays_when_an_export_fails(quick, place, tmp_path, monkeypatch):
    base = tmp_path / "served"

    def fail(*_arguments):
        (base / "NOTES.txt").write_text("mine")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_publish", fail)
    with pytest.raises(KeyboardInterrupt):
        export_to(place, base)
    assert os.listdir(str(base)) == ["NOTES.txt"]
    (base / "NOTES.txt").unlink()
    base.rmdir()
    monkeypatch.setattr(export, "_publish", lambda *_arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export_to(place, base)
    assert not base.exists()


@pytest.mark.long
def test_weights_that_are_not_the_estimators_are_found(place, tmp_path, monkeypatch):
    """The check would notice an error of the graph: here, one value of one table."""
    read_model = export.read_model

    def wrong(*arguments):
        trained = read_model(*arguments)
        values = trained.tables["embeddings"].rows
        values[:, 0] += 0.05
        return trained

    monkeypatch.setattr(export, "read_model", wrong)
    with pytest.raises(UserError, match="differs by"):
        export_to(place, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_texts_that_the_graph_takes_for_others_are_found(quick, place, tmp_path, monkeypatch):
    """Although the dataset has hashed features, whose texts prepared data does not hold."""
    monkeypatch.setattr(graph.ServingGraph, "_look_up", lambda self, texts, feature: tf.ones_like(texts, tf.int64))
    with pytest.raises(UserError, match="of signature raw; nothing is exported"):
        export_to(place, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_an_interrupted_export_leaves_nothing(quick, place, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "write_saved_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_to(place, tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_what_cannot_be_exported_is_said_at_once(place, tmp_path):
    with pytest.raises(ConfigError, match="check_rows 0: give at least 1 row"):
        export_to(place, tmp_path / "served", check_rows=0)
    with pytest.raises(UserError, match="no checkpoint of step 5; it has"):
        export_to(place, tmp_path / "served", checkpoint="5")
    rows.write(tmp_path / "file", "")
    with pytest.raises(UserError, match="export directory .*file cannot be written.*choose another --export_dir"):
        export_to(place, tmp_path / "file")
    assert sorted(os.listdir(str(tmp_path))) == ["file"]


@pytest.mark.long
def test_data_that_came_after_the_model_is_no_check(place, own, tmp_path):
    raw = tmp_path / os.path.basename(place.raw)
    runs.run_prepare("--vocabulary_from", own.model, "--train_data_path", raw, "--split", "0.5", "--output_path",
                     tmp_path / "later")
    with pytest.raises(UserError, match="values that came after the model in"):
        export_to(own, tmp_path / "served", data_dir=str(tmp_path / "later"))
    assert not (tmp_path / "served").exists()
    # What the model was trained on is another now: as where it is gone.
    shutil.rmtree(own.data)
    shutil.copytree(str(tmp_path / "later"), own.data)
    card = card_of(export_to(own, tmp_path / "served", check_rows=40))
    assert "prepared data is not there any more" in card["check"]["source"]


def test_data_of_another_preparation_is_no_check(place, tmp_path):
    runs.prepare_small(tmp_path)
    with pytest.raises(UserError):
        export_to(place, tmp_path / "served", data_dir=str(tmp_path / "data"))
    assert not (tmp_path / "served").exists()


def test_a_reference_that_fails_is_told_in_one_line(place, tmp_path, monkeypatch):
    monkeypatch.setattr(export.sys, "executable", "/bin/false")
    with pytest.raises(UserError, match=r"the Estimator cannot predict with the checkpoint \(exit status 1\)"):
        export_to(place, tmp_path / "served")
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize("damage, message", [
    pytest.param(os.remove, "part-00000-of-0000.*tfrecord is missing", marks=pytest.mark.long),
    (lambda path: rows.write(path, rows.read_bytes(path)[:9] + b"x" * (os.path.getsize(path) - 9)),
     "part-00000-of-0000.*tfrecord")])
def test_a_reference_that_meets_a_damaged_record_names_the_file(own, tmp_path, damage, message):
    damage(sorted(glob.glob(os.path.join(own.data, "test", "*.tfrecord")))[0])
    with pytest.raises(UserError, match=r"cannot predict with the checkpoint \(exit status 1\): .*" + message):
        export_to(own, tmp_path / "served")


@pytest.mark.parametrize("text, reason", [
    ("", "no message"), ("noise\nerror: x is missing\n", "x is missing"),
    ("Traceback\nframework.errors_impl.DataLossError: corrupted\n\t [[node]]\n    self._traceback = stack()\n",
     "framework.errors_impl.DataLossError: corrupted"), ("one\ntwo\n", "two")])
def test_the_line_that_says_why_a_process_failed(text, reason):
    assert export._reason(text) == reason


def client_inputs(exported, place):
    """Odd and ordinary rows for the TF 2 client, JSON-ready; the expected outputs by signature."""
    trained = place.trained()
    cells = served.odd_rows() + served.test_rows()
    raw = served.raw_inputs(trained.model.manifest.dataset, cells)
    formulas = served.Formulas(trained, served.train_rows())
    default = {"sparse_feature": formulas.sparse(cells), "dense_feature": formulas.dense(cells)}
    expected = {"raw": exported.client("raw", **raw), "serving_default": exported.client("serving_default", **default)}
    plain = {name: {key: [[None if isinstance(cell, float) and cell != cell else cell for cell in row]
                          for row in value.tolist()] for key, value in inputs.items()}
             for name, inputs in (("raw", raw), ("serving_default", default))}
    return plain, expected


@pytest.mark.long
def test_tensorflow_2_predicts_the_same(exported, place, tmp_path):
    python = os.environ.get("TF2_PYTHON")
    if not python:
        pytest.skip("TF2_PYTHON does not name a Python that has TensorFlow 2; \"setup --tf2\" makes one")
    inputs, expected = client_inputs(exported, place)
    rows.write(tmp_path / "client.py", TF2_CLIENT)
    rows.write(tmp_path / "inputs.json", json.dumps(inputs))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, str(tmp_path / "client.py"), exported.path, str(tmp_path / "inputs.json")],
                          env=dict(environment, TF_CPP_MIN_LOG_LEVEL="3"), stdout=subprocess.PIPE, text=True,
                          check=True)
    version, found = done.stdout.strip().splitlines()
    assert version.startswith("2.")
    for name, outputs in json.loads(found).items():
        served.assert_agree(outputs, expected[name])


@pytest.mark.long
def test_the_command_line_client(exported):
    client = os.path.join(os.path.dirname(sys.executable), "saved_model_cli")
    done = subprocess.run([client, "run", "--dir", exported.path, "--tag_set", "serve", "--signature_def", "examples",
                           "--input_examples", 'examples=[{"age":[38.0],"price":[2.0]},{}]'], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=cli_runner._environment(), check=True, text=True)
    expected = exported.client("examples", examples=np.array([served.example(age=[38.0], price=[2.0]),
                                                              served.example()], object))
    for name, value in expected.items():
        text = done.stdout.split("Result for output key %s:\n" % name)[1].split("Result")[0]
        found = [float(item) for item in text.replace("[", " ").replace("]", " ").split()]
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_the_command_exports_and_says_where(own, tmp_path):
    done = cli_runner.run_app("export", "--model_dir", "model", "--checkpoint", "best", cwd=tmp_path)
    version = os.path.join(os.path.realpath(str(tmp_path)), "model", "export", "1")
    assert done.stdout == "exported and checked: %s\n" % version
    assert glob.glob(str(tmp_path / "model" / "export" / ".*")) == []


@pytest.mark.long
def test_a_training_beside_may_delete_the_checkpoint(quick, own, tmp_path, monkeypatch):
    original = export._check_rows

    def check_rows(trained, request, folder):
        for step in checkpoints.steps(own.model):
            Checkpoint(own.model, step).delete()
        return original(trained, request, folder)

    monkeypatch.setattr(export, "_check_rows", check_rows)
    version = export_to(own, tmp_path / "e")
    assert os.path.isfile(os.path.join(version, "saved_model.pb"))
    assert sorted(os.listdir(str(tmp_path / "e"))) == ["1"]


@pytest.mark.long
def test_a_task_may_be_named_label(tmp_path):
    yaml = runs.SMALL_YAML.replace("click: {type: binary, column: click}", "label: {type: binary, column: click}")
    runs.prepare_small(tmp_path, yaml=yaml)
    runs.run(tmp_path, *(runs.TRAIN + ("--train_epoch", "1"))).ok()
    assert "exported and checked" in runs.run(tmp_path, "export", "--model_dir", "model").ok().out
