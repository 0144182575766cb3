"""`setup --tf2`: an environment with TensorFlow 2 on another Python, for the test of exported models."""


def test_without_a_python_for_it_the_set_up_says_so_and_succeeds(ready):
    ready.fake("python3.11", probe="")
    done = ready.run("setup", "--dev", "--tf2")
    assert done.returncode == 0 and "no Python 3.11 or 3.10" in done.err and "will be skipped" in done.err
    assert not (ready.project / ".venv-tf2").exists()


def test_it_is_made_once_and_the_tests_are_told(ready):
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


def test_a_failed_installation_is_told_and_repeated(ready):
    ready.fake("python3.11", probe="3.11")
    failed = ready.run("setup", "--tf2", FAKE_PIP="echo 'no space left on device'; exit 1")
    assert failed.returncode == 1 and "the disk is full" in failed.err
    assert ready.run("setup", "--tf2").returncode == 0
