"""Checkpoints go from 1 rank to 4, to 2 and back to 1; each number of ranks finds what the one before had."""
import os

import numpy as np
import pytest

from rec_sdk_cpu.core import checksums, sparse_files
from tests.rec_sdk_cpu.ranks import compare
from tests.rec_sdk_cpu.ranks.cases import KEYS, MOVED
from tests.rec_sdk_cpu.ranks.conftest import JOURNEY

pytestmark = [pytest.mark.long, pytest.mark.timeout(5000)]


@pytest.mark.parametrize("stage, ranks, earlier", JOURNEY[1:])
@pytest.mark.parametrize("name", sorted(MOVED))
def test_the_next_number_of_ranks_has_the_same_tables(journey, name, stage, ranks, earlier):
    before, after = compare.load(journey[earlier], name), compare.load(journey[stage], name)
    assert len(after) == ranks
    for number in range(MOVED[name].tables):
        table = "table%d" % number
        compare.assert_same_rows(compare.rows(after, table, "restored/"), compare.rows(before, table), atol=1e-7)
        for rank in after:
            found = rank["restored/found%d" % number]
            np.testing.assert_allclose(found, before[0]["found%d" % number], atol=1e-6)
            assert found[:KEYS].any(axis=1).sum() == len(compare.rows(before, table)["embedding"])
        assert sum(rank["restored/%s/size" % table] for rank in after[:1 if "dp" in name else None]) == len(
            compare.rows(before, table)["embedding"])
    for rank in after:
        np.testing.assert_array_equal(rank["restored/weight"], before[0]["weight"])


@pytest.mark.parametrize("stage, ranks, earlier", JOURNEY[1:])
def test_histories_move_too(journey, stage, ranks, earlier):
    before = compare.histories(compare.load(journey[earlier], "moved_ddr"))
    after = compare.histories(compare.load(journey[stage], "moved_ddr"), "restored/")
    assert {name[len("restored/"):]: known for name, known in after.items()} == before and before["history0"]


@pytest.mark.parametrize("stage, ranks, _", JOURNEY)
@pytest.mark.parametrize("name", sorted(MOVED))
def test_a_checkpoint_shows_no_trace_of_the_ranks(journey, name, stage, ranks, _):
    prefix = os.path.join(journey[stage], name, "model.ckpt-1")
    directory = sparse_files.sparse_directory(prefix)
    sparse_files.check(directory)
    assert checksums.problem(prefix) is None and os.path.exists(checksums.path_of(prefix))
    assert not [file for file in os.listdir(os.path.dirname(prefix)) if file.startswith(".")]
    keys, rows = sparse_files.read_table(directory, "table0")
    held = compare.rows(compare.load(journey[stage], name), "table0")["embedding"]
    assert sorted(keys) == sorted(held)
    for key, row in zip(keys.tolist(), rows):
        np.testing.assert_array_equal(row, held[key])
    if ranks > 1 and "dp" not in name:
        assert (np.diff(keys % ranks) >= 0).all()
