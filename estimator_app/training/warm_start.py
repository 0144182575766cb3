"""``--warm_start_from``: a new model takes over the variables and tables of another one that mean the same there."""
import os
import re
import sys
from typing import Any, List, Set, Tuple

import pyarrow.parquet
import tensorflow as tf

from estimator_app.model.definition import Model, dense_variable_shapes, make_model
from estimator_app.model_dir import checkpoints, directory, sparse_tables
from estimator_app.model_dir.checkpoints import Checkpoint
from feature_specs.data_files import vocabulary_file
from feature_specs.encoding import TableLayout
from feature_specs.errors import ConfigError
from feature_specs.manifest import MODEL_DATA_FOLDER


def warm_start_settings(source: str, model: Model) -> Any:
    """Compares the trained model in ``source`` with a new one and prints what is taken over, and what is left and why.

    Returns tf.estimator.WarmStartSettings; the SDK loads the tables that it names (rec_sdk_api 5.4). Raises UserError
    where ``source`` holds no trained model, or nothing fits.
    """
    config, manifest = directory.read_settings(source, {"device": model.config.device})
    checkpoint = checkpoints.resolve(source, "latest")
    old = make_model(config, manifest)
    found = tf.train.load_checkpoint(checkpoint.path).get_variable_to_shape_map()
    # Shown name, shape, why it is left (empty: it is taken), and what TensorFlow and the SDK call it.
    rows: List[Tuple[str, str, str, str]] = []
    for name, shape in sorted(dense_variable_shapes(model).items()):
        reason = ("not there" if name not in found else
                  "shape %s" % found[name] if tuple(found[name]) != shape else "")
        # TensorFlow matches with the name of the variable's tensor.
        rows.append((name, str(list(shape)), reason, "^%s:0$" % re.escape(name)))
    for layout in model.encoding.tables:
        rows.append(("table %s" % layout.name, "[any, %d]" % model.table_dim(layout),
                     _table_reason(layout, model, old, checkpoint, source), layout.name))
    taken = [pattern for _, _, reason, pattern in rows if not reason]
    width = max(len(name) for name, _, _, _ in rows)
    for name, shape_text, reason, _ in rows:
        sys.stdout.write("%-*s %14s  %s\n" % (width, name, shape_text, "left: " + reason if reason else "taken"))
    sys.stdout.write("%d of %d variables and tables of %s are taken over, step %d\n" % (
        len(taken), len(rows), source, checkpoint.step))
    sys.stdout.flush()
    if not taken:
        raise ConfigError("--warm_start_from %s: nothing fits; leave it out to train from the start" % source)
    return tf.estimator.WarmStartSettings(ckpt_to_initialize_from=checkpoint.path, vars_to_warm_start=taken)


def _table_reason(layout: TableLayout, model: Model, old: Model, checkpoint: Checkpoint, source: str) -> str:
    """Returns why a table cannot be taken over, or nothing."""
    if layout.name not in sparse_tables.tables(checkpoint.tables):
        return "not there"
    dim = sparse_tables.open_rows(checkpoint.tables, layout.name).shape[1]
    if dim != model.table_dim(layout):
        return "rows of %d values" % dim
    before = {field.name for table in old.encoding.tables if table.name == layout.name for field in table.fields}
    fields = before & {field.name for field in layout.fields}
    categorical = {feature.name: feature.vocabulary or feature.name for feature in model.manifest.dataset.categorical}
    vocabularies = sorted({categorical.get(field, field) for field in fields})
    reasons = (_vocabulary_reason(name, model, old, source) for name in vocabularies)
    return next(filter(None, reasons), "")


def _vocabulary_reason(name: str, model: Model, old: Model, source: str) -> str:
    new, known = model.manifest.vocabularies[name], old.manifest.vocabularies.get(name)
    if known is None or (known.number, known.encoding) != (new.number, new.encoding):
        return "vocabulary of %s has another number or encoding" % name
    if new.encoding == "bins":
        same = (model.manifest.dense_statistics[name] == old.manifest.dense_statistics[name]
                and model.config.dense_bins == old.config.dense_bins)
        return "" if same else "bins of %s are others" % name
    if not new.path or new.sha256 == known.sha256:
        return ""
    values = _values(vocabulary_file(model.manifest, model.config.data_dir, name))
    theirs = _values(vocabulary_file(old.manifest, os.path.join(source, MODEL_DATA_FOLDER), name))
    return "" if theirs <= values else "the vocabulary of %s differs" % name


def _values(path: str) -> Set[Tuple[int, str]]:
    """Returns the pairs of index and value, the unknown value (0) left out."""
    table = pyarrow.parquet.read_table(path, columns=["index", "value"]).to_pydict()
    return {pair for pair in zip(table["index"], table["value"]) if pair[0]}
