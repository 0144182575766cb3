"""Settings and data put together: everything that decides the graph, known before TensorFlow loads."""
from __future__ import annotations

import dataclasses
from typing import Dict, List, Optional, Tuple

from estimator_app.config import SUM, Config
from estimator_app.model.lazy import tf
from estimator_app.model.networks import Inputs, Network, make_network
from estimator_app.model.tasks import TaskSet, make_tasks
from feature_specs.encoding import FeatureEncoding, TableLayout, make_encoding
from feature_specs.errors import ConfigError
from feature_specs.manifest import Manifest

#: float32 values that training keeps of a row besides itself: lazy Adam's two slots.
SLOTS = 2
_FLOAT_BYTES = 4
_KEY_BYTES = 60


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of a dataset: settings, the data's manifest and the constants of its encoding, tasks, network."""

    config: Config
    manifest: Manifest
    encoding: FeatureEncoding
    tasks: TaskSet
    network: Network

    def table_dim(self, layout: TableLayout) -> int:
        """Returns the values of a table's row: the network's width with ``sum``, else the dataset's or the run's
        choice."""
        if self.config.input_layer == SUM:
            return self.network.width
        return layout.dim or self.config.embedding_dim

    def table_dims(self) -> Dict[str, int]:
        """Returns {table: values of a row}."""
        return {layout.name: self.table_dim(layout) for layout in self.encoding.tables}

    def needs(self) -> TableNeeds:
        """Returns what the tables will need.

        Raises:
            ConfigError: a table of a fixed size has fewer rows than the data has keys.
        """
        sizes = []
        for layout in self.encoding.tables:
            rows = table_capacity(self.config, layout)
            if rows < layout.keys and not (self.config.use_dynamic_expansion or self.config.use_faae):
                raise ConfigError("table %s has %d rows (%s), and the data has %d keys for it; give at least as many, "
                                  "or --use_dynamic_expansion true" % (
                                      layout.name, rows, "--table_capacity" if self.config.table_capacity else
                                      "rows: in the dataset file", layout.keys))
            sizes.append((layout.name, rows, self.table_dim(layout), layout.keys))
        return TableNeeds(sizes)


@dataclasses.dataclass(frozen=True)
class TableNeeds:
    """What the embedding tables cost: of each (name, rows, values of a row, different keys that the data has)."""

    tables: List[Tuple[str, int, int, int]]

    @property
    def memory_bytes(self) -> int:
        """Memory of rows, optimizer slots and the index of keys in training."""
        return sum(rows * (_row_bytes(dim) + _KEY_BYTES) for _, rows, dim, _ in self.tables)

    def describe(self) -> str:
        """Returns one line: rows x values of every table, memory, a checkpoint where every counted key has a row."""
        checkpoint = sum(min(rows, keys) * (_row_bytes(dim) + 8) for _, rows, dim, keys in self.tables)
        return "tables: %s; with %d states %s of memory, %s a checkpoint" % (
            ", ".join("%s %d rows x %d" % table[:3] for table in self.tables), 1 + SLOTS, _size(self.memory_bytes),
            _size(checkpoint))

    def check(self, available: Optional[int]) -> None:
        """Refuses tables that cannot fit into the available bytes of memory; None where these are not known.

        Raises:
            ConfigError: they need more; naming the flags to change.
        """
        if available is not None and self.memory_bytes > available:
            raise ConfigError("%s, and %s are available: choose a smaller --embedding_dim or --table_capacity, a "
                              "larger min_count or fewer rows in the dataset file, or with --input_layer sum, whose "
                              "rows are as wide as the network's first layer, --input_layer concat"
                              % (self.describe(), _size(available)))


def make_model(config: Config, manifest: Manifest) -> Model:
    """Checks settings against the data.

    Raises:
        ConfigError: a setting is unknown, out of range, or does not go with the data.
    """
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
        numbers = tf.zeros([1, len(model.manifest.dataset.numeric)])
        if model.config.input_layer == SUM:
            inputs = Inputs(model.config, tf.zeros([1, model.network.width]), {}, numbers)
        else:
            inputs = Inputs(model.config, None, {field.name: tf.zeros([1, model.table_dim(layout)])
                                                 for layout in model.encoding.tables for field in layout.fields},
                            numbers)
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


def _row_bytes(dim: int) -> int:
    return _FLOAT_BYTES * dim * (1 + SLOTS)


def _size(count: int) -> str:
    return "%.1f GB" % (count / 1e9) if count >= 1e9 else "%.1f MB" % (count / 1e6)
