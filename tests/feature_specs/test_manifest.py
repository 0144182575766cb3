import copy
import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_specs.data_files import check_shards, copy_data, verify_shards
from feature_specs.errors import DataError
from feature_specs.manifest import Manifest, read_manifest, write_manifest
from preprocessing.pipeline import Preparation, prepare
from tests.support.rows import TOY, reverse_vocabulary, text_of, toy_rows, write


def write_data(directory):
    """Prepares a small data directory; returns its manifest."""
    files = directory + "-files"
    os.makedirs(files, exist_ok=True)
    path = write(os.path.join(files, "f.tsv"), text_of(toy_rows(40)))
    return prepare(Preparation(TOY, (path,), (path,), directory, num_shards=3)), None


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("data") / "d")
    return directory, write_data(directory)[0]


def test_what_is_written_is_read(written):
    directory, manifest = written
    assert read_manifest(directory) == Manifest.from_dict(manifest.to_dict())
    assert not [name for name in os.listdir(directory) if name.endswith(".tmp")]


def test_fingerprint_changes_with_the_vocabulary_only_where_it_should(written):
    data = written[1].to_dict()
    same, other, statistics = copy.deepcopy(data), copy.deepcopy(data), copy.deepcopy(data)
    same["seed"] = 77
    other["vocabularies"]["city"]["sha256"] = "0"
    statistics["label_statistics"]["watch"]["mean"] = 3.0
    prints = [Manifest.from_dict(item).encoding_fingerprint() for item in (data, same, other, statistics)]
    assert prints[0] == prints[1] and len(set(prints)) == 3
    assert Manifest.from_dict(data).identity() != Manifest.from_dict(same).identity()


def test_every_vocabulary_has_a_number_of_its_own(written):
    numbers = [info.number for info in written[1].vocabularies.values()]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert set(written[1].vocabularies) == set(TOY.vocabulary_names)


def change(path, value):
    def apply(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value
    return apply


@pytest.mark.parametrize("path, value, message", [
    (("format_version",), 5, "newer; update the program"),
    (("format_version",), "1", "this program reads version 4"),
    (("line_per_sample",), 0, "line_per_sample 0: give a whole number from 1 to"),
    (("line_per_sample",), True, "line_per_sample: a whole number from 0 to .* is expected, found True"),
    (("vocabularies", "city", "number"), 1, "two vocabularies have one number"),
    (("vocabularies", "city", "path"), "../x", "does not stay inside"),
    (("vocabularies", "city", "size"), -1, "vocabularies.city.size: a whole number from 0 to .* found -1"),
    (("dataset", "tasks"), [], "no task given"),
    (("dense_statistics", "price", "mean"), float("nan"), "dense_statistics.price.mean: a finite number is"),
    (("dense_statistics", "price", "bin_edges"), [3.0, 1.0], "not ascending"),
    (("label_statistics", "watch", "mean"), 10 ** 400, "label_statistics.watch.mean: a finite number is expected"),
    (("splits", "train", "positives", "click"), -1, "positives.click: a whole number from 0 to"),
    (("splits", "train", "inputs", 0, "sha256"), None, "inputs.0..sha256: text is expected, found None"),
    (("seed",), -1, "Manifest.seed: a whole number from 0 to"),
    (("row_split", "share"), 1.5, "split 1.5: give the share of the rows to test on"),
    (("row_split", "by_time"), "day", "--split_by and --split_by_time go with --split"),
    (("row_split",), {"share": 0.1, "by_column": "a", "by_time": "b", "seed": 1}, "give one of --split_by and"),
    (("row_split", "seed"), 1 << 32, "seed 4294967296: give a whole number from 0 to 4294967295"),
    (("label_statistics", "watch", "std"), "x", "label_statistics.watch.std: a finite number is expected"),
    (("splits", "train", "rows"), 5, "do not hold its 5 rows"),
    (("splits", "train", "unknown_labels"), {}, "counts no labels of click"),
    (("splits", "train", "shards", 0, "path"), "../../etc/passwd", "does not stay inside"),
    (("splits", "train", "shards", 0, "path"), "/etc/passwd", "does not stay inside"),
    (("splits", "train", "shards", 0, "path"), "train/\ud800", "ends with '.*train/.ud800' is not valid Unicode"),
    (("splits", "train", "positives"), {}, "positives of split train: counts of .*, found those of none"),
    (("splits", "train", "positives"), {"click": 1, "buy": 1, "other": 1}, "found those of buy, click, other"),
    (("dataset", "preset"), 3, "Manifest.dataset.preset: text is expected, found 3"),
    (("dataset", "weight"), {}, "dataset.weight: text is expected"),
    (("dataset", "numeric", 0, "missing"), {}, "dataset.numeric.0..missing: text or a number is expected, found {}"),
    (("dataset", "numeric", 0, "missing"), float("nan"), "dataset.numeric.0..missing: text or a number is expected"),
    (("dataset", "numeric", 0, "bins"), "4", "dataset.numeric.0..bins: a whole number from 0 on, or null is expected"),
    (("dataset", "categorical", 0, "column"), 1, "dataset.categorical.0..column: text is expected"),
    (("dataset", "files", "header"), 1, "dataset.files.header: true or false is expected"),
    (("dataset", "files", "missing"), [1], "dataset.files.missing.0.: text is expected, found 1"),
])
def test_damaged_manifests_are_refused(written, path, value, message):
    data = written[1].to_dict()
    change(path, value)(data)
    with pytest.raises(DataError, match=message):
        Manifest.from_dict(data)


def test_missing_keys_are_named(written):
    data = written[1].to_dict()
    del data["dense_statistics"]["age"]
    with pytest.raises(DataError, match="dense_statistics of price, age are expected, found those of price"):
        Manifest.from_dict(data)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
                    max_leaves=8)


@settings(max_examples=200)
@given(st.data())
def test_any_change_gives_a_manifest_or_one_error(written, data):
    content = written[1].to_dict()
    node, key = content, None
    for _ in range(data.draw(st.integers(1, 5))):
        if not isinstance(node, (dict, list)) or not node:
            break
        parent = node
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else list(range(len(node)))))
        node = node[key]
    parent[key] = data.draw(JSON)
    try:
        assert isinstance(Manifest.from_dict(content), Manifest)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": 1}', "\x00\xff", "[" * 100000],
                         ids=["empty", "cut off", "list", "null", "no keys", "binary", "deep"])
def test_unreadable_files_are_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="manifest.json"):
        read_manifest(str(tmp_path))


def test_shards_are_checked_for_presence_and_size(tmp_path):
    manifest, _ = write_data(str(tmp_path / "d"))
    paths = check_shards(manifest, str(tmp_path / "d"), "train")
    assert len(paths) == 3
    with open(paths[1], "ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="part-00001.*changed or cut off"):
        check_shards(manifest, str(tmp_path / "d"), "train")
    os.remove(paths[0])
    with pytest.raises(DataError, match="part-00000.*is missing"):
        check_shards(manifest, str(tmp_path / "d"), "train")
    with pytest.raises(DataError, match="split 'dev' is not in the data; it has test, train"):
        check_shards(manifest, str(tmp_path / "d"), "dev")


@pytest.mark.parametrize("again", [False, True])
def test_vocabularies_are_verified_and_no_changed_one_is_copied(tmp_path, again):
    directory, copied = str(tmp_path / "d"), tmp_path / "copy"
    manifest, _ = write_data(directory)
    verify_shards(manifest, directory)
    copy_data(manifest, directory, str(copied))
    reverse_vocabulary(os.path.join(directory, "vocabulary", "item.parquet"))
    message = "item.parquet was changed after it was prepared: its SHA-256 is not the manifest's; prepare"
    with pytest.raises(DataError, match=message):
        verify_shards(manifest, directory, again)
    copy_data(manifest, directory, str(copied))
    os.remove(str(copied / "vocabulary" / "item.parquet"))
    with pytest.raises(DataError, match=message):
        copy_data(manifest, directory, str(copied))
    assert not (copied / "vocabulary" / "item.parquet").exists()
    os.remove(os.path.join(directory, "vocabulary", "item.parquet"))
    with pytest.raises(DataError, match="item.parquet cannot be read .No such file"):
        verify_shards(manifest, directory, again)


def test_an_interrupted_write_leaves_the_old_manifest(tmp_path, monkeypatch):
    manifest, _ = write_data(str(tmp_path / "d"))
    before = (tmp_path / "d" / "manifest.json").read_text()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    with pytest.raises(OSError, match="disk full: '.*manifest.json'"):
        write_manifest(manifest, str(tmp_path / "d"))
    assert (tmp_path / "d" / "manifest.json").read_text() == before
