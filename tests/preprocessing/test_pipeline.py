"""Whole preparations against a row-by-row oracle."""
import dataclasses
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from feature_specs.dataset_file import parse_dataset
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import RowSplit, read_manifest
from preprocessing import output_directory
from preprocessing.pipeline import Preparation, prepare
from preprocessing.reading.readers import Reading, read_frames
from preprocessing.vocabulary import Vocabularies, encode_frame
from tests.support.rows import (
    COLUMNS,
    TOY,
    TOY_YAML,
    Oracle,
    hashes,
    read_bytes,
    read_records,
    read_rows,
    reverse_vocabulary,
    text_of,
    toy_rows,
    write,
)

TRAIN, TEST = toy_rows(203, 1), toy_rows(61, 2)


def preparation(tmp_path, **changes):
    values = {}
    values.update(definition=TOY, train_paths=(write(tmp_path / "a.tsv", text_of(TRAIN)),),
                  test_paths=(write(tmp_path / "b.tsv", text_of(TEST)),), output_path=str(tmp_path / "out"),
                  line_per_sample=8, num_shards=3, seed=7, reading=Reading(num_workers=1))
    values.update(changes)
    return Preparation(**values)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline")
    return path, prepare(preparation(path))


def expected_rows(rows, oracle):
    result = []
    group = dict(zip(sorted({row[1] for row in rows}), hashes(sorted({row[1] for row in rows}))))
    for row in rows:
        cell = dict(zip(COLUMNS, row))
        click = {"0": 0.0, "1": 1.0, "": np.nan}[cell["click"]]
        result.append({"label": [click, float(cell["bought"] == "yes"), oracle.number(row, "seconds")],
                       "sparse_feature": oracle.sparse(row),
                       "dense_feature": [oracle.number(row, "price"), oracle.number(row, "years")],
                       "weight": [np.float32(cell["w"])], "group": [group[cell["user"]]]})
    return result


def as_text(row):
    return "%s" % [(key, np.asarray(values, np.float64).tolist()) for key, values in sorted(row.items())]


def test_every_row_is_encoded_as_documented(prepared):
    path, manifest = prepared
    oracle = Oracle(TOY, COLUMNS).learn(TRAIN)
    test = read_rows(path / "out", "test", 8)
    assert [as_text(row) for row in test[:61]] == [as_text(row) for row in expected_rows(TEST, oracle)]
    train = read_rows(path / "out", "train", 8)
    expected = [as_text(row) for row in expected_rows(TRAIN, oracle)]
    found = [as_text(row) for row in train[:203]]
    assert sorted(found) == sorted(expected) and found != expected
    for row in test[61:] + train[203:]:
        assert row == {"label": [-np.inf] * 3, "sparse_feature": [-1] * TOY.sparse_width, "dense_feature": [0.0] * 2,
                       "weight": [0.0], "group": [0]}
    assert len(test) == 64 and len(train) == 208
    assert [shard.records for shard in manifest.splits["train"].shards] == [9, 9, 8]


def test_the_manifest_counts_what_is_there(prepared):
    path, manifest = prepared
    assert read_manifest(str(path / "out")) == manifest
    oracle, test = Oracle(TOY, COLUMNS).learn(TRAIN), manifest.splits["test"]
    rows = np.array([oracle.sparse(row) for row in TEST])
    assert test.out_of_vocabulary == {"item": (rows[:, 1] == 0).sum(), "seen": (rows[:, 2:5] == 0).sum(),
                                      "tags": (rows[:, 5:7] == 0).sum(), "city": (rows[:, 7] == 0).sum()}
    assert test.positives == {"click": sum(row[8] == "1" for row in TEST), "buy": sum(row[9] == "yes" for row in TEST)}
    assert test.unknown_labels == {"click": sum(row[8] == "" for row in TEST), "buy": 0,
                                   "watch": sum(row[10] == "" for row in TEST)}
    assert test.cut_lists == {"seen": sum(row[3].count(",") > 2 for row in TEST),
                              "tags": sum(row[4].count("|") > 1 for row in TEST)}
    seconds = np.array([float(row[10]) for row in TRAIN if row[10]])
    found = manifest.label_statistics["watch"]
    np.testing.assert_allclose([found.mean, found.std], [np.log1p(seconds).mean(), np.log1p(seconds).std()], rtol=1e-9)
    prices = np.array([float(row[6]) for row in TRAIN if row[6]], np.float32).astype(np.float64)
    statistics = manifest.dense_statistics["price"]
    assert statistics.count == len(prices)
    np.testing.assert_allclose([statistics.mean, statistics.std], [prices.mean(), prices.std()], rtol=1e-9)
    assert [(name, info.number, info.encoding) for name, info in manifest.vocabularies.items()] == [
        ("user", 1, "hash"), ("item", 2, "vocabulary"), ("tags", 3, "vocabulary"), ("city", 4, "vocabulary"),
        ("price", 5, "bins"), ("age", 6, "bins")]
    assert manifest.vocabularies["user"].distinct == len({row[1] for row in TRAIN})


def test_vocabulary_files_hold_values_counts_and_indexes(prepared):
    path, manifest = prepared
    table = pa.parquet.read_table(str(path / "out" / manifest.vocabularies["item"].path)).to_pydict()
    oracle = Oracle(TOY, COLUMNS).learn(TRAIN)
    seen = oracle.order["item"]
    assert table["value"] == list(dict.fromkeys(seen))
    assert table["count"] == [seen.count(value) for value in table["value"]]
    assert table["index"] == [oracle.indexes("item").get(value, 0) for value in table["value"]]
    assert manifest.vocabularies["item"].size == max(table["index"]) + 1


def test_a_changed_vocabulary_is_not_read(prepared, tmp_path):
    path, manifest = prepared
    shutil.copytree(str(path / "out"), str(tmp_path / "out"))
    reverse_vocabulary(str(tmp_path / "out" / manifest.vocabularies["item"].path))
    with pytest.raises(DataError, match="item.parquet was changed after it was prepared: its SHA-256"):
        Vocabularies.load(str(tmp_path / "out"), manifest)


def test_rows_are_encoded_for_prediction_as_in_preparation(prepared, tmp_path):
    path, manifest = prepared
    # No labels, weight, group or key; another order of columns; values that nobody saw.
    names = ["years", "price", "city", "tags", "seen", "item", "user"]
    rows = [[dict(zip(COLUMNS, row))[name] for name in names]
            for row in TEST] + [["3", "?", "new", "", "", "i99", "u99"]]
    features = [feature.name for feature in TOY.features]
    frames = list(read_frames(TOY, [write(tmp_path / "p.tsv", text_of(rows, names))], features=features))
    vocabularies = Vocabularies.load(str(path / "out"), manifest)
    sparse, dense = encode_frame(frames[0], vocabularies)
    test = read_rows(path / "out", "test", 8)[:61]
    assert sparse[:61].tolist() == [row["sparse_feature"] for row in test]
    np.testing.assert_array_equal(dense[:61], np.array([row["dense_feature"] for row in test], np.float32))
    assert sparse[61].tolist() == hashes(["u99"]) + [0, -1, -1, -1, -1, -1, 0]
    assert dense[61, 1] == 3 and np.isnan(dense[61, 0]) and (sparse.dtype, dense.dtype) == (np.int64, np.float32)


def test_parquet_and_text_give_the_same_records(prepared, tmp_path):
    definition = parse_dataset(TOY_YAML.replace('format: csv, header: true, separator: "\\t"', "format: parquet"),
                               "p.yaml").definition
    paths = []
    for name, rows in (("a", TRAIN), ("b", TEST)):
        columns = {column: [row[place] for row in rows] for place, column in enumerate(COLUMNS)}
        table = {column: pa.array(values, pa.string()) for column, values in columns.items()}
        for column, kind, convert in (("years", pa.int32(), int), ("price", pa.float64(), float),
                                      ("click", pa.int8(), int), ("seconds", pa.float64(), float),
                                      ("w", pa.float64(), float)):
            table[column] = pa.array([convert(text) if text else None for text in columns[column]], kind)
        for column, separator in (("seen", ","), ("tags", "|")):
            table[column] = pa.array([text.split(separator) if text else [] for text in columns[column]])
        table["user"] = pa.array(columns["user"]).dictionary_encode()
        paths.append(str(tmp_path / (name + ".parquet")))
        pa.parquet.write_table(pa.table(table), paths[-1])
    prepare(preparation(tmp_path, definition=definition, train_paths=(paths[0],), test_paths=(paths[1],)))
    for split in ("train", "test"):
        assert "%s" % read_records(tmp_path / "out", split) == "%s" % read_records(prepared[0] / "out", split)


@pytest.mark.parametrize("changes", [
    {"reading": Reading(num_workers=3, block_bytes=700)}, {"reading": Reading(num_workers=2, block_bytes=64)}],
    ids=["3 threads", "tiny blocks"])
def test_threads_and_blocks_do_not_matter(prepared, tmp_path, changes):
    manifest = prepare(preparation(tmp_path, **changes))
    assert manifest.identity() == prepared[1].identity()
    assert manifest == prepared[1]


def test_rows_beyond_the_memory_budget_go_through_files(prepared, tmp_path):
    found = []
    for name, block in (("x", 500), ("y", 5000)):
        (tmp_path / name).mkdir()
        prepare(preparation(tmp_path / name, memory_bytes=2000, reading=Reading(num_workers=1, block_bytes=block)))
        found.append(read_rows(tmp_path / name / "out", "train", 8))
        assert sorted(os.listdir(str(tmp_path / name / "out"))) == ["manifest.json", "test", "train", "vocabulary"]
        assert "%s" % read_records(tmp_path / name / "out", "test") == "%s" % read_records(prepared[0] / "out", "test")
    assert "%s" % found[0] == "%s" % found[1]
    assert sorted(map(as_text, found[0])) == sorted(map(as_text, read_rows(prepared[0] / "out", "train", 8)))


def test_several_files_are_one_split(prepared, tmp_path):
    (tmp_path / "days").mkdir()
    write(tmp_path / "days" / "1.tsv", text_of(TRAIN[:90]))
    write(tmp_path / "days" / "2.tsv", text_of(TRAIN[90:]))
    for paths in ((str(tmp_path / "days"),), (str(tmp_path / "days" / "*.tsv"),)):
        manifest = prepare(preparation(tmp_path, train_paths=paths))
        assert [entry.name for entry in manifest.splits["train"].inputs] == ["1.tsv", "2.tsv"]
        assert "%s" % read_records(tmp_path / "out", "train") == "%s" % read_records(prepared[0] / "out", "train")


def test_tomorrow_continues_today(prepared, tmp_path):
    path, first = prepared
    newer = toy_rows(150, 9)
    for row in newer[::3]:
        row[2] = "new%s" % row[2]
    earlier = tmp_path / "model" / "data"
    os.makedirs(str(earlier))
    os.symlink(str(path / "out" / "manifest.json"), str(earlier / "manifest.json"))
    os.symlink(str(path / "out" / "vocabulary"), str(earlier / "vocabulary"))
    second = prepare(preparation(tmp_path, train_paths=(write(tmp_path / "c.tsv", text_of(newer)),),
                                 vocabulary_from=str(tmp_path / "model")))
    assert second.continues == first.identity()
    assert second.dense_statistics == first.dense_statistics and second.label_statistics == first.label_statistics
    before = pa.parquet.read_table(str(path / "out" / first.vocabularies["item"].path)).to_pydict()
    after = pa.parquet.read_table(str(tmp_path / "out" / second.vocabularies["item"].path)).to_pydict()
    size = len(before["value"])
    assert after["value"][:size] == before["value"] and len(after["value"]) > size
    seen = Oracle(TOY, COLUMNS).learn(TRAIN).learn(newer).order["item"]
    assert after["count"] == [seen.count(value) for value in after["value"]]
    numbered = first.vocabularies["item"].size
    for value, old in zip(before["value"], before["index"]):
        new = after["index"][after["value"].index(value)]
        assert new == old if old else (new == 0 and seen.count(value) < 2) or new >= numbered
    given = sorted(index for index in after["index"] if index)
    assert given == list(range(1, second.vocabularies["item"].size))


def test_values_are_rare_where_fewer_than_ten_rows_come_on_one(tmp_path):
    paths = [(write(tmp_path / ("%d.tsv" % count), text_of(toy_rows(count, 1))),) for count in (1500, 150)]
    many = prepare(preparation(tmp_path, train_paths=paths[0]))
    distinct = sum(info.distinct for info in many.vocabularies.values())
    assert 15 < distinct < 150 and many.has_rare_values is False
    few = preparation(tmp_path, train_paths=paths[1], output_path=str(tmp_path / "few"))
    assert prepare(few).has_rare_values is True
    # A day more does not make the values of a model rare.
    assert prepare(dataclasses.replace(few, vocabulary_from=str(tmp_path / "out"))).has_rare_values is False


def test_a_split_by_column_keeps_values_together_and_by_time_takes_the_last(tmp_path):
    def users(split):
        return {row["group"][0] for row in read_rows(tmp_path / "out", split, 1)}

    manifest = prepare(preparation(tmp_path, test_paths=(), line_per_sample=1, split=RowSplit(0.3, by_column="user")))
    assert not users("train") & users("test") and 20 < manifest.splits["test"].rows < 120
    assert manifest.splits["test"].rows + manifest.splits["train"].rows == 203
    manifest = prepare(preparation(tmp_path, test_paths=(), line_per_sample=1, split=RowSplit(0.25)))
    assert 30 < manifest.splits["test"].rows < 75
    manifest = prepare(preparation(tmp_path, test_paths=(), line_per_sample=1, split=RowSplit(0.1, by_time="years")))
    years = [row["dense_feature"][1] for row in read_rows(tmp_path / "out", "test", 1)]
    assert min(years) > max(row["dense_feature"][1] for row in read_rows(tmp_path / "out", "train", 1))
    assert 20 <= len(years) <= 25
    # A number with gaps is a text here and stays a number there.
    manifest = prepare(preparation(tmp_path, test_paths=(), line_per_sample=1, split=RowSplit(0.3, by_column="price")))
    prices = [{str(row["dense_feature"][0]) for row in read_rows(tmp_path / "out", split, 1)}
              for split in ("train", "test")]
    assert not prices[0] & prices[1] and "nan" in prices[0] | prices[1]
    with pytest.raises(DataError, match="split_by_time needs numbers, or dates"):
        prepare(preparation(tmp_path, test_paths=(), split=RowSplit(0.1, by_time="city")))


@pytest.mark.parametrize("rule", [
    RowSplit(0.3), RowSplit(0.3, seed=5), RowSplit(0.3, by_column="user"), RowSplit(0.3, by_time="years")])
def test_rows_that_are_held_back_are_in_neither_part(tmp_path, rule):
    outer = preparation(tmp_path, test_paths=(), line_per_sample=1, split=rule)
    manifest = prepare(outer)
    assert manifest.row_split == read_manifest(str(tmp_path / "out")).row_split == rule
    inner = dataclasses.replace(outer, split=dataclasses.replace(rule, share=0.4, seed=9), held_back=rule,
                                output_path=str(tmp_path / "inner"))
    splits = prepare(inner).splits
    assert splits["train"].rows + splits["test"].rows == manifest.splits["train"].rows
    assert 0.2 < splits["test"].rows / manifest.splits["train"].rows < 0.6
    groups, years = ({(folder, split): [row[name][place] for row in read_rows(tmp_path / folder, split, 1)]
                      for folder in ("out", "inner") for split in ("train", "test")}
                     for name, place in (("group", 0), ("dense_feature", 1)))
    for found in (groups, years):
        assert sorted(found["inner", "train"] + found["inner", "test"]) == sorted(found["out", "train"])
    if rule.by_column:
        assert not set(groups["inner", "train"]) & set(groups["inner", "test"])
    if rule.by_time:
        assert max(years["inner", "train"]) < min(years["inner", "test"])
        assert max(years["inner", "test"]) < min(years["out", "test"])


@pytest.mark.parametrize("changes, message", [
    ({"line_per_sample": 0}, "line_per_sample 0"), ({"num_shards": 0}, "num_shards"), ({"seed": -1}, "seed"),
    ({"vocabulary_splits": ("test",)}, "vocabulary_splits"), ({"test_paths": ()}, "no test rows"),
    ({"split": RowSplit(0.1)}, "leave out --test_data_path"),
    ({"test_paths": (), "split": RowSplit(0.1, by_column="click")}, "--split_by click: a split by a label"),
    ({"reading": Reading(num_workers=1000)}, "num_workers"), ({"reading": Reading(max_bad_rows="x")}, "max_bad_rows")])
def test_settings_are_checked(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        prepare(preparation(tmp_path, **changes))
    assert not os.path.exists(str(tmp_path / "out"))


def test_what_was_there_stays_when_a_preparation_fails(tmp_path):
    prepare(preparation(tmp_path))
    before = read_bytes(tmp_path / "out" / "manifest.json")
    bad = write(tmp_path / "bad.tsv", text_of([["x"] * 13]))
    with pytest.raises(DataError, match="bad.tsv"):
        prepare(preparation(tmp_path, test_paths=(bad,)))
    assert read_bytes(tmp_path / "out" / "manifest.json") == before
    assert sorted(os.listdir(str(tmp_path))) == ["a.tsv", "b.tsv", "bad.tsv", "out"]
    write(tmp_path / "mine.txt", "precious")
    for target in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(DataError, match="give another --output_path"):
            prepare(preparation(tmp_path, output_path=str(target)))
    assert read_bytes(tmp_path / "mine.txt") == b"precious"


def test_leftovers_of_dead_processes_of_this_host_are_removed(tmp_path, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = socket.gethostname()
    gone = tmp_path / (".out.partial-%s-%d-00" % (host, dead.pid))
    alive = tmp_path / (".out.partial-%s-%d-00" % (host, os.getpid()))
    other = tmp_path / (".out.partial-elsewhere-%d-00" % dead.pid)
    replaced = tmp_path / (".out.replaced-%s-%d-00" % (host, dead.pid))
    for folder in (gone, alive, other, replaced):
        folder.mkdir()
    (replaced / "manifest.json").write_text("{}")
    with pytest.raises(RuntimeError), output_directory.atomic_directory(str(tmp_path / "out")):
        raise RuntimeError
    assert sorted(os.listdir(str(tmp_path))) == sorted([alive.name, other.name, "out"])
    assert (tmp_path / "out" / "manifest.json").read_text() == "{}"
    monkeypatch.setattr(output_directory, "_exchange", lambda *paths: False)
    monkeypatch.setattr(output_directory, "_check_replaceable", lambda path: None)
    with output_directory.atomic_directory(str(tmp_path / "out")) as folder:
        write(os.path.join(folder, "manifest.json"), "{1}")
    assert (tmp_path / "out" / "manifest.json").read_text() == "{1}"


def test_what_no_preparation_wrote_is_not_replaced(tmp_path):
    out = tmp_path / "out"
    prepare(preparation(tmp_path))
    for name, text in (("train/thesis.txt", "holds train/thesis.txt"), ("raw.csv", "holds raw.csv"),
                       ("raw/log.csv", "holds raw/log.csv"), ("raw/sub/x", "holds raw/sub/x"),
                       ("model/model.ckpt-1.index", "model.ckpt-1.index")):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
        with pytest.raises(DataError, match=text + ", which no preparation wrote, and is not replaced"):
            prepare(preparation(tmp_path))
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    prepare(preparation(tmp_path))
    (out / "manifest.json").write_text('{"name": "web app"}')
    with pytest.raises(DataError, match="manifest.json that no preparation wrote"):
        prepare(preparation(tmp_path))


def test_a_link_stays_a_link_and_a_models_copy_is_not_replaced(tmp_path):
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "big")
    for _ in range(2):
        prepare(preparation(tmp_path, output_path=str(tmp_path / "link")))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "big" / "manifest.json").exists()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "args.json").write_text("{}")
    (tmp_path / "big").rename(tmp_path / "model" / "data")
    with pytest.raises(DataError, match="is a model's own copy"):
        prepare(preparation(tmp_path, output_path=str(tmp_path / "model" / "data")))


def test_duplicates_are_counted_up_to_a_bound(tmp_path):
    rows = toy_rows(50, 3)
    path = write(tmp_path / "d.tsv", text_of(rows + rows[:7] + rows[:2]))
    settings = preparation(tmp_path, train_paths=(path,))
    assert prepare(settings).splits["train"].duplicates == 9
    assert prepare(dataclasses.replace(settings, duplicate_row_cap=40)).splits["train"].duplicates is None


def split_by_time(tmp_path, times, share=0.25):
    rows = [row[:12] + [time] for row, time in zip(toy_rows(len(times), 3), times)]
    path = write(tmp_path / "t.tsv", text_of(rows))
    prepare(preparation(tmp_path, train_paths=(path,), test_paths=(), line_per_sample=1,
                        split=RowSplit(share, by_time="unused")))
    return [row["dense_feature"][1] for row in read_rows(tmp_path / "out", "test", 1)], rows


@pytest.mark.parametrize("times, last", [
    (["2024-05-31T12:00:00+02:00", "2024-05-31T12:00:00Z", "2024-05-31T12:00:00-0800", "2024-05-31 11:00:00"], 2),
    (["2024-06-02", "2024-05-31", "2024-06-03", "2024-06-01 23:59:59"], 2),
    (["2024-05-31 12:00:00.000000001", "2024-05-31 12:00:00.123456789", "2024-05-31 12:00:00", "2024-05-31"], 1),
    (["3", "-1", "2.5e3", "10"], 2)])
def test_times_with_and_without_zones_are_put_in_order(tmp_path, times, last):
    found, rows = split_by_time(tmp_path, times)
    assert found == [float(rows[last][7])]


@pytest.mark.parametrize("times, message", [
    (["3", "nan", "5"], "line 3: column unused 'nan' is not a time"),
    (["3", "5", "inf"], "line 4: .*'inf' is not a time"),
    (["2024-05-31", "", "2024-06-01"], "t.tsv line 3: column unused is empty; --split_by_time needs numbers, or dates"),
    (["2024-05-31", "2024-06-01", "31.5.2024"], "line 4: column unused '31.5.2024' is not a time"),
    (["2024-05-31T12:00:00+02:00", "2024-05-31T12:00:00+2:00"], r"line 3: column unused '.*\+2:00' is not a time")])
def test_a_cell_that_is_no_time_is_named_with_its_row(tmp_path, times, message):
    with pytest.raises(DataError, match=message):
        split_by_time(tmp_path, times)


def test_a_share_of_half_a_row_is_no_row(tmp_path):
    with pytest.raises(DataError, match="no rows for the test split"):
        split_by_time(tmp_path, ["1", "2"], share=0.25)


def test_labels_that_contradict_given_are_counted(tmp_path):
    splits = prepare(preparation(tmp_path)).splits
    for name, rows in (("train", TRAIN), ("test", TEST)):
        cells = [dict(zip(COLUMNS, row)) for row in rows]
        count = sum(cell["bought"] == "yes" and cell["click"] == "0" for cell in cells)
        assert count and splits[name].contradictions == {"buy": count}


def test_bad_rows_of_files_that_are_split_count_once(tmp_path):
    path = write(tmp_path / "c.tsv", text_of(TRAIN) + "x\ty\n")
    splits = prepare(preparation(tmp_path, train_paths=(path,), test_paths=(), split=RowSplit(0.3),
                                 reading=Reading(max_bad_rows=1))).splits
    assert splits["train"].bad_rows == {"number of fields": 1} and splits["test"].bad_rows == {}


def test_rows_without_a_group_are_marked(tmp_path):
    rows = [row[:1] + ["" if place % 3 == 0 else row[1]] + row[2:] for place, row in enumerate(toy_rows(60))]
    prepare(preparation(tmp_path, test_paths=(write(tmp_path / "g.tsv", text_of(rows)),), line_per_sample=1))
    groups = [row["group"][0] for row in read_rows(tmp_path / "out", "test", 1)]
    assert [group == 0 for group in groups] == [row[1] == "" for row in rows]
