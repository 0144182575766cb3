"""Archives and downloads, against real archives and a real server."""
import gzip
import hashlib
import http.server
import io
import os
import tarfile
import threading
import zipfile

import pytest

from feature_specs.errors import ConfigError, DataError
from feature_specs.manifest import read_manifest
from preprocessing import sources
from preprocessing.sample import write_sample
from tests.preprocessing.test_prepare import run
from tests.support.rows import read_bytes


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A small training and test file: {name: bytes}."""
    folder = str(tmp_path_factory.mktemp("raw"))
    return {os.path.basename(path): read_bytes(path) for path in write_sample("census", folder, 500, 200, 7)}


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


def huge_header(size):
    info = tarfile.TarInfo("other.bin")
    info.size = size
    return info.tobuf() + b"x" * 1000


@pytest.mark.parametrize("data, message", [
    (zip_of({"census-income.data": bytes(1 << 22)}), "more than 1000000 bytes"),
    (zip_of({"other.bin": bytes(1 << 22)}), "more than 1000000 bytes"),
    (zip_of({"in.zip": zip_of({"census-income.data": bytes(1 << 22)})}), "more than 1000000 bytes"),
    (tar_of({"census-income.data": b"x", "other.bin": bytes(1 << 22)}), "more than 1000000 bytes"),
    (gzip.compress(huge_header(1 << 40)), "more than 1000000 bytes"),
    (zip_of({"census-income.data": b"x", **{"f%d" % number: b"" for number in range(10001)}}),
     "more than 10000 members"),
    (tar_of({"census-income.data": b"x", **{"f%d" % number: b"" for number in range(10001)}}),
     "more than 10000 members"),
], ids=["zip", "zip, other member", "nested", "tar", "tar that lies", "many in zip", "many in tar"])
def test_bombs_are_refused_before_anything_is_unpacked(tmp_path, data, message):
    path = save(tmp_path / "x.zip", data)
    (tmp_path / "to").mkdir()
    with pytest.raises(DataError, match=message):
        sources.find_files(path, str(tmp_path / "to"), max_bytes=1000000)
    assert sum(os.path.getsize(str(found)) for found in (tmp_path / "to").iterdir()) < 10000


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
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1/f")
            self.end_headers()
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
    path, good = str(tmp_path / "f"), hashlib.sha256(web.content).hexdigest()
    sources.download(web.url + "/flaky", path, good.upper(), wait=0.01)
    assert web.requests == ["/flaky"] * 3 and read_bytes(path) == web.content
    os.unlink(path)
    for name, options, pattern, requests in (
            ("/none", {}, "404", 1), ("/cut", {}, "of 70000 bytes|IncompleteRead", 3),
            ("/slow", {"timeout": 0.2, "attempts": 1}, "timed out", 1), ("/f", {"sha256": "0" * 64}, "SHA-256", 1),
            ("/f", {"max_bytes": 69999}, "more than 69999 bytes", 1), ("/away", {}, "another kind of address", 1)):
        web.requests.clear()
        with pytest.raises(DataError, match=pattern) as caught:
            sources.download(web.url + name, path, wait=0.01, **options)
        assert web.url + name in str(caught.value) and len(web.requests) == requests
        assert os.listdir(str(tmp_path)) == []
    for url, sha256 in (("file:///etc/passwd", None), ("x", None), (web.url, "12")):
        with pytest.raises(ConfigError):
            sources.download(url, path, sha256)
