"""scripts/host_python.sh: with --device npu the host's Python is used and nothing is installed."""

import pytest


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
    before = sorted(sandbox.project.iterdir())
    done = sandbox.run("train", *flags)
    assert done.returncode == 0, done.err
    assert sandbox.app()[0]["python"] == str(host)
    assert sandbox.app()[1] == ["train"] + flags
    assert sandbox.calls("pip") == []
    assert sorted(sandbox.project.iterdir()) == before


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


@pytest.mark.parametrize("flags", [[], ["--device", "cpu"], ["--device", "npu", "--device", "cpu"], ["--note", "npu"],
                                   ["data/my"], ["data/my", "--model_dir", "runs/my", "--seed", "1"]])
def test_other_runs_use_the_environment(ready, flags):
    ready.fake("python3", host="tensorflow")
    assert ready.run("train", *flags).returncode == 0
    assert ready.app()[0]["python"] == str(ready.project / ".venv" / "bin" / "python")
