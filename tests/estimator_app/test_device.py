"""The choice of device, and that no other module asks for it."""
import ast
import glob
import importlib.machinery
import os

import pytest

from estimator_app import cli, device
from estimator_app.device import resolve_device
from feature_specs.errors import ConfigError
from feature_specs.files import PROJECT
from tests.support.small_data import write_data

# What plans, starts and checks processes knows the device; the rest of the app does not.
ENTRY = ("cli", "config", "device", "launch", "training.alternation", "training.reference",
         "training.steps", "model_dir.directory")


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
    from estimator_app.training import alternation
    monkeypatch.delenv("OMPI_COMM_WORLD_RANK", raising=False)
    write_data(tmp_path / "data")
    launched = []
    monkeypatch.setattr(alternation, "launch_ranks", lambda *arguments: launched.append(arguments) or 7)
    arguments = ["train", "--data_dir", str(tmp_path / "data"), "--model_dir", str(tmp_path / "m"), "--batch_size", "8"]
    assert cli.main(arguments) == 7
    assert len(launched) == 1 and "npu" in launched[0]


def test_a_rank_that_is_a_digit_of_another_script_is_refused():
    with pytest.raises(ConfigError, match="OMPI_COMM_WORLD_RANK='\u00b2' is not a whole number"):
        device._check_environment({"OMPI_COMM_WORLD_RANK": "\u00b2"}, "cpu")


def _strings_and_names(path):
    with open(path, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    docstrings = {id(node.body[0].value) for node in ast.walk(tree)
                  if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
                  and isinstance(node.body[0], ast.Expr)}
    strings = {node.s for node in ast.walk(tree) if isinstance(node, ast.Str) and id(node) not in docstrings}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return strings, names


def test_no_other_module_asks_for_the_device():
    seen = 0
    for package in ("estimator_app", "input_fn", "feature_specs", "preprocessing"):
        for path in glob.glob(os.path.join(PROJECT, package, "**", "*.py"), recursive=True):
            name = os.path.relpath(path, os.path.join(PROJECT, package))[:-len(".py")].replace(os.sep, ".")
            if package == "estimator_app" and any(name == part or name.startswith(part + ".") for part in ENTRY):
                continue
            # The export's reference is computed on the CPU, whatever the model was trained on.
            if package == "estimator_app" and name == "training.reference":
                continue
            seen += 1
            strings, names = _strings_and_names(path)
            assert not strings & {"cpu", "npu"}, path
            assert not names & {"resolve_device", "is_installed", "NPU", "CPU"}, path
    assert seen > 30
