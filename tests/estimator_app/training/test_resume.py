"""Killed or stopped anywhere and started again, a run ends as if nothing had happened."""
import os
import signal

import pytest

from estimator_app.model_dir import checkpoints, history
from tests.support import kill_harness, runs
from tests.support.kill_points import RESTART_POINTS, TRAIN_POINTS

QUICK = ("step", "checkpoint done", "evaluation recorded, best not kept")
STOPS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def harness(fresh, whole):
    os.symlink(whole.model, str(fresh.root / "whole"))
    return kill_harness.Harness(fresh.root, (), 1, 20.0)


def test_a_run_leaves_what_it_promises(whole):
    assert runs.evaluated_steps(whole.model) == [10, 20, 30]
    assert checkpoints.steps(whole.model) == [20, 30]
    evaluations = runs.recorded(whole.model, "eval")
    best = checkpoints.read_best(whole.model, contents=True)
    assert best.value == max(entry["auc_mean"] for entry in evaluations)
    assert {step for step, tag, _ in runs.event_steps(whole.model) if tag == "training/loss"} == {
        4, 8, 12, 16, 20, 24, 28, 30}
    assert {step for step, tag, _ in runs.event_steps(whole.model + "/eval") if tag == "auc_mean"} == {10, 20, 30}
    values = runs.weights(whole.model, 30)
    assert {name.partition("/")[2] for name in values if name.startswith("embeddings/")} >= {
        "keys", "embedding", "LazyAdam_momentum", "LazyAdam_velocity"}
    for name in ("args.json", "data/manifest.json", "report.html"):
        assert os.path.isfile(os.path.join(whole.model, name))


@pytest.mark.long
def test_a_run_killed_in_a_step_and_between_checkpoint_and_evaluation_changes_nothing(harness):
    assert harness.kill_at("step", 13) and harness.kill_at("checkpoint done", 1)
    # The checkpoint of step 20 is complete; its evaluation is made before training goes on.
    assert checkpoints.latest(harness.model) == 20 and runs.evaluated_steps(harness.model) == [10]
    assert harness.kill_at("evaluation recorded, best not kept", 1)
    assert runs.evaluated_steps(harness.model) == [10, 20]
    harness.finish()


@pytest.mark.long
@pytest.mark.parametrize("point", sorted(set(dict(TRAIN_POINTS, **RESTART_POINTS)) - set(QUICK)))
def test_a_run_killed_at_any_point_changes_nothing(harness, point):
    if point in RESTART_POINTS:
        assert harness.kill_at("step", 26)
        if "repaired" in point:
            # What is beyond the checkpoint is cut off at the start.
            assert runs.recorded(harness.model)[-1]["global_step"] > checkpoints.latest(harness.model)
    assert harness.kill_at(point, 2 if kill_harness.CALLS.get(point, 1) > 1 else 1)
    harness.finish()


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("flags", [(), kill_harness.EARLY_STOPPING])
def test_kills_at_random_moments_change_nothing(tmp_path, flags):
    """``python -m tests.support.kill_harness --seed S --count N`` does the same as often as one likes."""
    runs.prepare_small(tmp_path, test=runs.contradicting_rows(60, 2) if flags else None)
    harness = kill_harness.Harness(tmp_path, flags, 7, kill_harness.uninterrupted(tmp_path, flags))
    while harness.kills < 6:
        harness.kill_somewhere()
    harness.finish()


def signalled(place, signals):
    """Trains, and sends signals after steps; returns how it ended."""
    return place.start(point=("signals", signals)).done()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=[
    pytest.mark.long, pytest.mark.skipif(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
                                         reason="under nohup the signal stays ignored")])])
def test_a_stop_saves_and_the_grid_of_evaluations_stays(fresh, whole, number):
    done = signalled(fresh, {12: number})
    assert done.status == 128 + number and checkpoints.latest(fresh.model) == 12
    assert "stopped by %s at step 12; a checkpoint is saved" % number.name in done.err
    assert "from step 12;" in fresh.train().ok().out
    runs.assert_as_if_nothing_had_happened(fresh.model, whole.model)


@pytest.mark.long
def test_ctrl_c_stops_and_usr1_saves_and_continues(fresh, whole):
    done = signalled(fresh, {4: signal.SIGUSR1, 7: signal.SIGINT})
    assert done.status == 130 and "stopped by SIGINT" in done.err
    assert checkpoints.steps(fresh.model) == [4, 7]
    fresh.train().ok()
    runs.assert_as_if_nothing_had_happened(fresh.model, whole.model)


@pytest.mark.long
def test_usr1_before_the_first_step_does_no_harm(fresh):
    process = fresh.start("--train_epoch", "1", "--eval_interval", "10")
    process.wait_for(lambda: os.path.exists(os.path.join(fresh.model, "args.json")))
    process.send(signal.SIGUSR1)
    assert process.done().status == 0


@pytest.mark.long
def test_more_epochs_continue_where_the_run_ended(fresh):
    fixed = ("--learning_rate_schedule", "fixed", "--sparse_learning_rate_schedule", "fixed")
    fresh.train("--train_epoch", "1", *fixed).ok()
    done = fresh.train("--train_epoch", "2", *fixed).ok()
    assert "from step 10;" in done.out and runs.evaluated_steps(fresh.model) == [10, 20]
    # The stages tell that the settings changed there; without schedules all else is as in one go.
    assert [(stage["from_step"], stage["config"]["train_epoch"]) for stage in runs.stages(fresh.model)] == [
        (0, 1), (10, 2)]
    fresh.train("--train_epoch", "2", "--model_dir", "one", *fixed).ok()
    runs.assert_same_weights(fresh.model, fresh.root / "one", 20)
    # The first run also noted its progress where it ended.
    assert [entry for entry in runs.recorded(fresh.model)
            if (entry["kind"], entry["global_step"]) != ("train", 10)] == runs.recorded(fresh.root / "one")


def test_a_finished_run_trains_nothing_and_writes_nothing(trained):
    before = snapshot(trained.model)
    done = trained.here(*(runs.TRAIN + ("--learning_rate", "5", "--keep_checkpoint_max", "2"))).ok()
    assert "already at step 30 of 30: nothing to train" in done.out
    assert "%.5f" % runs.recorded(trained.model, "eval")[-1]["auc_click"] in done.out
    assert snapshot(trained.model) == before


def snapshot(folder):
    """{path: (modification time, contents)} of a folder, locks aside."""
    found = {}
    for place, _, names in os.walk(str(folder)):
        for name in names:
            if not name.endswith("lock"):
                path = os.path.join(place, name)
                with open(path, "rb") as stream:
                    found[path] = (os.stat(path).st_mtime_ns, stream.read())
    return found


def test_a_second_process_in_the_same_directory_is_refused(fresh):
    process = fresh.start()
    process.wait_for(lambda: os.path.exists(os.path.join(fresh.model, "args.json")))
    second = fresh.here(*runs.TRAIN)
    second.refused("is in use by process %d on host" % process.pid)
    process.kill()
    # The kernel drops the lock with the process.
    assert "checkpoint" in fresh.here("eval", "--model_dir", "model", "--checkpoint", "7").err


@pytest.fixture
def begun(fresh):
    """A directory in which another start was killed right after the checkpoint of step 0."""
    assert fresh.start("--seed", "7", "--embedding_stddev", "0.5", point=("checkpoint done", 1)).kill_or_end()
    assert checkpoints.steps(fresh.model) == [0]
    return fresh


@pytest.mark.long
def test_weights_that_nothing_has_trained_bind_nobody(begun, whole):
    begun.train().ok()
    runs.assert_as_if_nothing_had_happened(begun.model, whole.model)


@pytest.mark.long
def test_a_warm_start_after_a_start_without_a_step(begun, whole):
    source = str(whole.root / "model")
    begun.train("--warm_start_from", source, "--train_epoch", "1").ok()
    runs.run(begun.root, *(runs.TRAIN + ("--model_dir", "new", "--warm_start_from", source, "--train_epoch", "1"))).ok()
    runs.assert_same_weights(begun.model, str(begun.root / "new"), 10)
    done = begun.train("--warm_start_from", source, "--train_epoch", "2").ok()
    assert "warning: --warm_start_from has no effect: model is trained already, to step 10" in done.out


@pytest.mark.long
def test_another_dataset_after_a_start_without_a_step(begun):
    runs.prepare_small(begun.root, output="other", yaml=runs.SMALL_YAML.replace(
        "  click: {type: binary, column: click}", "  click: {type: binary, column: click}\n  y: {type: regression, "
        "column: x}").replace("  x: {type: numeric}\n", ""))
    begun.train("--data_dir", "other").ok()


@pytest.mark.long
def test_the_time_of_an_owed_evaluation_is_not_taken_off_the_training(fresh):
    fast = 1e8  # examples a second that no machine reaches; a time of nothing gives far more
    assert fresh.start(point=("checkpoint done", 2)).kill_or_end()
    fresh.train("--log_interval", "1").ok()
    entries = [entry for entry in history.read(fresh.model) if entry["kind"] == history.TRAIN]
    assert entries and all(entry["examples_per_second"] < fast for entry in entries)


@pytest.mark.parametrize("command", [("eval",), ("predict", "--input", "data.test.csv"), ("export",)])
def test_weights_that_nothing_has_trained_are_not_served(begun, command):
    runs.prepare_small(begun.root, output="other")
    flags = [flag.replace("data.", "other.") for flag in command[1:]]
    begun.command(command[0], "--model_dir", "model", *flags).refused(
        "model directory model holds no whole checkpoint of trained weights; train first")
