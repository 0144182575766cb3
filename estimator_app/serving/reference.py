"""What a checkpoint predicts, for comparison with its export: the Estimator's own PREDICT, and a NumPy forward pass.

``python -m estimator_app.serving.reference`` runs the Estimator on evaluation rows in a process of its own, through the
CPU stand-in of the SDK, and writes the probabilities to a file.
"""
import argparse
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import numpy as np

from estimator_app.config import Config
from estimator_app.model_dir import directory as model_directory
from feature_specs.dataset import DENSE_FEATURE, LABEL, SPARSE_FEATURE
from feature_specs.errors import UserError
from feature_specs.manifest import TEST_SPLIT, Manifest, check_shards, read_manifest

if TYPE_CHECKING:
    from estimator_app.model.layers import NetworkShape


def read_evaluation_rows(data_dir: str, manifest: Manifest, rows: int) -> Tuple[np.ndarray, np.ndarray]:
    """Reads the first rows of the evaluation set, in file order.

    Args:
        data_dir: prepared data.
        manifest: of this data.
        rows: at most so many.

    Returns:
        int64 [n, S] ids and float32 [n, D] raw dense values.

    Raises:
        DataError: a shard is missing or damaged.
    """
    import tensorflow as tf

    from input_fn.pipeline import extract_fn, reshape_fn
    check_shards(manifest, data_dir, TEST_SPLIT)
    paths = [os.path.join(data_dir, shard.path) for shard in manifest.split(TEST_SPLIT).shards if shard.rows]
    records = -(-rows // manifest.line_per_sample)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        dataset = tf.data.TFRecordDataset(paths).take(records).batch(records)
        batch = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
        values = session.run(reshape_fn(extract_fn(batch, manifest.dataset, manifest.line_per_sample),
                                        manifest.dataset))
    valid = values[LABEL][:, 0] >= 0
    return values[SPARSE_FEATURE][valid][:rows], values[DENSE_FEATURE][valid][:rows]


def estimator_probabilities(config: Config, manifest: Manifest, path: str, rows: int) -> Dict[str, np.ndarray]:
    """Predicts the first evaluation rows with the Estimator; the SDK or its stand-in must be importable.

    Args:
        config: settings of the trained model; ``data_dir`` names the data.
        manifest: of this data.
        path: of the checkpoint.
        rows: at most so many.

    Returns:
        {task: float32 [n]}.
    """
    from estimator_app.training.runtime import build_runtime
    runtime = build_runtime(config, manifest, training=False)
    parts: List[Dict[str, Any]] = []
    found = 0
    try:
        for batch in runtime.estimator.predict(runtime.eval_input_fn, hooks=runtime.hooks(), checkpoint_path=path,
                                               yield_single_examples=False):
            parts.append(batch)
            found += int((batch[LABEL][:, 0] >= 0).sum())
            if found >= rows:
                break
    finally:
        runtime.close()
    valid = np.concatenate([part[LABEL][:, 0] for part in parts]) >= 0
    return {task: np.concatenate([part[task][:, 0] for part in parts])[valid][:rows]
            for task in manifest.dataset.task_names}


def numpy_probabilities(ids: np.ndarray, dense: np.ndarray, variables: Dict[str, np.ndarray], table: np.ndarray,
                        shape: "NetworkShape") -> Dict[str, np.ndarray]:
    """Computes the networks from their formulas, in float64.

    Args:
        ids: int64 [n, fields], encoded; an id outside the table's rows contributes nothing.
        dense: float32 [n, D], normalised.
        variables: the networks' variables by name.
        table: float32 [num_ids + 1, width], the last row zero.
        shape: sizes.

    Returns:
        {task: float64 [n]}.
    """
    weights = {name: value.astype(np.float64) for name, value in variables.items()}
    rows = np.where((ids >= 0) & (ids < len(table) - 1), ids, len(table) - 1)
    pooled = np.zeros((len(ids), table.shape[1]))
    for field in range(ids.shape[1]):
        pooled = pooled + table[rows[:, field]]
    logits = {task: np.zeros(len(ids)) for task in shape.tasks}
    scope = shape.model + "/"
    all_first = pooled + weights[scope + "first_layer/bias"]
    if dense.shape[1]:
        all_first = all_first + dense.astype(np.float64) @ weights[scope + "first_layer/kernel"]
    for number, first in enumerate(np.split(all_first, shape.network_num, axis=1)):
        for place, task in enumerate(shape.tasks):
            mixed = _numpy_mix(first, place, shape)
            layer = scope + "tower_%s/" % task
            tower = {name: weights[layer + name][number] for name in (
                "hidden/kernel", "hidden/bias", "output/kernel", "output/bias")}
            hidden = np.maximum(mixed @ tower["hidden/kernel"] + tower["hidden/bias"], 0.0)
            both = hidden @ tower["output/kernel"] + tower["output/bias"]
            logits[task] += (both[:, 1] - both[:, 0]) / shape.network_num
    with np.errstate(over="ignore"):
        return {task: 1.0 / (1.0 + np.exp(-logits[task])) for task in shape.tasks}


def _numpy_mix(first: np.ndarray, place: int, shape: "NetworkShape") -> np.ndarray:
    """Returns what the tower of the task at ``place`` reads, float64 [n, units]; ``first`` is [n, network_width]."""
    units = shape.experts * shape.expert_size
    experts = np.maximum(first[:, :units], 0.0)
    if not shape.gate_size:
        return experts
    experts = experts.reshape(-1, shape.experts, shape.expert_size)
    own = shape.gate_size - shape.expert_num
    begin = shape.expert_num + place * own
    visible = np.concatenate([experts[:, :shape.expert_num], experts[:, begin:begin + own]], axis=1)
    gate = first[:, units + place * shape.gate_size:units + (place + 1) * shape.gate_size]
    gate = np.exp(gate - gate.max(axis=1, keepdims=True))
    return np.einsum("ne,nes->ns", gate / gate.sum(axis=1, keepdims=True), visible)


def main(arguments: Sequence[str]) -> int:
    """Writes the Estimator's probabilities of evaluation rows to a file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="estimator_app.serving.reference", description=__doc__.splitlines()[0])
    for name, text in (("--model_dir", "model directory"), ("--checkpoint_path", "checkpoint without file endings"),
                       ("--data_dir", "prepared data"), ("--output", ".npz file with one array per task")):
        parser.add_argument(name, required=True, metavar="PATH", help=text)
    parser.add_argument("--rows", type=int, required=True, metavar="N", help="rows of the evaluation set")
    parsed = parser.parse_args(list(arguments))
    try:
        config, trained_on = model_directory.read_settings(parsed.model_dir, {"data_dir": parsed.data_dir,
                                                                              "device": "cpu"})
        manifest = read_manifest(config.data_dir)
        model_directory.check_same_data(trained_on, manifest, config)
        from estimator_app.device import prepare_device
        prepare_device(config.device)
        found = estimator_probabilities(config, manifest, parsed.checkpoint_path, parsed.rows)
    except UserError as error:
        sys.stderr.write("error: %s\n" % error)
        return 1
    np.savez(parsed.output, **found)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main(sys.argv[1:]))
