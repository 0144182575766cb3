"""Settings and data put together: everything that decides the graph, known before TensorFlow loads."""
from __future__ import annotations

import dataclasses
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

from estimator_app.config import SUM, Config
from estimator_app.model import lazy as tf
from estimator_app.model.networks import Inputs, Network, make_network
from estimator_app.model.tasks import TaskSet, make_tasks
from feature_specs.checks import refuse, size_shown
from feature_specs.encoding import FeatureEncoding, TableLayout, make_encoding
from feature_specs.errors import ConfigError
from feature_specs.manifest import Manifest

# float32 values that training keeps of a row's value: itself and lazy Adam's two slots.
_STATES = 3
_KEY_BYTES = 60


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of a dataset: settings, the data's manifest and the constants of its encoding, tasks, network."""

    config: Config
    manifest: Manifest
    encoding: FeatureEncoding
    tasks: TaskSet
    network: Network

    @property
    def is_sum(self) -> bool:
        """Whether table rows are the first layer themselves."""
        return self.config.input_layer == SUM

    def table_dim(self, layout: TableLayout) -> int:
        """Returns the values of a row: the network's width with ``sum``, else the dataset's or the run's choice."""
        return self.network.width if self.is_sum else layout.dim or self.config.embedding_dim

    def table_dims(self) -> Dict[str, int]:
        """Returns {table: values of a row}."""
        return {layout.name: self.table_dim(layout) for layout in self.encoding.tables}

    def inputs(self, pooled: Sequence[tf.Tensor], numbers: tf.Tensor) -> Inputs:
        """Returns what the network sees of the tables' pooled rows, float32 [batch, dim] each with ``sum`` and
        [batch, fields, dim] with ``concat``, and of the numbers, float32 [batch, D]."""
        if self.is_sum:
            return Inputs(self.config, tf.add_n(pooled), {}, numbers)
        vectors: Dict[str, tf.Tensor] = {}
        blocks = []
        for layout, table in zip(self.encoding.tables, pooled):
            vectors.update(zip([field.name for field in layout.fields], tf.unstack(table, axis=1)))
            blocks.append(tf.reshape(table, [-1, len(layout.fields) * self.table_dim(layout)]))
        return Inputs(self.config, None, vectors, numbers, tuple(blocks))

    def check_tables(self) -> None:
        """Refuses (ConfigError) to train without a single embedding table, which the SDK cannot do."""
        refuse(not self.encoding.tables, "the data has no categorical feature and no numeric one with bins, and so no "
               "embedding table; give --dense_bins 32, or bins: in the dataset file")

    def needs(self) -> TableNeeds:
        """Returns what the tables will need; ConfigError: one of a fixed size has fewer rows than the data has keys."""
        sizes = []
        for layout in self.encoding.tables:
            rows = table_capacity(self.config, layout)
            if rows < layout.keys and not (self.config.use_dynamic_expansion or self.config.use_faae):
                raise ConfigError("table %s has %d rows (%s), and the data has %d keys for it; give at least as many, "
                                  "or --use_dynamic_expansion true" % (
                                      layout.name, rows, "--table_capacity" if self.config.table_capacity else
                                      "rows: in the dataset file", layout.keys))
            sizes.append((layout.name, rows, self.table_dim(layout), layout.keys))
        memory = sum(rows * (4 * dim * _STATES + _KEY_BYTES) for _, rows, dim, _ in sizes)
        checkpoint = sum(min(rows, keys) * (4 * dim * _STATES + 8) for _, rows, dim, keys in sizes)
        return TableNeeds(memory, "tables: %s; with the optimizer's states %s of memory, %s of a checkpoint" % (
            ", ".join("%s %d rows x %d" % table[:3] for table in sizes), size_shown(memory), size_shown(checkpoint)))


class TableNeeds(NamedTuple):
    """What the embedding tables cost in training."""

    memory_bytes: int  # of rows, optimizer slots and the index of keys
    description: str  # one line: rows x values of every table, memory, a checkpoint where every counted key has a row

    def check(self, available: Optional[int]) -> None:
        """Refuses (ConfigError) tables that do not fit into the available bytes of memory; None: not known."""
        if available is not None and self.memory_bytes > available:
            raise ConfigError("%s, and %s are available: choose a smaller --embedding_dim or --table_capacity, a "
                              "larger min_count or fewer rows in the dataset file, or with --input_layer sum, whose "
                              "rows are as wide as the network's first layer, --input_layer concat"
                              % (self.description, size_shown(available)))


def make_model(config: Config, manifest: Manifest) -> Model:
    """Checks settings against the data; ConfigError where one is unknown, out of range, or does not go with it."""
    tasks = make_tasks(manifest, config.task_weights)
    tasks.check_selectable("early_stopping_metric", config.early_stopping_metric)
    network = make_network(config, tasks.names)
    with_dim = [table.name for table in manifest.dataset.tables if table.dim]
    if config.input_layer == SUM and with_dim:
        raise ConfigError("tables %s have a dim in the dataset file, which goes with --input_layer concat only: with "
                          "sum the network decides it (%d)" % (", ".join(with_dim), network.width))
    _check_weight_column(config.eval_weight_column, manifest)
    encoding = make_encoding(manifest, config.dense_transform, config.dense_bins, config.drop_dense)
    return Model(config, manifest, encoding, tasks, network)


def table_capacity(config: Config, layout: TableLayout) -> int:
    """Returns the rows of a table over all ranks: as configured, or as the layout has them."""
    return config.table_capacity or layout.rows


def dense_variable_shapes(model: Model) -> Dict[str, Tuple[int, ...]]:
    """Returns {name: shape} of the network's variables, moving averages of batch normalisation included."""
    with tf.Graph().as_default():
        pooled = [tf.zeros([1] + ([] if model.is_sum else [len(layout.fields)]) + [model.table_dim(layout)])
                  for layout in model.encoding.tables]
        inputs = model.inputs(pooled, tf.zeros([1, len(model.manifest.dataset.numeric)]))
        with tf.compat.v1.variable_scope(model.config.model):
            model.network(inputs, False)
        return {variable.op.name: tuple(variable.shape.as_list()) for variable in tf.compat.v1.global_variables()}


def _check_weight_column(column: str, manifest: Manifest) -> None:
    """Refuses a weight column for evaluations that the data does not have, or that holds negative values."""
    weight = manifest.dataset.weight
    if column in ("", weight):  # the preparation has checked that one row by row
        return
    known = [feature.name for feature in manifest.dataset.numeric]
    if column not in known:
        raise ConfigError("eval_weight_column %s is neither the weight nor a numeric feature of the data; it has %s" % (
            column, ", ".join(([weight] if weight else []) + known) or "none"))
    least = manifest.dense_statistics[column].minimum
    if least < 0:
        raise ConfigError("eval_weight_column %s has negative values (%g); weights must not be negative"
                          % (column, least))
