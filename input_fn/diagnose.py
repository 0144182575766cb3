"""Finds the records that cannot be used, so that a message can name them or a run can leave them out."""
from typing import Dict, Optional, Sequence

import numpy as np
import tensorflow as tf

from feature_specs.dataset import DENSE_FEATURE, LABEL, SPARSE_FEATURE
from feature_specs.manifest import Manifest
from input_fn.record_file import shard_path


def first_bad_record(manifest: Manifest, directory: str, splits: Sequence[str]) -> Optional[str]:
    """Reads all records one by one until one cannot be used.

    Args:
        manifest: of the data directory.
        directory: the data directory.
        splits: names of the splits to read, in order.

    Returns:
        A text that names file, record (0-based) and problem, or None where every record is fine.
    """
    check = RecordCheck(manifest)
    for split in splits:
        for shard in manifest.split(split).shards:
            path = shard_path(directory, shard)
            number = -1
            try:
                for number, record in enumerate(tf.compat.v1.io.tf_record_iterator(path)):
                    problem = check.problem(record)
                    if problem:
                        return "%s, record %d: %s" % (path, number, problem)
            except tf.errors.DataLossError:
                return "%s, record %d: %s" % (path, number + 1, DAMAGED)
            if number + 1 != shard.records:
                return "%s: %d records, the manifest says %d" % (path, number + 1, shard.records)
    return None


DAMAGED = "damaged (its checksum or length is wrong)"


class RecordCheck:
    """What a record of a manifest's data must look like."""

    def __init__(self, manifest: Manifest):
        dataset, line_per_sample = manifest.dataset, manifest.line_per_sample
        self._expected: Dict[str, int] = {
            LABEL: dataset.num_tasks * line_per_sample, SPARSE_FEATURE: dataset.num_sparse * line_per_sample,
            DENSE_FEATURE: dataset.num_dense * line_per_sample}
        self._tasks = dataset.num_tasks
        self._num_ids = manifest.num_ids()

    def problem(self, record: bytes, rows: Optional[int] = None) -> Optional[str]:
        """Returns what is wrong with a record, or None.

        Args:
            record: serialized tf.train.Example.
            rows: how many rows that are no padding it must have; None: any number.
        """
        example = tf.train.Example()
        try:
            example.ParseFromString(record)
        except Exception as error:  # protobuf's DecodeError differs between its implementations
            return "no tf.train.Example (%s)" % error
        values: Dict[str, np.ndarray] = {}
        for name, length in self._expected.items():
            feature = example.features.feature[name]
            found = feature.float_list.value if name == DENSE_FEATURE else feature.int64_list.value
            if len(found) != length:
                return "%s has %d values, expected %d" % (name, len(found), length)
            values[name] = np.array(found, np.float32 if name == DENSE_FEATURE else np.int64)
        return self._problem_of_values(values[LABEL].reshape(-1, self._tasks), values[SPARSE_FEATURE],
                                       values[DENSE_FEATURE], rows)

    def _problem_of_values(self, labels: np.ndarray, ids: np.ndarray, dense: np.ndarray,
                           rows: Optional[int]) -> Optional[str]:
        wrong = labels[(labels < -1) | (labels > 1)]
        if wrong.size:
            return "label %d is neither 0 nor 1" % wrong[0]
        padding = labels == -1
        if (padding != padding[:, :1]).any():
            return "label -1 is neither 0 nor 1"
        wrong = ids[(ids < 0) | (ids >= self._num_ids)]
        if wrong.size:
            return "id %d is not among the manifest's %d ids" % (wrong[0], self._num_ids)
        wrong = dense[~np.isfinite(dense)]
        if wrong.size:
            return "a number is %s" % wrong[0]
        found = int((~padding[:, 0]).sum())
        if rows is not None and found != rows:
            return "%d rows, expected %d" % (found, rows)
        return None
