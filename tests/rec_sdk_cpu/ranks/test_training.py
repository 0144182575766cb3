"""Training on 2 and 4 ranks, in every mode, against one rank with the same global batch."""
import numpy as np
import pytest

from tests.rec_sdk_cpu.ranks import compare
from tests.rec_sdk_cpu.ranks.cases import MOVED, TRAINING
from tests.rec_sdk_cpu.ranks.conftest import folder_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(5000)]


@pytest.fixture(params=[2, 4])
def ranks(request):
    return request.param


@pytest.mark.parametrize("name", sorted(TRAINING))
def test_ranks_give_the_numbers_of_one_rank(journey, ranks, name):
    case = TRAINING[name]
    expected = compare.load(folder_of(journey, 1), name)
    got = compare.load(folder_of(journey, ranks), name)
    assert len(expected) == 1 and len(got) == ranks
    losses = np.stack([rank["losses"] for rank in got])
    divided = case.table.get("all2all_gradients_op", "sum_gradients") != "sum_gradients"
    np.testing.assert_allclose(losses.mean(axis=0) if divided else losses.sum(axis=0), expected[0]["losses"], rtol=1e-5)
    for rank in got:
        np.testing.assert_allclose(rank["weight"], expected[0]["weight"], atol=1e-5)
    for number in range(case.tables):
        table = "table%d" % number
        one_rank = compare.rows(expected, table)
        assert len(one_rank["embedding"]) > 30
        compare.assert_same_rows(compare.rows(got, table), one_rank, atol=1e-5)
        for rank in got:
            np.testing.assert_allclose(rank["found%d" % number], expected[0]["found%d" % number], atol=1e-5)
            assert rank[table + "/size"] == rank[table + "/key"].size


@pytest.mark.parametrize("name", sorted(name for name, case in TRAINING.items() if case.access is not None))
def test_counts_and_times_are_those_of_one_rank(journey, ranks, name):
    expected = compare.histories(compare.load(folder_of(journey, 1), name))
    assert expected["history0"] and compare.histories(compare.load(folder_of(journey, ranks), name)) == expected


@pytest.mark.parametrize("name", sorted(dict(TRAINING, **MOVED)))
def test_a_key_lives_on_the_rank_of_its_remainder(journey, ranks, name):
    got = compare.load(folder_of(journey, ranks), name)
    for number, rank in enumerate(got):
        keys = rank["table0/key"]
        if dict(TRAINING, **MOVED)[name].table.get("is_dp"):
            assert sorted(keys) == sorted(got[0]["table0/key"])
        else:
            assert keys.size and set(keys % ranks) == {number}


def test_eviction_dropped_ids(journey):
    """The comparison would hold for tables that never evict too."""
    kept = compare.rows(compare.load(folder_of(journey, 1), "eviction"), "table0")["embedding"]
    every = compare.rows(compare.load(folder_of(journey, 1), "hbm"), "table0")["embedding"]
    assert 0 < len(kept) < len(every)
