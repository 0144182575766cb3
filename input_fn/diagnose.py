"""Finds the first record that cannot be used, so that a message can name its file and number."""
import itertools
import os
from typing import Any, Callable, List, Optional, Sequence

import tensorflow as tf

from feature_specs.encoding import FeatureEncoding
from feature_specs.manifest import Manifest
from input_fn.pipeline import checked_rows

_READ_TOGETHER = 256


def first_bad_record(manifest: Manifest, encoding: FeatureEncoding, directory: str,
                     splits: Sequence[str]) -> Optional[str]:
    """Reads all records of some splits until one cannot be used, with the very functions that the pipeline reads with;
    returns a text that names file, record (0-based) and problem, or None where every record is fine."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.compat.v1.placeholder(tf.string, [None])
        rows = checked_rows(serialized, manifest, encoding)
        check = session.make_callable(tf.group(*rows.values()), feed_list=[serialized])
        for split in splits:
            for shard in manifest.split(split).shards:
                path = os.path.join(directory, shard.path)
                problem = _problem_of_file(path, shard.records, check)
                if problem:
                    return "%s%s" % (path, problem)
    return None


def _problem_of_file(path: str, expected: int, check: Callable[..., Any]) -> Optional[str]:
    records = tf.compat.v1.io.tf_record_iterator(path)
    count, is_whole = 0, True
    while True:
        together: List[bytes] = []
        try:
            for record in itertools.islice(records, _READ_TOGETHER):
                together.append(record)
        except tf.errors.DataLossError:
            is_whole = False
        problem = _problem_of_records(together, count, check)
        if problem:
            return problem
        count += len(together)
        if not is_whole:
            return ", record %d: damaged (its checksum or length is wrong)" % count
        if len(together) < _READ_TOGETHER:
            return None if count == expected else ": %d records, the manifest says %d" % (count, expected)


def _problem_of_records(records: Sequence[bytes], first: int, check: Callable[..., Any]) -> Optional[str]:
    try:
        check(records)
    except tf.errors.InvalidArgumentError as error:
        if len(records) > 1:
            half = len(records) // 2
            return (_problem_of_records(records[:half], first, check)
                    or _problem_of_records(records[half:], first + half, check))
        # Behind the problem TensorFlow names a node of this graph and where it was made.
        text = " ".join(error.message.replace("assertion failed: ", "").partition("[[node")[0].split())
        return ", record %d: %s" % (first, text[:200])
    return None
