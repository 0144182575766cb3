import ast
import importlib.machinery
import os

import pytest

from estimator_app import cli, device
from estimator_app.device import resolve_device, resolve_eval_mode
from estimator_app.training.phases import ALTERNATE, AUTO, TRAIN_AND_EVALUATE
from feature_specs.errors import ConfigError
from tests.estimator_app.cli_runner import PROJECT

# The entry and its parts: the command line, the choice of device, taking turns, and the launch on NPUs.
ENTRY = ("cli.py", "config.py", "device.py", "alternation.py", "launch.py", "launch_environment.py", "launch_host.py",
         "launch_rank_table.py", "preflight.py", "preflight_checks.py")
SEAM = "pooled_lookup.py"
# Forces the CPU in a process of its own, whatever the model was trained on.
FORCED = {"serving_reference.py": {"cpu"}}


@pytest.mark.parametrize("requested, device, evaluations, expected", [
    (AUTO, "cpu", 5, TRAIN_AND_EVALUATE), (AUTO, "npu", 5, ALTERNATE), (AUTO, "npu", 1, ALTERNATE),
    (ALTERNATE, "cpu", 5, ALTERNATE), (TRAIN_AND_EVALUATE, "cpu", 5, TRAIN_AND_EVALUATE),
    (TRAIN_AND_EVALUATE, "npu", 1, TRAIN_AND_EVALUATE)])
def test_eval_modes(requested, device, evaluations, expected):
    assert resolve_eval_mode(requested, device, evaluations) == expected


def test_eval_modes_that_are_refused():
    with pytest.raises(ConfigError, match="evaluate 2 times.*--eval_mode alternate"):
        resolve_eval_mode(TRAIN_AND_EVALUATE, "npu", 2)
    with pytest.raises(ConfigError, match="'sometimes'.*auto, train_and_evaluate, alternate"):
        resolve_eval_mode("sometimes", "cpu", 1)


@pytest.fixture
def ascend_host(monkeypatch):
    """A host on which Ascend's packages can be found; none is imported."""
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))


@pytest.fixture
def plain_host(monkeypatch):
    """A host without Ascend's packages."""
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)


def test_devices_on_a_plain_host(plain_host):
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="device npu: the packages mx_rec and npu_bridge cannot be imported"):
        resolve_device("npu")


def test_devices_on_an_ascend_host(ascend_host):
    assert [resolve_device(name) for name in ("auto", "cpu", "npu")] == ["npu", "cpu", "npu"]


def test_auto_launches_on_an_ascend_host(ascend_host, monkeypatch, tmp_path):
    monkeypatch.delenv("OMPI_COMM_WORLD_RANK", raising=False)
    launched = []
    monkeypatch.setattr(cli.alternation, "launch_on_npus", lambda *arguments: launched.append(arguments) or 7)
    arguments = ["train", "--data_dir", str(tmp_path), "--model_dir", str(tmp_path / "m")]
    assert cli.main(arguments) == 7
    assert len(launched) == 1 and launched[0][1] == arguments[1:]


def _strings_and_names(path):
    with open(path, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
                  and isinstance(node.body[0], ast.Expr)}
    strings = {node.s for node in ast.walk(tree) if isinstance(node, ast.Str) and id(node) not in docstrings}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return strings, names


def test_no_other_module_asks_for_the_device():
    for package in ("estimator_app", "input_fn", "feature_specs", "preprocessing"):
        for name in sorted(os.listdir(os.path.join(PROJECT, package))):
            if not name.endswith(".py") or name in ENTRY:
                continue
            strings, names = _strings_and_names(os.path.join(PROJECT, package, name))
            assert strings & {"cpu", "npu"} <= FORCED.get(name, set()), name
            assert name in FORCED or not names & {"resolve_device", "device"}, name
            assert name == SEAM or "is_installed" not in names, name
