"""``--partial_restore``: going on in a model directory with another network, from what fits of its last checkpoint.

The new network is built once to learn its variables and their initial values; a checkpoint of the same step is written
in which each variable has the old value where name and shape are the same, and its initial value otherwise. It takes
the old one's place at the end; the old checkpoints stay in ``before_partial_restore``. A kill in between leaves the old
state, or one that the next start completes.
"""
import os
import shutil
from typing import Any, Dict, List, NamedTuple, TextIO

import numpy as np
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model.networks import network_shape
from estimator_app.model_dir import directory as model_directory
from estimator_app.training.runtime import Runtime
from feature_specs.errors import ConfigError
from feature_specs.files import replace_text
from feature_specs.manifest import Manifest
from rec_sdk_cpu.core import checksums, sparse_files

NEW, MISSING = "initialised", "not used"


class Row(NamedTuple):
    """One variable of the comparison: shapes as text, "-" where it does not exist."""

    name: str
    found: str
    expected: str

    @property
    def fits(self) -> bool:
        """Whether the old value can be used."""
        return self.found == self.expected


def initial_values(runtime: Runtime) -> Dict[str, np.ndarray]:
    """Builds the training graph and returns its dense variables, {name: initial value}."""
    assert runtime.train_input_fn is not None
    with tf.Graph().as_default():
        tf.compat.v1.set_random_seed(runtime.config.seed)
        tf.compat.v1.train.get_or_create_global_step()
        features = tf.compat.v1.data.make_initializable_iterator(runtime.train_input_fn()).get_next()
        runtime.estimator.model_fn(features, None, tf.estimator.ModeKeys.TRAIN, runtime.estimator.config)
        saver: Any = tf.compat.v1.train.Saver()
        # What the SDK's saver takes as dense: all that can be saved but the tables (rec_sdk_api 5.3).
        variables = {variable.op.name: variable for variable in saver._var_list}
        with tf.compat.v1.Session() as session:
            session.run([variable.initializer for variable in variables.values()])
            return session.run({name: variable.value() for name, variable in variables.items()})


def compare(path: str, expected: Dict[str, np.ndarray], config: Config, manifest: Manifest) -> List[Row]:
    """Compares a checkpoint with a network.

    Args:
        path: the checkpoint.
        expected: what :func:`initial_values` returned.
        config: settings of the network.
        manifest: of the data.

    Returns:
        A row per dense variable and table, sorted by name.
    """
    found = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    rows = [Row(name, _text(found.get(name)), _text(expected[name].shape if name in expected else None))
            for name in sorted(set(found) | set(expected))]
    directory = sparse_files.sparse_directory(path)
    width = network_shape(config, manifest.dataset.task_names).width
    wanted = manifest.dataset.table_name
    for table in sorted(set(sparse_files.tables(directory)) | {wanted}):
        dim = sparse_files.open_rows(directory, table, sparse_files.EMBEDDING_FOLDER).shape[1] if os.path.isdir(
            os.path.join(directory, table)) else None
        rows.append(Row("table " + table, _text(None if dim is None else ["any", dim]),
                        _text(["any", width] if table == wanted else None)))
    return rows


def describe(rows: List[Row], stream: TextIO) -> None:
    """Prints a line per variable that differs: variable, found, expected, and what becomes of it."""
    different = [row for row in rows if not row.fits]
    width = max([len(row.name) for row in different] + [len("variable")])
    stream.write("%-*s %14s %14s\n" % (width, "variable", "found", "expected"))
    for row in different:
        stream.write("%-*s %14s %14s  %s\n" % (width, row.name, row.found, row.expected,
                                               MISSING if row.expected == "-" else NEW))
    stream.write("%d of %d variables and tables fit\n" % (len(rows) - len(different), len(rows)))
    stream.flush()


def convert(path: str, rows: List[Row], expected: Dict[str, np.ndarray], config: Config, manifest: Manifest) -> None:
    """Puts a checkpoint of the new network in the place of the old ones.

    Args:
        path: the old checkpoint.
        rows: what :func:`compare` returned.
        expected: what :func:`initial_values` returned.
        config: settings of the new network.
        manifest: of the data.

    Raises:
        ConfigError: nothing fits.
    """
    if not any(row.fits for row in rows if row.name != "global_step"):
        raise ConfigError("--partial_restore: nothing of %s fits; start over with --fresh" % path)
    staged = os.path.join(config.model_dir, model_directory.PARTIAL_RESTORE_FOLDER)
    temporary = staged + ".tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    os.makedirs(temporary)
    fits = {row.name for row in rows if row.fits}
    reader = tf.train.load_checkpoint(path)
    values = {name: reader.get_tensor(name) if name in fits else value for name, value in expected.items()}
    # A checkpoint continues the step that it is of, whatever the new network begins with.
    values["global_step"] = reader.get_tensor("global_step")
    target = os.path.join(temporary, os.path.basename(path))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, value in sorted(values.items()):
            tf.compat.v1.get_variable(name, initializer=value, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, target, write_state=False)
    _write_tables(path, target, fits, config, manifest)
    checksums.write(target)
    model_directory.write_settings(config.replace(model_dir=temporary), manifest)
    replace_text(os.path.join(temporary, model_directory.OLD_STILL_THERE), "")
    os.rename(temporary, staged)
    model_directory.finish_partial_restore(config.model_dir)


def _write_tables(path: str, target: str, fits: Any, config: Config, manifest: Manifest) -> None:
    source, table = sparse_files.sparse_directory(path), manifest.dataset.table_name
    if "table " + table in fits:
        shutil.copytree(source, sparse_files.sparse_directory(target))
        return
    width = network_shape(config, manifest.dataset.task_names).width
    states = [state for name in sparse_files.tables(source) for state in sparse_files.states(source, name)]
    with sparse_files.FolderWriter(sparse_files.sparse_directory(target)) as writer:
        writer.write_keys(table, np.zeros(0, np.int64))
        for state in sorted(set(states) | {sparse_files.EMBEDDING_FOLDER}):
            writer.write_rows(table, state, width, [])


def _text(shape: Any) -> str:
    return "-" if shape is None else "[%s]" % ", ".join(map(str, shape))
