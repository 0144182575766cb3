"""``--eval_mode alternate``: training and evaluation take turns in processes of their own."""
import os
import signal

import pytest

from estimator_app.model_dir import checkpoints
from tests.support import runs

pytestmark = pytest.mark.long
ALTERNATE = ("--eval_mode", "alternate")


def start(place, seconds, condition):
    process = place.start(*ALTERNATE)
    process.wait_for(condition, seconds)
    return process


def test_it_trains_the_same_model_and_owes_nothing(fresh, whole):
    # Killed once the second checkpoint is there: with the phase that writes it, as a machine that loses power.
    process = start(fresh, 400, lambda: checkpoints.latest(fresh.model) == 20)
    children = children_of(process.pid)
    process.kill()
    for child in children:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue  # It ended by itself.
    done = fresh.train(*ALTERNATE, seconds=600).ok()
    assert "already" not in done.out
    # The phases take the part of the preset that this data asks for, as the process that plans them does.
    assert runs.stages(fresh.model)[0]["config"]["embedding_l2"] == 0.0
    refused = fresh.here(*(runs.TRAIN + ALTERNATE + ("--seed", "7")))
    refused.refused("trained with other settings (seed: found 2020, expected 7)")
    assert refused.out == ""
    # Here the part that is left begins with a step of 20; a line each, by the process that plans.
    assert done.out.startswith("train: preset default, ") and done.out.count("train: ") == 1
    assert done.out.count("\ntables: ") == 1 and done.out.endswith("model directory model, report model/report.html\n")
    assert runs.recorded(fresh.model, "eval") == runs.recorded(whole.model, "eval")
    runs.assert_same_weights(fresh.model, whole.model, 30)
    assert checkpoints.read_best(fresh.model, contents=True) == checkpoints.read_best(whole.model)
    assert "already at step 30" in fresh.here(*(runs.TRAIN + ALTERNATE + ("--keep_checkpoint_max", "2"))).ok().out


def test_a_phase_that_outlives_its_parent_keeps_the_directory(fresh):
    process = start(fresh, 200, lambda: runs.recorded(fresh.model))
    (child,) = children_of(process.pid)
    os.kill(child, signal.SIGSTOP)  # else it may have ended before the next command looks
    process.kill()
    try:
        fresh.here(*runs.TRAIN).refused("is in use by process %d on host" % child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_signals_reach_the_phase(fresh, whole):
    process = start(fresh, 200, lambda: runs.recorded(fresh.model))
    process.send(signal.SIGUSR1)
    process.wait_for(lambda: any(step % 10 for step in checkpoints.steps(fresh.model))
                     or checkpoints.latest(fresh.model) == 10)
    process.send(signal.SIGTERM)
    assert process.done().status == 143
    fresh.train(*ALTERNATE, seconds=600).ok()
    assert runs.recorded(fresh.model, "eval") == runs.recorded(whole.model, "eval")
    runs.assert_same_weights(fresh.model, whole.model, 30)


def children_of(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as stream:
        return [int(text) for text in stream.read().split()]
