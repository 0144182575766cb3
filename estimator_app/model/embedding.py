"""The embedding tables of a model and their lookups, through the Rec SDK's calls; fields become vectors here."""
import os
from typing import Any, Dict, List, Optional

import tensorflow as tf
from mx_rec.constants.constants import ASCEND_TIMESTAMP
from mx_rec.core.embedding import create_table, sparse_lookup

from estimator_app.config import SUM, Config
from estimator_app.model.definition import table_dim
from estimator_app.model.networks import REFERENCE_CONSTANT, Inputs, Network
from estimator_app.model.pooling import Seam, row_weights, widths_of
from feature_specs.encoding import FeatureEncoding, TableLayout
from feature_specs.records import DENSE_FEATURE, TIMESTAMP, table_keys
from feature_specs.spec_list import FeatureSpecLists

SSD_FOLDER = "ssd_data"



def embed(features: Dict[str, tf.Tensor], config: Config, encoding: FeatureEncoding, specs: FeatureSpecLists,
          network: Network, is_training: bool, rank_size: int) -> Inputs:
    """Creates the tables in the current graph and looks the batch up.

    Args:
        features: the batch; int64 [batch, width] keys per table and ``dense_feature`` float32 [batch, D].
        config: settings.
        encoding: layout of the tables.
        specs: FeatureSpecs of the dataset that the batch comes from.
        network: it says the dimension of the tables with the ``sum`` input layer.
        is_training: whether unseen keys are inserted.
        rank_size: number of ranks.

    Returns:
        What the network sees.
    """
    if config.use_modify_graph and TIMESTAMP in features:
        # The host reads a FeatureSpec's timestamp from the dataset; without FeatureSpecs it looks here.
        tf.compat.v1.add_to_collection(ASCEND_TIMESTAMP, features[TIMESTAMP])
    is_sum = config.input_layer == SUM
    sums: List[tf.Tensor] = []
    vectors: Dict[str, tf.Tensor] = {}
    blocks: List[tf.Tensor] = []
    for number, layout in enumerate(encoding.tables):
        dim = table_dim(config, layout, network)
        table = create_table(
            key_dtype=tf.int64, dim=tf.TensorShape([dim]), name=layout.name, emb_initializer=_initializer(config,
            number),
            # Row gradients are averaged over the ranks, as dense ones are: R ranks equal one with the global batch.
            all2all_gradients_op="sum_gradients_and_div_by_ranksize",
            **_sizes(config, table_capacity(config, layout)))
        pooled = []
        for lookup in range(config.lookups):
            # One list for all tables: the lookups of the first one, then those of the next.
            keys: Any = (features[table_keys(layout.name)] if config.use_modify_graph
                         else specs.get(is_training)[number * config.lookups + lookup])
            embedded = sparse_lookup(table, keys, **_lookup_arguments(features, config, layout, lookup, is_training))
            pooled.append(Seam.pool(embedded, row_weights(features[table_keys(layout.name)], layout),
                                    widths_of(layout, is_sum)))
        mean = pooled[0] if len(pooled) == 1 else tf.add_n(pooled) / float(len(pooled))
        if is_sum:
            sums.append(mean)
        else:
            vectors.update(zip((field.name for field in layout.fields), tf.unstack(mean, axis=1)))
            blocks.append(tf.reshape(mean, [-1, len(layout.fields) * dim]))
    numbers = features[DENSE_FEATURE]
    return Inputs(config, tf.add_n(sums) if is_sum else None, vectors, numbers, tuple(blocks))


def table_capacity(config: Config, layout: TableLayout) -> int:
    """Returns the rows of a table over all ranks: as configured, or as the layout has them."""
    return config.table_capacity or layout.rows


def send_count(config: Config, layout: TableLayout) -> Optional[int]:
    """Returns the keys that static mode sends to one rank at most (rec_sdk_api 3.4); None with dynamic shape."""
    if config.use_dynamic:
        return None
    keys_per_batch = max(config.batch_size, config.eval_batch_size) * layout.width * config.lookups
    return max(1, min(keys_per_batch, layout.rows))


def _lookup_arguments(features: Dict[str, tf.Tensor], config: Config, layout: TableLayout, lookup: int,
                      is_training: bool) -> Dict[str, Any]:
    arguments: Dict[str, Any] = {
        "send_count": send_count(config, layout), "is_train": is_training,
        "name": "%s_lookup_%d" % (layout.name, lookup), "modify_graph": config.use_modify_graph, "batch": features}
    if config.use_modify_graph and config.use_faae:
        arguments["access_and_evict_config"] = {
            "access_threshold": config.access_threshold,
            "eviction_threshold": config.eviction_threshold if config.evicts else None}
    return arguments


def _initializer(config: Config, number: int) -> Any:
    """Returns the initializer of a table: one of the kinds that the SDK keeps in every cache mode (3.3)."""
    if config.reference_init:
        return tf.compat.v1.constant_initializer(REFERENCE_CONSTANT)
    return tf.compat.v1.truncated_normal_initializer(stddev=config.embedding_stddev, seed=config.seed + number)


def _sizes(config: Config, rows: int) -> Dict[str, Any]:
    if config.cache_mode == "HBM":
        return {"device_vocabulary_size": rows}
    sizes: Dict[str, Any] = {"device_vocabulary_size": rows, "host_vocabulary_size": rows}
    if config.cache_mode == "SSD":
        path = os.path.realpath(os.path.join(config.model_dir, SSD_FOLDER))
        os.makedirs(path, exist_ok=True)
        sizes.update(ssd_vocabulary_size=rows, ssd_data_path=[path])
    return sizes
