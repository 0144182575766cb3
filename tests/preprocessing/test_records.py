"""Serialized records against TensorFlow's own messages."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing import vocabulary
from preprocessing.records import encode_examples, shard_sizes
from preprocessing.vocabulary import hash_texts
from tests.support.rows import hashes


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(-2 ** 63, 2 ** 63 - 1), min_size=3, max_size=3), min_size=1, max_size=5),
       st.lists(st.floats(width=32), min_size=2, max_size=2))
def test_messages_are_those_of_tensorflow(integers, floats):
    arrays = {"sparse_feature": np.array(integers, np.int64),
              "dense_feature": np.tile(np.array(floats, np.float32), (len(integers), 1)),
              "empty": np.zeros((len(integers), 0), np.float32)}
    for data, row in zip(encode_examples(arrays), integers):
        message = tf.train.Example.FromString(data)
        assert list(message.features.feature["sparse_feature"].int64_list.value) == row
        np.testing.assert_array_equal(message.features.feature["dense_feature"].float_list.value,
                                      np.array(floats, np.float32))
        assert len(data) == len(message.SerializeToString())


def test_long_records():
    values = np.arange(70000).reshape(2, -1)
    for data, row in zip(encode_examples({"label": values}), values):
        assert list(tf.train.Example.FromString(data).features.feature["label"].int64_list.value) == row.tolist()


@pytest.mark.parametrize("rows, packed, shards, expected", [
    (0, 4, 2, [(0, 0), (0, 0)]), (1, 4, 2, [(1, 1), (0, 0)]), (9, 4, 2, [(8, 2), (1, 1)]),
    (16, 4, 3, [(8, 2), (4, 1), (4, 1)])])
def test_shards_hold_whole_records(rows, packed, shards, expected):
    assert shard_sizes(rows, packed, shards) == expected


def test_hashes_are_those_of_the_graph():
    texts = ["", "a", "7", "1234567890123", "Zürich", "x" * 1000, "日本"]
    assert hash_texts(np.array(texts, object)).tolist() == hashes(texts)
    assert (hash_texts(np.array(texts, object)) >= 1).all() and hash_texts(np.array([], object)).tolist() == []


def test_large_vocabularies_are_those_of_a_dictionary(tmp_path):
    random = np.random.RandomState(0)
    ours, model, counts = vocabulary.Vocabulary(), {}, {}
    for size in (30, 400, 3000, 3000):
        texts = np.array(sorted({"v%d" % value for value in random.randint(0, size, 500)}), object)
        first, seen = random.permutation(len(texts)), random.randint(0, 3, len(texts))
        for place in np.argsort(first):
            if seen[place]:
                model.setdefault(texts[place], len(model) + 1)
                counts[texts[place]] = counts.get(texts[place], 0) + int(seen[place])
        expected = [model.get(text, 0) for text in texts]
        assert ours.add(texts, seen, first).tolist() == expected
    ours.number(2)
    info = ours.save(str(tmp_path), "x", 1)
    again = vocabulary.Vocabulary.load(str(tmp_path / info.path))
    texts = np.array(list(model) + ["new"], object)
    assert again.codes(texts).tolist() == list(model.values()) + [0] == ours.codes(texts).tolist()
    kept = [text for text in model if counts[text] >= 2]
    assert again.indexes()[again.codes(texts)].tolist() == [
        kept.index(text) + 1 if text in kept else 0 for text in model] + [0]
    assert (info.size, info.distinct) == (len(kept) + 1, len(model))
