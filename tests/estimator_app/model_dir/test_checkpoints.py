"""Checkpoints as files, written here by hand: which are whole, what is kept, what is found damaged."""
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from estimator_app.model_dir import checkpoints, sparse_tables
from estimator_app.model_dir.checkpoints import Best, Checkpoint
from feature_specs.errors import UserError

FILES = ("model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001", "sparse-model.ckpt-7/table/key/slice.data",
         "sparse-model.ckpt-7/table/key/slice.attribute", "sparse-model.ckpt-7/table/embedding/slice.data",
         "sparse-model.ckpt-7/table/embedding/slice.attribute")


def make(folder, step, keys=(3, 5), sparse=True, checksums=True):
    """Writes a checkpoint file by file, from the layout's description."""
    checkpoint = Checkpoint(str(folder), step)
    os.makedirs(str(folder), exist_ok=True)
    for ending in (".index", ".data-00000-of-00001", ".meta"):
        with open(checkpoint.path + ending, "w", encoding="utf-8") as stream:
            stream.write("step %d" % step)
    if sparse:
        for name, data, attribute in (("key", np.array(keys, np.int64), [len(keys), 8]),
                                      ("embedding", np.full((len(keys), 2), step, np.float32), [len(keys), 2, 4])):
            place = os.path.join(checkpoint.tables, "table", name)
            os.makedirs(place, exist_ok=True)
            data.tofile(os.path.join(place, "slice.data"))
            np.array(attribute, np.int64).tofile(os.path.join(place, "slice.attribute"))
    if checksums:
        checkpoint.ensure_checksums()
    return checkpoint


def test_latest_is_the_latest_whole_one(tmp_path):
    for step in (9, 10):
        make(tmp_path, step)
    unfinished = make(tmp_path, 100, sparse=False)
    assert checkpoints.steps(str(tmp_path)) == [9, 10, 100] and checkpoints.latest(str(tmp_path)) == 10
    assert "does not exist" in unfinished.problem()
    assert checkpoints.latest(str(tmp_path / "absent")) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cut", [False, True])
def test_a_flipped_bit_or_a_cut_in_any_file_is_found_and_named(tmp_path, name, cut):
    checkpoint = make(tmp_path, 7)
    assert checkpoint.problem(contents=True) is None
    with open(str(tmp_path / name), "r+b") as stream:
        if cut:
            stream.truncate(os.path.getsize(str(tmp_path / name)) - 1)
        else:
            byte = stream.read(1)[0]
            stream.seek(0)
            stream.write(bytes([byte ^ 1]))
    # Sizes that contradict each other name the data, whichever of the two is wrong.
    shown = "slice." if "slice" in name else os.path.basename(name)
    assert shown in checkpoint.problem(contents=True)
    with pytest.raises(UserError, match="the checkpoint of step 7 is not whole"):
        checkpoints.resolve(str(tmp_path), "7")


def test_a_damaged_latest_is_passed_over_with_a_warning(tmp_path, capsys):
    make(tmp_path, 5)
    make(tmp_path, 7)
    with open(str(tmp_path / FILES[4]), "r+b") as stream:
        stream.write(b"\xff")
    assert checkpoints.resolve(str(tmp_path), "latest").step == 5
    assert capsys.readouterr().err.count("warning: the checkpoint of step 7 is not whole") == 1
    step, warnings = checkpoints.heal(str(tmp_path), str(tmp_path / "damaged"))
    assert step == 5 and len(warnings) == 1 and checkpoints.steps(str(tmp_path / "damaged")) == [7]
    assert tf.train.latest_checkpoint(str(tmp_path)) == Checkpoint(str(tmp_path), 5).path


def test_a_checkpoint_without_checksums_is_accepted_and_one_with_damaged_ones_is_not(tmp_path):
    checkpoint = make(tmp_path, 7, checksums=False)
    assert checkpoint.problem(contents=True) is None
    for text in ("garbage", "{}", '{"format_version": 1, "crc32": {"x": 3}}', "[" * 100000):
        with open(checkpoint.path + ".checksums", "w") as stream:
            stream.write(text)
        assert "cannot be read" in checkpoint.problem(contents=True)
    with open(checkpoint.path + ".checksums", "w") as stream:
        stream.write('{"format_version": 9, "crc32": {}}')
    # Of a newer program: refused and left where it is, not set aside as damaged.
    with pytest.raises(UserError, match="newer than this program reads"):
        checkpoints.heal(str(tmp_path), str(tmp_path / "damaged"))
    assert not (tmp_path / "damaged").exists()


def test_a_checkpoint_that_lacks_a_table_of_the_model_is_not_whole(tmp_path):
    make(tmp_path, 5)
    checkpoint = make(tmp_path, 7, checksums=False)
    (name,) = sparse_tables.tables(checkpoint.tables)
    dim = sparse_tables.open_rows(checkpoint.tables, name).shape[1]
    assert checkpoint.problem(tables={name: dim}) is None
    assert "has rows of %d values, expected 9" % dim in checkpoint.problem(tables={name: 9})
    assert "has no table users; it has %s" % name in checkpoint.problem(tables={name: dim, "users": 4})
    shutil.rmtree(os.path.join(checkpoint.tables, name))
    step, warnings = checkpoints.heal(str(tmp_path), str(tmp_path / "damaged"), {name: dim})
    assert step == 5 and "step 7 is not whole" in warnings[0] and "has no table" in warnings[0]


# What users lay beside checkpoints, under names that begin like theirs.
MINE = ("mine.txt", "model.ckpt-1.backup.tar.gz", "model.ckpt-2.notes.txt", "model.ckpt-999_notes.md",
        "sparse-model.ckpt-1.mine")


def test_the_chosen_steps_are_kept_and_what_kills_leave_goes(tmp_path):
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    os.makedirs(str(tmp_path / ".sparse-model.ckpt-5.partial-host-1" / "table"))
    os.makedirs(str(tmp_path / "sparse-model.ckpt-6"))
    for name in ("model.ckpt-4.data-00000-of-00001.tempstate123", "model.ckpt-9.meta", "graph.pbtxt.tmp1",
                 "sparse-model.ckpt-8", "model.ckpt-007.meta",
                 "model.ckpt-4.meta.tmp0123abc", "model.ckpt-4.checksums.tmp", "model.ckpt-4.meta.partial-17") + MINE:
        (tmp_path / name).write_text("")
    for name in ("model.ckpt-5_temp_0123abc", ".sparse-model.ckpt-4.rank1", "..sparse-model.ckpt-4.rank1.partial-15639",
                 ".sparse-model.ckpt-4.deleted-9", "model.ckpt-8.meta"):
        os.makedirs(str(tmp_path / name))
    checkpoints.keep_only(str(tmp_path), checkpoints.steps(str(tmp_path))[-2:])
    assert sorted(set(os.listdir(str(tmp_path))) - set(MINE)) == [
        "model.ckpt-%d%s" % (step, ending) for step in (3, 4)
        for ending in (".checksums", ".data-00000-of-00001", ".index", ".meta")] + [
            "sparse-model.ckpt-3", "sparse-model.ckpt-4"]
    assert set(MINE) < set(os.listdir(str(tmp_path)))


def test_the_best_is_a_copy_out_of_the_savers_reach(tmp_path):
    for step in (1, 2, 3):
        make(tmp_path, step)
    checkpoints.keep_best(str(tmp_path), Best(1, "auc_mean", 0.7))
    written = os.stat(str(tmp_path / "best" / "best.json")).st_ino
    checkpoints.keep_best(str(tmp_path), Best(1, "auc_mean", 0.7))
    # What is there already is not copied anew.
    assert os.stat(str(tmp_path / "best" / "best.json")).st_ino == written
    checkpoints.keep_only(str(tmp_path), [3])
    found = checkpoints.resolve(str(tmp_path), "best")
    assert found.step == 1 and found.problem(contents=True) is None
    assert sparse_tables.read_keys(found.tables, "table").tolist() == [3, 5]
    checkpoints.keep_best(str(tmp_path), Best(3, "auc_mean", 0.8))
    assert checkpoints.steps(str(tmp_path / "best")) == [3]
    assert tf.train.latest_checkpoint(str(tmp_path / "best")) == Checkpoint(str(tmp_path / "best"), 3).path


@pytest.mark.parametrize("note", ["garbage", "[]", '{"format_version": 2}', "[" * 100000,
                                  '{"format_version": 2, "step": 5, "metric": "auc", "value": 1}'],
                         ids=lambda note: note[:12])
def test_a_damaged_note_is_no_best(tmp_path, note):
    make(tmp_path, 3)
    checkpoints.keep_best(str(tmp_path), Best(3, "auc_mean", 0.8))
    (tmp_path / "best" / "best.json").write_text(note)
    assert checkpoints.read_best(str(tmp_path)) is None
    with pytest.raises(UserError, match="no best checkpoint that is whole"):
        checkpoints.resolve(str(tmp_path), "best")


def test_a_newer_note_is_refused(tmp_path):
    make(tmp_path, 3)
    checkpoints.keep_best(str(tmp_path), Best(3, "auc_mean", 0.8))
    (tmp_path / "best" / "best.json").write_text(json.dumps(
        {"format_version": 3, "step": 3, "metric": "auc_mean", "value": 0.8}))
    with pytest.raises(UserError, match="newer than this program reads"):
        checkpoints.read_best(str(tmp_path))


@pytest.mark.parametrize("choice, message", [("latest", "holds no whole checkpoint"), ("best", "no best checkpoint"),
                                             ("newest", "allowed: latest, best or a step"), ("4", "no checkpoint of"),
                                             ("\u00b2", "allowed: latest, best or a step")])
def test_checkpoints_that_are_not_there(tmp_path, choice, message):
    with pytest.raises(UserError, match=message):
        checkpoints.resolve(str(tmp_path), choice)


def test_set_aside_moves_every_file_and_keeps_an_earlier_one(tmp_path):
    make(tmp_path / "damaged", 7, keys=(1,))
    names = {name for name in os.listdir(str(make(tmp_path, 7).directory)) if name != "damaged"}
    Checkpoint(str(tmp_path), 7).set_aside(str(tmp_path / "damaged"))
    assert set(os.listdir(str(tmp_path))) == {"damaged"}
    assert set(os.listdir(str(tmp_path / "damaged"))) == names | {name + ".2" for name in names}
    assert sparse_tables.read_keys(Checkpoint(str(tmp_path / "damaged"), 7).tables, "table").tolist() == [1]


def test_a_checkpoint_that_appears_while_one_looks_is_taken(tmp_path, monkeypatch):
    """A training beside deletes the listed one and writes the next."""
    make(tmp_path, 1)
    original, calls = Checkpoint.problem, []

    def problem(self, *arguments):
        calls.append(self.step)
        if len(calls) == 1:
            Checkpoint(str(tmp_path), 1).delete()
            make(tmp_path, 2)
        return original(self, *arguments)

    monkeypatch.setattr(Checkpoint, "problem", problem)
    assert checkpoints.resolve(str(tmp_path), "latest").step == 2 and calls == [1, 2]


def test_a_checkpoint_is_set_aside_as_a_whole_whatever_interrupts(tmp_path, monkeypatch):
    """The index file goes last: while it is there, a start that follows moves the rest, and deletes nothing."""
    make(tmp_path, 5)
    names = sorted(os.listdir(str(tmp_path)))
    checkpoint, moved = make(tmp_path, 7), []
    mine = sorted(set(os.listdir(str(tmp_path))) - set(names))
    replace = os.replace

    def interrupted(source, target):
        if len(moved) == count:
            raise KeyboardInterrupt
        moved.append(source)
        replace(source, target)

    for count in range(len(mine)):  # noqa: B007 - read by the function above
        moved.clear()
        monkeypatch.setattr(checkpoints.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.set_aside(str(tmp_path / "aside"))
        monkeypatch.setattr(checkpoints.os, "replace", replace)
        assert os.path.exists(checkpoint.path + ".index") and checkpoint.problem() is not None or not moved
        checkpoints.heal(str(tmp_path), str(tmp_path / "aside"))
        if moved:
            assert sorted(os.listdir(str(tmp_path / "aside"))) == mine
        for name in os.listdir(str(tmp_path / "aside")) if (tmp_path / "aside").exists() else ():
            replace(str(tmp_path / "aside" / name), str(tmp_path / name))
