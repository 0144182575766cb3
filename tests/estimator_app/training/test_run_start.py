"""What is checked, refused and healed before the first step; no test here needs TensorFlow to train."""
import contextlib
import dataclasses
import glob
import io
import json
import os
import shutil

import pytest

from estimator_app.model.definition import make_model
from estimator_app.model_dir import checkpoints, directory, history
from estimator_app.model_dir.checkpoints import Best, Checkpoint
from estimator_app.training.run_start import (
    announce,
    begin_stage,
    heal_best,
    nothing_to_train,
    open_run,
)
from feature_specs.data_files import verify_shards
from feature_specs.errors import ConfigError, DataError, UserError
from feature_specs.manifest import read_manifest
from tests.support import runs
from tests.support.rows import read_bytes
from tests.support.starts import prepare


def damage(path, position=None):
    """Flips a bit."""
    with open(path, "r+b") as stream:
        position = os.path.getsize(path) // 2 if position is None else position
        stream.seek(position)
        byte = stream.read(1)[0]
        stream.seek(position)
        stream.write(bytes([byte ^ 4]))


def inverted(rows):
    return [row[:3] + [str(1 - int(row[3]))] for row in rows]


@pytest.mark.parametrize("changes, words", [
    ({"flags": ("--seed", "7")}, "seed 7 instead of 2020"),
    ({"flags": ("--line_per_sample", "4")}, "line_per_sample 4 instead of 8"),
    ({"test": runs.small_rows(50, 9)}, "test rows 50 instead of 60"),
    ({"train": inverted(runs.small_rows(160, 1))}, "other contents of the train files"),
    ({"flags": ("--num_shards", "3")}, "other contents of the train files"),
])
def test_other_data_is_refused_and_the_ways_on_are_named(trained, changes, words):
    runs.prepare_small(trained.root, **changes)
    with pytest.raises(DataError, match="is not the data that the model") as caught:
        prepare(trained)
    for way in (words, "train on that data", "another --model_dir", "--continue_on", "--vocabulary_from"):
        assert way in str(caught.value)
    assert checkpoints.latest(trained.model) == 30


def test_the_same_data_prepared_again_is_the_same(trained):
    shutil.rmtree(trained.data)
    runs.prepare_small(trained.root)
    run, told = prepare(trained)
    assert told == "" and "already at step 30" in nothing_to_train(run, [])


def test_the_experts_of_tasks_do_not_matter_to_a_model_without_them(trained):
    run, told = prepare(trained, task_expert_num=7)
    assert told == "" and run.start == 30


def test_a_file_changed_after_preparation_is_found_once_and_again_on_request(trained):
    assert prepare(trained)[1] == ""
    shard = os.path.join(trained.data, read_manifest(trained.data).split("train").shards[0].path)
    status = os.stat(shard)
    damage(shard)
    with pytest.raises(DataError, match="was changed after it was prepared"):
        prepare(trained)
    # As whoever hides a change: what is remembered fits, until everything is read again.
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert prepare(trained)[1] == ""
    with pytest.raises(DataError, match="its SHA-256 is not the manifest's"):
        prepare(trained, verify_data=True)


def test_an_evaluation_looks_at_its_own_shards(trained):
    manifest = read_manifest(trained.data)
    damage(os.path.join(trained.data, manifest.split("train").shards[0].path))
    verify_shards(manifest, trained.data, splits=("test",))
    damage(os.path.join(trained.data, manifest.split("test").shards[0].path))
    with pytest.raises(DataError, match="its SHA-256 is not the manifest's"):
        verify_shards(manifest, trained.data, splits=("test",))


@pytest.mark.parametrize("changes, words", [
    ({"expert_layers": (9,)}, "expert_layers: found"), ({"seed": 3}, "seed: found 2020, expected 3"),
    ({"batch_size": 8}, "was trained with 16 rows a step .*; use --batch_size 16, another --model_dir"),
    ({"shuffle_rows": 0}, "shuffle_rows: found"), ({"window_rows": 8}, "window_rows: found"),
])
def test_settings_that_change_model_or_order_are_refused(trained, changes, words):
    with pytest.raises(ConfigError, match=words):
        prepare(trained, **changes)
    assert checkpoints.latest(trained.model) == 30


@pytest.mark.parametrize("ranks, words", [(1, "30 steps of 16 examples (3 epochs)"),
                                          (2, "15 steps of 32 examples on 2 ranks (3 epochs)")])
def test_what_begins_is_told_with_preset_and_ranks(trained, capsys, ranks, words):
    config, manifest = directory.read_settings(trained.model, {})
    announce(open_run(make_model(config, manifest), 0, 0, 0, ranks), "mine.json")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("train: preset mine.json, shared_bottom, 160 rows, ") and words in first
    assert second.startswith("tables: embeddings ")


@pytest.mark.parametrize("ranks, way", [
    (2, "use --batch_size 8, or --ranks 1 with --batch_size 16"),
    (3, "16 rows are not a multiple of 3 ranks: use --ranks 1 with --batch_size 16, or a number of "
        "ranks that divides")])
def test_the_ways_to_another_number_of_ranks_are_ways(trained, ranks, way):
    config, manifest = directory.read_settings(trained.model, {})
    with pytest.raises(ConfigError, match=way):
        directory.check_resumable(config, manifest, ranks, False)
    if "or --ranks" in way:
        directory.check_resumable(dataclasses.replace(config, batch_size=8), manifest, ranks, False)


def test_relative_data_is_found_from_another_working_directory(trained, tmp_path, monkeypatch):
    noted = directory.read_stages(trained.model)[-1]
    assert noted.config["data_dir"] == "data" and os.path.isabs(noted.data.directory)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert directory.read_settings(trained.model, {})[0].data_dir == noted.data.directory
    assert directory.read_settings(trained.model, {"data_dir": "elsewhere"})[0].data_dir == "elsewhere"
    monkeypatch.chdir(trained.root)
    assert directory.read_settings(trained.model, {})[0].data_dir == "data"


def test_prepared_data_is_no_model_directory(trained):
    for refused in (lambda: directory.check_path(str(trained.data), "cpu"),
                    lambda: directory.read_settings(str(trained.data), {})):
        with pytest.raises(ConfigError, match="holds prepared data; give that as --data_dir"):
            refused()


def test_an_evaluation_that_is_owed_is_planned(trained):
    path = os.path.join(trained.model, history.METRICS_FILE)
    with open(path) as stream:
        lines = [line for line in stream if not ('"kind": "eval"' in line and '"global_step": 30' in line)]
    with open(path, "w") as stream:
        stream.writelines(lines)
    run, _ = prepare(trained)
    assert (run.start, run.owed) == (30, [30])


@pytest.mark.parametrize("name", ["model.ckpt-30.index", "model.ckpt-30.data-00000-of-00001",
                                  "sparse-model.ckpt-30/embeddings/embedding/slice.data",
                                  "sparse-model.ckpt-30/embeddings/key/slice.attribute"])
def test_a_damaged_latest_checkpoint_is_set_aside(trained, name):
    shutil.rmtree(os.path.join(trained.model, "best"))
    damage(os.path.join(trained.model, name))
    run, told = prepare(trained)
    assert run.start == 20 and told.count("warning: ") == 1 + ("best" in told) and "step 30 is not whole" in told
    assert os.path.exists(os.path.join(trained.model, "damaged", "model.ckpt-30.index"))
    # The history ends where training begins again.
    assert max(entry["global_step"] for entry in history.read(trained.model)) == 20


def test_a_whole_copy_in_best_takes_the_place_of_a_damaged_one(trained):
    best = checkpoints.read_best(trained.model)
    path = os.path.join(trained.model, "model.ckpt-%d.data-00000-of-00001" % best.step)
    os.replace(path, path + "x")  # best/ shares its files, which must not change with it
    shutil.copy(path + "x", path)
    os.remove(path + "x")
    damage(path)
    before = runs.recorded(trained.model)
    run, told = prepare(trained)
    assert run.start == best.step == 30 and "takes its place" in told and runs.recorded(trained.model) == before
    assert Checkpoint(trained.model, 30).problem(contents=True) is None
    assert checkpoints.read_best(trained.model, contents=True) == best


@pytest.mark.parametrize("gone", ["model.ckpt-*", "sparse-model.ckpt-*"])
def test_without_a_whole_checkpoint_nothing_is_touched(trained, gone):
    shutil.rmtree(os.path.join(trained.model, "best"))
    for path in glob.glob(os.path.join(trained.model, gone)):
        os.rename(path, os.path.join(str(trained.root), os.path.basename(path)))
    before = sorted(os.listdir(trained.model)), read_bytes(os.path.join(trained.model, "metrics.jsonl"))
    with pytest.raises(UserError, match="no checkpoint is whole .*bring the files back, or start over with --fresh"):
        prepare(trained)
    assert (sorted(os.listdir(trained.model)), read_bytes(os.path.join(trained.model, "metrics.jsonl"))) == before
    for path in glob.glob(os.path.join(str(trained.root), gone)):
        os.rename(path, os.path.join(trained.model, os.path.basename(path)))
    assert prepare(trained)[0].start == 30


def test_the_only_whole_checkpoint_may_be_the_best(trained):
    for path in glob.glob(os.path.join(trained.model, "model.ckpt-*")):
        os.remove(path)
    run, told = prepare(trained)
    assert run.start == 30 and "takes its place" in told


def test_a_damaged_best_checkpoint_is_found_again(trained):
    best = checkpoints.read_best(trained.model)
    # best/ shares its files with the checkpoint: the damage is in both where they are hard links.
    for folder in ("best", "."):
        path = os.path.join(trained.model, folder, "model.ckpt-%d.data-00000-of-00001" % best.step)
        data = read_bytes(path)
        os.remove(path)
        with open(path, "wb") as stream:
            stream.write(data)
    damage(os.path.join(trained.model, "best", "model.ckpt-%d.data-00000-of-00001" % best.step))
    _, told = prepare(trained)
    assert "the best checkpoint is not whole" in told and "found again: step %d" % best.step in told
    assert checkpoints.read_best(trained.model, contents=True) == best
    assert os.path.exists(os.path.join(trained.model, "damaged", "best", "model.ckpt-%d.index" % best.step))


@pytest.mark.parametrize("note", ["garbage", "{}", '{"step": 10, "metric": "auc_mean", "value": 0.1}', None])
def test_a_damaged_best_note_is_written_again(trained, note):
    best, path = checkpoints.read_best(trained.model), os.path.join(trained.model, "best", "best.json")
    os.remove(path)
    if note is not None:
        with open(path, "w") as stream:
            stream.write(note)
    _, told = prepare(trained)
    assert told.count("\n") == 1 and "found again: step %d" % best.step in told
    assert checkpoints.read_best(trained.model, contents=True) == best


def test_the_only_whole_best_stays_without_a_word_though_better_ones_are_gone(trained):
    best = checkpoints.read_best(trained.model)
    # Its own line is lost, and a better evaluation is known whose checkpoint was pruned.
    path = os.path.join(trained.model, history.METRICS_FILE)
    lines = [line for line in read_bytes(path).decode().splitlines(True)
             if not ('"kind": "eval"' in line and '"global_step": %d,' % best.step in line)]
    lines += [json.dumps({"kind": "eval", "global_step": 5, best.metric: best.value + 0.01}) + "\n"]
    with open(path, "w") as stream:
        stream.write("".join(lines))
    model = load_model(trained)
    for _ in range(2):
        assert heal_best(model.tasks, trained.model, 30, str(trained.root)) == []
    assert checkpoints.read_best(trained.model, contents=True) == best


def load_model(place):
    config, manifest = directory.read_settings(place.model, {})
    return make_model(config, manifest)


@pytest.mark.parametrize("text", ["garbage\n", "{\"global_step\": \n", "[1, 2]\n", '{"kind": "eval"}\n', "\0\0\0\n"])
def test_a_broken_line_of_the_history_is_left_out_and_kept_aside(trained, text):
    path = os.path.join(trained.model, history.METRICS_FILE)
    lines = read_bytes(path).decode().splitlines(True)
    sound = history.read(trained.model)
    damaged = "".join(lines[:3] + [text] + lines[3:])
    with open(path, "w") as stream:
        stream.write(damaged)
    _, told = prepare(trained)
    assert told.count("\n") == 1 and "1 damaged lines are left out" in told
    assert history.read(trained.model) == sound
    assert read_bytes(os.path.join(trained.model, "damaged", history.METRICS_FILE)).decode() == damaged


def test_the_best_stays_where_only_its_line_is_lost(trained):
    best, path = checkpoints.read_best(trained.model), os.path.join(trained.model, history.METRICS_FILE)
    with open(path) as stream:
        lines = ["garbage\n" if '"eval"' in line and '"global_step": %d,' % best.step in line else line
                 for line in stream]
    with open(path, "w") as stream:
        stream.writelines(lines)
    run, _ = prepare(trained)
    assert checkpoints.read_best(trained.model) == best
    assert best.step in run.owed or best.step not in checkpoints.steps(trained.model)


def test_a_better_best_that_is_not_of_this_run_is_replaced(trained):
    best = checkpoints.read_best(trained.model)
    checkpoints.write_best(trained.model, Best(best.step, best.metric, 0.999))
    prepare(trained)
    assert checkpoints.read_best(trained.model) == best


def test_what_a_run_goes_on_with_otherwise_is_told(trained):
    run, told = prepare(trained, train_epoch=4, learning_rate=0.02, prefetch=3)
    assert told == ""
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        begin_stage(run)
    assert "other settings from step 30 on: learning_rate 0.02 instead of 0.01" in stream.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        begin_stage(run)
    assert "other settings" not in stream.getvalue()


@pytest.mark.parametrize("name, words", [
    ("args.json", "put a sound copy in its place"), ("data/manifest.json", "")])
def test_damaged_settings_are_named_and_cost_nothing(trained, name, words):
    path = os.path.join(trained.model, name)
    with open(path, "r+b") as stream:
        stream.write(b"\xff")
    if words:
        with pytest.raises(UserError, match=words) as caught:
            prepare(trained)
        assert "--fresh" not in str(caught.value) and path in str(caught.value)
    else:
        # The data itself is there: training needs no copy of its manifest.
        assert "already at step 30" in nothing_to_train(prepare(trained)[0], [])
        with pytest.raises(DataError, match="copy manifest.json of the data that the model was trained on"):
            directory.read_settings(trained.model, {})
    assert checkpoints.latest(trained.model) == 30


@pytest.mark.parametrize("change, words", [
    (lambda stage: stage["data"].pop("identity"), "missing keys .'identity'"),
    (lambda stage: stage["data"].pop("directory"), "missing keys .'directory'"),
    (lambda stage: stage.update(ranks="1"), "stages.0..ranks: a whole number .* is expected, found '1'"),
    (lambda stage: stage.update(ranks=float("inf")), "stages.0..ranks: .* found inf"),
    (lambda stage: stage.update(from_step=True), "stages.0..from_step: .* found True"),
    (lambda stage: stage.update(data_start=-50), "stages.0..data_start: .* found -50"),
    (lambda stage: stage["data"].update(train_rows=-7), "stages.0..data.train_rows: .* found -7"),
    (lambda stage: stage["config"].update(drop_dense=[1]), "drop_dense must be a list of texts"),
    (lambda stage: stage["config"].update(task_weights=[1]), "task_weights must be a list of texts")])
def test_settings_with_values_of_another_type(trained, change, words):
    path = os.path.join(trained.model, "args.json")
    with open(path) as stream:
        content = json.load(stream)
    change(content["stages"][-1])
    with open(path, "w") as stream:
        json.dump(content, stream)
    with pytest.raises(UserError, match=words):
        directory.read_settings(trained.model, {})


def test_the_data_directory_is_not_taken_for_the_models_own(tmp_path):
    class Here:
        data, model, root = str(tmp_path / "data"), str(tmp_path), tmp_path

    runs.prepare_small(tmp_path)
    with pytest.raises(ConfigError, match="choose another --model_dir"):
        prepare(Here)


def test_data_that_continues_the_models_needs_the_flag_and_the_right_preparation(trained):
    runs.prepare_small(trained.root, train=runs.small_rows(80, 5, users=60, items=16), output="data2",
                       flags=("--vocabulary_from", trained.model))
    other = type("Other", (), {"data": os.path.join(str(trained.root), "data2"), "model": trained.model})
    with pytest.raises(DataError, match="--continue_on"):
        prepare(other)
    run, _ = prepare(other, continue_on=True, train_epoch=2)
    assert (run.start, run.numbers.data_start, run.numbers.max_steps) == (30, 30, 40)
    runs.prepare_small(trained.root, train=runs.small_rows(80, 5, users=60, items=16), output="data3")
    stranger = type("Stranger", (), {"data": os.path.join(str(trained.root), "data3"), "model": trained.model})
    with pytest.raises(DataError, match="vocabulary of item"):
        prepare(stranger, continue_on=True)


def test_provenance_is_recorded_per_stage(whole):
    (stage,) = runs.stages(whole.model)
    manifest = read_manifest(whole.data)
    assert (stage["from_step"], stage["data_start"], stage["ranks"], stage["epochs"]) == (0, 0, 1, 3)
    assert stage["data"]["identity"] == manifest.identity()
    assert (stage["data"]["train_rows"], stage["data"]["test_rows"]) == (160, 60)
    assert {name: stage["config"][name] for name in ("learning_rate", "batch_size", "model")} == {
        "learning_rate": 0.01, "batch_size": 16, "model": "shared_bottom"}
    import numpy
    import tensorflow
    versions = stage["versions"]
    assert (versions["tensorflow"], versions["numpy"]) == (tensorflow.__version__, numpy.__version__)
    from estimator_app import __version__
    assert versions["estimator_app"].startswith(__version__)


@pytest.mark.parametrize("train, test", [(None, "0"), (None, "1")])
def test_early_stopping_by_a_metric_without_a_class_is_refused(tmp_path, train, test):
    rows = [row[:3] + [test] for row in runs.small_rows(60, 2)]
    runs.prepare_small(tmp_path, test=rows)
    place = type("Place", (), {"data": str(tmp_path / "data"), "model": str(tmp_path / "model")})
    for metric in ("", "auc_click", "auc_mean", "pr_auc_click"):
        with pytest.raises(ConfigError, match="not defined on the evaluation rows: a class of click is missing"):
            prepare(place, early_stopping_patience=1, early_stopping_metric=metric)
    assert prepare(place, early_stopping_patience=1, early_stopping_metric="mean_loss")[0].start == 0


def test_metrics_are_plain_json(whole):
    with open(os.path.join(whole.model, history.METRICS_FILE)) as stream:
        for line in stream:
            json.loads(line, parse_constant=lambda name: pytest.fail("%s is not JSON" % name))
    assert Checkpoint(whole.model, 30).problem(contents=True) is None
