""".ci/run: every step, its exit status and the last line, with stand-ins for all that takes time."""

import re

import pytest

from tests.entry.sandbox import BASH

CLOSING = "3 passed, 1 skipped in 0.12s"


@pytest.fixture
def machine(ready):
    """A machine with a compiler."""
    for name in ("g++", "make"):
        ready.program(name, "#!%s\n" % BASH)
    return ready


def steps(done):
    """{step: "ok" or "FAILED (status)"} of the summary."""
    return dict(re.findall(r"^(\S.*?) +(ok|FAILED \(\d+\)) +\d+ s$", done.out, re.M))


def test_it_ends_with_pytests_closing_line(machine):
    census = machine.folder / "shared" / "data" / "census"
    census.mkdir(parents=True)
    done = machine.run(script=machine.project / ".ci" / "run")
    assert done.returncode == 0, done.out + done.err
    assert done.out.splitlines()[-1] == CLOSING
    assert list(steps(done)) == ["system", "setup", "ruff", "mypy", "shellcheck", "test", "test --all"]
    assert [("not long" in call, "-m long" in call) for call in machine.calls("-m pytest")] == [
        (True, False), (False, True)]
    assert machine.calls("pip wheel")
    assert machine.app()[0]["census"] == str(census)


def test_a_failing_step_fails_the_run_and_the_rest_still_runs(machine):
    done = machine.run(script=machine.project / ".ci" / "run", FAKE_LINT="[[ $2 != mypy ]]", CENSUS_KDD_DIR="/mine")
    assert done.returncode == 1
    assert [name for name, status in steps(done).items() if status != "ok"] == ["mypy"]
    assert done.out.splitlines()[-1] == CLOSING
    assert machine.app()[0]["census"] == "/mine"


def test_a_build_that_fails_is_a_failure_and_no_skip(machine):
    done = machine.run(script=machine.project / ".ci" / "run", FAKE_BUILD="echo 'no such header'; exit 1")
    assert done.returncode == 1
    assert steps(done)["setup"] == "FAILED (1)"
    assert "no such header" in done.out
    assert not machine.calls("-m pytest")


def test_a_missing_compiler_is_installed_or_a_failure(ready):
    done = ready.run(script=ready.project / ".ci" / "run")
    assert done.returncode == 1 and steps(done)["system"] == "FAILED (1)" and steps(done)["setup"] == "FAILED (1)"
    ready.program("apt-get", """#!%s
        echo "apt-get $*" >>"$FAKE_LOG"
        [[ $* == *install* ]] || exit 0
        for name in g++ make; do printf '#!/bin/sh\\n' >'%s'/$name; chmod +x '%s'/$name; done
        """ % (BASH, ready.bin, ready.bin))
    done = ready.run(script=ready.project / ".ci" / "run")
    assert done.returncode == 0, done.out + done.err
    assert ready.calls("apt-get -qq -y --no-install-recommends install g++ make")
