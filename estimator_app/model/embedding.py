"""The embedding tables of a model and their lookups, through the Rec SDK's calls."""
import os
from typing import Any, Dict, Optional

import tensorflow as tf
from mx_rec.constants.constants import ASCEND_TIMESTAMP
from mx_rec.core.embedding import create_table, sparse_lookup

from estimator_app.config import Config
from estimator_app.model.definition import Model, table_capacity
from estimator_app.model.networks import REFERENCE_CONSTANT, Inputs
from estimator_app.model.pooling import Seam, row_weights
from feature_specs.encoding import TableLayout
from feature_specs.records import DENSE_FEATURE, TIMESTAMP, table_keys
from feature_specs.spec_list import FeatureSpecLists

SSD_FOLDER = "ssd_data"


def embed(features: Dict[str, tf.Tensor], model: Model, specs: FeatureSpecLists, is_training: bool) -> Inputs:
    """Creates the tables in the current graph, looks a batch up and returns what the network sees.

    ``features`` holds int64 [batch, width] keys per table and ``dense_feature`` float32 [batch, D]; ``specs`` are those
    of the dataset that it comes from. In training unseen keys are inserted.
    """
    config, admission = model.config, {}
    if config.use_modify_graph and TIMESTAMP in features:
        # The host reads a FeatureSpec's timestamp from the dataset; without FeatureSpecs it looks here.
        tf.compat.v1.add_to_collection(ASCEND_TIMESTAMP, features[TIMESTAMP])
    if config.use_modify_graph and config.use_faae:
        admission["access_and_evict_config"] = {
            "access_threshold": config.access_threshold,
            "eviction_threshold": config.eviction_threshold if config.evicts else None}
    of_tables = []
    for number, layout in enumerate(model.encoding.tables):
        table = create_table(
            key_dtype=tf.int64, dim=tf.TensorShape([model.table_dim(layout)]), name=layout.name,
            # One of the kinds that the SDK keeps in every cache mode (rec_sdk_api 3.3).
            emb_initializer=(
                tf.compat.v1.constant_initializer(REFERENCE_CONSTANT) if config.reference_init else
                tf.compat.v1.truncated_normal_initializer(stddev=config.embedding_stddev, seed=config.seed + number)),
            # Row gradients are averaged over the ranks, as dense ones are: R ranks equal one with the global batch.
            all2all_gradients_op="sum_gradients_and_div_by_ranksize",
            **_sizes(config, table_capacity(config, layout)))
        batch_keys = features[table_keys(layout.name)]
        pooled = []
        for lookup in range(config.lookups):
            # One list for all tables: the lookups of the first one, then those of the next.
            keys: Any = (batch_keys if config.use_modify_graph
                         else specs.get(is_training)[number * config.lookups + lookup])
            embedded = sparse_lookup(
                table, keys, send_count=send_count(config, layout), is_train=is_training, batch=features,
                name="%s_lookup_%d" % (layout.name, lookup), modify_graph=config.use_modify_graph, **admission)
            pooled.append(Seam.pool(embedded, row_weights(batch_keys, layout),
                                    None if model.is_sum else [field.width for field in layout.fields]))
        mean = pooled[0] if len(pooled) == 1 else tf.add_n(pooled) / float(len(pooled))
        is_dropping = is_training and config.field_dropout and not model.is_sum
        of_tables.append(_drop_fields(mean, config, number) if is_dropping else mean)
    return model.inputs(of_tables, features[DENSE_FEATURE])


def _drop_fields(vectors: tf.Tensor, config: Config, number: int) -> tf.Tensor:
    """Drops fields of float32 [batch, fields, dim] whole and scales the others, so that no field is relied on alone."""
    from npu_bridge.npu_init import npu_ops
    # A tensor of its own, one factor per field: the op's noise_shape, which the SDK's examples do without, is not used.
    kept = npu_ops.dropout(tf.ones_like(vectors[:, :, :1]), 1.0 - config.field_dropout, seed=config.seed + 1 + number)
    return vectors * kept


def send_count(config: Config, layout: TableLayout) -> Optional[int]:
    """Returns the keys that static mode sends to one rank at most (rec_sdk_api 3.4); None with dynamic shape."""
    if config.use_dynamic:
        return None
    keys_per_batch = max(config.batch_size, config.eval_batch_size) * layout.width * config.lookups
    return max(1, min(keys_per_batch, layout.rows))


def _sizes(config: Config, rows: int) -> Dict[str, Any]:
    sizes: Dict[str, Any] = {"device_vocabulary_size": rows}
    if config.cache_mode != "HBM":
        sizes["host_vocabulary_size"] = rows
    if config.cache_mode == "SSD":
        path = os.path.realpath(os.path.join(config.model_dir, SSD_FOLDER))
        os.makedirs(path, exist_ok=True)
        sizes.update(ssd_vocabulary_size=rows, ssd_data_path=[path])
    return sizes
