"""The step numbers and phases of a training, checked against a model of the SDK's host pipeline."""
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_app.training.steps import (
    ALTERNATE,
    AUTO,
    EVALUATE,
    TRAIN,
    TRAIN_AND_EVALUATE,
    Phase,
    StepNumbers,
    epochs_of,
    parse_phase,
    plan_phases,
    resolve_eval_mode,
    stops,
)
from feature_specs.errors import ConfigError
from feature_specs.manifest import TRAIN_SPLIT


def numbers(max_steps, save_steps, data_start=0, eval_steps=3):
    return StepNumbers(data_start, 5, max_steps, save_steps, eval_steps)


def host_pipeline_finishes(given, steps):
    """Whether DDR's pipeline hands out what the last of ``steps`` batches of one process needs.

    A batch is complete when the next one is prepared, unless the pipeline knows that it is the last: its process-local
    number is a multiple of save_steps or train_steps, or max_steps is reached (rec_sdk_api 5.2).
    """
    intervals = (given["save_steps"], given["train_steps"])
    return any(interval > 0 and steps % interval == 0 for interval in intervals) or steps == given["max_steps"]


def test_alternation_in_full():
    assert plan_phases(0, numbers(10, 4), []) == [
        Phase(TRAIN, 0, 4, 4), Phase(EVALUATE, 4, 4, 0), Phase(TRAIN, 4, 8, 4), Phase(EVALUATE, 8, 8, 0),
        Phase(TRAIN, 8, 10, 2), Phase(EVALUATE, 10, 10, 0)]


@pytest.mark.parametrize("rare, per_epoch, epochs", [
    (True, 976, 1), (True, 70, 1), (True, 69, 2), (True, 28, 3), (True, 1, 8), (True, 3, 8), (True, 5, 8),
    (False, 3, 10), (False, 1000, 2), (False, 250, 6),
    (False, 249, 7), (False, 150, 10), (False, 1, 10), (False, 20000, 2)])
def test_passes_follow_from_how_often_values_come(rare, per_epoch, epochs):
    manifest = SimpleNamespace(has_rare_values=rare, continues="", different_values=1001,
                               split=lambda name: {TRAIN_SPLIT: SimpleNamespace(rows=1000)}[name])
    assert epochs_of(manifest, per_epoch) == epochs
    # With more rows than values at least 40 steps.
    manifest.different_values = 1000
    assert epochs_of(manifest, per_epoch) == max(epochs, -(-40 // per_epoch))
    manifest.continues = "the day before"
    assert epochs_of(manifest, per_epoch) == 1
    assert numbers(epochs * 5, 4).epochs == epochs


def test_numbers_of_each_kind():
    def init(*numbers):
        return dict(zip(("max_steps", "train_steps", "eval_steps", "save_steps"), numbers))

    assert Phase(TRAIN, 4, 8, 4).init_arguments(3) == init(8, -1, -1, 4)
    assert Phase(EVALUATE, 8, 8).init_arguments(3) == init(-1, -1, 3, -1)
    assert Phase(TRAIN_AND_EVALUATE, 0, 10, 4).init_arguments(3) == init(10, 4, 3, 4)


@settings(max_examples=200)
@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 100), st.integers(0, 200))
def test_every_plan_lies_on_the_grid_whatever_the_start(start, length, save_steps, data_start):
    start, max_steps = start + data_start, data_start + length
    phases = plan_phases(start, numbers(max_steps, save_steps, data_start), [])
    step = start
    for phase in phases:
        assert phase.start == step
        if phase.kind == TRAIN:
            assert 0 < phase.stop - phase.start <= save_steps
            assert (phase.stop - data_start) % save_steps == 0 or phase.stop == max_steps
            assert host_pipeline_finishes(phase.init_arguments(3), phase.stop - phase.start)
        step = phase.stop
    kinds = [phase.kind for phase in phases]
    assert step == max(start, max_steps)
    assert kinds == ([EVALUATE] if start >= max_steps else [TRAIN, EVALUATE] * (len(kinds) // 2))


def test_the_grid_counts_from_where_the_data_began():
    # Stopped at 15 with an interval of 10: 20, 30, ... and not 25, 35, ...
    assert stops(15, numbers(88, 10)) == [20, 30, 40, 50, 60, 70, 80, 88]
    assert stops(37, numbers(52, 10, data_start=30)) == [40, 50, 52]
    assert [step for step in range(60) if numbers(52, 10, data_start=30).is_evaluated(step)] == [40, 50, 52]


def test_owed_evaluations_come_first():
    assert [phase.flag for phase in plan_phases(8, numbers(12, 4), [4, 8])] == [
        "eval:4", "eval:8", "train:8:12", "eval:12"]
    assert [phase.flag for phase in plan_phases(12, numbers(12, 4), [12])] == ["eval:12"]


def test_flags_come_back():
    for phase in plan_phases(0, numbers(10, 4), []) + [Phase(TRAIN_AND_EVALUATE, 3, 10, 4)]:
        assert parse_phase(phase.flag, 3, numbers(10, 4)) == phase


@pytest.mark.parametrize("text", ["train", "train:4", "train:8:4", "train:4:4", "eval:-1", "eval:4:8", "train:a:b",
                                  "eval:4\n", "train:0:99999999999", "eval:4294967296", "train:0:4294967296"])
def test_flags_that_are_refused(text):
    with pytest.raises(ConfigError):
        parse_phase(text, 3, numbers(10, 4))


@pytest.mark.parametrize("requested, device, evaluations, expected", [
    (AUTO, "cpu", 5, TRAIN_AND_EVALUATE), (AUTO, "npu", 5, ALTERNATE), (AUTO, "npu", 1, ALTERNATE),
    (ALTERNATE, "cpu", 5, ALTERNATE), (TRAIN_AND_EVALUATE, "cpu", 5, TRAIN_AND_EVALUATE),
    (TRAIN_AND_EVALUATE, "npu", 1, TRAIN_AND_EVALUATE)])
def test_eval_modes(requested, device, evaluations, expected):
    assert resolve_eval_mode(requested, device, evaluations) == expected


def test_several_evaluations_in_one_process_are_refused_on_npus():
    with pytest.raises(ConfigError, match="evaluate 2 times.*--eval_mode alternate"):
        resolve_eval_mode(TRAIN_AND_EVALUATE, "npu", 2)
