"""The weights of a checkpoint, of NPUs or of a CPU, as arrays: read with TensorFlow and NumPy, without an SDK."""
import dataclasses
from typing import Dict, NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from estimator_app.model.definition import Model, dense_variable_shapes, make_model
from estimator_app.model_dir import checkpoints, directory, sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from feature_specs.errors import UserError


class Table(NamedTuple):
    """An embedding table."""

    keys: np.ndarray  # int64 [n], ascending
    rows: np.ndarray  # float32 [n, dim]


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """Everything of a trained model that serving needs."""

    model: Model
    checkpoint: Checkpoint  # where the weights are from
    dense: Dict[str, np.ndarray]  # {variable name: float32 array}
    tables: Dict[str, Table]


def read_model(model_dir: str, choice: str) -> TrainedModel:
    """Reads settings, manifest and weights of a trained model; ``choice``: ``latest``, ``best`` or a step number.

    UserError: a file is missing or damaged, does not fit the settings, or holds numbers that are not finite.
    """
    model = make_model(*directory.read_settings(model_dir, {}))
    checkpoint = checkpoints.resolve(model_dir, choice)
    dense = _read_dense(checkpoint.path, dense_variable_shapes(model))
    tables = {name: _read_table(checkpoint.tables, name, dim) for name, dim in model.table_dims().items()}
    for name, values in list(dense.items()) + [(name, table.rows) for name, table in tables.items()]:
        if not np.isfinite(values).all():
            raise UserError("checkpoint %s: %s holds numbers that are not finite: training has diverged, use an "
                            "earlier --checkpoint" % (checkpoint.path, name))
    return TrainedModel(model, checkpoint, dense, tables)


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


def _read_table(folder: str, name: str, expected_dim: int) -> Table:
    dim = sparse_tables.row_values(folder, name)
    if dim != expected_dim:
        raise UserError("%s: table %s has rows of %d values, the settings of the model directory make it %d; it "
                        "belongs to another model" % (folder, name, dim, expected_dim))
    keys = sparse_tables.read_keys(folder, name)
    order = np.argsort(keys)
    return Table(keys[order], np.ascontiguousarray(sparse_tables.open_rows(folder, name)[order]))
