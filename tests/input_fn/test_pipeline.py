"""The datasets against the rows that were written: parsing, order, exact resume, evaluation, padding, refusals."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.encoding import make_encoding
from feature_specs.records import GROUP, LABEL, PADDING_LABEL, WEIGHT
from input_fn.diagnose import first_bad_record
from input_fn.pipeline import Reading, evaluation_batches, extract_fn, reshape_fn, training_batches
from input_fn.plan import eval_steps, plan_training
from tests.support.rows import read_rows
from tests.support.small_data import RICH, SMALL, columns_of, keys_of, record_of, write_data, write_split

SIZES = (1, 3, 8)
TRAIN_ROWS, TEST_ROWS = 50, 21


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """{(name, L): (directory, manifest, rows)}."""
    found = {}
    for dataset in (RICH, SMALL):
        for size in SIZES:
            directory = str(tmp_path_factory.mktemp("data"))
            found[dataset.name, size] = (directory,
                                         *write_data(directory, TRAIN_ROWS, TEST_ROWS, size, dataset=dataset))
    return found


def reading(data, window_rows=24, shuffle_rows=1000, seed=5, rank_id=0, rank_size=1, **changes):
    return Reading(data[0], data[1], make_encoding(data[1], "none", 0), seed, shuffle_rows, window_rows, 1, rank_id,
                   rank_size, **changes)


def run(make):
    """All batches of the dataset that ``make()`` builds, in a graph of its own."""
    batches = []
    with tf.Graph().as_default():
        element = tf.compat.v1.data.make_one_shot_iterator(make()).get_next()
        with tf.compat.v1.Session() as session:
            while True:
                try:
                    batches.append(session.run(element))
                except tf.errors.OutOfRangeError:
                    return batches


def train(data, batch_size=8, epochs=1, start=0, **changes):
    read = reading(data, **changes)
    split = data[1].split("train")
    plan = plan_training(split, data[1].line_per_sample, batch_size, read.window_rows, read.rank_id, read.rank_size)
    return run(lambda: training_batches(read, split, plan, epochs, start))


def evaluation(data, batch_size=8, **changes):
    return run(lambda: evaluation_batches(reading(data, **changes), data[1].split("test"), batch_size))


def rows_of(batches):
    """Rows of batches as comparable tuples, padding rows left out."""
    found = []
    for batch in batches:
        names = sorted(batch)
        for place, labels in enumerate(batch[LABEL]):
            if not (np.isinf(labels[0]) or labels[0] == PADDING_LABEL):
                found.append(tuple(repr(np.round(batch[name][place].astype(float), 4).tolist()) for name in names))
    return found


def expected_rows(data, split, names):
    """The same of what was written: keys by the documented rule, side by side per table in the order of features."""
    manifest, rows = data[1], data[2][split]
    dataset = manifest.dataset
    coded = keys_of(rows, manifest)
    arrays = {LABEL: rows.labels, WEIGHT: rows.weight[:, None], GROUP: rows.group[:, None]}
    for table in dataset.tables:
        parts = [coded[feature.name] for feature in dataset.categorical if feature.table == table.name]
        arrays["sparse_feature_" + table.name] = np.concatenate(parts, axis=1)
    arrays["dense_feature"] = rows.dense
    return [tuple(repr(np.round(arrays[name][row].astype(float), 4).tolist()) for name in sorted(names))
            for row in range(len(rows.labels))]


def plain(manifest):
    """The same data with numbers that go through as they are, so that rows can be told by them."""
    numeric = tuple(dataclasses.replace(feature, transform="none", bins=0, missing=-9.0)
                    for feature in manifest.dataset.numeric)
    return dataclasses.replace(manifest, dataset=dataclasses.replace(manifest.dataset, numeric=numeric))


@pytest.fixture(params=[("rich", size) for size in SIZES] + [("small", 3)], ids="{0[0]}-{0[1]}".format)
def data(request, datasets):
    directory, manifest, rows = datasets[request.param]
    known = {split: part._replace(dense=np.where(np.isnan(part.dense), np.float32(-9.0), part.dense))
             for split, part in rows.items()}
    return directory, plain(manifest), known


@pytest.mark.parametrize("size", SIZES)
def test_parsing_equals_a_direct_reading_of_the_protobufs(datasets, size):
    directory, manifest, _ = datasets["rich", size]
    expected = read_rows(directory, "train", size)
    files = ["%s/%s" % (directory, shard.path) for shard in manifest.split("train").shards]
    (found,) = run(lambda: tf.data.TFRecordDataset(files).batch(1000).map(
        lambda records: reshape_fn(extract_fn(records, RICH, size), RICH)))
    assert {name: value.shape for name, value in found.items()} == {
        name: (len(expected), width) for name, width in (
            ("label", 5), ("sparse_feature", 10), ("dense_feature", 2), ("weight", 1), ("group", 1))}
    for name, values in found.items():
        np.testing.assert_array_equal(values, np.array([row[name] for row in expected], values.dtype))


def test_evaluation_yields_every_row_once_and_in_order(data):
    for batch_size, window_rows in ((8, 8), (8, 32), (5, 11), (64, 1)):
        batches = evaluation(data, batch_size, window_rows=window_rows)
        assert len(batches) == eval_steps(data[1].split("test"), data[1].line_per_sample, batch_size)
        assert all(len(batch[LABEL]) == batch_size for batch in batches)
        assert rows_of(batches) == expected_rows(data, "test", batches[0])
        assert (GROUP in batches[0]) == bool(data[1].dataset.group)


def test_ranks_evaluate_every_row_once_in_the_same_number_of_steps(data):
    parts = [evaluation(data, 4, window_rows=16, rank_id=rank, rank_size=3) for rank in range(3)]
    found = [row for part in parts for row in rows_of(part)]
    assert sorted(found) == sorted(expected_rows(data, "test", parts[0][0]))
    steps = eval_steps(data[1].split("test"), data[1].line_per_sample, 4, 3)
    assert all(len(part) <= steps for part in parts) and max(map(len, parts)) == steps


def test_training_yields_rows_of_the_data_at_most_once_per_epoch(data):
    batches = train(data, epochs=3)
    per_epoch = TRAIN_ROWS // 8
    assert len(batches) == 3 * per_epoch
    everything = expected_rows(data, "train", batches[0])
    assert GROUP not in batches[0] and (WEIGHT in batches[0]) == bool(data[1].dataset.weight)
    orders = []
    for epoch in range(3):
        rows = rows_of(batches[epoch * per_epoch:(epoch + 1) * per_epoch])
        assert len(rows) == len(set(rows)) == 8 * per_epoch and set(rows) <= set(everything)
        orders.append(tuple(rows))
    assert len(set(orders)) == 3


def test_without_shuffling_the_order_of_the_files_is_kept(datasets, tmp_path):
    manifest, rows = write_data(tmp_path, TRAIN_ROWS, TEST_ROWS, 4, shards=1)
    one_file = (str(tmp_path), plain(manifest), rows)
    batches = train(one_file, shuffle_rows=0)
    assert rows_of(batches) == expected_rows(one_file, "train", batches[0])[:TRAIN_ROWS // 8 * 8]


@settings(max_examples=10)
@given(st.sampled_from(SIZES), st.integers(1, 16), st.integers(1, 60), st.sampled_from([1, 2, 3]),
       st.sampled_from([0, 7, 1000]), st.integers(0, 10 ** 6), st.data())
def test_any_step_can_be_the_first(datasets, size, batch_size, window_rows, ranks, shuffle_rows, seed, draw):
    rank = draw.draw(st.integers(0, ranks - 1))
    settings_ = {"window_rows": window_rows, "rank_id": rank, "rank_size": ranks, "shuffle_rows": shuffle_rows,
                 "seed": seed}
    data = datasets["small", size]
    try:
        whole = train(data, min(batch_size, 12 // ranks), 2, **settings_)
    except Exception as error:
        assert "larger than" in str(error)
        return
    start = draw.draw(st.integers(0, len(whole) - 1))
    rest = train(data, min(batch_size, 12 // ranks), 2, start, **settings_)
    assert len(rest) == len(whole) - start
    for ours, theirs in zip(rest, whole[start:]):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_the_seed_decides_the_order(datasets):
    orders = [rows_of(train(datasets["small", 3], seed=seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


def test_ranks_train_on_different_rows_in_the_same_number_of_steps(data):
    parts = [train(data, 4, rank_id=rank, rank_size=3, window_rows=12) for rank in range(3)]
    assert len({len(part) for part in parts}) == 1
    seen = [set(rows_of(part)) for part in parts]
    assert not (seen[0] & seen[1] or seen[1] & seen[2] or seen[0] & seen[2])


def test_evaluation_weights_are_raw_values_and_zero_in_padding(datasets):
    directory, manifest, rows = datasets["rich", 3]
    batches = evaluation((directory, manifest, rows), 8, eval_weight="price")
    found = np.concatenate([batch["eval_weight"] for batch in batches])[:, 0]
    labels = np.concatenate([batch[LABEL] for batch in batches])[:, 0]
    wanted = np.nan_to_num(rows["test"].dense[:, 0])
    np.testing.assert_array_equal(found[~np.isinf(labels)], wanted)
    assert (found[np.isinf(labels)] == 0).all() and np.isinf(labels).any()


def test_evaluation_weights_may_be_the_weights_of_the_rows(datasets):
    directory, manifest, rows = datasets["rich", 3]
    batches = evaluation((directory, manifest, rows), 8, eval_weight=manifest.dataset.weight)
    found = np.concatenate([batch["eval_weight"] for batch in batches])[:, 0]
    labels = np.concatenate([batch[LABEL] for batch in batches])[:, 0]
    np.testing.assert_array_equal(found[~np.isinf(labels)], np.ravel(rows["test"].weight))
    assert (found[np.isinf(labels)] == 0).all()


def _change(part, column, value):
    def change(rows):
        array = getattr(rows, part).copy()
        array[11, column] = value
        return rows._replace(**{part: array})
    return change


PLACE = columns_of(RICH)
BAD = {
    "label 2": (_change("labels", 0, 2.0), "labels that no preparation writes"),
    "label inside a padding mark": (_change("labels", 1, -np.inf), "labels that no preparation writes"),
    "index beyond the vocabulary": (_change("sparse", PLACE["item"].start, 7), "values out of range"),
    "index below zero": (_change("sparse", PLACE["city"].start, -1), "values out of range"),
    "list value of -2": (_change("sparse", PLACE["tags"].start, -2), "values out of range"),
    "hash of 2**40": (_change("sparse", PLACE["user"].start, 1 << 40), "values out of range"),
    "infinite number": (_change("dense", 1, np.inf), "infinite numbers"),
    "negative weight": (lambda rows: rows._replace(weight=np.where(np.arange(len(rows.weight)) == 11, -1, rows.weight)),
                        "weights that are negative"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_rows_that_no_preparation_writes_are_refused_and_found(datasets, tmp_path, name):
    change, words = BAD[name]
    _, manifest, rows = datasets["rich", 3]
    split = write_split(tmp_path, "test", change(rows["test"]), RICH, 3, 1)
    changed = dataclasses.replace(manifest, splits={"test": split})
    data = (str(tmp_path), changed, rows)
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        evaluation(data)
    assert first_bad_record(changed, make_encoding(changed, "none", 0), str(tmp_path), ["test"]) == (
        "%s/test/part-00000-of-00001.tfrecord, record 3: %s" % (tmp_path, _message(words)))


def _message(words):
    return {"weights that are negative": "[weights that are negative or not finite]"}.get(words, "[%s]" % words)


def test_a_damaged_record_is_named(datasets, tmp_path):
    _, manifest, rows = datasets["rich", 3]
    splits = {name: write_split(tmp_path, name, rows[name], RICH, 3, 2) for name in ("train", "test")}
    changed = dataclasses.replace(manifest, splits=splits)
    encoding = make_encoding(changed, "none", 0)
    assert first_bad_record(changed, encoding, str(tmp_path), ["train", "test"]) is None
    path = tmp_path / "test" / "part-00001-of-00002.tfrecord"
    whole = path.read_bytes()
    length = len(record_of(rows["test"].take(slice(12, 15)), RICH, 3)) + 16
    path.write_bytes(whole[:length + 40] + bytes([whole[length + 40] ^ 1]) + whole[length + 41:])
    with pytest.raises(tf.errors.DataLossError):
        evaluation((str(tmp_path), changed, rows))
    assert first_bad_record(changed, encoding, str(tmp_path), ["train", "test"]) == (
        "%s, record 1: damaged (its checksum or length is wrong)" % path)
    path.write_bytes(whole[:length])
    assert first_bad_record(changed, encoding, str(tmp_path), ["test"]) == "%s: 1 records, the manifest says 3" % path


def test_records_of_another_dataset_are_named(datasets, tmp_path):
    _, manifest, rows = datasets["rich", 3]
    split = write_split(tmp_path, "test", datasets["small", 3][2]["test"], SMALL, 3, 1)
    changed = dataclasses.replace(manifest, splits={"test": split})
    found = first_bad_record(changed, make_encoding(changed, "none", 0), str(tmp_path), ["test"])
    assert found.startswith("%s/test/part-00000-of-00001.tfrecord, record 0: " % tmp_path) and len(found) < 400
