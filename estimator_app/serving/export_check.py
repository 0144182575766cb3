"""Checks a SavedModel as a client sees it: ``python -m estimator_app.serving.export_check --saved_model D --rows F``.

It loads the model with plain TensorFlow, calls every signature with the rows of the file and compares the
probabilities with the file's. Nothing of the training side is imported. The last line of output is JSON.
"""
import argparse
import base64
import json
import os
import sys
from typing import Any, Dict, List, Sequence

import numpy as np
import tensorflow as tf

TOLERANCE = 1e-6
TASK_PREFIX = "task:"
_SEPARATOR = "/"
# Arrays of bytes lose trailing zero bytes in NumPy, so serialized protos are kept as text.
_BASE64 = "base64:"


def save_rows(path: str, calls: Dict[str, Dict[str, Any]], expected: Dict[str, np.ndarray]) -> None:
    """Writes what to call and what to expect.

    Args:
        path: the .npz file.
        calls: {signature: {input: array}}; an input of bytes is a list of bytes.
        expected: {task: float [n]}.
    """
    arrays = {TASK_PREFIX + task: values for task, values in expected.items()}
    for signature, inputs in calls.items():
        for name, value in inputs.items():
            key = "%s%s%s" % (signature, _SEPARATOR, name)
            if isinstance(value, list):
                arrays[_BASE64 + key] = np.array([base64.b64encode(item) for item in value], np.bytes_)
            else:
                arrays[key] = value
    np.savez(path, **arrays)


def compare(saved_model: str, rows: str) -> Dict[str, Dict[str, float]]:
    """Calls every signature of a SavedModel and returns the largest difference.

    Args:
        saved_model: the version directory.
        rows: a file that :func:`save_rows` wrote.

    Returns:
        {signature: {task: largest absolute difference of a probability}}; infinite where an output has another shape,
        is not float32, or is no number between 0 and 1.
    """
    with np.load(rows) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    expected = {name[len(TASK_PREFIX):]: value for name, value in given.items() if name.startswith(TASK_PREFIX)}
    differences: Dict[str, Dict[str, float]] = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], saved_model)
        for name, signature in sorted(meta_graph.signature_def.items()):
            feed = {tensor.name: _input(given, "%s%s%s" % (name, _SEPARATOR, key))
                    for key, tensor in signature.inputs.items()}
            outputs = session.run({task: tensor.name for task, tensor in signature.outputs.items()}, feed)
            if set(outputs) != set(expected):
                raise SystemExit("signature %s has the outputs %s, expected %s"
                                 % (name, sorted(outputs), sorted(expected)))
            differences[name] = {task: _difference(outputs[task], expected[task]) for task in sorted(expected)}
    return differences


def main(arguments: Sequence[str]) -> int:
    """Runs the check; returns 0 where every difference is within the tolerance, else 1."""
    parser = argparse.ArgumentParser(prog="estimator_app.serving.export_check", description=__doc__.splitlines()[0])
    parser.add_argument("--saved_model", required=True, metavar="PATH", help="version directory of a SavedModel")
    parser.add_argument("--rows", required=True, metavar="FILE", help="inputs and expected probabilities (.npz)")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, metavar="X",
                        help="largest difference of a probability that is allowed (default: %(default)s)")
    parsed = parser.parse_args(list(arguments))
    differences = compare(parsed.saved_model, parsed.rows)
    failed: List[str] = ["%s of signature %s differs by %.3g" % (task, name, value)
                         for name, tasks in differences.items() for task, value in tasks.items()
                         if not value <= parsed.tolerance]
    if failed:
        sys.stderr.write("%s; allowed: %.3g\n" % ("; ".join(failed), parsed.tolerance))
    sys.stdout.write(json.dumps({"differences": {
        name: {task: value if np.isfinite(value) else None for task, value in tasks.items()}
        for name, tasks in differences.items()}, "passed": not failed}) + "\n")
    return 1 if failed else 0


def _input(given: Dict[str, np.ndarray], key: str) -> Any:
    if _BASE64 + key in given:
        return np.array([base64.b64decode(item) for item in given[_BASE64 + key]], dtype=object)
    value = given[key]
    return value.astype(object) if value.dtype.kind == "U" else value


def _difference(found: Any, expected: np.ndarray) -> float:
    if found.dtype != np.float32 or found.shape != (len(expected), 1) or not ((found >= 0) & (found <= 1)).all():
        return float("inf")
    if not len(expected):
        return 0.0
    return float(np.abs(found[:, 0].astype(np.float64) - expected).max())


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    sys.exit(main(sys.argv[1:]))
