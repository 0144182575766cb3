"""Model directories with hand-written checkpoints in the layout that NPUs leave, made without any SDK."""
import os
import shutil

import numpy as np
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.model.networks import build_network
from estimator_app.model_dir import directory as model_directory
from estimator_app.serving.weights import network_shape
from feature_specs.encoding import make_encoding
from rec_sdk_cpu.core import sparse_files
from tests.small_data import write_data

STEP = 20


def make_model(root, ranks=1, line_per_sample=4, keep_data=True, **settings):
    """Makes ``root/data`` and ``root/model`` with a checkpoint of step 20.

    Args:
        root: folder.
        ranks: ranks that saved the table: rank r owns the keys with key % ranks == r, and the shards are joined in the
            string order of the ranks' numbers.
        line_per_sample: packing of the data.
        keep_data: whether the prepared data stays; without it, an export draws rows for its check.
        settings: fields of the configuration.

    Returns:
        Config, Manifest, {split: (ids, dense, labels)}.
    """
    data_dir, model_dir = os.path.join(str(root), "data"), os.path.join(str(root), "model")
    manifest, arrays = write_data(data_dir, train_rows=200, test_rows=50, line_per_sample=line_per_sample)
    if not keep_data:
        shutil.rmtree(data_dir)
    fields = {"expert_num": 3, "expert_size": 4, "tower_size": 5, "dense_bins": 4, "batch_size": 8}
    fields.update(settings)
    config = Config(data_dir=data_dir, model_dir=model_dir, **fields)
    model_directory.write_settings(config, manifest)
    write_checkpoint(config, manifest, STEP, ranks)
    return config, manifest, arrays


def write_checkpoint(config, manifest, step, ranks=1, seed=0, change=None):
    """Writes dense files and sparse folder of a step; ``change(dense, keys, rows)`` may alter the values in place."""
    random = np.random.RandomState(seed)
    dataset = manifest.dataset
    shape = network_shape(config, dataset)
    path = os.path.join(config.model_dir, "model.ckpt-%d" % step)
    num_ids = make_encoding(manifest, config.dense_transform, config.dense_bins, config.drop_dense).num_ids
    # Some ids never met a training row: they have no key.
    keys = random.permutation(num_ids)[:num_ids - 3].astype(np.int64)
    rows = random.normal(0, 0.5, (len(keys), shape.width)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        build_network(tf.zeros([1, shape.width]), tf.zeros([1, dataset.num_dense]), shape)
        tf.compat.v1.train.create_global_step()
        dense = {variable.op.name: random.normal(0, 0.5, variable.shape.as_list()).astype(np.float32)
                 for variable in sorted(tf.compat.v1.global_variables(), key=lambda item: item.name)
                 if variable.op.name != "global_step"}
        if change is not None:
            change(dense, keys, rows)
        for variable in tf.compat.v1.global_variables():
            variable.load(dense.get(variable.op.name, step), session)
        tf.compat.v1.train.Saver().save(session, path, write_state=False)
    order = [np.flatnonzero(keys % ranks == int(rank)) for rank in sorted(str(rank) for rank in range(ranks))]
    order = np.concatenate(order)
    with sparse_files.FolderWriter(sparse_files.sparse_directory(path)) as writer:
        writer.write_keys(dataset.table_name, keys[order])
        writer.write_rows(dataset.table_name, "embedding", shape.width, [rows[order]])
        for state in ("LazyAdam_momentum", "LazyAdam_velocity"):
            writer.write_rows(dataset.table_name, state, shape.width, [np.zeros_like(rows)])
    return dense, keys, rows


def raw_lines(ids, dense, manifest, labels=None):
    """Returns raw text lines of rows: a blank after each comma, labels only where they are given."""
    offsets = manifest.id_offsets()
    lines = []
    for row in range(len(ids)):
        values = []
        for number, column in enumerate(manifest.dataset.sparse_columns):
            index = ids[row, number] - offsets[column]
            vocabulary = manifest.vocabularies[column]
            values.append(vocabulary[index] if index < len(vocabulary) else "never seen")
        values += [repr(float(value)) for value in dense[row]]
        if labels is not None:
            values += ["yes" if label else "no" for label in labels[row]]
        lines.append(", ".join(values) + "\n")
    return lines


def server_call(session, inputs, outputs):
    """Returns a call of the graph that, as a model server does, leaves all checks of the inputs to the graph.

    Args:
        session: the session.
        inputs: names of the tensors to feed, in order.
        outputs: names of the tensors to return.
    """
    from tensorflow.core.protobuf import config_pb2
    options = config_pb2.CallableOptions(feed=inputs, fetch=outputs)
    return session._make_callable_from_options(options)
