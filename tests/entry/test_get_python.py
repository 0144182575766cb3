"""scripts/get_python.sh: a machine without CPython 3.7 gets one, by a stand-in uv and, marked long, the pinned one.

The long test fetches uv from the package index, and is the one test of the project that uses the network.
"""

import io
import os
import subprocess
import sys
import tarfile

import pytest

from tests.entry.sandbox import BASH, FAKE_PYTHON, GOOD

# Writes its call to the log and "fetches" $FAKE_UV_PYTHON.
UV = r"""#!%s
echo "uv $* into $UV_PYTHON_INSTALL_DIR" >>"$FAKE_LOG"
eval "${FAKE_UV_FAILS:-}"
target=$UV_PYTHON_INSTALL_DIR/cpython-3.7.9-linux-x86_64-gnu/bin
mkdir -p "$target" && cp "$FAKE_UV_PYTHON" "$target/python3.7"
""" % BASH


@pytest.fixture
def bare(sandbox):
    """A machine that has some python3, and no 3.7."""
    sandbox.fake("python3", probe="cpython 3.11 64-bit")
    sandbox.env["FAKE_UV"] = str(sandbox.program(sandbox.folder / "aside" / "uv", UV))
    sandbox.env["FAKE_UV_PYTHON"] = str(sandbox.fake(sandbox.folder / "aside" / "python3.7"))
    sandbox.program("uname", "#!%s\n[[ $1 == -s ]] && echo Linux || echo ${FAKE_MACHINE:-x86_64}\n" % BASH)
    return sandbox


def test_it_is_fetched_once_into_the_project(bare):
    done = bare.run("train")
    assert done.returncode == 0, done.err
    own = bare.project / ".python"
    assert "making %s with %s/cpython-3.7.9" % (bare.project / ".venv", own) in done.err
    assert bare.calls("uv ")[-1] == "uv python install --no-config --no-cache --no-progress 3.7 into %s" % own
    (pip,) = bare.calls("uv.txt")
    assert "--require-hashes" in pip and "--only-binary :all:" in pip
    (line,) = (line for line in done.err.splitlines() if "fetching" in line)
    for part in ("uv 0.6.17", "package index", "python-build-standalone", str(own), "ESTIMATOR_NO_DOWNLOAD=1"):
        assert part in line
    assert list((bare.folder / "home").iterdir()) == [] and list(bare.work.iterdir()) == []

    bare.forget()
    assert bare.run("setup", "--recreate").returncode == 0  # the environment is made anew, the Python stays
    assert bare.calls("uv ") == []


def test_a_mirror_is_named(bare):
    done = bare.run("train", UV_PYTHON_INSTALL_MIRROR="https://mirror.example/python")
    assert "https://mirror.example/python" in done.err and "GitHub" not in done.err


def test_a_python_of_the_machine_goes_first(bare):
    bare.fake("python3.7")
    assert bare.run("train").returncode == 0
    assert not (bare.project / ".python").exists()


def test_it_can_be_forbidden(bare):
    done = bare.run("train", ESTIMATOR_NO_DOWNLOAD="1")
    assert done.returncode == 1 and done.err.count("\n") == 1
    assert not (bare.project / ".python").exists() and not bare.calls("pip")
    assert bare.run("train", ESTIMATOR_NO_DOWNLOAD="0").returncode == 0


def test_where_no_tensorflow_exists_nothing_is_fetched(bare):
    done = bare.run("train", FAKE_MACHINE="aarch64")
    assert done.returncode == 1 and done.err.count("\n") == 1
    assert "x86-64 only" in done.err and "Linux-aarch64" in done.err
    assert not (bare.project / ".python").exists()


@pytest.mark.parametrize("way", ["venv", "library"])
def test_uv_comes_without_pip(bare, way):
    """A python3 without pip: its venv's pip, or else the standard library."""
    real = bare.fake(bare.folder / "aside" / "python3", probe="cpython 3.11 64-bit")
    lacking = {"venv": "-I -m pip install ", "library": "-I -m "}[way]
    bare.program("python3", "#!%s\ncase \"$*\" in '%s'*) exit 1 ;; esac\nexec '%s' \"$@\"\n" % (BASH, lacking, real))
    done = bare.run("train", FAKE_FETCH="mkdir -p \"$target/bin\" && cp \"$FAKE_UV\" \"$target/bin/uv\"")
    assert done.returncode == 0, done.err
    assert bool(bare.calls("fetch_wheel.py")) == (way == "library")
    assert not (bare.project / ".python" / "pip").exists()


@pytest.mark.parametrize(
    "settings, reason",
    [
        ({"FAKE_UV_FAILS": "echo 'error: Failed' >&2; echo '  Caused by: dns error' >&2; exit 1"}, "(dns error;"),
        ({"FAKE_UV": "/none"}, "uv 0.6.17 could not be fetched"),
        ({"FAKE_UV_PYTHON": "BAD"}, "is not a 64-bit CPython 3.7"),
    ],
)
def test_a_failure_is_one_line_with_the_next_best_ways(bare, settings, reason):
    bad = bare.fake(bare.folder / "aside" / "bad", probe="cpython 3.7 64-bit without ssl")
    settings = {name: value.replace("BAD", str(bad)) for name, value in settings.items()}
    done = bare.run("train", **settings)
    assert done.returncode == 1
    announced, failure = done.err.splitlines()
    assert "fetching" in announced
    for part in (reason, "docker run --rm -it -v \"$PWD:/app\" -w /app python:3.7 bash run_estimator.sh",
                 "conda create -n py37 python=3.7", ".python/install.log"):
        assert part in failure
    assert not (bare.project / ".venv").exists()
    assert bare.run("train").returncode == 0  # nothing that a failure leaves is in the way


def test_without_any_python_it_says_so(bare):
    (bare.bin / "python3").unlink()
    assert "no python3" in bare.run("train").err.splitlines()[-1]


def raw_zstd(content):
    """A zstd frame of one stored block (RFC 8878)."""
    assert len(content) < 1 << 17
    block = (1 | len(content) << 3).to_bytes(3, "little") + content
    return b"\x28\xb5\x2f\xfd\xa0" + len(content).to_bytes(4, "little") + block


# uv reads and rewrites this file of every Python that it unpacks.
LIBRARY = "lib/python3.7/_sysconfigdata_m_linux_x86_64-linux-gnu.py"
SYSCONFIG = b"# system configuration generated and used by the sysconfig module\nbuild_time_vars = {}\n"


@pytest.mark.long
def test_the_pinned_uv_takes_the_same_command_and_offers_379(sandbox):
    """uv itself from the package index, its command line and unpacking; only the unpacked Python is a stand-in."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        script = (FAKE_PYTHON % (BASH, GOOD, "bare")).encode()
        for name, content in (("bin/python3.7", script), (LIBRARY, SYSCONFIG)):
            member = tarfile.TarInfo("python/install/" + name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    mirror = sandbox.folder / "mirror"
    (mirror / "20200822").mkdir(parents=True)
    (mirror / "20200822" / "cpython-3.7.9-x86_64-unknown-linux-gnu-pgo-20200823T0036.tar.zst").write_bytes(
        raw_zstd(archive.getvalue()))
    sandbox.program("python3", "#!%s\nexec '%s' \"$@\"\n" % (BASH, sys.executable))
    network = ("PIP_", "SSL_", "HTTP", "http", "NO_PROXY", "no_proxy")
    settings = {name: value for name, value in os.environ.items() if name.startswith(network)}
    done = sandbox.run("train", UV_PYTHON_INSTALL_MIRROR=mirror.as_uri(), **settings)
    if "could not be fetched" in done.err and not os.environ.get("CI"):
        pytest.skip("the package index cannot be reached: %s" % done.err.splitlines()[-1])
    assert done.returncode == 0, done.err
    own = sandbox.project / ".python"
    assert sandbox.app()[0]["python"] == str(sandbox.project / ".venv" / "bin" / "python")
    assert (own / "cpython-3.7.9-linux-x86_64-gnu" / "bin" / "python3.7").exists()
    uv = str(own / "uv" / "bin" / "uv")
    command = [uv, "python", "list", "--no-config", "--all-versions", "--only-downloads", "3.7"]
    listing = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    assert "cpython-3.7.9-linux-x86_64-gnu " in listing.stdout
