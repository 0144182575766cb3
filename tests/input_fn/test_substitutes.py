"""Damaged TFRecord files, written by TensorFlow and damaged byte by byte."""
import math
import os

import numpy as np
import pytest
import tensorflow as tf

from feature_specs.errors import DataError
from input_fn.record_file import frames, read_records
from input_fn.substitutes import find_bad_records, with_substitutes, write_substitutes
from tests.input_fn.test_pipeline import expected_rows, rows_of, run, training
from tests.small_data import write_data

RECORDS = [bytes([number]) * (20 + number) for number in range(10)]


def write(path, records=tuple(RECORDS)):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def start_of(number):
    return sum(len(record) + 16 for record in RECORDS[:number])


def flip(path, place, bits=0x10):
    with open(str(path), "r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ bits]))


def test_a_whole_file_is_read_as_tensorflow_reads_it(tmp_path):
    path = write(tmp_path / "file")
    assert read_records(path, frames(path, 10)) == RECORDS == list(tf.compat.v1.io.tf_record_iterator(path))


@pytest.mark.parametrize("number", [0, 4, 9])
@pytest.mark.parametrize("place", [0, 3, 8, 12, 20, -1])
def test_a_flipped_bit_costs_one_record(tmp_path, number, place):
    """Length, its checksum, data and their checksum."""
    path = write(tmp_path / "file")
    flip(path, start_of(number + 1) - 1 if place < 0 else start_of(number) + place)
    expected = list(RECORDS)
    expected[number] = None
    assert read_records(path, frames(path, 10)) == expected


@pytest.mark.parametrize("keep", range(0, 356, 11))
def test_a_cut_costs_what_lies_behind_it(tmp_path, keep):
    path = write(tmp_path / "file")
    with open(path, "r+b") as stream:
        stream.truncate(keep)
    whole = sum(start_of(number + 1) <= keep for number in range(10))
    assert read_records(path, frames(path, 10)) == RECORDS[:whole] + [None] * (10 - whole)


def test_records_that_a_gap_swallows_are_counted(tmp_path):
    path = write(tmp_path / "file")
    content = bytearray((tmp_path / "file").read_bytes())
    content[start_of(3):start_of(6)] = bytes(start_of(6) - start_of(3))
    (tmp_path / "file").write_bytes(bytes(content))
    assert read_records(path, frames(path, 10)) == RECORDS[:3] + [None] * 3 + RECORDS[6:]


def damaged(directory, line_per_sample, places):
    """Data whose records at the given (split, shard, record) have a wrong data checksum."""
    manifest, arrays = write_data(directory, line_per_sample=line_per_sample)
    for split, shard, record in places:
        path = os.path.join(directory, manifest.split(split).shards[shard].path)
        flip(path, frames(path, 0)[record][0] + 14)
    return manifest, arrays


@pytest.mark.parametrize("line_per_sample", [1, 4, 7])
def test_only_the_damaged_rows_are_missing_and_no_step_is(tmp_path, line_per_sample):
    directory = str(tmp_path / "data")
    records = math.ceil(100 / line_per_sample) // 3
    # The very last record of the split, which may be a partial one, among them.
    manifest, arrays = damaged(directory, line_per_sample, [("train", 0, 0), ("train", 2, -1)])
    bad = find_bad_records(manifest, directory, ("train", "test"))
    assert [(item.split, item.shard) for item in bad] == [("train", 0), ("train", 2)]
    assert bad[0].record == 0 and bad[1].record in (records - 1, records)
    readable = with_substitutes(manifest, write_substitutes(manifest, directory, bad, str(tmp_path / "copies")))
    everything = expected_rows(arrays["train"])
    tail = 100 % line_per_sample or line_per_sample
    lost = set(everything[:line_per_sample] + everything[100 - tail:])
    with tf.Graph().as_default():
        whole = run(training(directory, readable, epochs=2))
    assert len(whole) == 2 * (100 // 8)
    assert not lost & set(rows_of(whole)) and set(rows_of(whole)) <= set(everything)
    for start in (1, 11, 13, 20):
        with tf.Graph().as_default():
            rest = run(training(directory, readable, epochs=2, start=start))
        assert len(rest) == len(whole) - start
        for ours, theirs in zip(rest, whole[start:]):
            np.testing.assert_array_equal(ours["sparse_feature"], theirs["sparse_feature"])


def test_the_order_of_the_other_rows_does_not_change(tmp_path):
    manifest, _ = write_data(str(tmp_path / "whole"), line_per_sample=4)
    with tf.Graph().as_default():
        expected = rows_of(run(training(str(tmp_path / "whole"), manifest)))
    directory = str(tmp_path / "data")
    damaged(directory, 4, [("train", 1, 2)])
    bad = find_bad_records(manifest, directory, ("train",))
    readable = with_substitutes(manifest, write_substitutes(manifest, directory, bad, str(tmp_path / "copies")))
    with tf.Graph().as_default():
        ours = rows_of(run(training(directory, readable)))
    changed = [number for number, (left, right) in enumerate(zip(ours, expected)) if left != right]
    assert len(ours) == len(expected) and 0 < len(changed) <= 4


def test_a_split_without_a_readable_record_is_refused(tmp_path):
    directory = str(tmp_path / "data")
    manifest, _ = write_data(directory, line_per_sample=4)
    for shard in manifest.split("train").shards:
        open(os.path.join(directory, shard.path), "wb").close()
    bad = find_bad_records(manifest, directory, ("train",))
    assert len(bad) == sum(shard.records for shard in manifest.split("train").shards)
    with pytest.raises(DataError, match="no record of the split can be read"):
        write_substitutes(manifest, directory, bad, str(tmp_path / "copies"))


def test_more_records_than_the_manifest_says_are_refused(tmp_path):
    directory = str(tmp_path / "data")
    manifest, _ = write_data(directory, line_per_sample=4)
    path = os.path.join(directory, manifest.split("train").shards[0].path)
    record = next(tf.compat.v1.io.tf_record_iterator(path))
    write(path, [record] * 20)
    with pytest.raises(DataError, match="20 records, the manifest says 9"):
        find_bad_records(manifest, directory, ("train",))


@pytest.mark.parametrize("skipped", [[0], [3], [11, 12], [5, 23], [0, 1, 2, 22, 23]])
def test_batches_left_out_move_the_later_ones_up(tmp_path, skipped):
    directory = str(tmp_path)
    manifest, _ = write_data(directory, line_per_sample=4)
    with tf.Graph().as_default():
        three = run(training(directory, manifest, epochs=3))
    expected = [batch for number, batch in enumerate(three) if number not in skipped]
    for start in (0, 2, 4, 10, 12, 20):
        with tf.Graph().as_default():
            ours = run(training(directory, manifest, epochs=2, start=start, skipped=skipped))
        # Two epochs of 12 steps: as many batches as steps that are left, the last ones from a third pass.
        assert len(ours) >= 24 - start
        for left, right in zip(ours, expected[start:24]):
            np.testing.assert_array_equal(left["dense_feature"], right["dense_feature"])
