"""The encoder and the framing against protobuf, TensorFlow's parser and TensorFlow's writer."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from preprocessing.example_encoder import encode_examples, encode_flat, pack_rows
from preprocessing.record_writer import shard_sizes
from preprocessing.tfrecord import crc32c, frame


def parsed(data):
    feature = tf.train.Example.FromString(data).features.feature
    assert sorted(feature) == ["dense_feature", "label", "sparse_feature"]
    return (list(feature["label"].int64_list.value), list(feature["sparse_feature"].int64_list.value),
            np.array(feature["dense_feature"].float_list.value, np.float32))


INT64 = st.one_of(st.integers(0, 300), st.integers(0, 2 ** 63 - 1), st.sampled_from(
    [-1, -2 ** 63, 127, 128, 16383, 16384, 2 ** 21, 2 ** 28, 2 ** 35, 2 ** 42, 2 ** 49, 2 ** 56, 2 ** 63 - 1]))


@settings(max_examples=120)
@given(st.data(), st.integers(1, 4), st.integers(0, 6), st.integers(0, 40), st.integers(0, 5))
def test_any_record_is_what_protobuf_reads(data, records, labels, ids, dense):
    label = data.draw(hnp.arrays(np.int64, (records, labels), elements=st.sampled_from([-1, 0, 1])))
    sparse = data.draw(hnp.arrays(np.int64, (records, ids), elements=INT64))
    floats = data.draw(hnp.arrays(np.float32, (records, dense), elements=st.floats(width=32, allow_nan=False)))
    for i, serialized in enumerate(encode_examples(label, sparse, floats)):
        found = parsed(serialized)
        assert found[0] == label[i].tolist() and found[1] == sparse[i].tolist()
        np.testing.assert_array_equal(found[2], floats[i])


def test_tensorflow_parses_batches():
    random = np.random.RandomState(0)
    labels = random.randint(-1, 2, (50, 6))
    sparse = random.randint(0, 2 ** 40, (50, 29)) >> random.randint(0, 40, (50, 29))
    dense = random.normal(size=(50, 11)).astype(np.float32)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        found = session.run(tf.io.parse_example(encode_examples(labels, sparse, dense), {
            "label": tf.io.FixedLenFeature([6], tf.int64), "sparse_feature": tf.io.FixedLenFeature([29], tf.int64),
            "dense_feature": tf.io.FixedLenFeature([11], tf.float32)}))
    for key, expected in (("label", labels), ("sparse_feature", sparse), ("dense_feature", dense)):
        np.testing.assert_array_equal(found[key], expected)


def test_packing_pads_the_last_record_only():
    labels, ids = np.array([[1], [0], [1]], np.int8), np.arange(6).reshape(3, 2) + 5
    packed = pack_rows(labels, ids, np.ones((3, 1), np.float32), 2)
    assert [part.tolist() for part in packed] == [
        [[1, 0], [1, -1]], [[5, 6, 7, 8], [9, 10, 0, 0]], [[1.0, 1.0], [1.0, 0.0]]]
    assert [part.dtype for part in packed] == [np.int64, np.int64, np.float32]


def test_no_record_at_all():
    assert encode_examples(np.zeros((0, 2), np.int64), np.zeros((0, 3), np.int64), np.zeros((0, 1), np.float32)) == []
    assert len(frame(*encode_flat(np.zeros((0, 1), np.int64), np.zeros((0, 1), np.int64),
                                  np.zeros((0, 1), np.float32)))) == 0


def test_crc_by_the_published_check_values():
    messages = [b"123456789", bytes(32), b"\xff" * 32, bytes(range(32))]
    found = crc32c(np.frombuffer(b"".join(messages), np.uint8), np.array([len(message) for message in messages]))
    assert found.tolist() == [0xE3069283, 0x8A9136AA, 0x62A8AB43, 0x46DD794E]


@pytest.mark.parametrize("lengths", [[4], [5, 4, 255, 256, 257, 511, 512, 513, 4096, 70000], [100] * 200])
def test_files_are_what_tensorflow_writes(tmp_path, lengths):
    random = np.random.RandomState(len(lengths))
    messages = [random.bytes(length) for length in lengths]
    path = str(tmp_path / "a")
    with tf.io.TFRecordWriter(path) as writer:
        for message in messages:
            writer.write(message)
    with open(path, "rb") as stream:
        assert frame(np.frombuffer(b"".join(messages), np.uint8), np.array(lengths)).tobytes() == stream.read()


@settings(max_examples=200)
@given(st.integers(0, 3000), st.integers(1, 40), st.integers(1, 9))
def test_shards_hold_whole_records(rows, line_per_sample, shards):
    sizes = shard_sizes(rows, line_per_sample, shards)
    assert len(sizes) == shards and sum(size for size, _ in sizes) == rows
    filled = [(size, records) for size, records in sizes if records]
    assert all(size == records * line_per_sample for size, records in filled[:-1])
    assert all(-(-size // line_per_sample) == records for size, records in filled)
    assert max(records for _, records in sizes) - min(records for _, records in sizes) <= 1
