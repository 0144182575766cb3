"""Freshness between full exports: a delta holds what changed since an earlier checkpoint, and is applied to a version.

``export --delta_since STEP`` writes ``<export_dir>/delta-<STEP>-<step>/`` with ``delta.npz`` (``keys`` int64 [n],
``rows`` float32 [n, dim], a zero row where an id lost its row, and ``dense:<variable>`` for every changed dense
variable) and ``delta.json``. ``python -m estimator_app.serving.export_delta --version_dir E/1 --delta E/delta-100-200``
makes the next version of it.
"""
import argparse
import json
import os
import shutil
import sys
from typing import Any, Dict, Optional, Sequence

import numpy as np
import tensorflow as tf

from estimator_app.model_dir import checkpoints
from estimator_app.serving.export import CARD_FORMAT, MODEL_CARD, Model, publish, read_model, temporary_directory
from estimator_app.serving.weights import read_weights
from feature_specs.errors import UserError

ARRAYS_FILE = "delta.npz"
NOTE_FILE = "delta.json"
FORMAT_VERSION = 1
_DENSE = "dense:"


def export_delta(model_dir: str, checkpoint: str, since: int, export_dir: Optional[str] = None) -> str:
    """Writes what changed between two checkpoints.

    Args:
        model_dir: a directory that training wrote.
        checkpoint: the newer one: ``latest``, ``best`` or a step number.
        since: step of the older one, which the version to be refreshed was exported from.
        export_dir: base directory of the versions; default ``<model_dir>/export``.

    Returns:
        The delta's directory.

    Raises:
        UserError: a checkpoint is missing or damaged, or the delta is there already.
    """
    new = read_model(model_dir, checkpoint)
    old = read_weights(_path_of(model_dir, since), new.config, new.manifest.dataset, new.encoding)
    if old.step >= new.weights.step:
        raise UserError("delta_since %d is not older than the checkpoint of step %d" % (since, new.weights.step))
    # Bits are compared, not values: a delta gives exactly what a full export would.
    changed = np.flatnonzero((old.table.view(np.int32) != new.weights.table.view(np.int32)).any(axis=1))
    arrays = {"keys": changed.astype(np.int64), "rows": new.weights.table[changed]}
    arrays.update((_DENSE + name, value) for name, value in new.weights.dense.items()
                  if value.tobytes() != old.dense[name].tobytes())
    base = export_dir or os.path.join(model_dir, "export")
    target = os.path.join(base, "delta-%d-%d" % (since, new.weights.step))
    if os.path.exists(target):
        raise UserError("%s is there already; remove it first" % target)
    os.makedirs(base, exist_ok=True)
    temporary = temporary_directory(base, ".delta-")
    try:
        np.savez(os.path.join(temporary, ARRAYS_FILE), **arrays)
        _write_json(os.path.join(temporary, NOTE_FILE), dict(_identity(new), format_version=FORMAT_VERSION,
                                                             since_step=since, checkpoint_step=new.weights.step,
                                                             keys=len(changed)))
        os.chmod(temporary, 0o755)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def apply_delta(version_dir: str, delta_dir: str) -> str:
    """Makes the next version of an exported model: the same graph and assets, other variables.

    Args:
        version_dir: a version that was exported from the delta's older checkpoint.
        delta_dir: what :func:`export_delta` wrote.

    Returns:
        The new version directory, beside the old one.

    Raises:
        UserError: a file is missing, or the delta does not belong to the version.
    """
    card, note = _read_json(os.path.join(version_dir, MODEL_CARD)), _read_json(os.path.join(delta_dir, NOTE_FILE))
    for path, found, known in ((os.path.join(version_dir, MODEL_CARD), card, CARD_FORMAT),
                               (os.path.join(delta_dir, NOTE_FILE), note, FORMAT_VERSION)):
        if found.get("format_version") != known:
            raise UserError("%s has format version %r; this program reads version %d, a newer file needs a newer one"
                            % (path, found.get("format_version"), known))
    for name, expected in (("checkpoint_step", note["since_step"]), ("encoding_sha256", note["encoding_sha256"]),
                           ("table", note["table"])):
        found = {key: card[name][key] for key in note["table"]} if name == "table" else card[name]
        if found != expected:
            raise UserError("delta %s does not belong to %s: %s is %s there, the delta needs %s"
                            % (delta_dir, version_dir, name, found, expected))
    base = os.path.dirname(os.path.normpath(version_dir)) or os.curdir
    temporary = temporary_directory(base, ".export-")
    try:
        copy = os.path.join(temporary, "model")
        shutil.copytree(version_dir, copy)
        with np.load(os.path.join(delta_dir, ARRAYS_FILE)) as arrays:
            _rewrite_variables(version_dir, copy, note["table"]["name"], {key: arrays[key] for key in arrays.files})
        # Figures of the old checkpoint are not those of the new one.
        card.update(checkpoint_step=note["checkpoint_step"], metrics=None, check=None, is_best_checkpoint=False,
                    made_from={"version": os.path.basename(os.path.abspath(version_dir)),
                               "delta": os.path.basename(os.path.abspath(delta_dir))})
        card["table"].pop("rows", None)
        _write_json(os.path.join(copy, MODEL_CARD), card)
        return publish(copy, base)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def main(arguments: Sequence[str]) -> int:
    """Applies a delta; the last line of output is the new version directory."""
    parser = argparse.ArgumentParser(prog="estimator_app.serving.export_delta",
                                     description="Applies a delta to a version.")
    parser.add_argument("--version_dir", required=True, metavar="PATH", help="exported version that is refreshed")
    parser.add_argument("--delta", required=True, metavar="PATH", help="directory that export --delta_since wrote")
    parsed = parser.parse_args(list(arguments))
    try:
        sys.stdout.write(apply_delta(parsed.version_dir, parsed.delta) + "\n")
    except UserError as error:
        sys.stderr.write("error: %s\n" % error)
        return 1
    return 0


def _rewrite_variables(version_dir: str, target: str, table: str, arrays: Dict[str, np.ndarray]) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], version_dir)
        variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        rows = session.run(variables[table])
        rows[arrays["keys"]] = arrays["rows"]
        values = {name[len(_DENSE):]: value for name, value in arrays.items() if name.startswith(_DENSE)}
        for name, value in list(values.items()) + [(table, rows)]:
            variables[name].load(value, session)
        folder = os.path.join(target, tf.saved_model.VARIABLES_DIRECTORY)
        shutil.rmtree(folder)
        os.makedirs(folder)
        tf.compat.v1.train.Saver(list(variables.values())).save(
            session, os.path.join(folder, tf.saved_model.VARIABLES_FILENAME), write_meta_graph=False, write_state=False)


def _identity(model: Model) -> Dict[str, Any]:
    return {"encoding_sha256": model.manifest.encoding_fingerprint(),
            "table": {"name": model.manifest.dataset.table_name, "ids": model.encoding.num_ids,
                      "dim": int(model.weights.table.shape[1])}}


def _path_of(model_dir: str, step: int) -> str:
    best = checkpoints.read_best(model_dir)
    # The best checkpoint outlives the latest ones.
    if best is not None and best["step"] == step:
        return checkpoints.resolve(model_dir, "best")
    return checkpoints.resolve(model_dir, str(step))


def _read_json(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except (OSError, ValueError) as error:
        raise UserError("%s cannot be read: %s" % (path, error)) from error


def _write_json(path: str, values: Dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(values, stream, indent=1, sort_keys=True)
        stream.write("\n")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    sys.exit(main(sys.argv[1:]))
