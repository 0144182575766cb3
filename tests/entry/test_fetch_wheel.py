"""scripts/fetch_wheel.py: one pinned wheel's programs, by the standard library alone, from a package index on disk."""

import hashlib
import subprocess
import sys
import zipfile

import pytest

from tests.entry.sandbox import PROJECT


@pytest.fixture
def index(tmp_path):
    """A package index in files, with uv 1.0 for two platforms and another version."""
    folder = tmp_path / "simple" / "uv"
    folder.mkdir(parents=True)
    links = []
    for file in ("uv-0.9-py3-none-manylinux1_x86_64.whl", "uv-1.0-py3-none-manylinux1_aarch64.whl",
                 "uv-1.0-py3-none-manylinux1_x86_64.whl", "uv-1.0-py3-none-macosx_10_12_x86_64.whl", "uv-1.0.tar.gz"):
        with zipfile.ZipFile(str(folder / file), "w") as wheel:
            wheel.writestr("uv-1.0.data/scripts/uv", "#!/bin/sh\necho %s\n" % file)
            wheel.writestr("uv/__init__.py", "")
        links.append('<a href="%s#sha256=%s">%s</a>' % (file, digest(folder / file), file))
    (folder / "index.html").write_text("<html>%s</html>" % "<br/>".join(links))
    return tmp_path / "simple"


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch(tmp_path, index, hashes):
    pin = tmp_path / "pin.txt"
    pin.write_text("uv==1.0 " + " ".join("\\\n    --hash=sha256:%s" % value for value in hashes))
    # urllib reads no folder as a web server does: the index page is named by its file.
    code = ("import runpy, sys, urllib.request as r; real = r.urlopen\n"
            "def opened(request, **kwargs):\n"
            "    url = request.full_url\n"
            "    return real(url + 'index.html' if url.endswith('/') else url)\n"
            "r.urlopen = opened; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")
    command = [sys.executable, "-c", code, str(PROJECT / "scripts" / "fetch_wheel.py"), str(pin), str(tmp_path / "out")]
    return subprocess.run(command, env={"PIP_INDEX_URL": index.as_uri()}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="the index of the test offers wheels for Linux")
def test_the_pinned_wheels_program_is_unpacked(tmp_path, index):
    done = fetch(tmp_path, index, ["0" * 64, digest(index / "uv" / "uv-1.0-py3-none-manylinux1_x86_64.whl")])
    assert (done.returncode, done.stdout) == (0, "")
    program = subprocess.run([str(tmp_path / "out" / "bin" / "uv")], stdout=subprocess.PIPE, text=True)
    assert program.stdout == "uv-1.0-py3-none-manylinux1_x86_64.whl\n"
    assert [path.name for path in (tmp_path / "out" / "bin").iterdir()] == ["uv"]


def test_other_contents_are_refused(tmp_path, index):
    wheel = index / "uv" / "uv-1.0-py3-none-manylinux1_x86_64.whl"
    pinned = digest(wheel)
    wheel.write_bytes(wheel.read_bytes() + b"x")
    done = fetch(tmp_path, index, [pinned])
    assert done.returncode == 1 and "differs from its pinned hash" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_wheel_or_an_index_that_is_not_there(tmp_path, index):
    done = fetch(tmp_path, index, ["0" * 64])
    assert done.returncode == 1 and "offers no pinned uv 1.0" in done.stdout and done.stdout.count("\n") == 1
    done = fetch(tmp_path, tmp_path / "none", ["0" * 64])
    assert done.returncode == 1 and done.stdout.count("\n") == 1 and "none/uv" in done.stdout
