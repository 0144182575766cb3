"""The embedding tables of a model and their lookups, through the Rec SDK's calls; fields become vectors here."""
import os
from typing import Any, Dict, List, Optional

import tensorflow as tf
from mx_rec.constants.constants import ASCEND_TIMESTAMP
from mx_rec.core.embedding import create_table, sparse_lookup

from estimator_app.config import SUM, Config
from estimator_app.model.definition import Model, table_capacity
from estimator_app.model.networks import REFERENCE_CONSTANT, Inputs
from estimator_app.model.pooling import Seam, by_field, row_weights
from feature_specs.encoding import TableLayout
from feature_specs.records import DENSE_FEATURE, TIMESTAMP, table_keys
from feature_specs.spec_list import FeatureSpecLists

SSD_FOLDER = "ssd_data"


def embed(features: Dict[str, tf.Tensor], model: Model, specs: FeatureSpecLists, is_training: bool) -> Inputs:
    """Creates the tables in the current graph, looks the batch up and returns what the network sees.

    Args:
        features: the batch; int64 [batch, width] keys per table and ``dense_feature`` float32 [batch, D].
        model: settings and layout of the tables.
        specs: FeatureSpecs of the dataset that the batch comes from.
        is_training: whether unseen keys are inserted.
    """
    config = model.config
    if config.use_modify_graph and TIMESTAMP in features:
        # The host reads a FeatureSpec's timestamp from the dataset; without FeatureSpecs it looks here.
        tf.compat.v1.add_to_collection(ASCEND_TIMESTAMP, features[TIMESTAMP])
    is_sum = config.input_layer == SUM
    sums: List[tf.Tensor] = []
    vectors: Dict[str, tf.Tensor] = {}
    blocks: List[tf.Tensor] = []
    for number, layout in enumerate(model.encoding.tables):
        dim = model.table_dim(layout)
        table = create_table(
            key_dtype=tf.int64, dim=tf.TensorShape([dim]), name=layout.name,
            emb_initializer=_initializer(config, number),
            # Row gradients are averaged over the ranks, as dense ones are: R ranks equal one with the global batch.
            all2all_gradients_op="sum_gradients_and_div_by_ranksize",
            **_sizes(config, table_capacity(config, layout)))
        batch_keys = features[table_keys(layout.name)]
        pooled = []
        for lookup in range(config.lookups):
            # One list for all tables: the lookups of the first one, then those of the next.
            keys: Any = (batch_keys if config.use_modify_graph
                         else specs.get(is_training)[number * config.lookups + lookup])
            embedded = sparse_lookup(table, keys, **_lookup_arguments(features, config, layout, lookup, is_training))
            pooled.append(Seam.pool(embedded, row_weights(batch_keys, layout),
                                    None if is_sum else [field.width for field in layout.fields]))
        mean = pooled[0] if len(pooled) == 1 else tf.add_n(pooled) / float(len(pooled))
        if is_sum:
            sums.append(mean)
        else:
            named, block = by_field(mean, layout, dim)
            vectors.update(named)
            blocks.append(block)
    return Inputs(config, tf.add_n(sums) if is_sum else None, vectors, features[DENSE_FEATURE], tuple(blocks))


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
    sizes: Dict[str, Any] = {"device_vocabulary_size": rows}
    if config.cache_mode != "HBM":
        sizes["host_vocabulary_size"] = rows
    if config.cache_mode == "SSD":
        path = os.path.realpath(os.path.join(config.model_dir, SSD_FOLDER))
        os.makedirs(path, exist_ok=True)
        sizes.update(ssd_vocabulary_size=rows, ssd_data_path=[path])
    return sizes
