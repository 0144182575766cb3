"""key -> row: order of arrival, capacity, negative ids, removal and reuse of rows."""
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rec_sdk_cpu.core.key_index import KeyIndex
from tests.rec_sdk_cpu.tools import ids_placeholder


@pytest.fixture
def graph():
    with tf.Graph().as_default():
        yield


def test_rows_are_given_in_order_of_arrival(graph):
    index, ids = KeyIndex("t", 10), ids_placeholder()
    rows = index.find_or_insert(ids)
    with tf.compat.v1.Session() as session:
        assert session.run(rows, {ids: [7, 3, 9]}).tolist() == [0, 1, 2]
        assert session.run(rows, {ids: [3, 100, 7]}).tolist() == [1, 3, 0]
        assert session.run(index.size()) == 4
        assert session.run(index.find(tf.constant([9, 5], tf.int64))).tolist() == [2, -1]
        assert session.run(rows, {ids: []}).tolist() == []


def test_overflow_has_the_sdks_message_and_inserts_nothing(graph):
    index, ids = KeyIndex("t", 3), ids_placeholder()
    rows = index.find_or_insert(ids)
    with tf.compat.v1.Session() as session:
        session.run(rows, {ids: [1, 2]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="Device cache overflow! Please set a grater value"):
            session.run(rows, {ids: [3, 4]})
        assert session.run(index.size()) == 2
        assert session.run(rows, {ids: [3]}).tolist() == [2]


@pytest.mark.parametrize("method", ["find", "find_or_insert"])
def test_negative_ids_are_refused(graph, method):
    index, ids = KeyIndex("t", 3), ids_placeholder()
    rows = getattr(index, method)(ids)
    with tf.compat.v1.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match="ids must be >= 0"):
        session.run(rows, {ids: [1, -1]})


def test_two_lookups_of_one_step_agree_on_a_new_key(graph):
    index, first, second = KeyIndex("t", 10), ids_placeholder(), ids_placeholder()
    both = [index.find_or_insert(first), index.find_or_insert(second)]
    with tf.compat.v1.Session() as session:
        for attempt in range(20):
            new = [2 * attempt % 9, (2 * attempt + 1) % 9]
            rows = session.run(both, {first: new, second: new[::-1]})
            assert rows[0].tolist() == rows[1][::-1].tolist()


def test_freed_rows_are_given_out_first(graph):
    index, ids = KeyIndex("t", 5), ids_placeholder()
    index.allow_release()
    rows, freed = index.find_or_insert(ids), index.release(tf.constant([20, 99, 10], tf.int64))
    with tf.compat.v1.Session() as session:
        session.run(rows, {ids: [10, 20, 30]})
        assert sorted(session.run(freed)) == [0, 1]
        assert session.run(index.size()) == 1
        given = session.run(rows, {ids: [40, 50, 60]})
        assert sorted(given[:2]) == [0, 1] and given[2] == 3
        session.run(index.clear())
        assert session.run(index.size()) == 0
        assert session.run(rows, {ids: [8]}).tolist() == [0]


@settings(max_examples=5)
@given(st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=8), st.integers(0, 30))
def test_index_is_a_bijection_whatever_comes(batches, gone):
    with tf.Graph().as_default():
        index, ids, out = KeyIndex("t", 100), ids_placeholder(), ids_placeholder()
        index.allow_release()
        rows, freed = index.find_or_insert(ids), index.release(out)
        with tf.compat.v1.Session() as session:
            model, free, high = {}, set(), 0
            for batch in batches:
                keys = list(dict.fromkeys(batch))
                got = session.run(rows, {ids: keys})
                for key, row in zip(keys, got.tolist()):
                    if key in model:
                        assert model[key] == row
                    else:
                        assert row in free if free else row == high
                        free.discard(row)
                        high = max(high, row + 1)
                        model[key] = row
                session.run(freed, {out: [gone]})
                if gone in model:
                    free.add(model.pop(gone))
                keys, values = session.run(index.export())
                assert dict(zip(keys.tolist(), values.tolist())) == model
                assert len(np.unique(values)) == len(values)
