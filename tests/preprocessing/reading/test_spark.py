"""Spark's executors read what the threads of one machine read: the prepared data are the same byte for byte."""
import contextlib
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys

import pytest

from feature_specs.errors import ConfigError, DataError
from feature_specs.files import PROJECT
from feature_specs.manifest import RowSplit
from preprocessing.pipeline import Preparation, prepare
from preprocessing.reading import spark
from preprocessing.reading.readers import Reading, read_frames
from tests.support.rows import TOY, TOY_YAML, text_of, toy_rows, write

HAS_SPARK = importlib.util.find_spec("pyspark") is not None and shutil.which("java") is not None
needs_spark = pytest.mark.skipif(not HAS_SPARK, reason="needs pyspark (setup --spark) and Java")


def preparation(root, output, **changes):
    values = {"definition": TOY, "train_paths": (str(root / "train"),), "test_paths": (str(root / "test.tsv"),),
              "output_path": str(root / output), "line_per_sample": 4, "num_shards": 3,
              "reading": Reading(num_workers=2, block_bytes=500, max_bad_rows=1)}
    values.update(changes)
    return Preparation(**values)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "train").mkdir()
    for number in range(3):
        write(tmp_path / "train" / ("day%d.tsv" % number), text_of(toy_rows(70 + number, number)))
    write(tmp_path / "test.tsv", text_of(toy_rows(31, 9)))
    return tmp_path


def contents(folder):
    found = {}
    for base, _, names in os.walk(str(folder)):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as stream:
                found[os.path.relpath(path, str(folder))] = stream.read()
    return found


@needs_spark
@pytest.mark.long
@pytest.mark.parametrize("changes", [
    {}, {"test_paths": (), "split": RowSplit(0.3, by_column="user")},
    {"test_paths": (), "split": RowSplit(0.2)}, {"vocabulary_splits": ("train", "test")}])
def test_the_output_is_the_same(root, changes):
    with open(str(root / "train" / "day1.tsv"), "a") as stream:
        stream.write("a row of one cell\n")  # allowed once a file
    prepare(preparation(root, "threads", **changes))
    prepare(preparation(root, "spark", spark_master="local[2]", **changes))
    ours, theirs = contents(root / "spark"), contents(root / "threads")
    assert ours == theirs and len(theirs) > 6


@needs_spark
@pytest.mark.long
def test_what_is_wrong_with_a_file_is_the_same_line(root):
    for spoil, text in (("x\ty\n1\t2\n", "column"), (text_of(toy_rows(5, 1)) + "bad\nbad\n", "cannot be used")):
        write(root / "train" / "day1.tsv", spoil)
        messages = []
        for master in ("", "local[2]"):
            with pytest.raises(DataError, match=text) as error:
                prepare(preparation(root, "out", spark_master=master))
            messages.append(str(error.value))
        assert messages[0] == messages[1]
        assert not (root / "out").exists()


@needs_spark
@pytest.mark.long
def test_the_command(root):
    dataset = write(root / "toy.yaml", TOY_YAML)
    command = [sys.executable, "-m", "estimator_app", "prepare", "--dataset", dataset, "--train_data_path",
               str(root / "train"), "--split", "0.2", "--output_path", str(root / "out"), "--engine", "spark",
               "--spark_master", "local[2]"]
    environment = dict(os.environ, PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore")
    done = subprocess.run(command, env=environment, cwd=str(root), capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr
    assert "train 1" in done.stdout and (root / "out" / "manifest.json").exists()
    done = subprocess.run(command[:-1] + ["nowhere:1"], env=environment, cwd=str(root), capture_output=True, text=True,
                          timeout=300)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and len(lines) == 1 and "does not start with master nowhere:1" in lines[0], done.stderr


def test_without_pyspark_is_one_line(monkeypatch, root):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ConfigError, match="pyspark is not installed; run 'bash run_estimator.sh setup --spark'"):
        prepare(preparation(root, "out", spark_master="local[2]"))
    assert not (root / "out").exists()


class Lines:
    """A context that runs tasks here, in the order of the files, through pickles as Spark does."""

    def parallelize(self, items, parts):
        assert len(items) == parts
        self.items = items
        return self

    def flatMap(self, task):  # noqa: N802
        self.found = [pickle.loads(pickle.dumps(item)) for path in self.items
                      for item in pickle.loads(pickle.dumps(task))(path)]
        return self

    def toLocalIterator(self, prefetchPartitions):  # noqa: N802, N803
        assert prefetchPartitions
        return iter(self.found)


def test_frames_and_counts_without_a_cluster(root, monkeypatch):
    monkeypatch.setattr(spark, "_explained_failures", contextlib.suppress)
    paths = sorted(str(path) for path in (root / "train").iterdir())
    with open(paths[2], "a") as stream:
        stream.write("a row of one cell\n")
    reading = Reading(block_bytes=500, max_bad_rows=1)
    ours, theirs = spark.SparkReader(TOY, paths, reading, Lines()), read_frames(TOY, paths, reading)
    for _ in range(2):
        frames = [(frame, frame.attrs) for frame in ours]
        expected = [(frame, frame.attrs) for frame in theirs]
        assert len(frames) == len(expected) > 3
        for (frame, attributes), (other, others) in zip(frames, expected):
            assert frame.equals(other) and attributes == others
        assert (ours.bad_rows, ours.last_row) == (theirs.bad_rows, theirs.last_row)
        assert [info.entry() for info in ours.inputs] == [info.entry() for info in theirs.inputs]
