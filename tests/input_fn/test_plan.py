import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.errors import ConfigError
from feature_specs.manifest import Split
from input_fn.plan import eval_steps, plan_training, rank_share


def split(rows):
    return Split(rows, {}, {}, {}, {}, 0, {}, {}, (), ())


@given(st.integers(0, 5000), st.integers(1, 64), st.integers(1, 9))
def test_ranks_share_all_rows(rows, line_per_sample, rank_size):
    shares = [rank_share(split(rows), line_per_sample, rank, rank_size) for rank in range(rank_size)]
    records, partial_rows = zip(*shares)
    assert sum(records) == rows // line_per_sample and max(records) - min(records) <= 1
    assert sorted(partial_rows) == [0] * (rank_size - 1) + [rows % line_per_sample]


@settings(max_examples=200)
@given(st.integers(50, 5000), st.integers(1, 40), st.integers(1, 50), st.integers(1, 3000))
def test_windows_hold_whole_batches_and_positions_are_ascending(rows, line_per_sample, batch_size, window_rows):
    plan = plan_training(split(rows), line_per_sample, batch_size, window_rows)
    assert plan.window_records * line_per_sample == plan.window_batches * batch_size
    assert plan.steps_per_epoch == rows // batch_size
    places = [plan.position(step) for step in range(2 * plan.steps_per_epoch)]
    assert places == sorted(set(places))
    assert all(batch < plan.window_batches for _, _, batch in places)
    assert places[plan.steps_per_epoch] == (1, 0, 0)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ConfigError, match="batch_size 101 is larger than the 100 training rows"):
        plan_training(split(100), 4, 101, 1000)


def test_unfitting_packing_is_refused():
    with pytest.raises(ConfigError, match="least common multiple"):
        plan_training(split(10 ** 7), 1021, 1031, 1000)


def test_eval_steps_cover_all_rows():
    assert eval_steps(split(16627), 8, 4096) == 5
    assert eval_steps(split(16384), 8, 4096) == 4
    assert eval_steps(split(1), 8, 4096) == 1
    # Eight ranks: the largest share decides, so that every rank makes the same number of steps.
    assert eval_steps(split(8 * 4096 + 8), 8, 4096, 8) == 2
