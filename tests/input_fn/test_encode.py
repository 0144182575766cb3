"""Keys, normalised numbers and bins against NumPy."""
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.encoding import make_encoding, merge_bins
from feature_specs.errors import ConfigError
from input_fn.encode import encode_rows
from tests.support.small_data import RICH, columns_of, keys_of, write_data


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("rich"), train_rows=500, dataset=RICH)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("small"), train_rows=500)[0]


def encode(sparse, dense, encoding):
    """{name: int64 keys} and float32 numbers."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(encode_rows(tf.constant(sparse, tf.int64), tf.constant(dense, tf.float32), encoding))


def numbers_of(manifest, dense, transform, bins=0, drop=()):
    """Numbers and bin keys of rows of the small dataset."""
    keys, numbers = encode(np.zeros((len(dense), 3)), dense, make_encoding(manifest, transform, bins, drop))
    return numbers, keys["sparse_feature_embeddings"][:, 3:]


def test_keys_are_the_vocabularys_number_and_the_value(rich):
    manifest, rows = rich
    keys, _ = encode(rows["train"].sparse, rows["train"].dense, make_encoding(manifest, "none", 0))
    expected = keys_of(rows["train"], manifest)
    for table, names in (("users", ("user", "tags")), ("items", ("item", "seen", "city"))):
        found = keys["sparse_feature_" + table][:, :sum(expected[name].shape[1] for name in names)]
        np.testing.assert_array_equal(found, np.concatenate([expected[name] for name in names], axis=1))
    # The list shares the item's numbers; empty places have the padding key, values that are unknown do not.
    assert set(np.unique(expected["seen"])) - {0} == set(np.unique(expected["item"]))
    number = manifest.vocabularies["item"].number
    assert number << 40 in expected["item"] and (expected["user"] >> 40 == manifest.vocabularies["user"].number).all()


def test_the_largest_hash_stays_inside_its_vocabulary(rich):
    manifest, rows = rich
    sparse = rows["train"].sparse[:1].copy()
    sparse[0, columns_of(RICH)["user"]] = (1 << 40) - 1
    keys, _ = encode(sparse, rows["train"].dense[:1], make_encoding(manifest, "none", 0))
    assert keys["sparse_feature_users"][0, 0] >> 40 == manifest.vocabularies["user"].number


def test_every_feature_has_its_own_transform_bins_and_missing_value(rich):
    manifest, rows = rich
    dense = rows["train"].dense
    keys, numbers = encode(rows["train"].sparse, dense, make_encoding(manifest, "none", 9))
    price, age = (manifest.dense_statistics[name] for name in ("price", "age"))
    known = np.where(np.isnan(dense), [2.5, age.mean], dense).astype(np.float32).astype(np.float64)
    assert np.isnan(dense).any(axis=0).all()
    logs = np.sign(known[:, 0]) * np.log1p(np.abs(known[:, 0]))
    np.testing.assert_allclose(numbers[:, 0], (logs - price.log_mean) / price.log_std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numbers[:, 1], (known[:, 1] - age.mean) / age.std, rtol=1e-4, atol=1e-5)
    edges = merge_bins(price.bin_edges, price.bin_counts, 5)
    expected = np.searchsorted(edges, known[:, 0].astype(np.float32), side="left") + (
        manifest.vocabularies["price"].number << 40)
    np.testing.assert_array_equal(keys["sparse_feature_users"][:, -1], expected)
    # Bins of age: 0, whatever the run asks for.
    assert keys["sparse_feature_items"].shape[1] == 6 and len(np.unique(expected)) == 5


@pytest.mark.parametrize("transform", ["log_standard", "standard"])
def test_normalised_training_values_have_mean_zero_and_deviation_one(tmp_path, transform):
    manifest, rows = write_data(str(tmp_path), train_rows=2000)
    values, _ = numbers_of(manifest, rows["train"].dense, transform)
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)


def test_without_a_transform_numbers_stay_what_they_are(manifest):
    dense = np.array([[1.5, -1e6], [3e7, 0.25]], np.float32)
    np.testing.assert_array_equal(numbers_of(manifest, dense, "none")[0], dense)


def test_extreme_values_become_those_of_training_and_missing_ones_the_mean(manifest):
    odd = np.array([[np.nan, np.inf], [-np.inf, 1e38]], np.float32)
    x, y = (manifest.dense_statistics[name] for name in ("x", "y"))
    plain = np.array([[x.mean, y.maximum], [x.minimum, y.maximum]], np.float32)
    found, expected = (numbers_of(manifest, dense, "log_standard", 10) for dense in (odd, plain))
    for ours, theirs in zip(found, expected):
        np.testing.assert_array_equal(ours, theirs)


def test_bins_are_keys_of_their_own(manifest):
    dense = np.random.RandomState(3).uniform(-5, 40, (300, 2)).astype(np.float32)
    _, keys = numbers_of(manifest, dense, "log_standard", 10)
    for column, name in enumerate(("x", "y")):
        statistics = manifest.dense_statistics[name]
        edges = np.array(merge_bins(statistics.bin_edges, statistics.bin_counts, 10), np.float32)
        expected = np.searchsorted(edges, dense[:, column], side="left") + (manifest.vocabularies[name].number << 40)
        np.testing.assert_array_equal(keys[:, column], expected)


def test_a_value_on_an_edge_lies_below_it(manifest):
    statistics = manifest.dense_statistics["x"]
    edge = merge_bins(statistics.bin_edges, statistics.bin_counts, 10)[2]
    dense = np.array([[edge, 0], [np.nextafter(np.float32(edge), np.float32(1e9)), 0]], np.float32)
    _, keys = numbers_of(manifest, dense, "none", 10)
    assert keys[1, 0] == keys[0, 0] + 1


def test_dropped_features_are_invisible(manifest):
    values, keys = numbers_of(manifest, np.array([[1.0, 2.0], [30.0, 2.0]], np.float32), "log_standard", 10, ("x",))
    np.testing.assert_array_equal(values[0], values[1])
    np.testing.assert_array_equal(keys[0], keys[1])
    assert keys.shape[1] == 1 and (values[:, 0] == 0).all()


def test_a_constant_feature_is_zero(manifest):
    statistics = dict(manifest.dense_statistics, x=dataclasses.replace(
        manifest.dense_statistics["x"], mean=4.0, std=0.0, log_std=0.0, minimum=4.0, maximum=4.0))
    constant = dataclasses.replace(manifest, dense_statistics=statistics)
    for transform in ("log_standard", "standard"):
        assert (numbers_of(constant, np.full((3, 2), 4.0), transform)[0][:, 0] == 0).all()


@pytest.mark.parametrize("arguments, message", [
    (("none", 1), "dense_bins 1 is out of range; allowed: 0 .none., or 2 to 255"),
    (("none", 2, ("z",)), "unknown numeric features: z; the data has x, y")])
def test_wrong_settings_are_refused(manifest, arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_encoding(manifest, *arguments)


def test_layout_of_tables(rich):
    users, items = make_encoding(rich[0], "none", 0).tables
    assert [field.name for field in users.fields] == ["user", "tags", "price"] and users.width == 5
    assert [field.name for field in items.fields] == ["item", "seen", "city"] and items.width == 6
    assert (users.dim, items.dim) == (3, 5) and users.has_lists and items.has_lists
    assert [(field.is_list, field.pooling) for field in items.fields] == [
        (False, "sum"), (True, "mean"), (False, "sum")]
    # The padding key, then distinct hashes of two features and the bins; a shared vocabulary counts once.
    assert users.keys == 1 + 7 + 7 + 5 and items.keys == 1 + 7 + 7
    assert items.rows > items.keys
    tables = tuple(dataclasses.replace(table, rows=99) for table in RICH.tables)
    sized = dataclasses.replace(rich[0], dataset=dataclasses.replace(RICH, tables=tables))
    assert [table.rows for table in make_encoding(sized, "none", 0).tables] == [99, 99]
    assert not make_encoding(write_small(rich), "none", 0).tables[0].has_lists


def write_small(rich):
    return dataclasses.replace(rich[0], dataset=dataclasses.replace(
        RICH, categorical=tuple(item for item in RICH.categorical if not item.is_list)))


@settings(max_examples=200)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=255), st.integers(2, 255))
def test_merged_bins_are_a_subset_of_the_edges_and_no_more_than_asked(counts, bins):
    edges = [float(n) for n in range(len(counts) - 1)]
    merged = merge_bins(edges, counts, bins)
    assert len(merged) < bins or len(edges) < bins
    assert set(merged) <= set(edges) and merged == sorted(merged)


def test_a_frequent_value_gets_a_bin_of_its_own():
    # 90 % of the rows in the first fine bin, the rest spread over nine.
    assert merge_bins([float(n) for n in range(9)], [900] + [11] * 9, 4)[0] == 0.0


def test_merged_bins_have_about_equal_frequency():
    merged = merge_bins([float(n) for n in range(99)], [10] * 100, 10)
    assert len(merged) == 9
    np.testing.assert_array_equal(np.diff(merged), 10)
