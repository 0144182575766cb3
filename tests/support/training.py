"""Trainings of small data in this process, in any mode of the SDK, and their results as arrays."""
import contextlib
import json
import os
from unittest import mock

import numpy as np
import tensorflow as tf

from estimator_app.config import Config
from estimator_app.device import prepare_device
from estimator_app.model.definition import make_model

# Tables begin at zero, where the modes of storage would begin at random values of their own; the dense weights do not.
SETTINGS = {"expert_num": 2, "expert_layers": (4,), "tower_layers": (4,), "task_expert_num": 1, "batch_size": 16,
            "eval_batch_size": 16, "train_epoch": 1, "embedding_stddev": 0.0, "embedding_dim": 4, "learning_rate": 0.01,
            "sparse_learning_rate": 0.05, "dense_bins": 4, "shuffle_rows": 0, "threads": 1}


def settings_of(data_dir, model_dir, **changes):
    return Config(**dict(SETTINGS, data_dir=str(data_dir), model_dir=str(model_dir), device="cpu", **changes))


def train(config, manifest, **request):
    """Trains as the command does, in this process and without a report; returns the metrics of the last evaluation.

    ``phase="train:0:N"`` trains N steps and evaluates nothing, which takes half the time.
    """
    prepare_device("cpu")
    from estimator_app.training.run_start import TrainRequest
    from estimator_app.training.train import train as run
    from rec_sdk_cpu.core import config as sdk_config
    os.makedirs(config.model_dir, exist_ok=True)
    sdk_config.reset()
    try:
        with open(os.devnull, "w", encoding="utf-8") as stream, contextlib.redirect_stdout(
                stream), tf.Graph().as_default(), mock.patch(
                    "estimator_app.training.report.write_report", return_value=""):
            return run(TrainRequest(make_model(config, manifest), **request))
    finally:
        sdk_config.reset()


def tables_of(model_dir, step):
    """{table: {key: row}} of a checkpoint, read with NumPy alone."""
    folder, found = os.path.join(str(model_dir), "sparse-model.ckpt-%d" % step), {}
    for name in sorted(os.listdir(folder)):
        keys = np.fromfile(os.path.join(folder, name, "key", "slice.data"), np.int64)
        rows = np.fromfile(os.path.join(folder, name, "embedding", "slice.data"), np.float32)
        found[name] = dict(zip(keys.tolist(), rows.reshape(len(keys), -1))) if len(keys) else {}
    return found


def weights_of(model_dir, step):
    """{name: value} of the dense variables of a checkpoint."""
    reader = tf.train.load_checkpoint(os.path.join(str(model_dir), "model.ckpt-%d" % step))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def evaluations_of(model_dir):
    with open(os.path.join(str(model_dir), "metrics.jsonl"), encoding="utf-8") as stream:
        return [line for line in map(json.loads, stream) if line.get("kind") == "eval"]
