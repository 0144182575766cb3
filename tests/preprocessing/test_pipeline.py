import collections
import glob
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from feature_specs.census import CENSUS
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import check_shards, read_manifest
from preprocessing import output_directory
from preprocessing.pipeline import prepare
from preprocessing.raw_reader import read_chunks
from preprocessing.vocabulary import IdEncoder, get_fea_map
from tests.preprocessing.tools import TOY, read_bytes, read_records, read_rows, toy_line, toy_text, write


def prepared(tmp_path, train, test, name="out", **options):
    train_path, test_path = write(tmp_path / "train.data", train), write(tmp_path / "test.data", test)
    output = str(tmp_path / name)
    return prepare(train_path, test_path, output, TOY, **options), output


def expected_rows(text, manifest):
    """Rows by pandas and the manifest's rules for ids."""
    frame = pd.DataFrame([[cell.strip() for cell in line.split(",")] for line in text.splitlines()],
                         columns=TOY.columns)
    offsets, rows = manifest.id_offsets(), []
    for _, row in frame.iterrows():
        ids = []
        for column in TOY.sparse_columns:
            values = manifest.vocabularies[column]
            ids.append(offsets[column] + (values.index(row[column]) if row[column] in values else len(values)))
        rows.append((tuple(int(row[task.label_column] == task.positive_value) for task in TOY.tasks), tuple(ids),
                     tuple(float(np.float32(row[column])) for column in TOY.dense_columns)))
    return rows


PADDING = ((-1, -1), (0, 0), (0.0, 0.0))


@pytest.mark.parametrize("line_per_sample, shards", [(1, 1), (4, 3), (8, 4), (7, 2), (64, 5)])
def test_records_hold_every_row_once(tmp_path, line_per_sample, shards):
    train, test = toy_text(103), toy_text(10, 500) + toy_line(a="new", b="b 0") + toy_line(a="new")
    manifest, output = prepared(tmp_path, train, test, line_per_sample=line_per_sample, num_shards=shards)
    assert manifest == read_manifest(output)
    for split, text, count in (("train", train, 103), ("test", test, 12)):
        rows = read_rows(output, split, manifest)
        padding = -count % line_per_sample
        assert rows[len(rows) - padding:] == [PADDING] * padding
        found = rows[:len(rows) - padding]
        if split == "test":
            assert found == expected_rows(text, manifest)
        else:
            assert found != expected_rows(text, manifest)
            assert collections.Counter(found) == collections.Counter(expected_rows(text, manifest))
        part = manifest.split(split)
        assert part.rows == count and sum(shard.records for shard in part.shards) == len(read_records(output, split))
        assert len(check_shards(manifest, output, split)) == shards
        for number, shard in enumerate(part.shards):
            assert shard.path == "%s/%s.data-%05d-of-%05d.tfrecord" % (split, split, number, shards)
            with open(os.path.join(output, shard.path), "rb") as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == shard.sha256
    assert sorted(os.listdir(output)) == ["manifest.json", "test", "train"]


def test_vocabulary_ids_and_counts_by_hand(tmp_path):
    train = toy_line(a="p", b="z") + toy_line(a="q", b="z") + toy_line(a="p", b="y", click="yes", buy="1.")
    test = toy_line(a="q", b="new") + toy_line(a="new", b="new") + toy_line(a="q", b="new")
    manifest, output = prepared(tmp_path, train, test, line_per_sample=1)
    assert manifest.vocabularies == {"b": ("z", "y"), "a": ("p", "q")}
    assert manifest.id_offsets() == {"b": 0, "a": 3} and manifest.num_ids() == 6
    assert [ids for _, ids, _ in read_rows(output, "test", manifest)] == [(2, 4), (2, 5), (2, 4)]
    assert manifest.split("test").out_of_vocabulary == {"b": 3, "a": 1}
    assert manifest.split("test").duplicates == 1 and manifest.split("train").duplicates == 0
    assert manifest.split("train").positives == {"click": 1, "buy": 1}
    path = str(tmp_path / "train.data")
    assert manifest.split("train").inputs == ({"name": "train.data", "size": os.path.getsize(path),
                                               "sha256": hashlib.sha256(train.encode()).hexdigest()},)
    assert get_fea_map([path], TOY) == {"b": {"z": 0, "y": 1}, "a": {"p": 0, "q": 1}}
    both, output = prepared(tmp_path, train, test, vocab_from=("train", "test"))
    assert both.vocabularies == {"b": ("z", "y", "new"), "a": ("p", "q", "new")}
    assert both.split("test").out_of_vocabulary == {"b": 0, "a": 0}
    # The statistics stay those of the training file.
    assert both.dense_statistics == manifest.dense_statistics


def test_prediction_gives_the_ids_of_the_records(tmp_path):
    test = toy_text(30, 7) + toy_line(a="new")
    manifest, output = prepared(tmp_path, toy_text(50), test, line_per_sample=1)
    encoder = IdEncoder(manifest)
    chunks = read_chunks(str(tmp_path / "test.data"), manifest.dataset, encoder.table, grow=False,
                         require_labels=False, chunk_bytes=100)
    ids = np.concatenate([encoder.ids(chunk) for chunk in chunks])
    assert ids.dtype == np.int64
    assert [tuple(row) for row in ids.tolist()] == [row[1] for row in read_rows(output, "test", manifest)]


def test_output_depends_on_the_seed_only(tmp_path):
    train, test = toy_text(997), toy_text(40)

    def content(**options):
        manifest, output = prepared(tmp_path, train, test, **options)
        return manifest, [read_bytes(path) for path in sorted(glob.glob(output + "/*/*.tfrecord"))]

    first = content(seed=1)
    for options in ({"chunk_bytes": 1}, {"chunk_bytes": 777}, {"num_workers": 3, "chunk_bytes": 500}):
        assert content(seed=1, **options) == first
    other = content(seed=2)
    assert other[1][:4] != first[1][:4] or other[1][4:] != first[1][4:]
    # The test split is not shuffled.
    assert other[1][:4] == first[1][:4]


def test_rows_beyond_the_memory_budget_go_through_disk(tmp_path):
    train, test = toy_text(5000), toy_text(3000)
    small, small_output = prepared(tmp_path, train, test, "small", memory_bytes=2000, chunk_bytes=4000)
    large, large_output = prepared(tmp_path, train, test, "large")
    again, again_output = prepared(tmp_path, train, test, "again", memory_bytes=2000, chunk_bytes=90000)
    rows = [read_rows(path, "train", large) for path in (small_output, large_output, again_output)]
    assert collections.Counter(rows[0]) == collections.Counter(rows[1])
    assert rows[0] == rows[2] != rows[1]
    assert read_rows(small_output, "test", large) == read_rows(large_output, "test", large)
    assert small.vocabularies == large.vocabularies and small.dense_statistics == large.dense_statistics
    assert small.split("train").positives == large.split("train").positives
    assert sorted(os.listdir(small_output)) == ["manifest.json", "test", "train"]
    # No part of the file stays together: neighbours in the file are far apart in the records.
    place = {row[2]: i for i, row in enumerate(rows[0])}
    gaps = [abs(place[(i / 4, float(i))] - place[((i + 1) / 4, float(i + 1))]) for i in range(4999)]
    assert np.median(gaps) > 1000


def test_bad_rows_fail_or_are_counted(tmp_path):
    train = toy_text(50) + "bad\n" + toy_line(x="?")
    with pytest.raises(DataError, match="train.data"):
        prepared(tmp_path, train, toy_text(5))
    assert not os.path.exists(str(tmp_path / "out")) and not glob.glob(str(tmp_path / ".out*"))
    manifest, _ = prepared(tmp_path, train, toy_text(5), max_bad_rows="4%")
    assert manifest.split("train").bad_rows == {"wrong number of fields": 1, "bad number": 1}
    assert manifest.split("train").rows == 50 and manifest.split("test").bad_rows == {}


def test_duplicates_above_the_cap_are_not_counted(tmp_path):
    manifest, _ = prepared(tmp_path, toy_line() * 11, toy_line() * 10, duplicate_row_cap=10)
    assert manifest.split("train").duplicates == -1 and manifest.split("test").duplicates == 9


@pytest.mark.parametrize("options", [{"line_per_sample": 0}, {"num_shards": 0}, {"seed": -1}, {"vocab_from": ("test",)},
                                     {"max_bad_rows": "x"}, {"memory_bytes": 0}, {"chunk_bytes": 0}])
def test_settings_are_checked(tmp_path, options):
    with pytest.raises(ConfigError):
        prepared(tmp_path, toy_text(5), toy_text(5), **options)
    assert not os.path.exists(str(tmp_path / "out"))


def test_only_our_own_output_is_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    first, output = prepared(tmp_path, toy_text(5), toy_text(5))
    second, output = prepared(tmp_path, toy_text(9), toy_text(5))
    assert read_manifest(output) == second != first
    with pytest.raises(DataError):
        prepared(tmp_path, "bad\n", toy_text(5))
    assert read_manifest(output) == second
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not replaced"):
        prepared(tmp_path, toy_text(5), toy_text(5), "foreign")
    assert os.listdir(str(foreign)) == ["thesis.txt"]
    with pytest.raises(DataError, match="not a directory"):
        prepared(tmp_path, toy_text(5), toy_text(5), "train.data")


def test_replacing_without_an_atomic_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(output_directory, "_exchange", lambda first, second: False)
    prepared(tmp_path, toy_text(5), toy_text(5))
    second, output = prepared(tmp_path, toy_text(9), toy_text(5))
    assert read_manifest(output) == second and not glob.glob(str(tmp_path / ".out*"))


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_dead_runs_left_is_cleaned(tmp_path):
    pid = dead_pid()
    living = tmp_path / (".out.partial-%d" % os.getppid())
    for folder in (tmp_path / (".out.partial-%d" % pid), living, tmp_path / ".out2.partial-1"):
        folder.mkdir()
    prepared(tmp_path, toy_text(5), toy_text(5))
    assert sorted(path.name for path in tmp_path.glob(".*")) == sorted([living.name, ".out2.partial-1"])
    # Killed between the two renames: the old directory comes back.
    os.rename(str(tmp_path / "out"), str(tmp_path / (".out.replaced-%d" % pid)))
    output_directory.clean_stale(str(tmp_path), "out")
    assert read_manifest(str(tmp_path / "out")).split("train").rows == 5


KILLED_AT = """
import os, signal
from preprocessing import output_directory
from preprocessing.pipeline import prepare
from tests.preprocessing.tools import TOY

left, parent = %d, os.getpid()
def kill_instead_of_the_last(function):
    def call(*args, **kwargs):
        global left
        left -= os.getpid() == parent
        if not left:
            os.kill(parent, signal.SIGKILL)
        return function(*args, **kwargs)
    return call
os.mkdir, os.fsync, os.rename, os.replace = map(kill_instead_of_the_last, (os.mkdir, os.fsync, os.rename, os.replace))
output_directory._exchange = kill_instead_of_the_last(output_directory._exchange)
prepare(%r, %r, %r, TOY, chunk_bytes=2000)
"""


@pytest.mark.parametrize("had_output", [False, True])
def test_a_run_killed_at_any_file_operation_leaves_nothing_that_looks_whole(tmp_path, had_output):
    old = prepared(tmp_path, toy_text(5), toy_text(5))[0] if had_output else None
    big = write(tmp_path / "big.data", toy_text(600))
    wanted = prepare(big, big, str(tmp_path / "wanted"), TOY, chunk_bytes=2000)
    partial = lambda: glob.glob(str(tmp_path / ".out.partial-*"))  # noqa: E731
    seen_new = False
    for moment in range(1, 100):
        code = KILLED_AT % (moment, big, big, str(tmp_path / "out"))
        status = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode
        if os.path.lexists(str(tmp_path / "out")):
            found = read_manifest(str(tmp_path / "out"))
            assert found == (wanted if seen_new or found != old else old)
            seen_new = found == wanted
        else:
            assert not had_output
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert seen_new and status == 0 and moment > 5 and not partial()


def test_a_run_killed_at_any_time_leaves_nothing_that_looks_whole(tmp_path):
    old = prepared(tmp_path, toy_text(5), toy_text(5))[0]
    big = write(tmp_path / "big.data", toy_text(60000))
    wanted = prepare(big, big, str(tmp_path / "wanted"), TOY)
    code = ("from preprocessing.pipeline import prepare; from tests.preprocessing.tools import TOY; "
            "prepare(%r, %r, %r, TOY)" % (big, big, str(tmp_path / "out")))
    for delay in (0.0, 0.1, 0.3):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while process.poll() is None and not os.path.isdir(str(tmp_path / (".out.partial-%d" % process.pid))):
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # On a fast machine the run may have ended before the signal: then the new data is there, whole.
        assert read_manifest(str(tmp_path / "out")) in (old, wanted)
    manifest, output = prepared(tmp_path, toy_text(6), toy_text(5))
    assert read_manifest(output) == manifest and not glob.glob(str(tmp_path / ".out.partial-*"))


def test_a_dataset_without_dense_columns(tmp_path):
    from feature_specs.dataset import DatasetDefinition, TaskDefinition
    bare = DatasetDefinition("bare", ("a", "l"), ("a",), (), (TaskDefinition("t", "l", "1", ("0", "1")),
                                                             TaskDefinition("not_t", "l", "0", ("0", "1"))))
    path = write(tmp_path / "d", "p,1\nq,0\np,0\n")
    manifest = prepare(path, path, str(tmp_path / "out"), bare, line_per_sample=2)
    assert read_rows(str(tmp_path / "out"), "test", manifest) == [
        ((1, 0), (0,), ()), ((0, 1), (1,), ()), ((0, 1), (0,), ()), ((-1, -1), (0,), ())]
    assert manifest.split("test").positives == {"t": 1, "not_t": 2}


@pytest.mark.realdata
@pytest.mark.skipif(not os.environ.get("CENSUS_KDD_DIR"), reason="CENSUS_KDD_DIR does not name the census files")
def test_real_data(tmp_path):
    paths = [os.path.join(os.environ["CENSUS_KDD_DIR"], "census-income.%s.gz" % name) for name in ("data", "test")]
    manifest = prepare(paths[0], paths[1], str(tmp_path / "out"), line_per_sample=8)
    train, test = manifest.split("train"), manifest.split("test")
    assert (train.rows, test.rows) == (66508, 16627)
    assert train.positives == {"income": 4118, "marital": 28936}
    frames = {}
    for name, path in zip(("train", "test"), paths):
        with gzip.open(path) as stream:
            lines = stream.read().decode().splitlines()
        frames[name] = pd.DataFrame([[cell.strip() for cell in line.split(",")] for line in lines],
                                    columns=CENSUS.columns)
        assert manifest.split(name).duplicates == len(lines) - len(set(lines))
    offsets = manifest.id_offsets()
    ids = []
    for column in CENSUS.sparse_columns:
        assert list(manifest.vocabularies[column]) == frames["train"][column].unique().tolist()
        index = {value: i for i, value in enumerate(manifest.vocabularies[column])}
        mapped = frames["test"][column].map(lambda value, index=index: index.get(value, len(index)))
        assert test.out_of_vocabulary[column] == (mapped == len(index)).sum()
        ids.append(mapped.values + offsets[column])
    rows = read_rows(str(tmp_path / "out"), "test", manifest)[:test.rows]
    np.testing.assert_array_equal([row[1] for row in rows], np.stack(ids, axis=1))
    dense = frames["test"][list(CENSUS.dense_columns)].astype(np.float64).astype(np.float32)
    np.testing.assert_array_equal(np.array([row[2] for row in rows], np.float32), dense.values)
    for column in CENSUS.dense_columns:
        values = frames["train"][column].astype(np.float64).astype(np.float32).astype(np.float64).values
        found = manifest.dense_statistics[column]
        np.testing.assert_allclose([found.mean, found.std, found.minimum, found.maximum],
                                   [values.mean(), values.std(), values.min(), values.max()], rtol=1e-12)
        bins = np.searchsorted(np.array(found.bin_edges), values, side="left")
        assert np.bincount(bins, minlength=len(found.bin_counts)).tolist() == list(found.bin_counts)
