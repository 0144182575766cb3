"""scripts/extras.sh: TensorFlow 2 for one test, Horovod for several ranks, Spark for a cluster."""

import pytest

from tests.entry.sandbox import BASH, DISTRIBUTED


def test_without_a_python_for_tensorflow_2_the_set_up_says_so_and_succeeds(ready):
    ready.fake("python3.11", probe="")
    done = ready.run("setup", "--dev", "--tf2")
    assert done.returncode == 0 and "no Python 3.11 or 3.10" in done.err and "will be skipped" in done.err
    assert not (ready.project / ".venv-tf2").exists()


def test_tensorflow_2_is_installed_once_and_the_tests_are_told(ready):
    ready.fake("python3.11", probe="")
    real = ready.fake("../elsewhere/versions/3.10.2/bin/python3.10", probe="3.10")
    pyenv = str(real.parents[3])
    assert ready.run("setup", "--dev", "--tf2", PYENV_ROOT=pyenv).returncode == 0
    installed = [call for call in ready.calls("pip install") if "requirements-tf2.txt" in call]
    assert len(installed) == 1 and "--require-hashes" in installed[0]
    ready.forget()
    assert ready.run("setup", "--tf2", PYENV_ROOT=pyenv).returncode == 0
    assert ready.calls() == []
    assert ready.run("test").returncode == 0
    assert ready.app()[0]["tf2"] == str(ready.project / ".venv-tf2" / "bin" / "python")
    assert ready.run("test", TF2_PYTHON="/own").returncode == 0
    assert ready.app()[0]["tf2"] == "/own"
    (ready.project / "requirements-tf2.txt").write_text("three==4 --hash=sha256:00\n")
    assert ready.run("setup", "--tf2", PYENV_ROOT=pyenv).returncode == 0
    assert ready.calls("pip install")


def test_a_failed_installation_of_tensorflow_2_is_told_and_repeated(ready):
    ready.fake("python3.11", probe="3.11")
    failed = ready.run("setup", "--tf2", FAKE_PIP="echo 'no space left on device'; exit 1")
    assert failed.returncode == 1 and "the disk is full" in failed.err
    assert ready.run("setup", "--tf2").returncode == 0


# --- Horovod ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def builder(ready):
    """A machine with an environment and a compiler."""
    for name in ("g++", "make"):
        ready.program(name, "#!%s\n" % BASH)
    return ready


def wheels(machine):
    return sorted((machine.folder / "home" / ".cache" / "estimator_app" / "wheels").glob("*/*"))


def test_horovod_is_built_from_the_pinned_source(builder):
    keep = "cp \"$dir/horovod.txt\" \"$FAKE_LOG.lock\"; env >\"$FAKE_LOG.env\"; touch \"$dir/horovod-1.whl\""
    done = builder.run("setup", "--distributed", FAKE_BUILD=keep)
    assert done.returncode == 0, done.err
    calls = [call for call in builder.calls() if "pip" in call or "horovod" in call]
    others, cmake, build, install, check = calls
    assert "--require-hashes --no-deps -r" in others
    parts = DISTRIBUTED.split("cmake==3"), DISTRIBUTED.split("psutil==5")
    assert (builder.project / ".venv" / ".distributed.txt").read_text() == parts[0][0] + "psutil==5" + parts[1][1]
    assert "--require-hashes" in cmake and "--target" in cmake  # into the build alone, not into the environment
    assert "--no-build-isolation" in build and "--require-hashes" in build and "--no-deps" in build
    assert (builder.folder / "calls.lock").read_text() == "horovod==0.28.1 \\\n    --hash=sha256:03\n"
    assert "--no-deps --no-index" in install and install.endswith("/horovod-1.whl")
    assert "gloo_built" in check
    seen = (builder.folder / "calls.env").read_text().splitlines()
    for setting in ("WITH_TENSORFLOW", "WITH_GLOO", "WITHOUT_MPI", "WITHOUT_PYTORCH", "WITHOUT_MXNET"):
        assert "HOROVOD_%s=1" % setting in seen
    assert any(line.startswith("MAKEFLAGS=-j") for line in seen)
    (line,) = (line for line in done.err.splitlines() if "building Horovod" in line)
    assert "1 to 12 minutes" in line and str(wheels(builder)[0].parent) in line


def test_the_wheel_is_kept_outside_the_clone_and_used_again(builder):
    assert builder.run("setup", "--distributed").returncode == 0
    (wheel,) = wheels(builder)
    assert "-cp37-tf1.15.5-" in wheel.parent.name
    builder.forget()
    assert builder.run("setup", "--distributed").returncode == 0
    assert builder.calls() == []  # up to date

    done = builder.run("setup", "--recreate", "--distributed")  # a new environment, as a new clone has one
    assert done.returncode == 0 and str(wheel) in done.err
    assert builder.calls("pip wheel") == [] and len(builder.calls("import horovod")) == 1


@pytest.mark.parametrize("lock, text", [
    ("requirements.txt", "one==1 --hash=sha256:00\ntensorflow==1.15.6 --hash=sha256:01\n"),
    ("requirements-distributed.txt", DISTRIBUTED.replace("sha256:03", "sha256:05")),
])
def test_other_versions_are_another_build(builder, lock, text):
    assert builder.run("setup", "--distributed").returncode == 0
    (builder.project / lock).write_text(text)
    builder.forget()
    assert builder.run("setup", "--distributed").returncode == 0
    assert len(builder.calls("pip wheel")) == 1 and len(wheels(builder)) == 2


def test_a_kept_wheel_that_does_not_run_is_built_anew(builder):
    assert builder.run("setup", "--distributed").returncode == 0
    builder.forget()
    mark = builder.folder / "built"
    done = builder.run("setup", "--recreate", "--distributed", FAKE_HOROVOD="[[ -e '%s' ]]" % mark,
                       FAKE_BUILD="touch '%s' \"$dir/horovod-1.whl\"" % mark)
    assert done.returncode == 0, done.err
    assert len(builder.calls("pip wheel")) == 1 and len(wheels(builder)) == 1


@pytest.mark.parametrize("missing", ["g++", "make"])
def test_what_the_build_lacks_is_named_before_it(builder, missing):
    (builder.bin / missing).unlink()
    done = builder.run("setup", "--distributed")
    assert done.returncode == 1 and "apt-get install" in done.err.splitlines()[-1]
    assert "%s" % missing in done.err.splitlines()[-1]
    assert not builder.calls("pip wheel") and not builder.calls("--target")


@pytest.mark.parametrize("settings, text", [
    ({"FAKE_BUILD": "echo 'fatal error: no header'; exit 1"}, "| fatal error: no header"),
    ({"FAKE_HOROVOD": "echo 'undefined symbol'; exit 1"}, "does not import"),
])
def test_a_failed_build_is_told_and_repeated(builder, settings, text):
    done = builder.run("setup", "--distributed", **settings)
    assert done.returncode == 1 and text in done.err
    assert ".distributed.log" in done.err.splitlines()[-1]
    assert builder.run("setup", "--distributed").returncode == 0
    assert [path.name for path in wheels(builder)] == ["horovod-1.whl"]
    assert not (builder.project / ".venv" / ".build").exists()


def test_the_cache_follows_the_users_setting(builder):
    assert builder.run("setup", "--distributed", XDG_CACHE_HOME=str(builder.folder / "my cache")).returncode == 0
    assert wheels(builder) == [] and list((builder.folder / "my cache").glob("estimator_app/wheels/*/horovod-1.whl"))


# --- Spark ------------------------------------------------------------------------------------------------------------


def test_spark_is_installed_once_with_the_pinned_build_tools(ready):
    ready.program("java", "#!%s\n" % BASH)
    assert ready.run("setup", "--spark").returncode == 0
    (install,) = ready.calls("requirements-spark.txt")
    assert "--require-hashes --no-deps --no-build-isolation" in install
    ready.forget()
    assert "requirements-spark.txt" in ready.run("setup", "--spark").err
    assert ready.calls() == []


def test_spark_without_java_is_one_line_before_anything_is_fetched(ready):
    done = ready.run("setup", "--spark")
    assert done.returncode == 1 and done.err.count("\n") == 1 and "Java 8, 11 or 17" in done.err
    assert not ready.calls("requirements-spark.txt")
    java = ready.program(ready.folder / "jdk" / "bin" / "java", "#!%s\n" % BASH)
    assert ready.run("setup", "--spark", JAVA_HOME=str(java.parents[1])).returncode == 0


# --- Peers of benchmarks ----------------------------------------------------------------------------------------------


def test_peers_go_into_both_environments_once(ready):
    ready.fake("python3.11", probe="3.11")
    assert ready.run("setup", "--peers").returncode == 0
    for lock, place in (("requirements-peers.txt", ".venv"), ("requirements-peers-tf2.txt", ".venv-tf2")):
        (install,) = ready.calls(lock)
        assert "--require-hashes --no-deps" in install
        assert lock in (ready.project / place / ".estimator-stamp-peers").read_text()
    assert ready.calls("requirements-tf2.txt")
    ready.forget()
    assert ready.run("setup", "--peers").returncode == 0
    assert ready.calls("pip install") == []


def test_peers_without_a_python_for_tensorflow_2_say_so(ready):
    done = ready.run("setup", "--peers")
    assert done.returncode == 1 and "Python 3.11 or 3.10" in done.err.splitlines()[-1]
