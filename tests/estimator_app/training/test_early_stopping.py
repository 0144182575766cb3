import json

import pytest

from estimator_app.config import Config
from estimator_app.model_dir import history
from estimator_app.training import early_stopping
from estimator_app.training.early_stop_hook import EarlyStopHook
from feature_specs.errors import ConfigError
from tests.estimator_app.cli_runner import run_app
from tests.small_data import TASKS, write_data

FLAGS = ["--preset", "plain", "--data_dir", "data", "--batch_size", "16", "--train_epoch", "6", "--eval_batch_size",
         "32", "--expert_num", "2", "--expert_size", "3", "--tower_size", "3", "--threads", "1",
         # Steps so large that the loss soon gets no better.
         "--learning_rate", "0.3", "--sparse_learning_rate", "0.3", "--early_stopping_patience", "2",
         "--early_stopping_metric", "mean_loss"]


def entries(values, metric="auc_mean"):
    return [{"global_step": 10 * (number + 1), metric: value} for number, value in enumerate(values)]


@pytest.mark.parametrize("values, patience, stops", [
    ([0.5, 0.6, 0.6], 1, True), ([0.5, 0.6, 0.6], 2, False), ([0.5, 0.6, 0.55, 0.59], 2, True),
    ([0.5, 0.6, 0.55, 0.61], 2, False), ([0.5], 1, False), ([], 1, False), ([0.9, 0.1, 0.1, 0.1], 0, False)])
def test_patience_counts_evaluations_without_a_new_best(values, patience, stops):
    assert bool(early_stopping.reason_to_stop(entries(values), "auc_mean", patience)) == stops


def test_losses_are_better_when_lower():
    assert early_stopping.best_of(entries([0.5, 0.3, 0.4], "mean_loss"), "mean_loss") == 1
    assert early_stopping.best_of(entries([0.5, 0.3, 0.4], "log_loss_a"), "log_loss_a") == 1
    assert early_stopping.reason_to_stop(entries([0.5, 0.3, 0.4], "mean_loss"), "mean_loss", 1) == (
        "no new best mean_loss in 1 evaluations, best 0.30000 at step 20")


def test_every_task_has_its_best_step():
    rows = [dict(a, **b) for a, b in zip(entries([0.5, 0.8, 0.7], "auc_a"), entries([0.9, 0.8, 0.95], "auc_b"))]
    assert early_stopping.best_steps(rows, ("a", "b", "c")) == {
        "auc_a": {"step": 20, "value": 0.8}, "auc_b": {"step": 30, "value": 0.95}}


def test_an_evaluation_that_was_repeated_counts_once(tmp_path):
    for entry in entries([0.6, 0.5]) + entries([0.6, 0.5])[1:] * 3:
        history.append(str(tmp_path), history.EVALUATION, entry)
    assert len(early_stopping.evaluations_of(str(tmp_path))) == 2
    config = Config(model_dir=str(tmp_path), early_stopping_patience=2)
    assert early_stopping.look(config) is None
    assert "best 0.60000 at step 10" in early_stopping.look(config.replace(early_stopping_patience=1))


def test_settings_that_are_refused():
    with pytest.raises(ConfigError, match="early_stopping_metric auc_x is not known; choose from auc_mean"):
        EarlyStopHook(Config(early_stopping_metric="auc_x"), ("a",), 1)
    with pytest.raises(ConfigError, match="one rank only"):
        EarlyStopHook(Config(early_stopping_patience=1), ("a",), 2)


def test_a_run_ends_after_the_deciding_evaluation_and_stays_ended(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=200, test_rows=80)
    done = run_app("train", *FLAGS, "--model_dir", "model", cwd=tmp_path)
    model = str(tmp_path / "model")
    losses = [entry["mean_loss"] for entry in early_stopping.evaluations_of(model)]
    best = losses.index(min(losses))
    # The rule, from the definition: the first evaluation that is the second without a new best.
    expected = next(number for number in range(len(losses) + 2)
                    if number - losses.index(min(losses[:number + 1])) == 2)
    assert len(losses) == expected + 1 == best + 3 < 6
    assert "early stopping: no new best mean_loss in 2 evaluations" in done.stdout
    assert "trained %d steps" % (12 * len(losses)) in done.stdout
    noted = json.loads((tmp_path / "model" / "best_steps.json").read_text())
    assert sorted(noted) == sorted("auc_" + task for task in TASKS)
    again = run_app("train", *FLAGS, "--model_dir", "model", cwd=tmp_path)
    assert "stopped early at step %d" % (12 * len(losses)) in again.stdout
    assert len(early_stopping.evaluations_of(model)) == len(losses)


@pytest.mark.long
def test_phases_end_at_the_same_evaluation(tmp_path):
    write_data(str(tmp_path / "data"), train_rows=200, test_rows=80)
    run_app("train", *FLAGS, "--model_dir", "model", cwd=tmp_path)
    done = run_app("train", *FLAGS, "--model_dir", "phases", "--eval_mode", "alternate", cwd=tmp_path, timeout=600)
    steps = [[entry["global_step"] for entry in early_stopping.evaluations_of(str(tmp_path / name))]
             for name in ("model", "phases")]
    assert steps[0] == steps[1] and "early stopping: no new best mean_loss" in done.stdout
    again = run_app("train", *FLAGS, "--model_dir", "phases", "--eval_mode", "alternate", cwd=tmp_path)
    assert "stopped early at step %d" % steps[1][-1] in again.stdout
