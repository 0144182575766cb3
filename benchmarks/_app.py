"""The app's pieces for benchmarks inside one process: training steps and input pipelines with a session."""
import os
from typing import Any, Callable, Dict, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks import _reference  # noqa: E402
from feature_specs.census import CENSUS  # noqa: E402
from feature_specs.dataset import (  # noqa: E402
    DENSE_FEATURE,
    LABEL,
    SPARSE_FEATURE,
    DatasetDefinition,
    TaskDefinition,
)
from feature_specs.encoding import FeatureEncoding  # noqa: E402
from preprocessing.cores import usable_cores  # noqa: E402

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)

Batch = Dict[str, np.ndarray]


def definition(fields: int, tasks: int) -> DatasetDefinition:
    """Returns a dataset definition with the census's numbers and any number of fields and tasks."""
    sparse = tuple("field_%d" % number for number in range(fields))
    labels = tuple(TaskDefinition("task_%d" % number, "label_%d" % number, "1", ("0", "1")) for number in range(tasks))
    return DatasetDefinition("synthetic", sparse + CENSUS.dense_columns + tuple(task.label_column for task in labels),
                             sparse, CENSUS.dense_columns, labels)


def encoding_of(dataset: DatasetDefinition, num_ids: int) -> FeatureEncoding:
    """Returns an encoding that leaves ids and numbers as they are."""
    width = dataset.num_dense
    return FeatureEncoding(
        transform="none", minimum=np.zeros(width, np.float32), maximum=np.ones(width, np.float32),
        shift=np.zeros(width, np.float32), scale=np.ones(width, np.float32), default=np.zeros(width, np.float32),
        binned_columns=np.zeros(0, np.int64), bin_edges=np.zeros((0, 0), np.float32), bin_offsets=np.zeros(0, np.int64),
        num_sparse_ids=num_ids, num_ids=num_ids, num_fields=dataset.num_sparse)


def random_batches(dataset: DatasetDefinition, batch_size: int, num_ids: int, count: int, distinct: int = 0) -> Batch:
    """Makes batches in memory: {feature: array [count, batch_size, columns]}.

    Args:
        dataset: columns and tasks.
        batch_size: rows.
        num_ids: ids lie below.
        count: batches.
        distinct: different ids of one batch; 0: each column has its own share of the ids, as in prepared data.
    """
    random = np.random.RandomState(1)
    shape = (count, batch_size, dataset.num_sparse)
    if distinct:
        pools = np.stack([random.choice(num_ids, distinct, replace=False) if num_ids < 1 << 22 else
                          np.unique(random.randint(0, num_ids, 2 * distinct))[:distinct] for _ in range(count)])
        ids = np.stack([pool[random.randint(0, distinct, shape[1:])] for pool in pools])
    else:
        share = max(1, num_ids // dataset.num_sparse)
        ids = random.randint(0, share, shape) + np.arange(dataset.num_sparse) * share
    return {LABEL: random.randint(0, 2, (count, batch_size, dataset.num_tasks)).astype(np.int64),
            SPARSE_FEATURE: ids.astype(np.int64),
            DENSE_FEATURE: random.normal(0, 1, (count, batch_size, dataset.num_dense)).astype(np.float32)}


def start_sdk() -> None:
    """Installs the stand-in and initialises the SDK anew; the sessions before it must not be used any more."""
    from estimator_app.device import prepare_device
    prepare_device("cpu")
    from mx_rec.util.initialize import init

    from rec_sdk_cpu.core import config
    config.reset()
    init(max_steps=-1, train_steps=-1, eval_steps=-1, save_steps=-1, use_dynamic=True)


def our_step(dataset: DatasetDefinition, num_ids: int, batches: Batch, capacity: int = 0, traced: bool = False,
             **settings: Any) -> Tuple[Callable[[], Any], Any, Any]:
    """Builds the app's training step on batches in memory, which come round again and again.

    Args:
        dataset: columns and tasks.
        num_ids: different ids.
        batches: see :func:`random_batches`.
        capacity: rows of the table; 0 for a quarter more than ids.
        traced: the step takes ``options`` and ``run_metadata``, as ``Session.run`` does.
        **settings: of the model (:class:`estimator_app.config.Config`).

    Returns:
        The function that makes one step, the session, and the table.
    """
    start_sdk()
    from mx_rec.core.asc.helper import get_asc_insert_func

    from estimator_app.config import Config
    from estimator_app.model.model_fn import ModelContext, make_model_fn
    from feature_specs.spec_list import FeatureSpecLists, create_feature_spec_list
    from rec_sdk_cpu.core import graph_state
    from rec_sdk_cpu.mx_rec.core.asc.manager import start_asc_pipeline
    specs = FeatureSpecLists()
    config = Config(batch_size=batches[LABEL].shape[1], table_capacity=capacity, **settings)
    model_fn = make_model_fn(ModelContext(config, dataset, encoding_of(dataset, num_ids), specs, 1, 1))
    with tf.Graph().as_default() as graph:
        tf.compat.v1.set_random_seed(1)
        tf.compat.v1.train.create_global_step()
        features = tf.data.Dataset.from_tensor_slices(_placeholders(batches)).repeat()
        feature_specs = create_feature_spec_list(dataset, 1, False, None, None)
        specs.put(feature_specs, True)
        features = features.map(get_asc_insert_func(tgt_key_specs=feature_specs, is_training=True)).prefetch(8)
        iterator = tf.compat.v1.data.make_initializable_iterator(features)
        spec = model_fn(iterator.get_next(), None, tf.estimator.ModeKeys.TRAIN)
        start_asc_pipeline()
        table = next(iter(graph_state.of(graph).tables.values()))
        session = _session(iterator, batches)
        return session.make_callable(spec.train_op, accept_options=traced), session, table


def reference_step(dataset: DatasetDefinition, num_ids: int, batches: Batch) -> Tuple[Callable[[], Any], Any]:
    """Builds the reference way's training step on batches in memory; arguments as for :func:`our_step`."""
    class _Manifest:
        def __init__(self) -> None:
            self.dataset = dataset

        def num_ids(self) -> int:
            return num_ids

    manifest: Any = _Manifest()
    with tf.Graph().as_default():
        tf.compat.v1.set_random_seed(1)
        tf.compat.v1.train.create_global_step()
        features = tf.data.Dataset.from_tensor_slices(_placeholders(batches)).repeat().prefetch(8)
        iterator = tf.compat.v1.data.make_initializable_iterator(features)
        spec = _reference.model_fn_of(manifest)(iterator.get_next(), None, tf.estimator.ModeKeys.TRAIN)
        session = _session(iterator, batches)
        return session.make_callable(spec.train_op), session


def pipeline(dataset: tf.data.Dataset) -> Callable[[], Tuple[Any, Callable[[], Any]]]:
    """Returns a function that opens a session and returns it with the function that makes one batch of a dataset."""
    graph = tf.compat.v1.get_default_graph()
    iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
    # An op that needs all of the batch: what crosses into Python would be measured too.
    ready = tf.group(*[value.op for value in iterator.get_next().values()])

    def start() -> Tuple[Any, Callable[[], Any]]:
        session = tf.compat.v1.Session(graph=graph, config=_session_config())
        session.run(iterator.initializer)
        return session, session.make_callable(ready)

    return start


def _placeholders(batches: Batch) -> Dict[str, tf.Tensor]:
    # Not constants: the graph would hold the data.
    return {name: tf.compat.v1.placeholder(value.dtype, value.shape, name="memory_" + name)
            for name, value in batches.items()}


def _session(iterator: Any, batches: Batch) -> Any:
    session = tf.compat.v1.Session(config=_session_config())
    session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.local_variables_initializer(),
                 tf.compat.v1.tables_initializer()])
    session.run(iterator.initializer, {"memory_%s:0" % name: value for name, value in batches.items()})
    return session


def _session_config() -> tf.compat.v1.ConfigProto:
    return tf.compat.v1.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=usable_cores(),
                                    inter_op_parallelism_threads=usable_cores())
