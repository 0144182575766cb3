import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.encoding import make_encoding, merge_bins
from feature_specs.errors import ConfigError
from input_fn.encode import encode_rows
from tests.small_data import write_data


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_data(str(tmp_path_factory.mktemp("data")), train_rows=500)[0]


def encode(ids, dense, encoding):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        return session.run(encode_rows(tf.constant(ids, tf.int64), tf.constant(dense, tf.float32), encoding))


def test_log_standard_gives_mean_zero_and_deviation_one(tmp_path):
    manifest, arrays = write_data(str(tmp_path), train_rows=2000)
    _, values = encode(arrays["train"][0], arrays["train"][1], make_encoding(manifest, "log_standard", 0))
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-4)


def test_standard_against_the_formula(manifest):
    dense = np.array([[1.0, 2.0], [20.0, 5.0]], np.float32)
    _, values = encode(np.zeros((2, 3)), dense, make_encoding(manifest, "standard", 0))
    statistics = [manifest.dense_statistics[name] for name in ("x", "y")]
    expected = [[(row[n] - statistics[n].mean) / statistics[n].std for n in range(2)] for row in dense]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_missing_and_infinite_values_become_training_values(manifest):
    odd = np.array([[np.nan, np.inf], [-np.inf, 1e38]], np.float32)
    statistics = [manifest.dense_statistics[name] for name in ("x", "y")]
    plain = np.array([[statistics[0].mean, statistics[1].maximum], [statistics[0].minimum, statistics[1].maximum]],
                     np.float32)
    encoding = make_encoding(manifest, "log_standard", 10)
    for ours, theirs in zip(encode(np.zeros((2, 3)), odd, encoding), encode(np.zeros((2, 3)), plain, encoding)):
        np.testing.assert_array_equal(ours, theirs)


def test_bins_are_ids_of_their_own(manifest):
    encoding = make_encoding(manifest, "log_standard", 10)
    random = np.random.RandomState(3)
    dense = random.uniform(-5, 40, (300, 2)).astype(np.float32)
    ids, _ = encode(np.zeros((300, 3)), dense, encoding)
    assert ids.shape == (300, encoding.num_fields) == (300, 5)
    for column in range(2):
        edges = encoding.bin_edges[column][np.isfinite(encoding.bin_edges[column])]
        expected = np.searchsorted(edges, dense[:, column], side="left") + encoding.bin_offsets[column]
        np.testing.assert_array_equal(ids[:, 3 + column], expected)
    assert encoding.bin_offsets[0] == manifest.num_ids()
    assert ids.max() < encoding.num_ids


def test_dropped_columns_are_invisible(manifest):
    encoding = make_encoding(manifest, "log_standard", 10, ("x",))
    dense = np.array([[1.0, 2.0], [30.0, 2.0]], np.float32)
    ids, values = encode(np.zeros((2, 3)), dense, encoding)
    np.testing.assert_array_equal(ids[0], ids[1])
    np.testing.assert_array_equal(values[0], values[1])


def test_a_column_with_a_question_mark_need_not_exist(manifest):
    encoding = make_encoding(manifest, "log_standard", 10, ("x?", "z?"))
    expected = make_encoding(manifest, "log_standard", 10, ("x",))
    np.testing.assert_array_equal(encoding.scale, expected.scale)
    assert encoding.num_ids == expected.num_ids


@pytest.mark.parametrize("arguments, message", [
    (("cube", 0), "dense_transform 'cube' is unknown; allowed: log_standard"),
    (("none", 1), "dense_bins 1 is out of range"),
    (("none", 256), "dense_bins 256 is out of range"),
    (("none", 2, ("z",)), "unknown dense columns: z"),
])
def test_wrong_settings_are_refused(manifest, arguments, message):
    with pytest.raises(ConfigError, match=message):
        make_encoding(manifest, *arguments)


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
