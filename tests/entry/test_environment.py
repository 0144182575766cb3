"""scripts/environment.sh: the environment is made once, whole or not at all."""

import os
import re
import shutil
import signal

import pytest


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
    process = ready.start_until(started, "train", FAKE_PIP=": > '%s'; sleep 200" % started)
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
