"""Finds the record that made an input pipeline fail, so that the message can name it."""
import math
from typing import Dict, Optional, Sequence

import tensorflow as tf

from feature_specs.dataset import DENSE_FEATURE, LABEL, SPARSE_FEATURE
from feature_specs.manifest import Manifest


def first_bad_record(manifest: Manifest, directory: str, splits: Sequence[str]) -> Optional[str]:
    """Reads all records one by one until one cannot be used.

    Args:
        manifest: of the data directory.
        directory: the data directory.
        splits: names of the splits to read, in order.

    Returns:
        A text that names file, record (0-based) and problem, or None where every record is fine.
    """
    dataset, line_per_sample = manifest.dataset, manifest.line_per_sample
    expected = {LABEL: dataset.num_tasks * line_per_sample, SPARSE_FEATURE: dataset.num_sparse * line_per_sample,
                DENSE_FEATURE: dataset.num_dense * line_per_sample}
    for split in splits:
        for shard in manifest.split(split).shards:
            path = "%s/%s" % (directory, shard.path)
            number = -1
            try:
                for number, record in enumerate(tf.compat.v1.io.tf_record_iterator(path)):
                    problem = _problem(record, expected, manifest.num_ids())
                    if problem:
                        return "%s, record %d: %s" % (path, number, problem)
            except tf.errors.DataLossError:
                return "%s, record %d: damaged (its checksum or length is wrong)" % (path, number + 1)
            if number + 1 != shard.records:
                return "%s: %d records, the manifest says %d" % (path, number + 1, shard.records)
    return None


def _problem(record: bytes, expected: Dict[str, int], num_ids: int) -> Optional[str]:
    example = tf.train.Example()
    try:
        example.ParseFromString(record)
    except Exception as error:  # protobuf's DecodeError differs between its implementations
        return "no tf.train.Example (%s)" % error
    for name, length in expected.items():
        feature = example.features.feature[name]
        values = feature.float_list.value if name == DENSE_FEATURE else feature.int64_list.value
        if len(values) != length:
            return "%s has %d values, expected %d" % (name, len(values), length)
    for label in example.features.feature[LABEL].int64_list.value:
        if label not in (-1, 0, 1):
            return "label %d is neither 0 nor 1" % label
    for key in example.features.feature[SPARSE_FEATURE].int64_list.value:
        if not 0 <= key < num_ids:
            return "id %d is not among the manifest's %d ids" % (key, num_ids)
    for number in example.features.feature[DENSE_FEATURE].float_list.value:
        if not math.isfinite(number):
            return "a number is %s" % number
    return None
