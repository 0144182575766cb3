"""The collectives of ``hccl_ops`` on 2 and 4 ranks, against NumPy."""
import functools

import numpy as np
import pytest

from tests.rec_sdk_cpu.ranks import compare, operations
from tests.rec_sdk_cpu.ranks.conftest import folder_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(5000)]
NUMPY = {"sum": np.add, "min": np.minimum, "max": np.maximum, "prod": np.multiply}


@pytest.fixture(params=[2, 4])
def received(request, journey):
    """What each rank got."""
    got = compare.load(folder_of(journey, request.param), "operations")
    assert len(got) == request.param
    return got


@pytest.mark.parametrize("dtype", ["float32", "int64"])
@pytest.mark.parametrize("reduction", operations.REDUCTIONS)
def test_reductions(received, dtype, reduction):
    size = len(received)
    expected = functools.reduce(NUMPY[reduction], [operations.given(rank, dtype) for rank in range(size)])
    for rank, values in enumerate(received):
        for name in ("allreduce", "reduce"):
            got = values["%s/%s/%s" % (name, dtype, reduction)]
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, rtol=1e-6)
        np.testing.assert_allclose(values["reduce_scatter/%s/%s" % (dtype, reduction)], np.split(expected, size)[rank],
                                   rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_allgather_and_broadcast(received, dtype):
    given = [operations.given(rank, dtype) for rank in range(len(received))]
    for values in received:
        np.testing.assert_array_equal(values["allgather/" + dtype], np.concatenate(given))
        np.testing.assert_array_equal(values["broadcast/" + dtype], given[1] + 1)


def test_gradient_of_allreduce_is_the_sum_of_the_gradients(received):
    weights = sum(rank + 1.0 for rank in range(len(received)))
    for rank, values in enumerate(received):
        np.testing.assert_allclose(values["gradient"], 2 * operations.given(rank, np.float32) * weights, rtol=1e-6)
        mean = np.mean([operations.given(other, np.float32) for other in range(len(received))], axis=0)
        np.testing.assert_allclose(values["mean"], mean, rtol=1e-6)


def test_all_to_all(received):
    size = len(received)
    matrix = operations.counts(size)
    parts = [np.split(values["sent"], np.cumsum(matrix[rank])[:-1]) for rank, values in enumerate(received)]
    for rank, values in enumerate(received):
        blocks = [parts[other][rank] for other in range(size)]
        np.testing.assert_array_equal(values["all_to_all_v_c"], np.concatenate(blocks))
        starts = operations.backwards(matrix[:, rank])
        ends = [start + block.size for start, block in zip(starts, blocks) if block.size]
        expected = np.zeros(max(ends, default=0), np.float32)
        for start, block in zip(starts, blocks):
            expected[start:start + block.size] = block
        np.testing.assert_array_equal(values["all_to_all_v"], expected)


def test_a_collective_on_a_constant_waits_every_time(received):
    """An optimizer of graphs that folded it would have made it run once."""
    for rank, values in enumerate(received):
        if rank != 1:
            assert values["waited"][2] > operations.SLEEP / 2


def test_failures_carry_the_messages_of_the_sdk(received):
    for rank, values in enumerate(received):
        assert "t[0]: overflow! set send count bigger than" in str(values["message/send_count"])
        assert str(values["message/send_count"]).count(" [%d]" % (40 // len(received)))
        assert "Device cache overflow! Please set a grater value for `device_vocabulary_size`" in str(
            values["message/overflow"])
        assert "ids must be >= 0" in str(values["message/negative"]), rank


def test_copies_of_a_replicated_table_start_with_the_values_of_rank_0(received):
    assert np.unique(received[0]["replicated"]).size == 12
    for values in received[1:]:
        np.testing.assert_array_equal(values["replicated"], received[0]["replicated"])


def test_a_share_that_cannot_be_written_fails_the_save_on_all_ranks(received):
    *others, last = received
    assert str(last["failed"]).startswith("NotADirectoryError")
    for values in others:
        assert "another rank could not write its share" in str(values["failed"])
        assert not [name for name in values["left"] if name.startswith(("model", "sparse"))]
    for values in received:
        assert set(values["saved"]) == {"checkpoint", "model.ckpt.checksums", "model.ckpt.data-00000-of-00001",
                                        "model.ckpt.index", "model.ckpt.meta", "sparse-model.ckpt"}
