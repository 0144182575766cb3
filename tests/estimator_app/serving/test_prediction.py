"""Prediction of raw text: order, formats, bad rows, bounded pieces."""
import gzip
import io
import json
import os

import numpy as np
import pytest

from estimator_app.serving import predict as prediction
from estimator_app.serving.export import _graph_expected, read_model
from estimator_app.serving.predict import predict_file
from feature_specs.errors import UserError
from tests.estimator_app.serving.serving_models import make_model, raw_lines

TASKS = ("click", "buy", "stay")


class Trained:
    def __init__(self, root):
        self.config, self.manifest, arrays = make_model(root, keep_data=False)
        ids, dense, labels = arrays["train"]
        self.lines = raw_lines(ids, dense, self.manifest, labels)
        self.unlabelled = raw_lines(ids, dense, self.manifest)
        expected = _graph_expected(read_model(self.config.model_dir, "latest"), ids, dense)
        self.expected = np.stack([expected[task] for task in TASKS], axis=1)

    def predict(self, folder, lines, name="in.csv", **options):
        path, output = os.path.join(str(folder), name), os.path.join(str(folder), "out")
        data = "".join(lines).encode("utf-8")
        with open(path, "wb") as stream:
            stream.write(gzip.compress(data) if name.endswith(".gz") else data)
        summary = predict_file(self.config.model_dir, "latest", path, output, **options)
        with open(output, encoding="utf-8") as stream:
            return summary, stream.read()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("prediction"))


def table(text):
    lines = text.splitlines()
    assert lines[0] == "click,buy,stay"
    return np.array([[float(value) if value else np.nan for value in line.split(",")] for line in lines[1:]])


@pytest.mark.parametrize("name,labelled,batch_size,threads", [
    ("in.csv", True, 4096, 0), ("in.csv.gz", False, 7, 3), ("in.csv", False, 1, 1)])
def test_one_line_per_row_in_order(trained, tmp_path, monkeypatch, name, labelled, batch_size, threads):
    # Small chunks, so that many pieces are under way.
    read = prediction.read_chunks
    monkeypatch.setattr(prediction, "read_chunks", lambda *given, **named: read(*given, chunk_bytes=300, **named))
    summary, text = trained.predict(tmp_path, trained.lines if labelled else trained.unlabelled, name,
                                    batch_size=batch_size, threads=threads)
    assert summary["rows"] == 200 and summary["bad_rows"] == 0 and summary["rows_per_second"] > 0
    np.testing.assert_allclose(table(text), trained.expected, atol=5e-7)
    assert sorted(os.listdir(str(tmp_path))) == sorted([name, "out"])


def test_csv_gives_every_float_back_exactly(trained, tmp_path):
    _, text = trained.predict(tmp_path, trained.lines)
    found = table(text)
    assert (found == found.astype(np.float32)).all() or np.abs(found - found.astype(np.float32)).max() < 1e-9
    tiny = np.float32([[1e-30, 0.1, 1.0]])
    stream = io.StringIO()
    prediction.LineWriter(stream, TASKS, "csv")(prediction.Piece(1, np.arange(1), None, None), tiny)
    assert np.float32(stream.getvalue().splitlines()[1].split(",")).tolist() == tiny[0].tolist()


def test_jsonl(trained, tmp_path):
    _, text = trained.predict(tmp_path, trained.lines[:3] + ["a1,b1\n"], file_format="jsonl", max_bad_rows=1)
    rows = [json.loads(line) for line in text.splitlines()]
    assert [sorted(row) for row in rows] == [sorted(TASKS)] * 4
    np.testing.assert_allclose([[row[task] for task in TASKS] for row in rows[:3]], trained.expected[:3], atol=5e-7)
    assert set(rows[3].values()) == {None}


def test_allowed_bad_rows_keep_their_place(trained, tmp_path):
    lines = list(trained.unlabelled[:20])
    for place, line in ((0, "only,three,fields\n"), (7, "a1, b1, c1, many, 2\n"), (19, "a1, b1, c1, nan, 2\n")):
        lines[place] = line
    summary, text = trained.predict(tmp_path, lines[1:] + lines[:1], max_bad_rows="20%", batch_size=3)
    assert (summary["rows"], summary["bad_rows"]) == (20, 3)
    found = table(text)
    expected = np.concatenate([trained.expected[1:20], trained.expected[:1]])
    bad = np.isin(np.arange(20), [6, 18, 19])
    assert np.isnan(found[bad]).all()
    np.testing.assert_allclose(found[~bad], expected[~bad], atol=5e-7)


@pytest.mark.parametrize("lines,words", [
    (["a1,b1\n"], "1 of 2 rows cannot be used.*wrong number of fields: 1 .line 2.*--max_bad_rows"),
    (["a1, b1, c1, x, 2, no, no, no\n"], "bad number"),
])
def test_bad_rows_fail_with_file_and_line(trained, tmp_path, lines, words):
    with pytest.raises(UserError, match=words) as caught:
        trained.predict(tmp_path, trained.lines[:1] + lines)
    assert "in.csv" in str(caught.value) and "\n" not in str(caught.value)
    assert os.listdir(str(tmp_path)) == ["in.csv"]


def test_wrong_files_and_settings_are_one_line(trained, tmp_path):
    given = str(tmp_path / "in.csv")
    with open(given, "w") as stream:
        stream.writelines(trained.lines[:2])
    (tmp_path / "empty").write_text("")
    model_dir, output = trained.config.model_dir, str(tmp_path / "out")
    for arguments, words in (
            ((model_dir, "latest", str(tmp_path / "none"), output), "does not exist"),
            ((model_dir, "latest", str(tmp_path), output), "is no file"),
            ((model_dir, "latest", str(tmp_path / "empty"), output), "empty"),
            ((model_dir, "latest", given, given), "is the input file"),
            ((model_dir, "latest", given, str(tmp_path)), "is a directory"),
            ((model_dir, "latest", given, str(tmp_path / "no" / "out")), "does not exist"),
            ((model_dir, "latest", given, output, "xml"), "allowed: csv, jsonl"),
            ((model_dir, "latest", given, output, "csv", 0), "at least 1 row"),
            ((str(tmp_path), "latest", given, output), "train first")):
        with pytest.raises(UserError, match=words):
            predict_file(*arguments)
    assert sorted(os.listdir(str(tmp_path))) == ["empty", "in.csv"]


def test_a_terminal_gets_a_progress_bar(trained, tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    trained.predict(tmp_path, trained.lines, progress=terminal)
    assert "predict" in terminal.getvalue()
    quiet = io.StringIO()
    trained.predict(tmp_path, trained.lines, progress=quiet)
    assert quiet.getvalue() == ""
