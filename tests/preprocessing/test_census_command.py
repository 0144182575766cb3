import gzip
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from feature_specs.census import CENSUS
from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import read_manifest
from preprocessing import census, sample_data, source_files
from tests.preprocessing.tools import read_bytes

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A small training and test file: {name: bytes}."""
    folder = str(tmp_path_factory.mktemp("raw"))
    paths = sample_data.write_sample(folder, 500, 200, 7)
    return {os.path.basename(path): read_bytes(path) for path in paths}


def run(*arguments):
    return census.main([str(argument) for argument in arguments])


def zip_of(members, **infos):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(infos.get(name, name), content)
    return data.getvalue()


def tar_of(members, mode="w:gz"):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def save(path, data):
    path.write_bytes(data)
    return str(path)


def rows_of(output):
    manifest = read_manifest(str(output))
    return manifest.split("train").rows, manifest.split("test").rows


# Preparing from every kind of source.

def test_files_and_folder(tmp_path, raw, capsys):
    for name, data in raw.items():
        save(tmp_path / name, data)
    assert run("--train_data_path", tmp_path / "census-income.data.gz", "--test_data_path",
               tmp_path / "census-income.test.gz", "--output_path", tmp_path / "a") == 0
    summary = capsys.readouterr().out
    for text in ("500 rows", "200 rows", "income", "marital", "duplicates", "bad rows", "rows/s", "out-of-vocabulary"):
        assert text in summary
    assert run("--source", tmp_path, "--output_path", tmp_path / "b") == 0
    assert read_manifest(str(tmp_path / "a")) == read_manifest(str(tmp_path / "b"))
    assert sorted(os.listdir(str(tmp_path / "b"))) == ["manifest.json", "test", "train"]


@pytest.mark.parametrize("wrap", [
    lambda files: ("x.zip", zip_of(files)),
    lambda files: ("x.zip", zip_of({"census.tar.gz": tar_of(files), "notes.txt": b"x"})),
    lambda files: ("x.zip", zip_of({"a/inner.zip": zip_of({"b/census.tar": tar_of(
        {"c/" + name: data for name, data in files.items()}, "w")})})),
    lambda files: ("x.tar.gz", tar_of({name[:-3]: gzip.decompress(data) for name, data in files.items()})),
])
def test_nested_archives(tmp_path, raw, wrap):
    name, data = wrap(raw)
    (tmp_path / "in").mkdir()
    path = save(tmp_path / "in" / name, data)
    assert run("--source", path, "--output_path", tmp_path / "out") == 0
    assert rows_of(tmp_path / "out") == (500, 200)
    assert run("--source", tmp_path / "in", "--output_path", tmp_path / "out2") == 0


def link(name, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def zip_link():
    info = zipfile.ZipInfo("census-income.data")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


@pytest.mark.parametrize("data, pattern", [
    (zip_of({"../census-income.data": b"x"}), "outside"),
    (zip_of({"/tmp/census-income.data": b"x"}), "outside"),
    (zip_of({"a\\..\\..\\census-income.data": b"x"}), "outside"),
    (zip_of({"C:/census-income.data": b"x"}), "outside"),
    (zip_of({"census-income.data": b"/etc/passwd"}, **{"census-income.data": zip_link()}), "link"),
    (tar_of({"../census-income.data": b"x"}), "outside"),
    (tar_of({"census-income.data": link("census-income.data")}), "link"),
    (tar_of({"census-income.data": link("census-income.data", tarfile.LNKTYPE)}), "link"),
    (tar_of({"census-income.data": link("census-income.data", tarfile.CHRTYPE)}), "device"),
    (tar_of({"census-income.data": link("census-income.data", tarfile.FIFOTYPE)}), "device"),
    (zip_of({"census.tar.gz": tar_of({"../../census-income.test": b"x"})}), "outside"),
    (zip_of({"other.txt": b"x"}), "does not hold census-income.data and census-income.test"),
    (zip_of({"census-income.data": b"x"})[:-30], "damaged"),
    (b"no archive", "neither a zip nor a tar"),
    (zip_of({"a.zip": zip_of({"b.zip": zip_of({"c.zip": zip_of({"d.zip": zip_of({"x": b""})})})})}), "nested"),
], ids=range(15))
def test_archives_that_are_refused(tmp_path, capsys, data, pattern):
    path = save(tmp_path / "x.zip", data)
    assert run("--source", path, "--output_path", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "x.zip" in error and pattern in error
    assert os.listdir(str(tmp_path)) == ["x.zip"]


def test_zip_bombs_are_refused(tmp_path):
    path = save(tmp_path / "x.zip", zip_of({"census-income.data": bytes(1 << 22)}))
    (tmp_path / "to").mkdir()
    with pytest.raises(DataError, match="more than 1000000 bytes"):
        source_files.find_files(path, str(tmp_path / "to"), max_bytes=1000000)
    assert sum(os.path.getsize(str(found)) for found in (tmp_path / "to").iterdir()) <= 1000000


# Download, against a real server.

class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        server = self.server
        server.requests.append(self.path)
        if self.path == "/flaky" and len(server.requests) < 3:
            self.send_error(503)
            return
        if self.path == "/none":
            self.send_error(404)
            return
        if self.path == "/slow":
            server.released.wait(10)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        self.wfile.write(server.content[:100] if self.path == "/cut" else server.content)

    def log_message(self, *arguments):
        return


@pytest.fixture
def web():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.requests, server.content, server.released = [], b"x" * 70000, threading.Event()
    server.url = "http://127.0.0.1:%d" % server.server_address[1]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_and_prepare(tmp_path, web, raw):
    web.content = zip_of({"census.tar.gz": tar_of(raw)})
    assert run("--download", "--download_url", web.url + "/census+income+kdd.zip", "--output_path",
               tmp_path / "out") == 0
    assert rows_of(tmp_path / "out") == (500, 200)
    assert (tmp_path / "census+income+kdd.zip").read_bytes() == web.content


def test_download_is_checked_retried_and_atomic(tmp_path, web):
    import hashlib
    path, good = str(tmp_path / "f"), hashlib.sha256(web.content).hexdigest()
    seen = []
    source_files.download(web.url + "/flaky", path, good.upper(), wait=0.01, progress=lambda *at: seen.append(at))
    assert web.requests == ["/flaky"] * 3 and seen[-1] == (70000, 70000)
    os.unlink(path)
    for name, options, pattern, requests in (
            ("/none", {}, "404", 1), ("/cut", {}, "of 70000 bytes|IncompleteRead", 3),
            ("/slow", {"timeout": 0.2, "attempts": 1}, "timed out", 1), ("/f", {"sha256": "0" * 64}, "SHA-256", 1)):
        web.requests.clear()
        with pytest.raises(DataError, match=pattern) as caught:
            source_files.download(web.url + name, path, wait=0.01, **options)
        assert web.url + name in str(caught.value) and len(web.requests) == requests
        assert os.listdir(str(tmp_path)) == []
    for url, sha256 in (("file:///etc/passwd", None), ("x", None), (web.url, "12")):
        with pytest.raises(ConfigError):
            source_files.download(url, path, sha256)


# The made-up data.

def read_sample(path):
    return pd.read_csv(path, header=None, names=CENSUS.columns, skipinitialspace=True, na_filter=False,
                       dtype={column: str for column in CENSUS.sparse_columns})


def test_sample_data_is_learnable_and_like_the_real_data(tmp_path):
    assert run("--sample", "--sample_train_rows", 20000, "--sample_test_rows", 8000, "--output_path",
               tmp_path / "out") == 0
    manifest = read_manifest(str(tmp_path / "out"))
    train, test = manifest.split("train"), manifest.split("test")
    assert (train.rows, test.rows) == (20000, 8000) and train.bad_rows == test.bad_rows == {}
    assert 0.05 < train.positives["income"] / 20000 < 0.075 and 0.38 < train.positives["marital"] / 20000 < 0.48
    assert 0 < sum(test.out_of_vocabulary.values()) < 800
    frames = [read_sample(str(tmp_path / "out" / "raw" / name)) for name in (sample_data.TRAIN_FILE,
                                                                           sample_data.TEST_FILE)]
    assert frames[0].shape[1] == 42 and frames[0].drop_duplicates().shape[0] > 19900
    features = list(CENSUS.sparse_columns + CENSUS.dense_columns)
    for column in CENSUS.sparse_columns:
        index = {value: i for i, value in enumerate(manifest.vocabularies[column])}
        for frame in frames:
            frame[column] = frame[column].map(index).fillna(-1)
    labels = {}
    for task, least, most in (("income", 0.89, 0.985), ("marital", 0.94, 0.995)):
        definition = CENSUS.tasks[CENSUS.task_names.index(task)]
        labels[task] = [(frame[definition.label_column] == definition.positive_value).values for frame in frames]
        model = HistGradientBoostingClassifier(max_iter=40).fit(frames[0][features], labels[task][0])
        assert least < roc_auc_score(labels[task][1], model.predict_proba(frames[1][features])[:, 1]) < most
    assert abs(np.corrcoef(labels["income"][0], labels["marital"][0])[0, 1]) > 0.1


def test_sample_data_depends_on_the_seed_only(tmp_path):
    found = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append([read_bytes(path) for path in sample_data.write_sample(str(folder), 300, 100, seed)])
    assert found[0] == found[1] and found[0][0] != found[2][0] and found[0][1] != found[2][1]
    assert found[0][0] != found[0][1]
    for options in ({"train_rows": 0}, {"test_rows": -1}, {"seed": -1}):
        with pytest.raises(ConfigError):
            sample_data.write_sample(str(tmp_path), **options)


# The command line.

@pytest.mark.parametrize("arguments, status, pattern", [
    ([], 2, "no data given"),
    (["--sample", "--download"], 2, "--download and --sample given"),
    (["--train_data_path", "x"], 2, "go together"),
    (["--train_data_path", "nowhere", "--test_data_path", "nowhere"], 1, "nowhere"),
    (["--source", "nowhere"], 1, "nowhere"),
    (["--sample", "--sample_train_rows", "0"], 2, "sample_train_rows"),
    (["--sample", "--line_per_sample", "0"], 2, "line_per_sample"),
    (["--sample", "--max_bad_rows", "many"], 2, "max_bad_rows"),
    (["--download", "--download_url", "ftp://x/y"], 2, "http"),
])
def test_errors_are_one_line(tmp_path, capsys, arguments, status, pattern):
    assert run(*(arguments + ["--output_path", tmp_path / "out"])) == status
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and pattern in error
    assert os.listdir(str(tmp_path)) == []


def test_debug_shows_the_trace(tmp_path):
    with pytest.raises(DataError):
        run("--source", "nowhere", "--output_path", tmp_path / "out", "--debug")


@pytest.mark.parametrize("command", [[os.path.join("preprocessing", "census.py")], ["-m", "preprocessing.census"],
                                     [os.path.join(ROOT, "preprocessing", "census.py")]])
def test_both_ways_to_start(tmp_path, command):
    folder = str(tmp_path) if os.path.isabs(command[-1]) else ROOT
    done = subprocess.run([sys.executable] + command + [
        "--sample", "--sample_train_rows", "50", "--sample_test_rows", "20", "--output_path", str(tmp_path / "out")],
        cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "50 rows" in done.stdout
    wrong = subprocess.run([sys.executable] + command + ["--unknown"], cwd=folder, stderr=subprocess.PIPE,
                           text=True)
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr


def test_preparation_needs_no_tensorflow(tmp_path):
    code = ("import sys; from preprocessing import census; census.main(['--sample', '--sample_train_rows', '50', "
            "'--sample_test_rows', '20', '--output_path', %r]); assert 'tensorflow' not in sys.modules and "
            "'pandas' not in sys.modules" % str(tmp_path / "out"))
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_every_flag_tells_its_default(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = " ".join(capsys.readouterr().out.split())
    flags = [part.split()[0] for part in text.split(" --")[1:]]
    assert len(set(flags)) >= 18 and text.count("(default: ") + text.count("(required)") >= 18
