"""scripts/find_python.sh: which CPython 3.7 of a machine is chosen."""

import pytest

from tests.entry.sandbox import BASH


def test_a_shim_that_refuses_to_run_is_passed_over(sandbox):
    sandbox.shim()
    real = sandbox.fake(sandbox.folder / "pyenv" / "versions" / "3.7.16" / "bin" / "python3.7")
    done = sandbox.run("setup", PYENV_ROOT=str(sandbox.folder / "pyenv"))
    assert done.returncode == 0, done.err
    assert str(real) in done.err


def test_a_real_python_behind_a_shim_on_path_is_found(sandbox):
    sandbox.shim()
    real = sandbox.fake(sandbox.folder / "later" / "python3.7")
    done = sandbox.run("setup", PATH="%s:%s" % (sandbox.env["PATH"], real.parent))
    assert done.returncode == 0, done.err
    assert str(real) in done.err


@pytest.mark.parametrize(
    "answer",
    ["cpython 3.11 64-bit", "cpython 3.7 32-bit", "pypy 3.7 64-bit", "cpython 3.7 64-bit without ssl", "", "a\nb"],
)
def test_unsuitable_interpreters_are_passed_over(sandbox, answer):
    bad = sandbox.fake("bad", probe=answer)
    sandbox.fake("python3.7")
    done = sandbox.run("setup", PYTHON=str(bad))
    assert done.returncode == 0, done.err
    assert "PYTHON=%s is not" % bad in done.err
    assert "with %s" % (sandbox.bin / "python3.7") in done.err


def test_the_variable_comes_first(sandbox):
    sandbox.fake("python3.7")
    chosen = sandbox.fake(sandbox.folder / "my python" / "python")
    done = sandbox.run("setup", PYTHON=str(chosen))
    assert done.returncode == 0, done.err
    assert "with %s" % chosen in done.err


def test_uv_conda_and_folders(sandbox):
    real = sandbox.fake(sandbox.folder / "envs" / "py37" / "bin" / "python3.7")
    sandbox.program("uv", "#!%s\n[[ $UV_PYTHON_DOWNLOADS == never ]] && echo '%s'\n" % (BASH, real))
    assert str(real) in sandbox.run("setup").err

    sandbox.program("uv", "#!%s\nexit 2\n" % BASH)
    listing = "# conda environments:\n#\nbase   *  %s/none\npy37      %s\n" % (sandbox.folder, real.parent.parent)
    sandbox.program("conda", "#!%s\ncat <<'X'\n%sX\n" % (BASH, listing))
    assert str(real) in sandbox.run("setup", "--recreate").err

    (sandbox.bin / "conda").unlink()
    assert str(real) in sandbox.run("setup", "--recreate", CONDA_PREFIX=str(real.parent.parent)).err
    pattern = "/none:%s/envs/py3*/bin" % sandbox.folder
    assert str(real) in sandbox.run("setup", "--recreate", ESTIMATOR_PYTHON_DIRS=pattern).err


def test_no_python_says_in_one_line_what_was_tried(sandbox):
    shim = sandbox.shim()
    old = sandbox.fake(sandbox.folder / "dir" / "python3.7", probe="cpython 3.7 32-bit")
    done = sandbox.run("train", ESTIMATOR_PYTHON_DIRS=str(old.parent), ESTIMATOR_NO_DOWNLOAD="1")
    assert done.returncode == 1
    assert done.err.count("\n") == 1
    for part in (
        "%s (does not run)" % shim,
        "pyenv (none)",
        "uv (not installed)",
        "%s (cpython 3.7 32-bit)" % old,
        "pyenv install 3.7",
        "docker run",
        "ESTIMATOR_NO_DOWNLOAD",
        "conda create -n py37 python=3.7",
        "PYTHON=",
    ):
        assert part in done.err
    assert not (sandbox.project / ".venv").exists()
