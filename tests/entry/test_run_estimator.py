"""Runs run_estimator.sh for real, in a copy of the project, with stand-ins for Python and pip: nothing is installed."""

import os
import re
import signal

import pytest

from tests.entry.sandbox import PROJECT


def test_help_lists_every_command(sandbox):
    done = sandbox.run("help")
    assert done.returncode == 0
    for command in "setup prepare describe train eval predict export tune bench preflight test lint help".split():
        assert re.search(r"^  %s +\S" % command, done.out, re.M), command
    assert "--help" in done.out
    assert sandbox.calls() == []


def test_no_command_prints_help_and_fails(sandbox):
    done = sandbox.run()
    assert done.returncode == 2
    assert "usage:" in done.err


@pytest.mark.parametrize(
    "typed, meant",
    [("evla", "eval"), ("tests", "test"), ("exprot", "export"), ("describ", "describe"), ("hel", "help")],
)
def test_a_mistyped_command_gets_a_suggestion(sandbox, typed, meant):
    assert "did you mean '%s'" % meant in sandbox.run(typed).err


@pytest.mark.parametrize("typed", ["x", "serve", "*", "a b", "--zzz", "$(touch x)", "a" * 500])
def test_what_is_near_no_command_gets_none(sandbox, typed):
    done = sandbox.run(typed)
    assert done.returncode == 2 and "did you mean" not in done.err and typed in done.err
    assert list(sandbox.work.iterdir()) == []


def test_the_version_is_that_of_the_package(sandbox):
    import estimator_app

    done = sandbox.run("--version")
    assert (done.returncode, done.out) == (0, "estimator_app %s\n" % estimator_app.__version__)
    assert sandbox.calls() == []  # no Python is looked for


def test_unknown_command_is_one_line(sandbox):
    done = sandbox.run("trian", "--batch_size", "3")
    assert done.returncode == 2
    assert done.err.count("\n") == 1
    assert "'trian'; did you mean 'train'" in done.err
    assert not (sandbox.project / ".venv").exists()


def test_flags_arrive_verbatim(ready):
    flags = ["--model_dir", "a b", "--glob", "*", "--empty", "", "--quote", "it's \"x\" $HOME `id` \\n", "--", "-x"]
    assert ready.run("train", *flags).returncode == 0
    assert ready.app()[1] == ["train"] + flags


@pytest.mark.parametrize("command", "prepare describe train eval predict export tune bench preflight".split())
def test_every_command_of_the_app_is_passed_on(ready, command):
    assert ready.run(command, "--help").returncode == 0
    assert ready.app()[1] == [command, "--help"]


def test_help_of_a_command(ready):
    assert ready.run("help", "export").returncode == 0
    for words in (["help", "help"], ["help", "--help"], ["help", "-h"]):
        assert "usage: bash run_estimator.sh <command>" in ready.run(*words).out
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
    loop = "trap 'exit 42' TERM; touch '%s'; while :; do sleep 0.05; done" % started
    process = ready.start_until(started, "train", FAKE_APP=loop)
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


def test_variables_are_documented():
    header = (PROJECT / "run_estimator.sh").read_text().split("set -euo", 1)[0]
    guide = (PROJECT / "docs" / "installation.md").read_text()
    names = [name for line in re.findall(r"^#   ([A-Z][A-Z0-9_, ]+)(?:  |\*)", header, re.M)
             for name in re.findall("[A-Z0-9_]+", line)]
    assert len(names) >= 12
    for name in names:
        assert re.search(r"`%s\*?`" % name, guide), name
