"""The ``export`` command: a checkpoint becomes a SavedModel of stock ops that checked itself."""
import contextlib
import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import tensorflow as tf

from estimator_app.model_dir import checkpoints, directory, history
from estimator_app.serving import client_rows
from estimator_app.serving.graph import DEFAULT, EXAMPLES, RAW, ServingGraph
from estimator_app.serving.weights import TrainedModel, read_model
from feature_specs.checks import is_digits
from feature_specs.dataset import REGRESSION
from feature_specs.errors import ConfigError, DataError, UserError
from feature_specs.files import PROJECT, remove_leftovers, replace_text, temporary_name
from feature_specs.manifest import FILE_NAME, MODEL_DATA_FOLDER, TEST_SPLIT, Manifest, read_manifest
from feature_specs.records import DENSE_FEATURE, NO_VALUE, SPARSE_FEATURE, is_padding
from input_fn.pipeline import extract_fn, reshape_fn

MODEL_CARD = "model_card.json"
CARD_FORMAT = 2
#: Largest difference from the Estimator's predictions: of probabilities, and of numbers relative to their size.
TOLERANCE, RELATIVE_TOLERANCE = 1e-6, 1e-5


@dataclasses.dataclass(frozen=True)
class ExportRequest:
    """What is to be exported: a checkpoint (``latest``, ``best`` or a step number) of a model directory."""

    model_dir: str
    checkpoint: str = "latest"
    export_dir: Optional[str] = None  # base directory of the versions; None: ``export`` in the model directory
    # Prepared data whose evaluation rows check the export; None: what the model was trained on. Where that is not there
    # any more, rows are drawn from the vocabularies and the signatures are compared with each other.
    data_dir: Optional[str] = None
    check_rows: int = 1024


@dataclasses.dataclass(frozen=True)
class CheckRows:
    """Rows to check an export with, and what the Estimator predicts for them."""

    sparse: np.ndarray  # int64 [n, W], as records hold them
    dense: np.ndarray  # float32 [n, D], raw units
    expected: Mapping[str, np.ndarray]  # {output: float [n]}; empty where the prepared data is not there
    source: str  # where they come from, for the model card


def export_model(request: ExportRequest) -> str:
    """Exports a checkpoint, checks the result before it becomes visible and returns ``<export_dir>/<version>``; the
    version is one more than the largest number there.

    UserError: checkpoint or data cannot be used, or the exported model predicts something else; nothing is left then.
    """
    if request.check_rows < 1:
        raise ConfigError("check_rows %d: give at least 1 row" % request.check_rows)
    trained = read_model(request.model_dir, request.checkpoint)
    base = os.path.realpath(request.export_dir or os.path.join(request.model_dir, "export"))
    existed = os.path.isdir(base)
    try:
        os.makedirs(base, exist_ok=True)
        remove_leftovers(base, ".export-")
        # The dot hides it from servers that watch the directory.
        temporary = os.path.join(base, temporary_name(".export-"))
        os.mkdir(temporary)
    except OSError as error:
        raise UserError("export directory %s cannot be written: %s; choose another --export_dir"
                        % (base, error.strerror or error)) from error
    try:
        trained = _kept(trained, request, os.path.join(temporary, "checkpoint"))
        rows = _check_rows(trained, request, temporary)
        version_dir = os.path.join(temporary, "model")
        write_saved_model(trained, os.path.join(request.model_dir, MODEL_DATA_FOLDER), version_dir)
        differences = check_saved_model(version_dir, trained, rows)
        replace_text(os.path.join(version_dir, MODEL_CARD), json.dumps(
            history.plain(model_card(trained, rows, differences)), indent=1, sort_keys=True) + "\n")
        return _publish(version_dir, base)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if not existed:
            # Only if there is nothing: no version, and nothing of anybody else.
            with contextlib.suppress(OSError):
                os.rmdir(base)


def _kept(trained: TrainedModel, request: ExportRequest, folder: str) -> TrainedModel:
    """Links the checkpoint's files into a folder: a training beside us may delete them; then the next one counts."""
    for attempt in range(3):
        checkpoint = trained.checkpoint
        try:
            checkpoint.copy_to(folder)
            break
        except OSError:
            if attempt == 2 or checkpoint.problem() is None:
                raise
            trained = read_model(request.model_dir, request.checkpoint)
    return dataclasses.replace(trained, checkpoint=checkpoints.Checkpoint(folder, checkpoint.step))


def write_saved_model(trained: TrainedModel, vocabulary_dir: str, target: str) -> None:
    """Writes the SavedModel with its three signatures into a directory that does not exist yet."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serving = ServingGraph(trained, vocabulary_dir)
        signatures = {DEFAULT: serving.default_signature(), EXAMPLES: serving.examples_signature(),
                      RAW: serving.raw_signature()}
        serving.assign(session)
        builder = tf.compat.v1.saved_model.Builder(target)
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.SERVING], strip_default_attrs=True,
            signature_def_map={name: tf.compat.v1.saved_model.predict_signature_def(*signature)
                               for name, signature in signatures.items()})
        builder.save()


def check_saved_model(version_dir: str, trained: TrainedModel, rows: CheckRows) -> Dict[str, Dict[str, float]]:
    """Loads a SavedModel as a client does and returns {signature: {output: largest difference}} from the Estimator's
    predictions; where there are none, and of rows whose texts mean something else than the row, from those of the
    signature of vectors. UserError where one is larger than what rounding explains."""
    manifest, count = trained.model.manifest, len(rows.sparse)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], version_dir)

        def call(name: str, inputs: Mapping[str, Any]) -> Dict[str, np.ndarray]:
            signature = loaded.signature_def[name]
            values = session.run({output: info.name for output, info in signature.outputs.items()},
                                 {signature.inputs[key].name: value for key, value in inputs.items()})
            return {output: value[:, 0] for output, value in values.items()}

        vectors = client_rows.vectors(rows.sparse, rows.dense)
        raw, meant = client_rows.named(rows.sparse, rows.dense, manifest,
                                       os.path.join(trained.model.config.model_dir, MODEL_DATA_FOLDER))
        by_vectors = call(DEFAULT, vectors)
        expected = rows.expected or by_vectors
        of_meant = call(DEFAULT, client_rows.vectors(meant, rows.dense))
        changed = (meant != rows.sparse).any(axis=1)
        expected_raw = {output: np.where(changed, of_meant[output], value) for output, value in expected.items()}
        # Half of the Examples hold vectors, half features by name.
        by_name = np.arange(count) % 2 == 1
        examples = [client_rows.example({key: value[row] for key, value in (raw if by_name[row] else vectors).items()})
                    for row in range(count)]
        mixed = {output: np.where(by_name, expected_raw[output], value) for output, value in expected.items()}
        return {name: _compared(name, values, right, trained) for name, values, right in (
            (DEFAULT, by_vectors, expected), (RAW, call(RAW, raw), expected_raw),
            (EXAMPLES, call(EXAMPLES, {EXAMPLES: examples}), mixed))}


def _compared(name: str, values: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray],
              trained: TrainedModel) -> Dict[str, float]:
    found = {}
    for output in trained.model.tasks.output_names():
        distance, tolerance = np.abs(values[output].astype(np.float64) - expected[output]), TOLERANCE
        if output in _numbers(trained):
            distance, tolerance = distance / np.maximum(np.abs(expected[output]), 1.0), RELATIVE_TOLERANCE
        found[output] = float(distance.max())
        if not found[output] <= tolerance:
            raise UserError("the exported model differs by %.3g for output %s of signature %s; nothing is exported"
                            % (found[output], output, name))
    return found


def _numbers(trained: TrainedModel) -> List[str]:
    """Returns the outputs that are numbers in the units of the label's column; the others are probabilities."""
    return [task.name for task in trained.model.manifest.dataset.tasks if task.kind == REGRESSION]


def model_card(trained: TrainedModel, rows: CheckRows, differences: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns what the version is: origin stage by stage, quality, tables, versions and signatures, JSON-ready."""
    step, model_dir, dataset = trained.checkpoint.step, trained.model.config.model_dir, trained.model.manifest.dataset
    best = checkpoints.read_best(model_dir)
    metrics = [entry for entry in history.evaluations(model_dir) if entry["global_step"] == step]
    # Paths of the training machine are of no use elsewhere.
    stages = [dict(stage, config=_without(stage["config"], "data_dir", "model_dir"),
                   data=_without(stage["data"], "directory"))
              for stage in map(dataclasses.asdict, directory.read_stages(model_dir)) if stage["from_step"] < step]
    return {
        "format_version": CARD_FORMAT, "dataset": dataset.name, "tasks": list(dataset.task_names),
        "checkpoint_step": step, "is_best_checkpoint": best is not None and best.step == step,
        "metrics": _without(metrics[0], "kind", "time", "seconds", "global_step") if metrics else None,
        "training": stages,
        "tables": {name: {"rows": len(table.keys), "dim": int(table.rows.shape[1])}
                   for name, table in trained.tables.items()},
        "signatures": {
            DEFAULT: "%s int64 [batch, %d], indexes and hashes (%s); %s float32 [batch, %d], raw units (%s)" % (
                SPARSE_FEATURE, dataset.sparse_width, ", ".join(
                    "%s x %d" % (feature.name, feature.width) if feature.is_list else feature.name
                    for feature in dataset.categorical),
                DENSE_FEATURE, len(dataset.numeric), ", ".join(feature.name for feature in dataset.numeric)),
            EXAMPLES: "%s string [batch], serialized tf.Example protos of one row" % EXAMPLES,
            RAW: "each categorical feature string [batch, 1], a list as one text with its separator; each numeric one "
                 "float32 [batch, 1]"},
        "outputs": {name: "float32 [batch, 1], %s" % (
            "in the units of the label's column" if name in _numbers(trained) else "probability")
            for name in trained.model.tasks.output_names()},
        "check": {"rows": len(rows.sparse), "source": rows.source, "differences": differences,
                  "tolerance": TOLERANCE, "relative_tolerance": RELATIVE_TOLERANCE},
        "versions": directory.versions(),
    }


def _without(values: Mapping[str, Any], *names: str) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _check_rows(trained: TrainedModel, request: ExportRequest, folder: str) -> CheckRows:
    config = trained.model.config
    # Where it was when the model was trained: a relative path means nothing in another working directory.
    data_dir = request.data_dir or directory.read_stages(config.model_dir)[-1].data.directory
    trained_on = trained.model.manifest
    is_there = bool(request.data_dir) or os.path.isfile(os.path.join(data_dir, FILE_NAME))
    manifest = read_manifest(data_dir) if is_there else None
    if manifest is None or not request.data_dir and manifest.identity() != trained_on.identity():
        sparse, dense = _drawn_rows(trained_on, request.check_rows)
        return CheckRows(sparse, dense, {}, "rows drawn from the manifest, for which the signatures agree (the "
                                            "prepared data is not there any more)")
    if manifest.continues == trained_on.identity():
        raise DataError("%s has values that came after the model in %s was trained, which say nothing of its tables; "
                        "give --data_dir with the data that it was trained on, or leave it out"
                        % (data_dir, config.model_dir))
    directory.check_same_encoding(trained_on, manifest, config.replace(data_dir=data_dir))
    count = min(request.check_rows, manifest.split(TEST_SPLIT).rows)
    output = os.path.join(folder, "expected.npz")
    _run_reference(["--model_dir", config.model_dir, "--checkpoint", trained.checkpoint.path, "--data_dir",
                    data_dir, "--rows", str(count), "--output", output])
    with np.load(output) as arrays:
        expected = {name: arrays[name] for name in trained.model.tasks.output_names()}
    sparse, dense = read_rows(data_dir, manifest, count)
    return CheckRows(sparse, dense, expected, "first rows of the evaluation split, predicted by the Estimator")


def read_rows(data_dir: str, manifest: Manifest, count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the first evaluation rows as records hold them: int64 [n, W] and float32 [n, D]."""
    paths = [os.path.join(data_dir, shard.path) for shard in manifest.split(TEST_SPLIT).shards if shard.rows]
    records = itertools.chain.from_iterable(map(tf.compat.v1.io.tf_record_iterator, paths))
    first = list(itertools.islice(records, -(-count // manifest.line_per_sample)))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        rows = reshape_fn(extract_fn(tf.constant(first), manifest.dataset, manifest.line_per_sample), manifest.dataset)
        valid = tf.logical_not(is_padding(rows["label"]))
        sparse, dense = session.run([tf.boolean_mask(rows[name], valid) for name in (SPARSE_FEATURE, DENSE_FEATURE)])
    return sparse[:count], dense[:count]


def _drawn_rows(manifest: Manifest, count: int) -> Tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    columns = [np.zeros((count, 0), np.int64)]
    for feature in manifest.dataset.categorical:
        values = random.randint(manifest.vocabularies[feature.vocabulary or feature.name].size or 1 << 30,
                                size=(count, feature.width))
        lengths = random.randint(feature.width + 1, size=(count, 1)) if feature.is_list else feature.width
        columns.append(np.where(np.arange(feature.width) < lengths, values, NO_VALUE))
    dense = [random.uniform(item.minimum, item.maximum, count)
             for item in (manifest.dense_statistics[feature.name] for feature in manifest.dataset.numeric)]
    return np.concatenate(columns, axis=1), np.array(dense, np.float32).reshape(-1, count).T


def _run_reference(arguments: List[str]) -> None:
    """Predicts with the Estimator in a process of its own, which may load an SDK."""
    path = os.pathsep.join(filter(None, (PROJECT, os.environ.get("PYTHONPATH"))))
    environment = dict(os.environ, PYTHONPATH=path)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    done = subprocess.run([sys.executable, "-W", "ignore", "-m", "estimator_app.training.reference"] + arguments,
                          env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError("the Estimator cannot predict with the checkpoint (exit status %d): %s"
                        % (done.returncode, _reason(done.stderr)))


def _reason(text: str) -> str:
    """Returns the line of a process's messages that says why it failed: TensorFlow prints a stack after its own."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no message"]
    refused = [line[len("error: "):] for line in lines if line.startswith("error: ")]
    exceptions = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt|Exit)\b", line)]
    return (refused or exceptions or lines)[-1]


def _publish(version_dir: str, base: str) -> str:
    """Makes a finished version visible under the next free number and returns its path."""
    os.chmod(version_dir, 0o755)
    for folder, _, names in os.walk(version_dir):
        for path in [os.path.join(folder, name) for name in names] + [folder]:
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
    while True:
        numbers = [int(name) for name in os.listdir(base) if is_digits(name)]
        target = os.path.join(base, str(1 + max(numbers, default=0)))
        try:
            os.rename(version_dir, target)
            return target
        except OSError:
            # Another export took the number in between; an error that is not about that stays.
            if not os.path.exists(target):
                raise
