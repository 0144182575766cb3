"""Finds the first record that cannot be used, so that a message can name its file and number."""
import os
from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from feature_specs.encoding import FeatureEncoding
from feature_specs.manifest import Manifest
from input_fn.pipeline import parsed_rows

_READ_TOGETHER = 256


def first_bad_record(manifest: Manifest, encoding: FeatureEncoding, directory: str,
                     splits: Sequence[str]) -> Optional[str]:
    """Reads all records of some splits until one cannot be used, with the very functions that the pipeline reads with.

    Returns:
        A text that names file, record (0-based) and problem, or None where every record is fine.
    """
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.compat.v1.placeholder(tf.string, [None])
        rows = parsed_rows(serialized, manifest, encoding)
        check = session.make_callable(tf.group(*rows.values()), feed_list=[serialized])
        for split in splits:
            for shard in manifest.split(split).shards:
                path = os.path.join(directory, shard.path)
                problem = _problem_of_file(path, shard.records, check)
                if problem:
                    return "%s%s" % (path, problem)
    return None


def _problem_of_file(path: str, expected: int, check: Callable[..., Any]) -> Optional[str]:
    count = 0
    waiting: List[bytes] = []
    try:
        for record in tf.compat.v1.io.tf_record_iterator(path):
            waiting.append(record)
            if len(waiting) == _READ_TOGETHER:
                problem = _problem_of_records(waiting, count, check)
                if problem:
                    return problem
                count, waiting = count + len(waiting), []
    except tf.errors.DataLossError:
        return (_problem_of_records(waiting, count, check)
                or ", record %d: damaged (its checksum or length is wrong)" % (count + len(waiting)))
    problem = _problem_of_records(waiting, count, check)
    if problem is None and count + len(waiting) != expected:
        return ": %d records, the manifest says %d" % (count + len(waiting), expected)
    return problem


def _problem_of_records(records: Sequence[bytes], first: int, check: Callable[..., Any]) -> Optional[str]:
    try:
        check(records)
        return None
    except tf.errors.InvalidArgumentError:
        for number, record in enumerate(records):
            try:
                check([record])
            except tf.errors.InvalidArgumentError as error:
                # Behind the problem TensorFlow names a node of this graph and where it was made.
                text = " ".join(error.message.replace("assertion failed: ", "").partition("[[node")[0].split())
                return ", record %d: %s" % (first + number, text[:200])
    return None
