"""``predict``: every row of every file has its line, whatever is in it; the numbers are those of the formulas."""
import collections
import dataclasses
import functools
import gzip
import io
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from sklearn.metrics import roc_auc_score

from estimator_app.model_dir import history
from estimator_app.serving import predict as predict_module
from estimator_app.serving.predict import Prediction, predict
from feature_specs.errors import ConfigError, DataError
from tests.support import cli_runner, rows, served

make_scorer = predict_module.make_scorer


@functools.lru_cache()
def scorer_of(model_dir):
    return make_scorer(predict_module.read_model(model_dir, "latest"), 1)


@pytest.fixture(autouse=True)
def one_graph(monkeypatch, request):
    """The graph of a model is built once for all tests that score with it."""
    if "own" not in request.fixturenames:
        monkeypatch.setattr(predict_module, "make_scorer",
                            lambda trained, threads: scorer_of(trained.model.config.model_dir))


class Runner:
    """Scores files of rows into a file and reads it back."""

    def __init__(self, place, folder):
        self.model, self.folder = place.model, folder
        self.target = str(folder / "scores.csv")

    def input(self, content, name="rows.tsv"):
        return rows.write(self.folder / name, content if isinstance(content, (bytes, str)) else rows.text_of(
            content, served.COLUMNS))

    def __call__(self, *paths, **options):
        options.setdefault("threads", 1)
        self.done = predict(Prediction(self.model, "latest", paths, self.target, **options))
        with (gzip.open if self.target.endswith(".gz") else open)(self.target, "rb") as stream:
            return pd.read_csv(io.BytesIO(stream.read()), dtype={"key": str}, skip_blank_lines=False)


@pytest.fixture
def run(place, tmp_path):
    return Runner(place, tmp_path)


@pytest.fixture(scope="module")
def formulas(place):
    return served.Formulas(place.trained(), served.train_rows())


def outputs_of(frame):
    return {name: frame[name].to_numpy(np.float64) for name in frame.columns if name != "key"}


def test_predictions_are_those_of_the_formulas(run, formulas):
    cells = served.odd_rows() + served.test_rows()
    found = run(run.input(cells))
    assert list(found.columns) == ["key"] + served.OUTPUTS and (run.done.rows, run.done.bad_rows) == (len(cells), 0)
    assert found["key"].tolist() == [row[0] for row in cells]
    served.assert_agree(outputs_of(found), formulas.outputs(cells), 2e-6, 2e-5)
    assert found["watch"].max() > 1.5 and found["click"].nunique() > 100


def test_predictions_are_those_of_the_saved_model(run, place, exported):
    cells = served.odd_rows() + served.test_rows()
    found = run(run.input(cells))
    dataset = place.trained().model.manifest.dataset
    served.assert_agree(exported.client("raw", **served.raw_inputs(dataset, cells)), outputs_of(found))


def test_scores_of_predictions_are_those_of_the_evaluation(run, place):
    found = run(place.raw)
    evaluated = history.evaluations(place.model)[-1]
    labels = {name: [row[served.COLUMNS.index(name)] for row in served.test_rows()] for name in served.COLUMNS}
    clicks = np.array([{"1": 1, "0": 0}.get(text, -1) for text in labels["click"]])
    known = clicks >= 0
    assert evaluated["auc_click"] == pytest.approx(roc_auc_score(clicks[known], found["click"][known]), abs=1e-6)
    bought = np.array([text == "yes" for text in labels["bought"]])
    assert evaluated["auc_buy"] == pytest.approx(roc_auc_score(bought, found["buy"]), abs=1e-6)
    rated = np.array([text in ("0", "1") for text in labels["rated"]]) & (clicks == 1)
    assert evaluated["auc_rate"] == pytest.approx(roc_auc_score(
        [text == "1" for text, use in zip(labels["rated"], rated) if use], found["rate"][rated]), abs=1e-6)
    watched = np.array([text != "" for text in labels["seconds"]]) & (clicks == 1)
    seconds = np.array([float(text or 0) for text in labels["seconds"]])
    errors = np.log1p(found["watch"]) - np.log1p(seconds)
    assert evaluated["rmse_watch"] == pytest.approx(np.sqrt(np.mean(errors[watched] ** 2)), rel=1e-5)
    groups = collections.defaultdict(list)
    for user, click, score in zip(labels["user"], clicks, found["click"]):
        if click >= 0:
            groups[user].append((click, score))
    total = weight = 0.0
    for pairs in groups.values():
        ones, zeros = ([score for click, score in pairs if click == wanted] for wanted in (1, 0))
        if ones and zeros:
            wins = np.mean([(one > zero) + 0.5 * (one == zero) for one in ones for zero in zeros])
            total, weight = total + wins * len(pairs), weight + len(pairs)
    assert evaluated["gauc_click"] == pytest.approx(total / weight, abs=1e-6)


@pytest.mark.parametrize("batch_size, threads", [(7, 1), (1, 2), (4096, 2)])
def test_neither_batches_nor_threads_change_a_line(run, place, batch_size, threads):
    expected = run(place.raw)
    found = run(place.raw, batch_size=batch_size, threads=threads)
    served.assert_agree(outputs_of(found), outputs_of(expected), 3e-7, 2e-6)
    assert found["key"].tolist() == expected["key"].tolist()


def test_labels_weight_and_key_may_be_absent_and_labels_may_be_anything(run):
    cells = served.test_rows()
    expected = run(run.input(cells))
    kept = [column for column in served.COLUMNS if column not in served.LABELS + ("key",)]
    short = [[row[served.COLUMNS.index(column)] for column in kept] for row in cells]
    found = run(run.input(rows.text_of(short, kept)))
    assert found["key"].isnull().all()
    odd = [["what?" if column in served.LABELS else cell for column, cell in zip(served.COLUMNS, row)] for row in cells]
    for row in odd:
        row[served.COLUMNS.index("seconds")] = ""
        row[served.COLUMNS.index("w")] = ""
    for other in (found, run(run.input(odd))):
        pd.testing.assert_frame_equal(other[served.OUTPUTS], expected[served.OUTPUTS], check_exact=True)


@pytest.mark.parametrize("columns, message", [
    (["city"], "column city is not in.*rows.tsv"), (["years"], "column years")])
def test_a_feature_may_not_be_absent(run, columns, message):
    kept = [column for column in served.COLUMNS if column not in columns]
    cells = [[row[served.COLUMNS.index(column)] for column in kept] for row in served.test_rows()]
    with pytest.raises(DataError, match=message):
        run(run.input(rows.text_of(cells, kept)))


def test_a_number_that_the_model_dropped_may_be_absent(own, tmp_path):
    path = os.path.join(own.model, "args.json")
    with open(path) as stream:
        stored = stream.read()
    assert stored.count('"drop_dense": []') == 1
    rows.write(path, stored.replace('"drop_dense": []', '"drop_dense": ["score"]'))
    run = Runner(own, tmp_path)
    expected = run(own.raw)
    kept = [column for column in served.COLUMNS if column != "score"]
    cells = [[row[served.COLUMNS.index(column)] for column in kept] for row in served.test_rows()]
    pd.testing.assert_frame_equal(run(run.input(rows.text_of(cells, kept))), expected)


def test_bad_rows_leave_lines_without_values(run):
    cells = served.test_rows()
    expected = run(run.input(cells))
    lines = rows.text_of(cells, served.COLUMNS).splitlines(True)
    bad = {0: "too\tfew\n", 3: "\n", 40: lines[41].replace("\t", "\tmuch\t"), 41: "\t".join(
        ["k", "u", "i", "", "", "", "Rome", "no number", "3", "1"] + [""] * 7) + "\n", 89: "x\n"}
    for place, text in bad.items():
        lines[1 + place] = text
    path = run.input("".join(lines))
    for options in ({"max_bad_rows": 5}, {"max_bad_rows": "6%", "batch_size": 3}):
        found = run(path, **options)
        assert len(found) == 90 and (run.done.rows, run.done.bad_rows) == (90, 5)
        assert np.flatnonzero(found["click"].isnull()).tolist() == sorted(bad)
        assert found.loc[sorted(bad)].isnull().all(axis=None)
        good = sorted(set(range(90)) - set(bad))
        served.assert_agree(outputs_of(found.loc[good]), outputs_of(expected.loc[good]), 3e-7, 2e-6)
        assert found["key"][good].tolist() == expected["key"][good].tolist()
    before = rows.read_bytes(run.target)
    for limit in (4, "1%"):
        with pytest.raises(DataError, match="rows cannot be used.*--max_bad_rows"):
            run(path, max_bad_rows=limit)
    assert rows.read_bytes(run.target) == before and sorted(os.listdir(str(run.folder))) == ["rows.tsv", "scores.csv"]


def test_only_bad_rows(run):
    found = run(run.input(rows.text_of([], served.COLUMNS) + "a\nb\nc\n"), max_bad_rows="100%")
    assert len(found) == 3 and found.isnull().all(axis=None) and list(found.columns) == ["key"] + served.OUTPUTS


def test_blank_lines_at_the_end_are_no_rows(run):
    text = rows.text_of(served.test_rows()[:5], served.COLUMNS)
    assert len(run(run.input(text + "\n\r\n\n"))) == 5
    assert len(run(run.input(text.rstrip("\n")))) == 5


def test_a_file_that_holds_a_header_only(run):
    found = run(run.input([]))
    assert len(found) == 0 and list(found.columns) == ["key"] + served.OUTPUTS and run.done.rows == 0
    found = run(run.input(served.test_rows()[:2]), run.input([], "none.tsv"),
                run.input(served.test_rows()[2:3], "one.tsv"))
    assert found["key"].tolist() == ["k0", "k1", "k2"]
    with pytest.raises(DataError, match="nothing.tsv has no usable row; it is empty"):
        run(run.input("", "nothing.tsv"))


def test_several_files_folders_and_patterns_in_order(run):
    cells = served.test_rows()
    (run.folder / "more").mkdir()
    paths = [run.input(cells[:30], "b.tsv"), run.input(cells[30:40], "a.tsv"), run.input(cells[40:41], "more/z.tsv"),
             run.input(cells[41:60], "more/y.tsv")]
    found = run(paths[0], str(run.folder / "a*"), str(run.folder / "more"))
    assert found["key"].tolist() == ["k%d" % number for number in list(range(40)) + list(range(41, 60)) + [40]]


def test_parquet(run, place, monkeypatch):
    cells = served.test_rows()
    expected = run(run.input(cells))
    table = {}
    for number, column in enumerate(served.COLUMNS):
        texts = [row[number] or None for row in cells]
        if column in ("seen", "tags", "likes"):
            separator = {"seen": ",", "tags": "|", "likes": ";"}[column]
            table[column] = pa.array([text.split(separator) if text else [] for text in texts], pa.list_(pa.string()))
        elif column in ("price", "years", "score"):
            table[column] = pa.array([float(text) if text else None for text in texts])
        elif column not in served.LABELS:
            table[column] = pa.array(texts, pa.string())
    pyarrow.parquet.write_table(pa.table(table), str(run.folder / "rows.parquet"))
    read_model = predict_module.read_model

    def of_parquet(*arguments):
        trained = read_model(*arguments)
        dataset = trained.model.manifest.dataset
        files = dataclasses.replace(dataset.files, format="parquet")
        manifest = dataclasses.replace(trained.model.manifest, dataset=dataclasses.replace(dataset, files=files))
        return dataclasses.replace(trained, model=dataclasses.replace(trained.model, manifest=manifest))

    monkeypatch.setattr(predict_module, "read_model", of_parquet)
    found = run(str(run.folder / "rows.parquet"))
    pd.testing.assert_frame_equal(found, expected)
    with pytest.raises(ConfigError, match="--input - takes text"):
        run("-")


def test_jsonl_has_the_same_numbers(run, place):
    expected = run(place.raw)
    predict(Prediction(run.model, "latest", (place.raw,), run.target, "jsonl", threads=1))
    with open(run.target) as stream:
        found = pd.DataFrame([json.loads(line, object_pairs_hook=collections.OrderedDict) for line in stream])
    assert list(found.columns) == list(expected.columns) and found["key"].tolist() == expected["key"].tolist()
    for name in served.OUTPUTS:
        np.testing.assert_array_equal(np.float32(found[name]), np.float32(expected[name]))
    run.input(rows.text_of(served.test_rows()[:1], served.COLUMNS) + "bad\n")
    predict(Prediction(run.model, "latest", (str(run.folder / "rows.tsv"),), run.target, "jsonl", max_bad_rows=1))
    with open(run.target) as stream:
        last = json.loads(stream.read().splitlines()[-1])
    assert last == dict.fromkeys(["key"] + served.OUTPUTS)


def test_jsonl_is_json_whatever_keys_and_numbers_are(run, monkeypatch):
    scores = np.float32([[0.25] * 6 + [np.inf], [1e-10] * 6 + [-3.4e38], [0.1] * 6 + [0.0]])
    monkeypatch.setattr(predict_module, "make_scorer", lambda trained, threads: lambda sparse, dense: scores)
    keys = ['a "quoted" \\ Zürich', "", "1"]
    cells = [[key] + list(row[1:]) for key, row in zip(keys, served.test_rows())]
    path = run.input(rows.text_of(cells, served.COLUMNS))
    predict(Prediction(run.model, "latest", (path,), run.target, "jsonl"))
    with open(run.target, encoding="utf-8") as stream:
        found = [json.loads(line, parse_constant=pytest.fail) for line in stream]
    assert [line["key"] for line in found] == keys
    assert found[0]["watch"] is None and found[0]["click"] == 0.25
    np.testing.assert_array_equal(np.float32([list(line.values())[1:] for line in found[1:]]), scores[1:])


def test_gzip_in_and_out(run, place):
    expected = run(place.raw)
    path = run.input(gzip.compress(rows.read_bytes(place.raw)), "rows.tsv.gz")
    run.target += ".gz"
    pd.testing.assert_frame_equal(run(path), expected)


def test_pipes_in_and_out(run, place):
    expected = run(place.raw)
    ends = [str(run.folder / name) for name in ("in", "out")]
    for end in ends:
        os.mkfifo(end)
    found = []
    threads = [threading.Thread(target=rows.write, args=(ends[0], rows.read_bytes(place.raw))),
               threading.Thread(target=lambda: found.append(rows.read_bytes(ends[1])))]
    for thread in threads:
        thread.start()
    predict(Prediction(run.model, "latest", (ends[0],), ends[1], threads=1))
    for thread in threads:
        thread.join(30)
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(found[0])), expected)


def test_an_input_is_no_output(run, place):
    path = run.input(served.test_rows())
    before = rows.read_bytes(path)
    run.target = str(run.folder / "link")
    os.symlink(path, run.target)
    with pytest.raises(ConfigError, match="is an input file; give another name"):
        run(path)
    assert rows.read_bytes(path) == before


@pytest.mark.parametrize("options, message", [
    ({"format": "xml"}, "format 'xml' is not known"), ({"batch_size": 0}, "batch_size 0"),
    ({"threads": -1}, "threads -1"),
    ({"max_bad_rows": "some"}, "max_bad_rows 'some'")])
def test_settings_out_of_range(run, place, options, message):
    with pytest.raises(ConfigError, match=message):
        run(place.raw, **options)


def test_a_file_that_is_not_there(run):
    with pytest.raises(DataError, match="nowhere.tsv: no such file"):
        run(str(run.folder / "nowhere.tsv"))
    assert os.listdir(str(run.folder)) == []


@pytest.mark.long
def test_standard_streams_of_the_command(place, tmp_path):
    def command(*flags, **options):
        return subprocess.run([sys.executable, "-m", "estimator_app", "predict", "--model_dir", place.model,
                               *flags], cwd=str(tmp_path), env=cli_runner._environment(),
                              stderr=subprocess.PIPE, **options)

    data = rows.read_bytes(place.raw)
    whole = command("--input", place.raw, "--output", "p.csv", stdout=subprocess.PIPE)
    assert whole.returncode == 0 and b"90 rows of" in whole.stdout
    expected = rows.read_bytes(tmp_path / "p.csv")
    assert len(expected.splitlines()) == 91
    for content in (data, gzip.compress(data)):
        done = command("--input", "-", "--output", "-", input=content, stdout=subprocess.PIPE)
        assert done.returncode == 0 and done.stdout == expected and b"90 rows of - scored into -" in done.stderr
    with open(str(tmp_path / "q.csv"), "wb") as stream:
        assert command("--input", place.raw, "--output", "/dev/stdout", stdout=stream).returncode == 0
    assert rows.read_bytes(tmp_path / "q.csv") == expected and os.path.islink("/dev/stdout")
    bad = command("--input", "-", "--output", "-", input=data + b"bad\n", stdout=subprocess.PIPE)
    assert bad.returncode == 1 and bad.stderr.startswith(b"error: standard input: 1 of the first 91 rows")
    shell = ("%s -m estimator_app predict --model_dir %s --input %s --output - --batch_size 1 | head -1; "
             "echo ${PIPESTATUS[*]}")
    # More output than a pipe holds.
    many = rows.write(tmp_path / "many.tsv", data + b"".join(data.splitlines(True)[1:] * 40))
    done = subprocess.run(["bash", "-c", shell % (sys.executable, place.model, many)], cwd=str(tmp_path),
                          env=cli_runner._environment(), capture_output=True)
    assert done.stdout.splitlines() == [expected.splitlines()[0], b"141 0"] and done.stderr == b""


@pytest.mark.parametrize("threads", [-1, 1025, 30000])
def test_threads_out_of_range(threads):
    with pytest.raises(ConfigError, match="threads %d: give at least 1 row, and 0 to 1024 threads" % threads):
        predict(Prediction("absent", "latest", ("x",), "y", threads=threads))


@pytest.mark.parametrize("name", ["model/args.json", "model/data/manifest.json", "model/checkpoint",
                                  "model/best/best.json", "model/metrics.jsonl", "model/data/vocabulary/item.parquet",
                                  "data/manifest.json", "data/train/new.csv"])
def test_files_of_a_model_and_of_data_are_no_outputs(own, name):
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(own.root) for name in names]
    before = {path: rows.read_bytes(path) for path in paths}
    with pytest.raises(ConfigError, match="is a file of a model or of prepared data; give another name"):
        predict(Prediction(own.model, "latest", (own.raw,), os.path.join(own.root, name), threads=1))
    assert before == {path: rows.read_bytes(path) for path in paths}
    assert name != "data/train/new.csv" or not os.path.exists(os.path.join(own.root, name))


def test_a_file_that_is_named_twice_is_scored_twice(run):
    path = run.input(served.test_rows()[:3])
    found = run(path, path)
    assert len(found) == 6 and found["key"][:3].tolist() == found["key"][3:].tolist()


def test_a_file_of_another_format_is_named_with_what_is_expected(run, tmp_path):
    path = str(tmp_path / "rows.parquet")
    pa.parquet.write_table(pa.table({"user": ["u1"]}), path)
    with pytest.raises(DataError, match="rows.parquet is a Parquet file; the data .* trained on last is text: write"):
        run(path)
