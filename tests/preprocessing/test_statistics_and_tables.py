import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing import dense_statistics
from preprocessing.dense_statistics import DenseAccumulator, bin_edges
from preprocessing.text_hash import BlockHasher, hash_texts
from preprocessing.value_table import ValueTable


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


def test_hashes_do_not_depend_on_the_place():
    texts = [b"", b"a", b"ab", b"ba", b"a", b"x" * 5000, b""]
    hashes = hash_texts(texts)
    block = np.frombuffer(b"\n".join(texts) + b"\n", np.uint8)
    hasher = BlockHasher()
    ends = np.flatnonzero(block == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    np.testing.assert_array_equal(hasher.spans(hasher.sums(block), starts, ends), hashes)
    assert hashes[1] == hashes[4] and len(set(hashes.tolist())) == 5


def test_table_against_dictionaries():
    random = np.random.RandomState(5)
    names = ["u", "v", "w"]
    table, model = ValueTable(names), [{}, {}, {}]
    for size in (3, 50, 3000, 40000):
        cells = random.randint(0, size, (2000, 3))
        keys = table.keys(hash_texts(b"%d" % cell for cell in cells.ravel()).reshape(2000, 3))
        frozen = table.lookup(keys)
        expected = [[model[c].get(cell, len(model[c])) for c, cell in enumerate(row)] for row in cells.tolist()]
        assert frozen.tolist() == expected
        found = table.lookup_or_add(keys, lambda row, column, cells=cells: str(cells[row, column]))
        assert found.tolist() == [[model[c].setdefault(cell, len(model[c])) for c, cell in enumerate(row)]
                                  for row in cells.tolist()]
    for number, values in enumerate(model):
        assert table.values(number) == [str(value) for value in values]
    again = ValueTable(names, {name: table.values(number) for number, name in enumerate(names)})
    np.testing.assert_array_equal(again.lookup(keys), found)
