"""``metrics.jsonl``: what is appended is read again, whatever a kill or a disk did to the file."""
import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_app.model_dir import history
from feature_specs.errors import UserError


def write(directory, steps, kind=history.EVALUATION):
    for step in steps:
        history.append(str(directory), kind, {"global_step": step, "auc": step / 100.0})


def steps_of(directory):
    return [entry["global_step"] for entry in history.read(str(directory))]


def test_lines_are_json_and_undefined_numbers_null(tmp_path):
    history.append(str(tmp_path), history.EVALUATION, {"global_step": 1, "auc": math.nan, "loss": [1.0, math.inf]})
    lines = (tmp_path / history.METRICS_FILE).read_text().splitlines()
    assert json.loads(lines[0]) == {"format_version": 1}
    assert json.loads(lines[1]) == {"global_step": 1, "auc": None, "loss": [1.0, None], "kind": "eval"}


@settings(max_examples=30)
@given(st.integers(0, 400))
def test_a_file_that_was_cut_anywhere_keeps_every_whole_line_and_takes_new_ones(tmp_path_factory, length):
    directory = tmp_path_factory.mktemp("history")
    write(directory, range(1, 6))
    path = str(directory / history.METRICS_FILE)
    with open(path, "r+b") as stream:
        stream.truncate(length)
    with open(path, "rb") as stream:
        whole = stream.read().count(b"\n")
    kept = list(range(1, max(1, whole)))
    # A line that lacks nothing but its end is whole too.
    assert steps_of(directory)[:len(kept)] == kept and len(steps_of(directory)) <= len(kept) + 1
    before = steps_of(directory)
    write(directory, [9])
    assert steps_of(directory) == before + [9]


def test_repeated_evaluations_count_once_and_in_order(tmp_path):
    write(tmp_path, [10, 30, 20, 30])
    assert [entry["global_step"] for entry in history.evaluations(str(tmp_path))] == [10, 20, 30]


def test_evaluations_on_other_data_do_not_compare(tmp_path):
    def steps():
        return [entry["global_step"] for entry in history.evaluations_on_latest_data(str(tmp_path))]

    assert steps() == []
    for kind, step in ((history.EVALUATION, 1), (history.EVALUATION, 2), (history.DATA, 2)):
        history.append(str(tmp_path), kind, {"global_step": step})
    assert steps() == [1, 2]  # nothing is evaluated on the new data yet
    for kind, step in ((history.EVALUATION, 3), (history.EVALUATION, 4), (history.DATA, 4)):
        history.append(str(tmp_path), kind, {"global_step": step})
    assert steps() == [3, 4]


def test_repair_cuts_what_a_restart_repeats(tmp_path):
    write(tmp_path, [10, 20, 30])
    assert history.repair(str(tmp_path), 20, str(tmp_path / "damaged")) is None
    assert steps_of(tmp_path) == [10, 20] and not (tmp_path / "damaged").exists()


def test_a_newer_format_is_refused_and_left_alone(tmp_path):
    path = tmp_path / history.METRICS_FILE
    path.write_text('{"format_version": 2}\n{"global_step": 1}\n')
    for call in (history.read, lambda folder: history.repair(folder, 9, folder)):
        with pytest.raises(UserError, match="has format version 2; this program reads version 1"):
            call(str(tmp_path))
    assert path.read_text().startswith('{"format_version": 2}')


def test_the_best_is_the_first_that_no_other_exceeds():
    entries = [{"global_step": step, "auc": value} for step, value in ((1, None), (2, 0.5), (3, 0.7), (4, 0.7))]
    assert history.best_of(entries, "auc", False)["global_step"] == 3
    assert history.best_of(entries, "auc", True)["global_step"] == 2
    assert history.best_of(entries[:1], "auc", False) is None


def test_an_error_names_the_file(tmp_path):
    (tmp_path / history.METRICS_FILE).mkdir()
    with pytest.raises(OSError) as caught:
        write(tmp_path, [1])
    assert caught.value.filename == os.path.join(str(tmp_path), history.METRICS_FILE)


@pytest.mark.parametrize("figure", ['"x"', "true", "[1]", "{}", "NaN", "1" + "0" * 400])
@pytest.mark.parametrize("kind", [history.EVALUATION, history.TRAIN])
def test_figures_that_are_no_numbers_are_damage(tmp_path, figure, kind):
    write(tmp_path, [10], kind)
    with open(str(tmp_path / history.METRICS_FILE), "a") as stream:
        stream.write('{"global_step": 20, "auc": %s, "kind": "%s"}\n' % (figure, kind))
        stream.write('{"global_step": 30, "auc": null, "kind": "%s"}\n' % kind)
    assert steps_of(tmp_path) == [10, 30]
    assert "1 damaged lines are left out, of 3" in history.repair(str(tmp_path), 30, str(tmp_path / "damaged"))
    assert steps_of(tmp_path) == [10, 30]


@pytest.mark.parametrize("line", ['{"global_step": 1}', '{"global_step": true, "kind": "eval"}',
                                  '{"global_step": 1, "kind": 3}'])
def test_lines_without_kind_or_step_are_damage(tmp_path, line):
    write(tmp_path, [10])
    with open(str(tmp_path / history.METRICS_FILE), "a") as stream:
        stream.write(line + "\n")
    assert steps_of(tmp_path) == [10]
