"""``train --fresh``: the old run is moved as a whole, nothing of others is, and nothing where the start fails."""
import os
import shutil

import pytest

from estimator_app.model_dir import checkpoints, directory
from feature_specs.errors import UserError
from tests.support import runs
from tests.support.starts import prepare


def test_data_inside_what_fresh_moves_is_refused(trained):
    inside = os.path.join(trained.model, "data", "day1")
    shutil.copytree(trained.data, inside)
    assert directory.holds(trained.model, inside) and directory.holds(trained.model, os.path.dirname(inside))
    assert not directory.holds(trained.model, trained.data)
    assert not directory.holds(trained.model, os.path.join(trained.model, "mine"))


def test_fresh_moves_the_old_run_and_leaves_what_users_made(trained):
    os.makedirs(os.path.join(trained.model, "export", "1"))
    for name in ("export/1/saved_model.pb", "predictions.csv", "notes.txt"):
        with open(os.path.join(trained.model, name), "w") as stream:
            stream.write("mine")
    run, told = prepare(trained, fresh=True)
    old = os.path.join(trained.model, "old-run-1")
    assert run.start == 0 and told == (
        "--fresh: the old run is now in %s, which is a model directory itself; exports and predictions stay where they "
        "are\n" % old)
    assert sorted(name for name in os.listdir(trained.model) if not name.startswith(".")) == [
        "export", "notes.txt", "old-run-1", "predictions.csv"]
    assert checkpoints.latest(old, contents=True) == 30 and checkpoints.read_best(old, contents=True)
    assert directory.read_stages(old)[0].ranks == 1 and runs.evaluated_steps(old) == [10, 20, 30]


@pytest.mark.parametrize("flags, words", [
    ({"continue_on": True}, "--fresh starts over and --continue_on goes on"),
    ({"warm_start_from": "nowhere"}, "model directory nowhere does not exist"),
    ({"warm_start_from": "itself"}, "is the --model_dir itself")])
def test_fresh_moves_nothing_where_another_flag_cannot_be(trained, flags, words):
    before = sorted(os.listdir(trained.model))
    flags = {name: trained.model if value == "itself" else value for name, value in flags.items()}
    with pytest.raises(UserError, match=words):
        prepare(trained, fresh=True, **flags)
    assert sorted(os.listdir(trained.model)) == before


@pytest.mark.parametrize("moved", [0, 1, 5])
def test_an_interrupted_move_is_completed(trained, monkeypatch, moved):
    calls, rename = [], os.rename

    def failing(source, target):
        calls.append(target)
        if len(calls) > moved:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare(trained, fresh=True)
    monkeypatch.undo()
    # Without the flag: half an old run must never be resumed.
    run, _ = prepare(trained)
    assert run.start == 0
    assert checkpoints.latest(os.path.join(trained.model, "old-run-1"), contents=True) == 30


def test_fresh_does_not_touch_a_directory_that_is_no_model(fresh):
    os.makedirs(fresh.model)
    with open(os.path.join(fresh.model, "thesis.tex"), "w") as stream:
        stream.write("mine")
    with pytest.raises(UserError, match="does not look like a model directory"):
        prepare(fresh, fresh=True)
    assert os.listdir(fresh.model) == ["thesis.tex"]
