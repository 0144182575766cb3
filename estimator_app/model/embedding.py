"""The embedding table of a model and its lookups, through the Rec SDK's calls."""
import math
import os
from typing import Any, Dict, List, Optional

import tensorflow as tf
from mx_rec.constants.constants import ASCEND_TIMESTAMP
from mx_rec.core.embedding import create_table, sparse_lookup

from estimator_app.config import Config
from estimator_app.model.mmoe import embedding_initializer
from estimator_app.model.pooled_lookup import sum_pool
from feature_specs.dataset import SPARSE_FEATURE, TIMESTAMP
from feature_specs.encoding import FeatureEncoding
from feature_specs.spec_list import FeatureSpecLists

SSD_FOLDER = "ssd_data"
_SPARE_SHARE = 0.25


def table_capacity(config: Config, encoding: FeatureEncoding) -> int:
    """Returns the rows of the table over all ranks: as configured, or the number of ids and a quarter more."""
    return config.table_capacity or max(1, math.ceil(encoding.num_ids * (1.0 + _SPARE_SHARE)))


def send_count(config: Config, encoding: FeatureEncoding, rank_size: int) -> Optional[int]:
    """Returns the ids that static mode sends to one rank at most (rec_sdk_api 3.4); None with dynamic shape."""
    if config.use_dynamic:
        return None
    ids_per_batch = max(config.batch_size, config.eval_batch_size) * encoding.num_fields * config.lookups
    return max(1, min(ids_per_batch, encoding.num_ids))


def pooled_embedding(features: Dict[str, tf.Tensor], config: Config, encoding: FeatureEncoding, table_name: str,
                     dim: int, specs: FeatureSpecLists, is_training: bool, rank_size: int) -> tf.Tensor:
    """Creates the table in the current graph and looks the batch up.

    Args:
        features: the batch; ``sparse_feature`` int64 [batch, fields].
        config: settings.
        encoding: constants of the encoding.
        table_name: name of the table.
        dim: values per row.
        specs: FeatureSpecs of the dataset that the batch comes from.
        is_training: whether unseen ids are inserted.
        rank_size: number of ranks.

    Returns:
        float32 [batch, dim]: the sum of each example's rows, averaged over the lookups.
    """
    table = create_table(
        key_dtype=tf.int64, dim=tf.TensorShape([dim]), name=table_name,
        emb_initializer=embedding_initializer(config.reference_init, config.seed, config.embedding_stddev),
        **_sizes(config, table_capacity(config, encoding)))
    if config.use_modify_graph and TIMESTAMP in features:
        # The host reads a FeatureSpec's timestamp from the dataset; without FeatureSpecs it looks here.
        tf.compat.v1.add_to_collection(ASCEND_TIMESTAMP, features[TIMESTAMP])
    pooled: List[tf.Tensor] = []
    for number in range(config.lookups):
        arguments: Dict[str, Any] = {
            "send_count": send_count(config, encoding, rank_size), "is_train": is_training,
            "name": "%s_lookup_%d" % (table_name, number), "modify_graph": config.use_modify_graph, "batch": features}
        if config.use_modify_graph:
            if config.use_faae:
                arguments["access_and_evict_config"] = {
                    "access_threshold": config.access_threshold,
                    "eviction_threshold": config.eviction_threshold if config.evicts else None}
            ids: Any = features[SPARSE_FEATURE]
        else:
            ids = specs.get(is_training)[number]
        pooled.append(sum_pool(sparse_lookup(table, ids, **arguments)))
    return pooled[0] if len(pooled) == 1 else tf.add_n(pooled) / float(len(pooled))


def _sizes(config: Config, rows: int) -> Dict[str, Any]:
    if config.cache_mode == "HBM":
        return {"device_vocabulary_size": rows}
    sizes: Dict[str, Any] = {"device_vocabulary_size": rows, "host_vocabulary_size": rows}
    if config.cache_mode == "SSD":
        path = os.path.join(config.model_dir, SSD_FOLDER)
        os.makedirs(path, exist_ok=True)
        sizes.update(ssd_vocabulary_size=rows, ssd_data_path=[path])
    return sizes
