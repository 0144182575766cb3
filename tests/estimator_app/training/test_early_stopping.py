"""When training ends early: the rule, and runs that are interrupted around the deciding evaluation."""
import os
from types import SimpleNamespace

import pytest

from estimator_app.config import Config
from estimator_app.training.run_start import Run, nothing_to_train
from tests.estimator_app.conftest import Place
from tests.support import kill_harness, runs


@pytest.mark.parametrize("values, patience, stops", [
    ([1, 2, 3], 1, False), ([3, 2], 1, True), ([3, 2], 2, False), ([3, 2, 1], 2, True), ([1, 3, 2, 2], 2, True),
    ([1, 3, 2, 4], 2, False), ([3, 3], 1, True), ([3, 2, 1], 0, False), ([], 1, False), ([None, None], 1, False),
    ([2, None], 1, True), ([None, 2], 1, False), ([2, None, 3], 2, False)])
def test_patience_counts_evaluations_without_a_new_best(values, patience, stops):
    def is_stopped(evaluations, lower_is_better):
        tasks = SimpleNamespace(main_metric="auc", is_loss=lambda name: lower_is_better)
        model = SimpleNamespace(config=Config(early_stopping_patience=patience), tasks=tasks)
        run = Run(model, SimpleNamespace(data_start=5, max_steps=99), 50, [])
        # From what is handed over alone: another rank's file may not have it yet.
        assert (nothing_to_train(run, evaluations) is not None) == (run.stop_reason(evaluations) is not None)
        return run.stop_reason(evaluations) is not None

    # What comes first is of other data and does not count.
    entries = [{"global_step": 10 * number, "auc": value} for number, value in enumerate(values, 1)]
    assert is_stopped([{"global_step": 5, "auc": 9}] + entries, False) == stops
    losses = [dict(entry, auc=None if entry["auc"] is None else -entry["auc"]) for entry in entries]
    assert is_stopped([{"global_step": 5, "auc": -9}] + losses, True) == stops


@pytest.fixture(scope="module")
def contradicting(tmp_path_factory):
    """Evaluation rows that contradict the training rows: every evaluation is worse than the one before."""
    place = Place(tmp_path_factory.mktemp("contradicting"))
    runs.prepare_small(place.root, test=runs.contradicting_rows(60, 2))
    return place


@pytest.fixture(scope="module")
def stopped(contradicting):
    done = contradicting.train(*kill_harness.EARLY_STOPPING).ok()
    os.rename(contradicting.model, os.path.join(str(contradicting.root), "whole"))
    return done


@pytest.mark.long
def test_a_run_killed_before_the_deciding_evaluation_ends_where_an_unbroken_one_does(contradicting, stopped):
    assert "early stopping: no new best auc_mean in 2 evaluations" in stopped.out
    harness = kill_harness.Harness(contradicting.root, kill_harness.EARLY_STOPPING, 1, 20.0)
    # The checkpoint of step 30 is complete, its evaluation would have ended the run.
    assert harness.kill_at("checkpoint done", 4)
    assert runs.evaluated_steps(harness.model) == [10, 20]
    done = contradicting.train(*kill_harness.EARLY_STOPPING).ok()
    assert "stopped early at step 30" in done.out
    assert runs.evaluated_steps(harness.model) == [10, 20, 30]
    # It stays ended, and more patience trains on.
    again = contradicting.here(*(runs.TRAIN + kill_harness.EARLY_STOPPING + kill_harness.KEEP)).ok()
    assert "nothing to train" in again.out
    harness.compare()
    assert harness.compared == 1


@pytest.mark.long
def test_phases_end_at_the_same_evaluation(contradicting, stopped):
    done = contradicting.train(*kill_harness.EARLY_STOPPING, "--eval_mode", "alternate", seconds=600).ok()
    assert "early stopping: no new best auc_mean in 2 evaluations" in done.out
    whole = os.path.join(str(contradicting.root), "whole")
    assert runs.recorded(contradicting.model, "eval") == runs.recorded(whole, "eval")
    runs.assert_same_weights(contradicting.model, whole, 30)
    again = contradicting.here(*(runs.TRAIN + kill_harness.EARLY_STOPPING + kill_harness.KEEP
                                 + ("--eval_mode", "alternate"))).ok()
    assert "nothing to train" in again.out
