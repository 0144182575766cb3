"""The ``export`` command: a checkpoint becomes a SavedModel of stock ops that checked itself."""
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model_dir import checkpoints, history
from estimator_app.model_dir import directory as model_directory
from estimator_app.serving import assets as serving_assets
from estimator_app.serving import reference as serving_reference
from estimator_app.serving.export_check import TOLERANCE, save_rows
from estimator_app.serving.graph import (
    EXAMPLES_INPUT,
    EXAMPLES_SIGNATURE,
    IDS_SIGNATURE,
    RAW_SIGNATURE,
    Scorer,
    Signature,
    assign_weights,
    build_examples_signature,
    build_ids_signature,
    build_raw_signature,
    limit_numbers,
)
from estimator_app.serving.weights import ServingWeights, network_shape, read_weights
from feature_specs.dataset import DENSE_FEATURE, SPARSE_FEATURE
from feature_specs.encoding import FeatureEncoding, make_encoding
from feature_specs.errors import ConfigError, UserError
from feature_specs.manifest import FILE_NAME as MANIFEST_FILE
from feature_specs.manifest import TEST_SPLIT, Manifest, read_manifest, write_manifest
from input_fn.encode import encode_rows
from preprocessing.temporary_names import remove_leftovers, temporary_name

MODEL_CARD = "model_card.json"
CARD_FORMAT = 1
CHECK_ROWS = 1024
FORMULA_TOLERANCE = 1e-5
WARMUP_ROWS = (1, 32)
_PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Model(NamedTuple):
    """Everything of a trained model that an export needs."""

    config: Config
    manifest: Manifest
    encoding: FeatureEncoding
    weights: ServingWeights
    checkpoint: str


class CheckRows(NamedTuple):
    """Rows to check an export with, and what the checkpoint predicts for them.

    Attributes:
        ids: int64 [n, S].
        dense: float32 [n, D], raw units.
        expected: {task: float [n]}.
        source: where rows and predictions come from, for the model card.
    """

    ids: np.ndarray
    dense: np.ndarray
    expected: Dict[str, np.ndarray]
    source: str


def read_model(model_dir: str, checkpoint: str) -> Model:
    """Reads settings, manifest and weights of a trained model.

    Args:
        model_dir: a directory that training wrote.
        checkpoint: ``latest``, ``best`` or a step number.

    Raises:
        UserError: anything is missing, damaged or does not fit.
    """
    config, manifest = model_directory.read_settings(model_dir, {})
    path = checkpoints.resolve(model_dir, checkpoint)
    encoding = make_encoding(manifest, config.dense_transform, config.dense_bins, config.drop_dense)
    return Model(config, manifest, encoding, read_weights(path, config, manifest.dataset, encoding), path)


def export_model(model_dir: str, checkpoint: str = "latest", export_dir: Optional[str] = None,
                 data_dir: Optional[str] = None, check_rows: int = CHECK_ROWS) -> str:
    """Exports a checkpoint and checks the result in a separate process before it becomes visible.

    Args:
        model_dir: a directory that training wrote.
        checkpoint: ``latest``, ``best`` or a step number.
        export_dir: base directory of the versions; default ``<model_dir>/export``.
        data_dir: prepared data whose evaluation rows the check uses; default the one that the model was trained on.
            Where that is not there any more, rows are drawn from the manifest and predicted straight from the
            checkpoint's arrays, checked by a NumPy forward pass.
        check_rows: rows of the check.

    Returns:
        The version directory, ``<export_dir>/<version>``.

    Raises:
        UserError: the checkpoint or the data cannot be used, or the exported model predicts something else; nothing
            is left behind then.
    """
    if check_rows < 1:
        raise ConfigError("check_rows %d: give at least 1 row" % check_rows)
    model = read_model(model_dir, checkpoint)
    base = export_dir or os.path.join(model_dir, "export")
    existed = os.path.isdir(base)
    try:
        os.makedirs(base, exist_ok=True)
        temporary = temporary_directory(base, ".export-")
    except OSError as error:
        raise UserError("export directory %s cannot be written: %s; choose another --export_dir"
                        % (base, error.strerror or error)) from error
    done = False
    try:
        rows = _check_rows(model, data_dir, check_rows, temporary)
        version_dir = os.path.join(temporary, "model")
        write_saved_model(model, version_dir, rows)
        differences = _check_in_process(version_dir, rows, model.manifest, temporary)
        _write_json(os.path.join(version_dir, MODEL_CARD), model_card(model, rows, differences))
        target = publish(version_dir, base)
        done = True
        return target
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not done and not existed:
            shutil.rmtree(base, ignore_errors=True)


def temporary_directory(base: str, prefix: str) -> str:
    """Makes a directory for unfinished work, and removes those that killed processes left.

    Args:
        base: base directory of the versions.
        prefix: beginning of the name; the dot hides it from servers.
    """
    remove_leftovers(base, prefix)
    return tempfile.mkdtemp(prefix=temporary_name(prefix) + "-", dir=base)


def publish(version_dir: str, base: str) -> str:
    """Makes a finished version visible under the next free number.

    Args:
        version_dir: a directory on the same file system as ``base``.
        base: base directory of the versions.

    Returns:
        ``<base>/<version>``; the version is one more than the largest number there, 1 at first.
    """
    os.chmod(version_dir, 0o755)
    serving_assets.sync_tree(version_dir)
    while True:
        target = os.path.join(base, str(1 + max(versions(base), default=0)))
        try:
            os.rename(version_dir, target)
        except OSError:
            # Another export took the number in between; an error that is not about that stays.
            if not os.path.exists(target):
                raise
            continue
        return target


def versions(base: str) -> List[int]:
    """Returns the version numbers in a base directory, ascending."""
    return sorted(int(name) for name in os.listdir(base) if name.isdigit()) if os.path.isdir(base) else []


def write_saved_model(model: Model, directory: str, rows: CheckRows) -> None:
    """Writes the SavedModel with its assets.

    Args:
        model: the trained model.
        directory: must not exist.
        rows: warm-up requests are made of their first ones.
    """
    dataset = model.manifest.dataset
    with tempfile.TemporaryDirectory() as folder:
        vocabulary_file = os.path.join(folder, serving_assets.VOCABULARY_FILE)
        serving_assets.write_vocabulary(model.manifest, vocabulary_file)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            asset = tf.constant(vocabulary_file, name="vocabulary_file")
            index = tf.lookup.TextFileIndex
            vocabulary = tf.lookup.StaticHashTable(tf.lookup.TextFileInitializer(
                asset, tf.string, index.WHOLE_LINE, tf.int64, index.LINE_NUMBER), -1)
            scorer = Scorer(dataset, network_shape(model.config, dataset), model.encoding)
            signatures = {
                IDS_SIGNATURE: build_ids_signature(scorer, dataset),
                EXAMPLES_SIGNATURE: build_examples_signature(scorer, model.manifest, vocabulary),
                RAW_SIGNATURE: build_raw_signature(scorer, model.manifest, vocabulary),
            }
            assign_weights(session, model.weights, dataset.table_name)
            session.run(tf.compat.v1.tables_initializer())
            builder = tf.compat.v1.saved_model.Builder(directory)
            builder.add_meta_graph_and_variables(
                session, [tf.saved_model.SERVING],
                signature_def_map={name: _signature_def(signature) for name, signature in signatures.items()},
                assets_collection=[asset], main_op=tf.compat.v1.tables_initializer(), strip_default_attrs=True)
            builder.save()
    _forget_path(os.path.join(directory, tf.saved_model.SAVED_MODEL_FILENAME_PB), vocabulary_file)
    requests = [(name, _warmup_input(value, count))
                for count in WARMUP_ROWS for name, value in sorted(calls(rows, model.manifest).items())]
    serving_assets.write_warmup_requests(os.path.join(directory, serving_assets.WARMUP_PATH), dataset.name, requests)
    write_manifest(model.manifest, os.path.join(directory, os.path.dirname(serving_assets.WARMUP_PATH)))


def calls(rows: CheckRows, manifest: Manifest) -> Dict[str, Dict[str, Any]]:
    """Returns {signature: {input: values}}: the same rows in the form of each signature."""
    dataset = manifest.dataset
    texts = serving_assets.texts_of_ids(rows.ids, manifest)
    numbers = {column: rows.dense[:, place] for place, column in enumerate(dataset.dense_columns)}
    by_ids = {SPARSE_FEATURE: rows.ids}
    if dataset.num_dense:
        by_ids[DENSE_FEATURE] = rows.dense
    raw = {column: values[:, np.newaxis] for column, values in list(texts.items()) + list(numbers.items())}
    # Half of the Examples hold the record's vectors, half the columns by name.
    examples = [serving_assets.encode_example(
        {name: values[row] for name, values in (by_ids if row % 2 else {**texts, **numbers}).items()})
        for row in range(len(rows.ids))]
    return {IDS_SIGNATURE: by_ids, RAW_SIGNATURE: raw, EXAMPLES_SIGNATURE: {EXAMPLES_INPUT: examples}}


def model_card(model: Model, rows: CheckRows, differences: Dict[str, Any]) -> Dict[str, Any]:
    """Returns what the version is: origin, settings, quality, versions and signatures, JSON-ready."""
    dataset, step = model.manifest.dataset, model.weights.step
    evaluations = [entry for entry in history.read(model.config.model_dir)
                   if entry.get("kind") == history.EVALUATION and entry["global_step"] == step]
    config = model.config.to_dict()
    for name in ("data_dir", "model_dir"):
        config[name] = os.path.basename(os.path.normpath(config[name]))
    return {
        "format_version": CARD_FORMAT,
        "dataset": dataset.name,
        "tasks": list(dataset.task_names),
        "checkpoint_step": step,
        "is_best_checkpoint": (checkpoints.read_best(model.config.model_dir) or {}).get("step") == step,
        "metrics": {name: value for name, value in evaluations[-1].items()
                    if name not in ("kind", "time", "seconds", "global_step")} if evaluations else None,
        "encoding_sha256": model.manifest.encoding_fingerprint(),
        "training_inputs": [dict(item) for split in model.manifest.splits.values() for item in split.inputs],
        "table": {"name": dataset.table_name, "rows": model.weights.table_rows, "ids": model.encoding.num_ids,
                  "dim": int(model.weights.table.shape[1])},
        "config": config,
        "signatures": {
            IDS_SIGNATURE: "%s int64 [batch, %d] (%s); %s float32 [batch, %d], raw units (%s)" % (
                SPARSE_FEATURE, dataset.num_sparse, ", ".join(dataset.sparse_columns), DENSE_FEATURE,
                dataset.num_dense, ", ".join(dataset.dense_columns)),
            EXAMPLES_SIGNATURE: "%s string [batch], serialized tf.Example protos of one row" % EXAMPLES_INPUT,
            RAW_SIGNATURE: "each sparse column string [batch, 1], each dense column float32 [batch, 1]"},
        "outputs": {task: "float32 [batch, 1], probability of the positive class" for task in dataset.task_names},
        "check": {"rows": len(rows.ids), "source": rows.source, "tolerance": TOLERANCE, "differences": differences},
        "versions": {"tensorflow": tf.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }


def _signature_def(signature: Signature) -> Any:
    return tf.compat.v1.saved_model.build_signature_def(
        inputs={name: tf.compat.v1.saved_model.build_tensor_info(tensor) for name, tensor in signature.inputs.items()},
        outputs={name: tf.compat.v1.saved_model.build_tensor_info(tensor)
                 for name, tensor in signature.outputs.items()},
        method_name=tf.saved_model.PREDICT_METHOD_NAME)


def _forget_path(saved_model: str, path: str) -> None:
    """Replaces the place where the asset was made by its name; loaders put the real path in."""
    from tensorflow.core.protobuf import saved_model_pb2
    with open(saved_model, "rb") as stream:
        proto = saved_model_pb2.SavedModel.FromString(stream.read())
    name = os.path.basename(path).encode("utf-8")
    for node in proto.meta_graphs[0].graph_def.node:
        if node.op == "Const" and list(node.attr["value"].tensor.string_val) == [path.encode("utf-8")]:
            node.attr["value"].tensor.string_val[0] = name
        if node.op == "HashTableV2":
            node.attr["shared_name"].s = node.attr["shared_name"].s.replace(path.encode("utf-8"), name)
    with open(saved_model, "wb") as stream:
        stream.write(proto.SerializeToString())


def _check_rows(model: Model, data_dir: Optional[str], count: int, folder: str) -> CheckRows:
    directory = data_dir or model.config.data_dir
    if not os.path.isfile(os.path.join(directory, MANIFEST_FILE)):
        if data_dir:
            read_manifest(data_dir)  # Raises the error that says what is missing.
        ids, dense = _drawn_rows(model.manifest, count)
        return CheckRows(ids, dense, _graph_expected(model, ids, dense),
                         "rows drawn from the manifest, predicted from the checkpoint's arrays and checked by a NumPy "
                         "forward pass (the prepared data is not there)")
    manifest = read_manifest(directory)
    model_directory.check_same_data(model.manifest, manifest, model.config.replace(data_dir=directory))
    count = min(count, manifest.split(TEST_SPLIT).rows)
    ids, dense = serving_reference.read_evaluation_rows(directory, manifest, count)
    output = os.path.join(folder, "expected.npz")
    _run(["estimator_app.serving.reference", "--model_dir", model.config.model_dir, "--checkpoint_path",
          model.checkpoint, "--data_dir", directory, "--rows", str(count), "--output", output],
         "the Estimator cannot predict with the checkpoint")
    with np.load(output) as arrays:
        expected = {task: arrays[task] for task in manifest.dataset.task_names}
    return CheckRows(ids, dense, expected, "first rows of the evaluation set, the Estimator's PREDICT")


def _drawn_rows(manifest: Manifest, count: int) -> Tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    offsets, statistics = manifest.id_offsets(), manifest.dense_statistics
    ids = np.stack([offsets[column] + random.randint(len(manifest.vocabularies[column]) + 1, size=count)
                    for column in manifest.dataset.sparse_columns], axis=1)
    dense = [random.uniform(statistics[column].minimum, statistics[column].maximum, count)
             for column in manifest.dataset.dense_columns]
    return ids, np.array(dense, np.float32).reshape(-1, count).T


def _graph_expected(model: Model, ids: np.ndarray, dense: np.ndarray) -> Dict[str, np.ndarray]:
    """Predicts in this process, straight from the checkpoint's arrays; a NumPy forward pass must agree.

    The two may differ by float32 rounding only, which deep networks amplify to a few 1e-6.
    """
    dataset, shape = model.manifest.dataset, network_shape(model.config, model.manifest.dataset)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        probabilities = Scorer(dataset, shape, model.encoding)(tf.constant(ids), tf.constant(dense))
        encoded = encode_rows(tf.constant(ids), limit_numbers(tf.constant(dense), model.encoding), model.encoding)
        assign_weights(session, model.weights, dataset.table_name)
        found, (all_ids, normalised) = session.run((probabilities, encoded))
    formulas = serving_reference.numpy_probabilities(
        all_ids, normalised, model.weights.dense, model.weights.table, shape)
    for task in shape.tasks:
        difference = float(np.abs(found[task][:, 0] - formulas[task]).max())
        if not difference <= FORMULA_TOLERANCE:
            raise UserError("the serving graph differs by %.3g from the formulas for task %s; nothing is exported"
                            % (difference, task))
    return {task: found[task][:, 0] for task in shape.tasks}


def _check_in_process(version_dir: str, rows: CheckRows, manifest: Manifest, folder: str) -> Dict[str, Any]:
    path = os.path.join(folder, "rows.npz")
    save_rows(path, calls(rows, manifest), rows.expected)
    output = _run(["estimator_app.serving.export_check", "--saved_model", version_dir, "--rows", path],
                  "the exported model does not predict what the checkpoint predicts; nothing is exported")
    return json.loads(output.splitlines()[-1])["differences"]


def _run(arguments: List[str], failure: str) -> str:
    """Runs a module of the project in a process of its own and returns its output."""
    path = [_PROJECT] + [item for item in (os.environ.get("PYTHONPATH"),) if item]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path))
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    finished = subprocess.run([sys.executable, "-W", "ignore", "-m"] + arguments, env=environment,
                              capture_output=True, text=True, check=False)
    if finished.returncode:
        lines = [line for line in finished.stderr.splitlines() if line.strip()] or ["no message"]
        raise UserError("%s (exit status %d): %s" % (failure, finished.returncode, lines[-1]))
    return finished.stdout


def _warmup_input(inputs: Dict[str, Any], count: int) -> Dict[str, Any]:
    return {name: np.array(value[:count], dtype=object) if isinstance(value, list) else value[:count]
            for name, value in inputs.items()}


def _write_json(path: str, values: Dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(values, stream, indent=1, sort_keys=True)
        stream.write("\n")
