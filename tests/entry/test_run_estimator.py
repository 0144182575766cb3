"""Runs run_estimator.sh for real, in a copy of the project, with stand-ins for Python and pip: nothing is installed."""

import os
import re
import shutil
import signal
import time

import pytest

from tests.entry.sandbox import BASH, PROJECT

# --- commands ---------------------------------------------------------------------------------------------------------


def test_help_lists_every_command(sandbox):
    done = sandbox.run("help")
    assert done.returncode == 0
    for command in "setup prepare train eval predict export tune bench preflight test lint help".split():
        assert re.search(r"^  %s +\S" % command, done.out, re.M), command
    assert "--help" in done.out
    assert sandbox.calls() == []


def test_no_command_prints_help_and_fails(sandbox):
    done = sandbox.run()
    assert done.returncode == 2
    assert "usage:" in done.err


def test_unknown_command_is_one_line(sandbox):
    done = sandbox.run("trian", "--batch_size", "3")
    assert done.returncode == 2
    assert done.err.count("\n") == 1
    assert "'trian'" in done.err
    assert not (sandbox.project / ".venv").exists()


@pytest.mark.parametrize("args", [("setup", "--what"), ("lint", "black")])
def test_unknown_flag_of_the_scripts_own_commands(ready, args):
    done = ready.run(*args)
    assert done.returncode == 2
    assert args[1] in done.err and "allowed" in done.err


# --- finding Python ---------------------------------------------------------------------------------------------------


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
    done = sandbox.run("train", ESTIMATOR_PYTHON_DIRS=str(old.parent))
    assert done.returncode == 1
    assert done.err.count("\n") == 1
    for part in (
        "%s (does not run)" % shim,
        "pyenv (none)",
        "uv (not installed)",
        "%s (cpython 3.7 32-bit)" % old,
        "pyenv install 3.7",
        "uv python install 3.7",
        "conda create -n py37 python=3.7",
        "PYTHON=",
    ):
        assert part in done.err
    assert not (sandbox.project / ".venv").exists()


# --- installing once --------------------------------------------------------------------------------------------------


def test_install_is_hash_checked_and_happens_once(sandbox):
    sandbox.fake("python3.7")
    assert sandbox.run("train").returncode == 0
    (install,) = sandbox.calls("pip install")
    assert "--require-hashes -r %s/requirements.txt" % sandbox.project in install
    sandbox.forget()

    assert sandbox.run("eval").returncode == 0
    assert sandbox.calls() == ["-m estimator_app eval"]  # no probe, no pip: a warm start runs the app and nothing else


def test_a_changed_lock_installs_again(ready):
    (ready.project / "requirements.txt").write_text("one==2 --hash=sha256:00\n")
    assert ready.run("train").returncode == 0
    assert len(ready.calls("pip install")) == 1
    assert ready.calls("venv") == []
    assert ready.run("train").returncode == 0
    assert len(ready.calls("pip install")) == 1


def test_the_development_lock_covers_the_run_time_lock(ready):
    for command, installs in (("test", 1), ("test", 1), ("train", 1), ("lint", 1)):
        assert ready.run(command).returncode == 0
        assert len(ready.calls("pip install")) == installs
    assert "requirements-dev.txt" in ready.calls("pip install")[0]

    # A new run-time lock may change what the development lock pins: both are installed again when needed.
    (ready.project / "requirements.txt").write_text("one==2 --hash=sha256:00\n")
    ready.forget()
    ready.run("train")
    ready.run("test")
    assert [re.search(r"requirements\S*", call).group() for call in ready.calls("pip install")] == [
        "requirements.txt",
        "requirements-dev.txt",
    ]


def test_an_old_pip_is_replaced_first(sandbox):
    sandbox.fake("python3.7")
    done = sandbox.run("setup", FAKE_PIP_VERSION="pip 20.1.1 from nowhere (python 3.7)")
    assert done.returncode == 0, done.err
    first, second = sandbox.calls("pip install")
    assert "--require-hashes" in first and ".pip-pin.txt" in first
    assert "requirements.txt" in second


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_install_leaves_no_stamp(ready, number):
    (ready.project / "requirements.txt").write_text("one==2 --hash=sha256:00\n")
    started = ready.folder / "started"
    process = ready.start("train", FAKE_PIP="touch '%s'; sleep 200" % started)
    deadline = time.time() + 60
    while not started.exists() and time.time() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not ready.stamp.exists()

    ready.forget()
    assert ready.run("train").returncode == 0
    assert len(ready.calls("pip install")) == 1
    assert ready.stamp.exists()


@pytest.mark.parametrize(
    "log, hint",
    [
        ("ERROR: connection refused", "network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "hash"),
        ("OSError: [Errno 28] No space left on device", "disk"),
    ],
)
def test_a_failed_install_shows_the_log_and_a_hint(sandbox, log, hint):
    sandbox.fake("python3.7")
    done = sandbox.run("train", FAKE_PIP="echo 'quiet line'; echo '%s'; exit 1" % log)
    assert done.returncode == 1
    assert "| " + log in done.err
    last = done.err.splitlines()[-1]
    assert hint in last and ".install.log" in last
    assert not sandbox.stamp.exists()
    assert not sandbox.calls("estimator_app")


def test_packages_that_do_not_import_are_no_success(sandbox):
    sandbox.fake("python3.7")
    done = sandbox.run("train", FAKE_TF_STATUS="132")
    assert done.returncode == 1
    assert "AVX" in done.err
    assert not sandbox.stamp.exists()


@pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed")
def test_concurrent_first_calls_install_once(sandbox):
    sandbox.fake("python3.7")
    processes = [sandbox.start("train", FAKE_PIP="sleep 1") for _ in range(3)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert len(sandbox.calls("-m venv")) == 1
    assert len(sandbox.calls("pip install")) == 1
    assert len(sandbox.calls("-m estimator_app")) == 3
    assert any("waiting" in text for text in errors)


@pytest.mark.parametrize("damage", ["interpreter", "config", "dangling"])
def test_a_broken_environment_is_rebuilt(ready, damage):
    venv = ready.project / ".venv"
    if damage == "config":
        (venv / "pyvenv.cfg").unlink()
    else:
        (venv / "bin" / "python").unlink()
    if damage == "dangling":
        (venv / "bin" / "python").symlink_to(ready.folder / "uninstalled" / "python3.7")
    done = ready.run("train")
    assert done.returncode == 0, done.err
    assert len(ready.calls("-m venv")) == 1
    assert len(ready.calls("pip install")) == 1


def test_an_active_environment_is_not_rebuilt_from_itself(ready):
    venv = ready.project / ".venv"
    shutil.copy(str(venv / "bin" / "python"), str(venv / "bin" / "python3.7"))
    (venv / "bin" / "python").unlink()
    done = ready.run("train", PATH="%s:%s" % (venv / "bin", ready.env["PATH"]))
    assert done.returncode == 0, done.err
    assert "with %s" % (ready.bin / "python3.7") in done.err


def test_the_environment_can_live_elsewhere(sandbox):
    sandbox.fake("python3.7")
    assert sandbox.run("train", ESTIMATOR_VENV="my env").returncode == 0
    assert sandbox.app()[0]["python"] == str(sandbox.work / "my env" / "bin" / "python")
    assert not (sandbox.project / ".venv").exists()


def test_a_folder_that_is_not_ours_is_never_deleted(sandbox):
    sandbox.fake("python3.7")
    keep = sandbox.work / "thesis.txt"
    keep.write_text("years of work")
    for args in (("train",), ("setup", "--recreate")):
        done = sandbox.run(*args, ESTIMATOR_VENV=str(sandbox.work))
        assert done.returncode == 1
        assert "ESTIMATOR_VENV" in done.err
        assert keep.exists()


def test_only_the_project_changes(sandbox):
    sandbox.fake("python3.7")
    assert sandbox.run("train").returncode == 0
    assert list(sandbox.work.iterdir()) == []
    assert list((sandbox.folder / "home").iterdir()) == []


# --- passing on -------------------------------------------------------------------------------------------------------


def test_flags_arrive_verbatim(ready):
    flags = ["--model_dir", "a b", "--glob", "*", "--empty", "", "--quote", "it's \"x\" $HOME `id` \\n", "--", "-x"]
    assert ready.run("train", *flags).returncode == 0
    assert ready.app()[1] == ["train"] + flags


@pytest.mark.parametrize("command", "prepare train eval predict export tune bench preflight".split())
def test_every_command_of_the_app_is_passed_on(ready, command):
    assert ready.run(command, "--help").returncode == 0
    assert ready.app()[1] == [command, "--help"]


def test_help_of_a_command(ready):
    assert ready.run("help", "export").returncode == 0
    assert ready.app()[1] == ["export", "--help"]


def test_the_working_directory_stays(ready):
    assert ready.run("train", PYTHONPATH="/else/where").returncode == 0
    seen = ready.app()[0]
    assert seen["cwd"] == str(ready.work)
    assert seen["path"] == "%s:/else/where" % ready.project


@pytest.mark.parametrize("relative", [False, True])
def test_a_symbolic_link_finds_the_project(ready, relative):
    first, second = ready.work / "first", ready.work / "second"
    script = ready.project / "run_estimator.sh"
    first.symlink_to(os.path.relpath(str(script), str(ready.work)) if relative else script)
    second.symlink_to("first" if relative else first)
    assert ready.run("train", script=second).returncode == 0
    assert ready.app()[0]["path"] == str(ready.project)


def test_called_by_its_bare_name(ready):
    assert ready.run("train", script="run_estimator.sh", cwd=ready.project).returncode == 0
    assert ready.app()[0]["path"] == str(ready.project)


@pytest.mark.parametrize("status", [1, 2, 3, 77])
def test_the_exit_status_is_the_programs(ready, status):
    assert ready.run("train", FAKE_APP="exit %d" % status).returncode == status


def test_a_signal_reaches_the_program(ready):
    started = ready.folder / "started"
    process = ready.start("train", FAKE_APP="trap 'exit 42' TERM; touch '%s'; while :; do sleep 0.05; done" % started)
    deadline = time.time() + 60
    while not started.exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # to the one process, which the program has replaced the script in
    process.communicate(timeout=60)
    assert process.returncode == 42


def test_noise_is_silenced_unless_asked_for(ready):
    assert ready.run("train").returncode == 0
    assert ready.app()[0]["warnings"] == "ignore::FutureWarning" and ready.app()[0]["tflog"] == "2"
    assert ready.run("train", PYTHONWARNINGS="default", TF_CPP_MIN_LOG_LEVEL="0").returncode == 0
    assert ready.app()[0]["warnings"] == "default" and ready.app()[0]["tflog"] == "0"


def test_a_folder_with_a_package_of_the_same_name_is_refused(ready):
    (ready.work / "preprocessing").mkdir()
    assert ready.run("train").returncode == 0  # a plain folder does no harm
    ready.forget()
    (ready.work / "preprocessing" / "__init__.py").touch()
    done = ready.run("train")
    assert done.returncode == 1
    assert "'preprocessing'" in done.err and done.err.count("\n") == 1
    assert ready.calls() == []


# --- NPU hosts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ["--device", "npu"],
        ["--batch_size", "4", "--device=npu"],
        ["--device", "cpu", "--device", "npu"],
        ["/so path", "/rec", "hccl.json", "data", "10.0.0.1"],
    ],
)
def test_an_npu_run_uses_the_hosts_python_and_installs_nothing(sandbox, flags):
    sandbox.shim()
    host = sandbox.fake("python3", host="tensorflow")
    done = sandbox.run("train", *flags)
    assert done.returncode == 0, done.err
    assert sandbox.app()[0]["python"] == str(host)
    assert sandbox.app()[1] == ["train"] + flags
    assert sandbox.calls("pip") == []
    assert sorted(path.name for path in sandbox.project.iterdir()) == [
        ".ci",
        "requirements-dev.txt",
        "requirements-tf2.txt",
        "requirements.txt",
        "run_estimator.sh",
        "tests",
    ]


def test_an_npu_run_prefers_the_variable(sandbox):
    sandbox.fake("python3", host="tensorflow")
    chosen = sandbox.fake(sandbox.folder / "vendor" / "python", host="tensorflow")
    assert sandbox.run("eval", "--device", "npu", PYTHON=str(chosen)).returncode == 0
    assert sandbox.app()[0]["python"] == str(chosen)


def test_an_npu_run_without_tensorflow_is_one_line(sandbox):
    sandbox.fake("python3")
    done = sandbox.run("train", "--device", "npu")
    assert done.returncode == 1
    assert done.err.count("\n") == 1
    assert "(no tensorflow)" in done.err and "python3.7 (not found)" in done.err and "PYTHON=" in done.err


@pytest.mark.parametrize("args", [("preflight", "--device", "npu"), ("train", "--device", "npu", "--dry_run")])
def test_looking_at_an_npu_launch_needs_no_tensorflow(sandbox, args):
    sandbox.fake("python3")
    assert sandbox.run(*args).returncode == 0
    assert sandbox.app()[1] == list(args)
    assert not (sandbox.project / ".venv").exists()


@pytest.mark.parametrize("flags", [[], ["--device", "cpu"], ["--device", "npu", "--device", "cpu"], ["--note", "npu"]])
def test_other_runs_use_the_environment(ready, flags):
    ready.fake("python3", host="tensorflow")
    assert ready.run("train", *flags).returncode == 0
    assert ready.app()[0]["python"] == str(ready.project / ".venv" / "bin" / "python")


# --- test, lint, CI ---------------------------------------------------------------------------------------------------


def test_test_leaves_long_tests_out_by_default(ready):
    common = ["-c", "%s/pytest.ini" % ready.project, "--rootdir", str(ready.project)]
    tests = str(ready.project / "tests")
    (ready.work / "t.py").touch()
    for flags, expected in (
        ([], ["-m", "not long", tests]),
        (["--long"], [tests]),
        (["-x", "-k", "a or b"], ["-m", "not long", "-x", "-k", "a or b", tests]),
        (["-m", "realdata"], ["-m", "realdata", tests]),
        (["t.py::test_a"], ["-m", "not long", "t.py::test_a"]),
    ):
        assert ready.run("test", *flags).returncode == 0
        assert ready.app()[1] == common + expected


def test_lint_runs_both_tools_and_fails_if_one_does(ready):
    done = ready.run("lint", FAKE_LINT="[[ $2 != ruff ]]")
    assert done.returncode == 1
    assert len(ready.calls("-m ruff")) == 1 and len(ready.calls("-m mypy")) == 1
    assert ready.run("lint", "mypy").returncode == 0
    assert len(ready.calls("-m ruff")) == 1


def test_ci_ends_with_pytests_closing_line(ready):
    census = ready.folder / "shared" / "data" / "census"
    census.mkdir(parents=True)
    done = ready.run(script=ready.project / ".ci" / "run")
    assert done.returncode == 0, done.out + done.err
    assert done.out.splitlines()[-1] == "3 passed, 1 skipped in 0.12s"
    assert ready.app()[0]["census"] == str(census)

    done = ready.run(script=ready.project / ".ci" / "run", FAKE_LINT="[[ $2 != mypy ]]", CENSUS_KDD_DIR="/mine")
    assert done.returncode == 1
    assert re.search(r"mypy +FAILED", done.out)
    assert done.out.splitlines()[-1] == "3 passed, 1 skipped in 0.12s"
    assert ready.app()[0]["census"] == "/mine"


def test_variables_are_documented():
    header = (PROJECT / "run_estimator.sh").read_text().split("set -euo", 1)[0]
    guide = (PROJECT / "docs" / "installation.md").read_text()
    names = re.findall(r"^#   ([A-Z_]+) ", header, re.M)
    assert len(names) >= 7
    for name in names:
        assert "`%s`" % name in guide, name
