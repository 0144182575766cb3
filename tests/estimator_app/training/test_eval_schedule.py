"""The phases of periodic evaluation, checked against a model of the SDK's host pipeline."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_app.training.phases import (
    ALTERNATE,
    AUTO,
    EVALUATE,
    TRAIN,
    TRAIN_AND_EVALUATE,
    InitNumbers,
    Phase,
    check_contract,
    parse_phase,
    phase_flag,
    plan,
    stops,
)
from feature_specs.errors import ConfigError


def host_pipeline_finishes(numbers, steps):
    """Whether DDR's pipeline hands out what the last of ``steps`` batches of one process needs.

    A batch is complete when the next one is prepared, unless the pipeline knows that it is the last: its process-local
    number is a multiple of save_steps or train_steps, or max_steps is reached (rec_sdk_api 5.2).
    """
    last = steps
    return (any(interval > 0 and last % interval == 0 for interval in (numbers.save_steps, numbers.train_steps))
            or last == numbers.max_steps)


def test_alternation_in_full():
    assert plan(ALTERNATE, 0, 10, 4, 3) == [
        Phase(TRAIN, 0, 4, 4, 0), Phase(EVALUATE, 4, 4, 0, 3),
        Phase(TRAIN, 4, 8, 4, 0), Phase(EVALUATE, 8, 8, 0, 3),
        Phase(TRAIN, 8, 10, 2, 0), Phase(EVALUATE, 10, 10, 0, 3)]


def test_numbers_of_each_kind():
    assert Phase(TRAIN, 4, 8, 4, 0).init == InitNumbers(8, -1, -1, 4)
    assert Phase(EVALUATE, 8, 8, 0, 3).init == InitNumbers(-1, -1, 3, -1)
    assert Phase(TRAIN_AND_EVALUATE, 0, 10, 4, 3).init == InitNumbers(10, 4, 3, 4)
    assert Phase(TRAIN, 4, 8, 4, 0).init.as_arguments() == {"max_steps": 8, "train_steps": -1, "eval_steps": -1,
                                                            "save_steps": 4}


@settings(max_examples=200)
@given(st.integers(0, 300), st.integers(1, 300), st.integers(1, 100), st.integers(1, 50))
def test_every_alternating_plan_is_sound(start, max_steps, save_steps, eval_steps):
    phases = plan(ALTERNATE, start, max_steps, save_steps, eval_steps, last_evaluated=start)
    step = start
    for phase in phases:
        assert phase.start == step
        if phase.kind == TRAIN:
            assert 0 < phase.stop - phase.start <= save_steps
            assert phase.stop % save_steps == 0 or phase.stop == max_steps
            assert host_pipeline_finishes(phase.init, phase.stop - phase.start)
            check_contract(phase, phase.save_steps, phase.stop, None)
        else:
            check_contract(phase, 0, None, eval_steps)
        step = phase.stop
    assert step == max(start, max_steps)
    assert phases[-1].kind == EVALUATE
    kinds = [phase.kind for phase in phases]
    assert kinds == ([EVALUATE] if start >= max_steps else [TRAIN, EVALUATE] * (len(kinds) // 2))


def test_the_interval_as_save_steps_would_not_finish_the_last_phase():
    # The reason why a phase's length is its save interval: 2 remaining steps with save_steps 4, after a restart at 8.
    assert not host_pipeline_finishes(InitNumbers(10, -1, -1, 4), 2)
    assert host_pipeline_finishes(plan(ALTERNATE, 8, 10, 4, 3, last_evaluated=8)[0].init, 2)


def test_an_interrupted_run_first_makes_up_for_its_evaluation():
    phases = plan(ALTERNATE, 8, 12, 4, 3, last_evaluated=4)
    assert [phase_flag(phase) for phase in phases] == ["eval:8", "train:8:12", "eval:12"]
    assert [phase_flag(phase) for phase in plan(ALTERNATE, 8, 12, 4, 3, last_evaluated=8)] == ["train:8:12", "eval:12"]


def test_a_checkpoint_between_two_multiples_goes_on_to_the_next():
    assert [phase_flag(phase) for phase in plan(ALTERNATE, 6, 10, 4, 3, 6)] == [
        "train:6:8", "eval:8", "train:8:10", "eval:10"]


def test_nothing_left_is_one_evaluation():
    for mode in (ALTERNATE, TRAIN_AND_EVALUATE):
        assert plan(mode, 10, 10, 4, 3) == [Phase(EVALUATE, 10, 10, 0, 3)]


def test_train_and_evaluate_is_one_phase():
    assert plan(TRAIN_AND_EVALUATE, 0, 10, 4, 3) == [Phase(TRAIN_AND_EVALUATE, 0, 10, 4, 3)]
    assert plan(TRAIN_AND_EVALUATE, 0, 10, 40, 3)[0].save_steps == 10


def test_a_mode_that_cannot_be_planned():
    with pytest.raises(ConfigError, match="cannot be planned"):
        plan(AUTO, 0, 10, 4, 3)


@pytest.mark.parametrize("arguments", [(-1, 10, 4), (0, 0, 4), (0, 10, 0), (0, 10, True), (0, 2 ** 31, 4),
                                       (0, 10.0, 4)])
def test_numbers_out_of_range(arguments):
    with pytest.raises(ConfigError, match="out of range"):
        stops(*arguments)


def test_eval_steps_out_of_range():
    with pytest.raises(ConfigError, match="eval_steps 0 is out of range"):
        plan(ALTERNATE, 0, 10, 4, 0)


def test_flags_come_back():
    for phase in plan(ALTERNATE, 0, 10, 4, 3):
        assert parse_phase(phase_flag(phase), 3) == phase
    with pytest.raises(ConfigError, match="no --phase flag"):
        phase_flag(Phase(TRAIN_AND_EVALUATE, 0, 10, 4, 3))


@pytest.mark.parametrize("text", ["", "train", "train:4", "train:8:4", "train:4:4", "eval:-1", "eval:4:8", "train:a:b",
                                  "eval:4\n", "train:0:99999999999", "eval:4294967296", "train:0:4294967296"])
def test_flags_that_are_refused(text):
    with pytest.raises(ConfigError):
        parse_phase(text, 3)


def test_a_broken_contract_is_named():
    phase = Phase(TRAIN, 0, 8, 8, 0)
    with pytest.raises(ConfigError, match="save_steps: init.. has 8, the Estimator 4"):
        check_contract(phase, 4, 8, None)
    with pytest.raises(ConfigError, match="max_steps: init.. has 8, the Estimator 9"):
        check_contract(phase, 8, 9, None)
    with pytest.raises(ConfigError, match="eval_steps: init.. has 3, the Estimator 2"):
        check_contract(Phase(EVALUATE, 8, 8, 0, 3), 0, None, 2)
