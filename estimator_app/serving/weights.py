"""The weights of a checkpoint as arrays, read with TensorFlow's checkpoint reader and NumPy; no SDK is needed.

A checkpoint written on NPUs and one written on a CPU have the same files: dense variables in TensorFlow's format and
the embedding table in the SDK's ``sparse-<base>-<step>/<table>/{key,embedding}``.
"""
from typing import Dict, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model import networks as heads
from estimator_app.model.layers import NetworkShape
from estimator_app.model_dir import checkpoints
from feature_specs.dataset import DatasetDefinition
from feature_specs.encoding import FeatureEncoding
from feature_specs.errors import UserError
from rec_sdk_cpu.core import sparse_files


class ServingWeights(NamedTuple):
    """The weights of one checkpoint.

    Attributes:
        dense: {variable name: float32 array}.
        table: float32 [num_ids + 1, width]; row i belongs to id i, an id without a row has zeros, the last row is zero.
        table_rows: number of ids that the checkpoint has a row for.
        step: global step of the checkpoint.
    """

    dense: Dict[str, np.ndarray]
    table: np.ndarray
    table_rows: int
    step: int


def network_shape(config: Config, dataset: DatasetDefinition) -> NetworkShape:
    """Returns the sizes of the network for a dataset."""
    return heads.network_shape(config, dataset.task_names)


def dense_variable_shapes(shape: NetworkShape, num_dense: int) -> Dict[str, Tuple[int, ...]]:
    """Returns {name: shape} of the network's variables."""
    with tf.Graph().as_default():
        heads.build_network(tf.zeros([1, shape.width]), tf.zeros([1, num_dense]), shape)
        return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.compat.v1.global_variables()}


def read_weights(path: str, config: Config, dataset: DatasetDefinition, encoding: FeatureEncoding) -> ServingWeights:
    """Reads the weights of a checkpoint.

    Args:
        path: checkpoint path without file endings, ``<dir>/model.ckpt-<step>``.
        config: settings of the trained model.
        dataset: columns and tasks.
        encoding: constants of the encoding.

    Returns:
        The weights.

    Raises:
        UserError: a file is missing or damaged, does not fit the settings, or holds numbers that are not finite.
    """
    shape = network_shape(config, dataset)
    dense = _read_dense(path, dense_variable_shapes(shape, dataset.num_dense))
    table, rows = _read_table(path, dataset.table_name, shape.width, encoding.num_ids)
    for name, values in list(dense.items()) + [(dataset.table_name, table)]:
        if not np.isfinite(values).all():
            raise UserError("checkpoint %s: %s holds numbers that are not finite; training has diverged, use an "
                            "earlier --checkpoint" % (path, name))
    return ServingWeights(dense, table, rows, checkpoints.step_of(path))


def _read_dense(path: str, shapes: Dict[str, Tuple[int, ...]]) -> Dict[str, np.ndarray]:
    try:
        reader = tf.train.load_checkpoint(path)
        found = reader.get_variable_to_shape_map()
        for name, expected in shapes.items():
            if name not in found:
                raise UserError("checkpoint %s has no variable %s; it belongs to another model" % (path, name))
            if tuple(found[name]) != expected:
                raise UserError("checkpoint %s: variable %s has shape %s, the settings of the model directory make it "
                                "%s; it belongs to another model" % (path, name, list(found[name]), list(expected)))
        return {name: np.array(reader.get_tensor(name), np.float32) for name in shapes}
    except (tf.errors.OpError, ValueError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError("checkpoint %s cannot be read: %s" % (path, message)) from error


def _read_table(path: str, name: str, width: int, num_ids: int) -> Tuple[np.ndarray, int]:
    directory = sparse_files.sparse_directory(path)
    try:
        found = sparse_files.tables(directory)
        if name not in found:
            raise UserError("%s has no table %s; it has %s" % (directory, name, ", ".join(found) or "none"))
        keys, rows = sparse_files.read_table(directory, name)
    except OSError as error:
        raise UserError("checkpoint %s cannot be read: %s" % (path, error)) from error
    if rows.shape[1] != width:
        raise UserError("%s: table %s has rows of %d values, the settings of the model directory make it %d; it "
                        "belongs to another model" % (directory, name, rows.shape[1], width))
    if keys.size and keys.max() >= num_ids:
        raise UserError("%s: table %s has key %d, the data of the model has the ids 0 to %d; it belongs to another "
                        "model" % (directory, name, keys.max(), num_ids - 1))
    table = np.zeros((num_ids + 1, width), np.float32)
    table[keys] = rows
    return table, int(keys.size)
