"""The protocol's arithmetic, the arrays that peers get, and the joined film ratings."""
import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, roc_auc_score

from benchmarks import _data, _peers, _public, quality
from feature_specs.dataset_file import load_dataset
from feature_specs.errors import ConfigError
from preprocessing.pipeline import Preparation, prepare
from tests.support.rows import TOY, read_rows, text_of, toy_rows, write

RUNS = [{"seed": seed, "auc_a": value, "auc_b": 0.9, "rmse_c": None, "loss": 0.3, "seconds": 4.0}
        for seed, value in ((1, 0.94), (2, 0.96))]


def test_summary_is_mean_and_spread_of_what_is_defined():
    found = quality.summary(RUNS)
    assert sorted(found) == ["auc_a", "auc_b", "seconds"]
    assert found["auc_a"]["mean"] == pytest.approx(0.95)
    assert found["auc_a"]["spread"] == pytest.approx(0.0141421, abs=1e-6)
    assert quality.summary(RUNS[:1])["auc_a"]["spread"] == 0.0


def test_means_below_their_bounds_fail():
    found = quality.summary(RUNS)
    assert quality.failures(found, {"auc_a": 0.95, "auc_b": 0.9}) == []
    assert quality.failures(found, {"auc_a": 0.951}) == ["auc_a: mean 0.95000 is below 0.95100"]
    assert "auc_c: mean nan" in quality.failures(found, {"auc_c": 0.5})[0]


@pytest.mark.parametrize("bound, flags, status", [
    (0.95, [], 0), (0.96, [], 1), (0.96, ["--preset", "default"], 0), (0.96, ["--validation", "1"], 0)])
def test_the_exit_status_is_the_verdict_on_the_settings_of_the_data_set(tmp_path, monkeypatch, capsys, bound, flags,
                                                                        status):
    path = tmp_path / "baselines.json"
    path.write_text(json.dumps({"census": {"auc_a": bound}}))
    monkeypatch.setattr(quality, "BASELINES", str(path))
    monkeypatch.setattr(_public.DataSet, "make", lambda self, source, directory: ("a", "b"))
    monkeypatch.setattr(quality, "prepare", lambda *arguments: "data")
    monkeypatch.setattr(quality, "measure", lambda data, directory, seeds, flags, threads: RUNS)
    assert quality.main(["--source", str(tmp_path), *flags]) == status
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[0])["passed"] == (status == 0)
    assert ("failed: auc_a" in printed.err) == (status == 1)


@pytest.mark.parametrize("name", ["census", "films", "adult"])
def test_without_the_files_it_says_what_to_give(name, capsys):
    assert quality.main(["--dataset", name, "--source", ""]) == 2
    told = capsys.readouterr().err
    assert " is not given" in told and "--source" in told


def test_a_flag_that_nobody_knows_is_refused_before_anything_is_prepared(monkeypatch, capsys):
    monkeypatch.setattr(_public.DataSet, "make", None)
    with pytest.raises(SystemExit):
        quality.main(["--quick"])
    assert "unknown flag --quick; " in capsys.readouterr().err
    with pytest.raises(ConfigError, match="cache_mode 'mmo' is not allowed"):
        quality.main(["--cache_mode", "mmo"])


def test_another_file_than_the_published_one_is_refused(tmp_path, capsys):
    for name in _public.DATA_SETS["adult"].files:
        write(tmp_path / name, "1, 2, 3\n")
    assert quality.main(["--dataset", "adult", "--source", str(tmp_path)]) == 2
    assert "has the SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(_public.DATA_SETS))
def test_dataset_files_are_sound(name):
    assert load_dataset(_public.DATA_SETS[name].dataset).definition.name == name.rstrip("2345")


def test_film_ratings_are_joined_with_users_and_films(tmp_path):
    write(tmp_path / "u.user", "7|24|M|artist|85711\n")
    write(tmp_path / "u.item", b"9|Fran\xe7ais (1995)|01-Jan-1995||url|%s\n" % b"|".join(
        [b"1" if place in (1, 18) else b"0" for place in range(19)]))
    write(tmp_path / "u1.base", "7\t9\t4\t874965758\n7\t9\t3\t874965758\n")
    write(tmp_path / "u1.test", "7\t9\t5\t874965758\n")
    train, test = _public._films(1, str(tmp_path), str(tmp_path))
    with open(train, encoding="utf-8") as stream:
        lines = stream.read().splitlines()
    assert lines == ["\t".join(_public._FILMS_COLUMNS),
                     "7\t9\tAction|Western\tM\tartist\t85\t24\t1995\t1\t4",
                     "7\t9\tAction|Western\tM\tartist\t85\t24\t1995\t0\t3"]
    with open(test, encoding="utf-8") as stream:
        assert stream.read().splitlines()[1].endswith("\t1\t5")


def test_the_peers_area_is_that_of_scikit_learn():
    random = np.random.RandomState(1)
    labels, scores = random.randint(0, 2, 500), random.randint(0, 40, 500).astype(float)
    assert _peers.area(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_shop_apart_is_the_shop_without_given():
    shop, apart = (load_dataset(_public.DATA_SETS[name].dataset).definition for name in ("shop", "shop_apart"))
    assert any(task.given for task in shop.tasks)
    tasks = tuple(dataclasses.replace(task, given="") for task in shop.tasks)
    assert dataclasses.replace(shop, name=apart.name, tasks=tasks) == apart


def test_deepctrs_outputs_are_judged_in_the_units_of_the_transform():
    random = np.random.RandomState(2)
    train, test = (np.column_stack([random.randint(0, 2, count), random.gamma(2.0, 3.0, count)])
                   for count in (300, 200))
    tasks = [{"name": "click", "type": "binary"}, {"name": "watch", "type": "regression", "transform": "log"}]
    scores, logs = random.rand(200, 1), random.normal(1.0, 1.0, (200, 1))
    # The model predicts in standard deviations of the training labels.
    scaled = (logs - np.log1p(train[:, 1]).mean()) / np.log1p(train[:, 1]).std()
    found = _peers.deepctr_metrics([scores, scaled], tasks, train, test)
    assert found["auc_click"] == pytest.approx(roc_auc_score(test[:, 0], scores[:, 0]), abs=1e-12)
    assert found["rmse_watch"] == pytest.approx(mean_squared_error(np.log1p(test[:, 1]), logs[:, 0]) ** 0.5, rel=1e-5)
    assert _peers.deepctr_metrics(scores, tasks[:1], train[:, :1], test[:, :1]) == {"auc_click": found["auc_click"]}


def test_peers_get_the_rows_of_the_records_without_padding(tmp_path):
    paths = [write(tmp_path / name, text_of(toy_rows(count, seed))) for name, count, seed in (("a", 30, 1),
                                                                                              ("b", 11, 2))]
    output = str(tmp_path / "data")
    prepare(Preparation(TOY, (paths[0],), (paths[1],), output, line_per_sample=4))
    _data.write_arrays(output, "test", str(tmp_path / "test.npz"))
    rows = _peers.Rows(str(tmp_path / "test.npz"))
    expected = [row for row in read_rows(output, "test", 4) if not np.isinf(row["label"][0])]
    assert rows.label.shape == (11, 3) and len(expected) == 11
    np.testing.assert_array_equal(rows.label, np.array([row["label"] for row in expected], np.float32))
    np.testing.assert_array_equal(rows.sparse, [row["sparse_feature"] for row in expected])
    np.testing.assert_array_equal(rows.dense, np.array([row["dense_feature"] for row in expected], np.float32))
    with open(_data.specification(output, str(tmp_path / "s.json"), more=1), encoding="utf-8") as stream:
        given = json.load(stream)
    assert given["more"] == 1 and [field["width"] for field in given["fields"]] == [1, 1, 3, 2, 1]
    assert max(rows.sparse[:, 1]) < given["fields"][1]["values"]
