"""The app's pieces for benchmarks inside one process: models, batches and training steps with a session."""
import os
from typing import Any, Callable, Dict, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from estimator_app import config as config_module  # noqa: E402
from estimator_app.model.definition import Model, make_model  # noqa: E402
from estimator_app.parsers import preset_of  # noqa: E402
from feature_specs.cores import usable_cores  # noqa: E402
from feature_specs.manifest import TRAIN_SPLIT, read_manifest  # noqa: E402

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)

Batch = Dict[str, np.ndarray]


def make(data_dir: str, preset: str, **settings: Any) -> Model:
    """Returns the model of prepared data with a preset and further settings."""
    config = config_module.from_arguments(dict(settings, data_dir=data_dir), preset_of(data_dir, preset)[1], {})
    return make_model(config, read_manifest(data_dir))


def start_sdk() -> None:
    """Installs the stand-in and initialises the SDK anew; the sessions before it must not be used any more."""
    from estimator_app.device import prepare_device
    prepare_device("cpu")
    from mx_rec.util.initialize import init

    from rec_sdk_cpu.core import config
    config.reset()
    init(max_steps=-1, train_steps=-1, eval_steps=-1, save_steps=-1, use_dynamic=True)


def training_dataset(model: Model, epochs: int = 1 << 20) -> tf.data.Dataset:
    """Returns the app's training batches in the current graph, without the SDK's part."""
    from estimator_app.training.runtime import reading
    from input_fn.pipeline import training_batches
    from input_fn.plan import plan_training
    split = model.manifest.split(TRAIN_SPLIT)
    plan = plan_training(split, model.manifest.line_per_sample, model.config.batch_size, model.config.window_rows)
    return training_batches(reading(model), split, plan, epochs, 0)


def batches_in_memory(model: Model, count: int) -> Batch:
    """Reads the first training batches: {entry: array [count, batch, columns]}."""
    start_sdk()
    with tf.Graph().as_default(), session() as opened:
        following = tf.compat.v1.data.make_one_shot_iterator(training_dataset(model)).get_next()
        found = [opened.run(following) for _ in range(count)]
    return {name: np.stack([batch[name] for batch in found]) for name in found[0]}


def our_step(model: Model, batches: Batch) -> Tuple[Callable[..., Any], Any, Any]:
    """Builds the app's training step on batches in memory, which come round again and again.

    Returns:
        The function that makes one step (it takes ``options`` and ``run_metadata`` too), the session, and the last
        table.
    """
    start_sdk()
    from mx_rec.core.asc.helper import get_asc_insert_func

    from estimator_app.model.model_fn import make_model_fn
    from feature_specs.spec_list import FeatureSpecLists
    from rec_sdk_cpu.core import graph_state
    from rec_sdk_cpu.mx_rec.core.asc.manager import start_asc_pipeline
    specs = FeatureSpecLists()
    model_fn = make_model_fn(model, specs, 1)
    with tf.Graph().as_default() as graph:
        tf.compat.v1.set_random_seed(1)
        tf.compat.v1.train.create_global_step()
        made = specs.make(True, [table.name for table in model.encoding.tables])
        iterator, opened = _iterator(batches, get_asc_insert_func(tgt_key_specs=made, is_training=True))
        spec = model_fn(iterator.get_next(), None, tf.estimator.ModeKeys.TRAIN)
        start_asc_pipeline()
        table = list(graph_state.of(graph).tables.values())[-1]
        return opened(spec.train_op) + (table,)


def plain_step(model_fn: Callable[..., tf.estimator.EstimatorSpec], batches: Batch) -> Tuple[Callable[..., Any], Any]:
    """Builds another model's training step on batches in memory; returns it and the session."""
    with tf.Graph().as_default():
        tf.compat.v1.set_random_seed(1)
        tf.compat.v1.train.create_global_step()
        iterator, opened = _iterator(batches, None)
        spec = model_fn(iterator.get_next(), None, tf.estimator.ModeKeys.TRAIN)
        return opened(spec.train_op)


def session() -> Any:
    """Returns a session of the current graph with a thread per core."""
    return tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(
        allow_soft_placement=True, intra_op_parallelism_threads=usable_cores(),
        inter_op_parallelism_threads=usable_cores()))


def _iterator(batches: Batch, function: Any) -> Tuple[Any, Callable[[Any], Tuple[Callable[..., Any], Any]]]:
    """Returns an iterator over placeholders (no 2 GB constants), and what opens a session for an op once it is made."""
    fed = {name: tf.compat.v1.placeholder(value.dtype, value.shape) for name, value in batches.items()}
    dataset = tf.data.Dataset.from_tensor_slices(fed).repeat()
    iterator = tf.compat.v1.data.make_initializable_iterator(
        (dataset.map(function) if function else dataset).prefetch(8))

    def opened(operation: Any) -> Tuple[Callable[..., Any], Any]:
        made = session()
        made.run(tf.compat.v1.global_variables_initializer())
        made.run(tf.compat.v1.local_variables_initializer())
        made.run(tf.compat.v1.tables_initializer())
        made.run(iterator.initializer, {fed[name]: value for name, value in batches.items()})
        return made.make_callable(operation, accept_options=True), made

    return iterator, opened
