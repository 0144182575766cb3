import numpy as np
import pytest
import tensorflow as tf

from feature_specs.encoding import make_encoding
from input_fn.pipeline import evaluation_batches, extract_fn, reshape_fn, training_batches, with_timestamp
from input_fn.plan import plan_training
from tests.small_data import SMALL, write_data


def run(dataset):
    batches = []
    element = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
    with tf.compat.v1.Session() as session:
        while True:
            try:
                batches.append(session.run(element))
            except tf.errors.OutOfRangeError:
                return batches


def rows_of(batches):
    """Rows as sorted tuples, so that two orders of the same rows compare equal."""
    rows = []
    for batch in batches:
        for ids, dense, labels in zip(batch["sparse_feature"], batch["dense_feature"], batch["label"]):
            rows.append(tuple(ids) + tuple(np.round(dense.astype(float), 4)) + tuple(labels))
    return rows


def expected_rows(arrays):
    ids, dense, labels = arrays
    return [tuple(a) + tuple(np.round(b.astype(float), 4)) + tuple(c) for a, b, c in zip(ids, dense, labels)]


def training(directory, manifest, batch_size=8, window_rows=24, epochs=1, seed=5, start=0, shuffle_rows=1000,
             skipped=(), **ranks):
    plan = plan_training(manifest.split("train"), manifest.line_per_sample, batch_size, window_rows, **ranks)
    return training_batches(directory, manifest.split("train").shards, manifest.dataset,
                            make_encoding(manifest, "none", 0), plan, epochs, seed, shuffle_rows, start,
                            skipped=skipped, **ranks)


@pytest.fixture(params=[1, 4, 7, 64])
def data(request, tmp_path):
    directory = str(tmp_path / "data")
    manifest, arrays = write_data(directory, line_per_sample=request.param)
    return directory, manifest, arrays


def test_extract_and_reshape_give_the_rows_back(data):
    directory, manifest, (ids, dense, labels) = data[0], data[1], data[2]["train"]
    with tf.Graph().as_default():
        path = "%s/%s" % (directory, manifest.split("train").shards[0].path)
        records = tf.compat.v1.data.make_one_shot_iterator(tf.data.TFRecordDataset(path).batch(100)).get_next()
        rows = reshape_fn(extract_fn(records, SMALL, manifest.line_per_sample), SMALL)
        with tf.compat.v1.Session() as session:
            rows = session.run(rows)
    count = manifest.split("train").shards[0].rows
    np.testing.assert_array_equal(rows["sparse_feature"][:count], ids[:count])
    np.testing.assert_array_equal(rows["label"][:count], labels[:count])
    np.testing.assert_array_equal(rows["dense_feature"][:count], dense[:count])
    assert (rows["label"][count:] == -1).all()


def test_evaluation_yields_every_row_once_and_in_order(data):
    directory, manifest, arrays = data
    for batch_size, window_rows in ((8, 8), (8, 32), (5, 11), (64, 1)):
        with tf.Graph().as_default():
            batches = run(evaluation_batches(
                directory, manifest.split("test").shards, SMALL, make_encoding(manifest, "none", 0),
                manifest.line_per_sample, batch_size, window_rows))
        assert all(batch["label"].shape == (batch_size, 3) for batch in batches)
        rows = [row for row in rows_of(batches) if row[-1] >= 0]
        assert rows == expected_rows(arrays["test"])


def test_ranks_evaluate_every_row_once(data):
    directory, manifest, arrays = data
    rows = []
    for rank in range(3):
        with tf.Graph().as_default():
            batches = run(evaluation_batches(
                directory, manifest.split("test").shards, SMALL, make_encoding(manifest, "none", 0),
                manifest.line_per_sample, 8, 16, rank, 3))
        rows += [row for row in rows_of(batches) if row[-1] >= 0]
    assert sorted(rows) == sorted(expected_rows(arrays["test"]))


def test_training_yields_rows_of_the_data_once_per_epoch(data):
    directory, manifest, arrays = data
    with tf.Graph().as_default():
        batches = run(training(directory, manifest, epochs=3))
    assert len(batches) == 3 * (100 // 8)
    everything = expected_rows(arrays["train"])
    for epoch in range(3):
        rows = rows_of(batches[epoch * 12:(epoch + 1) * 12])
        assert len(rows) == len(set(rows)) == 96
        assert set(rows) <= set(everything)


def test_epochs_differ_in_order_and_in_the_rows_that_are_dropped(tmp_path):
    directory = str(tmp_path)
    manifest, arrays = write_data(directory, line_per_sample=1)
    with tf.Graph().as_default():
        batches = run(training(directory, manifest, epochs=6))
    epochs = [rows_of(batches[number * 12:(number + 1) * 12]) for number in range(6)]
    assert len({tuple(rows) for rows in epochs}) == 6
    dropped = [frozenset(set(expected_rows(arrays["train"])) - set(rows)) for rows in epochs]
    assert len(set(dropped)) > 1


def test_without_shuffling_the_order_of_the_files_is_kept(tmp_path):
    directory = str(tmp_path)
    manifest, arrays = write_data(directory, line_per_sample=4, shards=1)
    with tf.Graph().as_default():
        batches = run(training(directory, manifest, shuffle_rows=0))
    assert rows_of(batches) == expected_rows(arrays["train"])[:96]


def test_any_step_can_be_the_first(data):
    directory, manifest, _ = data
    with tf.Graph().as_default():
        whole = run(training(directory, manifest, epochs=2))
    for start in (1, 3, 7, 11, 12, 13, 20, 23):
        with tf.Graph().as_default():
            rest = run(training(directory, manifest, epochs=2, start=start))
        assert len(rest) == len(whole) - start
        for ours, theirs in zip(rest, whole[start:]):
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name])


def test_seed_decides_the_order(tmp_path):
    directory = str(tmp_path)
    manifest, _ = write_data(directory)
    orders = []
    for seed in (1, 1, 2):
        with tf.Graph().as_default():
            orders.append(rows_of(run(training(directory, manifest, seed=seed))))
    assert orders[0] == orders[1] != orders[2]


def test_ranks_train_on_different_rows(tmp_path):
    directory = str(tmp_path)
    manifest, _ = write_data(directory, line_per_sample=2)
    seen = []
    for rank in range(2):
        with tf.Graph().as_default():
            seen.append(set(rows_of(run(training(directory, manifest, rank_id=rank, rank_size=2)))))
    assert not seen[0] & seen[1]
    assert len(seen[0]) == len(seen[1]) == 48


def test_ranks_make_the_same_number_of_steps(tmp_path):
    # 25 records of 4 rows for 3 ranks: 36, 32 and 32 rows, so 9, 8 and 8 batches of 4.
    directory = str(tmp_path)
    manifest, _ = write_data(directory, line_per_sample=4)
    for rank in range(3):
        with tf.Graph().as_default():
            batches = run(training(directory, manifest, batch_size=4, window_rows=12, epochs=2, rank_id=rank,
                                   rank_size=3))
        assert len(batches) == 2 * 8


def test_timestamp_is_added():
    with tf.Graph().as_default():
        dataset = tf.data.Dataset.from_tensors({"label": tf.zeros([2, 1], tf.int64)}).map(
            with_timestamp("timestamp", lambda label: tf.reduce_sum(label) + 7))
        assert run(dataset)[0]["timestamp"] == 7
