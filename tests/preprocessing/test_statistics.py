import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.dataset import TaskDefinition
from preprocessing import statistics as dense_statistics
from preprocessing.statistics import DenseAccumulator, DistinctCounter, LabelAccumulator, bin_edges


def statistics(values, parts=1, **options):
    accumulator = DenseAccumulator(["c"], **options)
    for part in np.array_split(np.asarray(values, np.float32)[:, np.newaxis], parts):
        accumulator.add(part)
    return accumulator.finish()["c"]


def check_bins(found, values):
    values = np.asarray(values, np.float32)
    edges = np.array(found.bin_edges)
    assert len(found.bin_counts) <= 255 and (np.diff(edges) > 0).all()
    assert (edges == edges.astype(np.float32)).all()
    for kind in (np.float32, np.float64):
        bins = np.searchsorted(edges.astype(kind), values.astype(kind), side="left")
        assert np.bincount(bins, minlength=len(edges) + 1).tolist() == list(found.bin_counts)
    return bins


def test_moments_by_numpy():
    values = np.random.RandomState(0).lognormal(3, 2, 200000).astype(np.float32)
    values[::3] *= -1
    wide = values.astype(np.float64)
    logs = np.sign(wide) * np.log1p(np.abs(wide))
    found = statistics(values, parts=37)
    assert found == statistics(values, parts=1)
    assert (found.count, found.minimum, found.maximum) == (200000, wide.min(), wide.max())
    np.testing.assert_allclose([found.mean, found.std, found.log_mean, found.log_std],
                               [wide.mean(), wide.std(), logs.mean(), logs.std()], rtol=1e-10)
    check_bins(found, values)
    assert max(found.bin_counts) <= 2 * 200000 / 255


def test_a_large_offset_costs_no_digits():
    values = np.array([1e7 + 1, 1e7 + 2, 1e7 + 3] * 1000, np.float32)
    assert statistics(values).std == pytest.approx(np.sqrt(2 / 3), rel=1e-12)


def test_few_values_get_a_bin_each():
    found = statistics([3, 1, 1, 10, 3, 1])
    assert found.bin_edges == (2.0, 6.5) and found.bin_counts == (3, 2, 1)
    assert statistics([5, 5]).bin_edges == () and statistics([5, 5]).bin_counts == (2,)
    neighbours = np.array([1, np.nextafter(np.float32(1), np.float32(2)), 2], np.float32)
    assert statistics(neighbours).bin_counts == (1, 1, 1)


def test_255_and_256_values():
    assert len(statistics(np.arange(255)).bin_counts) == 255
    assert statistics(np.arange(255)).bin_counts == (1,) * 255
    found = statistics(np.arange(256))
    assert 200 <= len(found.bin_counts) <= 255 and max(found.bin_counts) == 2


def test_a_frequent_value_has_its_own_bin():
    values = np.concatenate([np.zeros(9000), np.full(500, 77.0), np.arange(1, 1001)])
    found = statistics(values)
    bins = check_bins(found, values)
    for frequent, count in ((0.0, 9000), (77.0, 501)):
        assert found.bin_counts[bins[values == frequent][0]] == count


def test_more_frequent_values_than_gaps_allow():
    values = np.concatenate([np.repeat(np.arange(0, 400, 2), 100), np.arange(1, 400, 2), np.arange(500, 900)])
    check_bins(statistics(values), values)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(1, 500)), min_size=1,
                max_size=600, unique_by=lambda pair: pair[0] + 0.0), st.sampled_from([2, 3, 8, 255]))
def test_any_distribution_gives_valid_bins(pairs, max_bins):
    pairs.sort()
    values = np.array([value for value, _ in pairs], np.float32)
    counts = np.array([count for _, count in pairs])
    edges = np.array(bin_edges(values, counts, max_bins))
    assert len(edges) < max_bins and (np.diff(edges) > 0).all() and np.isfinite(edges).all()
    bins = np.searchsorted(edges.astype(np.float32), values, side="left")
    assert len(np.unique(bins)) == len(edges) + 1
    if len(values) <= max_bins:
        assert len(edges) == len(values) - 1


def test_beyond_the_limit_memory_is_bounded_and_ranks_are_close(monkeypatch):
    monkeypatch.setattr(dense_statistics, "_BLOCK_ROWS", 4096)
    values = np.random.RandomState(1).normal(0, 1000, 600000).astype(np.float32)
    found = statistics(values, max_distinct=20000)
    assert found == statistics(values, parts=50, max_distinct=20000)
    assert found.count == sum(found.bin_counts) == 600000
    assert found.mean == pytest.approx(values.astype(np.float64).mean(), abs=1e-6)
    assert found.std == pytest.approx(values.astype(np.float64).std(), rel=1e-9)
    true = np.bincount(np.searchsorted(np.array(found.bin_edges, np.float32), values), minlength=255)
    assert (np.abs(np.cumsum(true) - np.cumsum(found.bin_counts)) <= 0.002 * 600000).all()
    assert true.max() < 3 * 600000 / 255


def test_no_column():
    accumulator = DenseAccumulator([])
    accumulator.add(np.zeros((3, 0), np.float32))
    assert accumulator.finish() == {}


def test_missing_numbers_do_not_count():
    values = [1, np.nan, 3, np.nan, 3]
    assert statistics(values) == statistics([1, 3, 3]) and statistics(values).count == 3
    empty = statistics([np.nan, np.nan])
    assert (empty.count, empty.mean, empty.std, empty.bin_edges, empty.bin_counts) == (0, 0.0, 0.0, (), (0,))


def test_labels_count_where_they_are_known():
    tasks = (TaskDefinition("click", "c"), TaskDefinition("watch", "w", "regression", transform="log"),
             TaskDefinition("none", "n"))
    accumulator = LabelAccumulator(tasks)
    labels = np.array([[1, 10, np.nan], [0, np.nan, np.nan], [np.nan, 0.5, np.nan], [1, 7, np.nan]], np.float32)
    for part in (labels[:1], labels[1:]):
        accumulator.add(part)
    found = accumulator.finish()
    logs = np.log1p(np.array([10, 0.5, 7]))
    np.testing.assert_allclose([found["watch"].mean, found["watch"].std], [logs.mean(), logs.std()], rtol=1e-12)
    assert found["click"].mean == pytest.approx(2 / 3) and found["none"].std == 0.0
    assert accumulator.positives == {"click": 2, "none": 0}
    assert accumulator.unknown == {"click": 1, "watch": 1, "none": 4}


@pytest.mark.parametrize("size", [0, 1, 900, 1000, 1001, 50000, 400000])
def test_different_values_are_counted_exactly_up_to_a_bound(size):
    counter = DistinctCounter(exact=1000)
    values = np.random.RandomState(size).permutation(np.arange(size) * 977)
    for part in np.array_split(np.concatenate([values, values[:size // 2]]), 7):
        counter.add(part)
    assert counter.count() == size if size <= 1000 else abs(counter.count() / size - 1) < 0.04


def test_statistics_may_be_asked_for_again():
    for accumulator in (DenseAccumulator(["c"]), LabelAccumulator([TaskDefinition("t", "t", "binary")])):
        accumulator.add(np.array([[0.0], [1.0], [1.0]], np.float32))
        assert accumulator.finish() == accumulator.finish()
