"""Every callable of the stand-in has the signature that the contract records for profile 2026-07."""
import importlib
import inspect
import json
import os

import pytest

from feature_specs.files import PROJECT
from rec_sdk_cpu.npu_bridge_modules import absent, device_options, modules
from rec_sdk_cpu.npu_bridge_modules.npu_bridge import npu_init
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_config import NPURunConfig

_PATH = os.path.join(PROJECT, "rec_sdk_cpu", "contracts",
                     "npu_bridge.json")
with open(_PATH) as stream:
    CONTRACT = json.load(stream)
SIGNATURES = CONTRACT["signatures"]["2026-07"]
MODULES = modules()
# Modules that are left out as a whole.
WITHOUT_MODULE = ("npu_bridge.estimator.npu.keras_to_npu",)


def _split(name):
    if name.endswith(".__new__"):
        name = name[:-len(".__new__")]
    return name.rpartition(".")[::2]


def _written(parameter):
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return ["**" + parameter.name]
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return ["*" + parameter.name]
    if parameter.default is inspect.Parameter.empty:
        return [parameter.name]
    default = parameter.default
    return [parameter.name, default if isinstance(default, (int, float, str, type(None))) else repr(default)]


def _signature(function):
    if inspect.isclass(function):
        maker = function.__new__ if issubclass(function, tuple) else function.__init__
        return [_written(parameter) for parameter in list(inspect.signature(maker).parameters.values())[1:]]
    return [_written(parameter) for parameter in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_signature_is_the_contracts_or_the_name_is_absent_with_a_reason(name):
    module_name, attribute = _split(name)
    if module_name in WITHOUT_MODULE:
        assert module_name not in MODULES
        return
    module = importlib.import_module(MODULES[module_name])
    if attribute in absent.names(module_name):
        with pytest.raises(AttributeError, match="not provided by the CPU stand-in"):
            getattr(module, attribute)
        return
    assert _signature(getattr(module, attribute)) == SIGNATURES[name]


def test_run_config_has_the_88_arguments_of_2026_07():
    written = _signature(NPURunConfig)
    assert len(written) == 88
    assert written == CONTRACT["run_config_by_profile"]["2026-07"]


@pytest.mark.parametrize("profile, count", [("2021-02", 51), ("undated-A", 60), ("undated-B", 75), ("2026-07", 88)])
def test_contract_holds_the_four_profiles(profile, count):
    assert len(CONTRACT["run_config_by_profile"][profile]) == count


def test_49_names_are_common_to_all_profiles():
    names = [{parameter[0] for parameter in profile} for profile in CONTRACT["run_config_by_profile"].values()]
    assert len(set.intersection(*names)) == 49


def test_npu_init_exports_each_name_of_the_contract_or_refuses_it():
    exports = set(CONTRACT["npu_init_exports"]["2026-07"])
    left_out = set(absent.names("npu_bridge.npu_init"))
    left_out_or_stock = exports - set(npu_init.__all__) - left_out
    assert set(npu_init.__all__) <= exports
    assert left_out <= exports
    assert left_out_or_stock == {"session", "session_run_hook"}
    for name in npu_init.__all__:
        getattr(npu_init, name)
    for name in left_out:
        with pytest.raises(AttributeError, match=name):
            getattr(npu_init, name)


def test_star_import_gives_the_documented_names():
    namespace = {}
    exec("from rec_sdk_cpu.npu_bridge_modules.npu_bridge.npu_init import *", namespace)
    assert set(npu_init.__all__) <= set(namespace)


def test_modules_table_leads_to_files_and_the_version_is_the_packages():
    for path in MODULES.values():
        importlib.import_module(path)
    assert importlib.import_module(MODULES["npu_bridge"]).__version__ == "v1.15.0"


def test_absent_name_is_an_import_error():
    with pytest.raises(ImportError):
        from rec_sdk_cpu.npu_bridge_modules.npu_bridge.npu_init import npu_rnn  # noqa: F401
    with pytest.raises(ImportError):
        from rec_sdk_cpu.npu_bridge_modules.hccl.split.api import set_split_strategy_by_idx  # noqa: F401


def test_every_option_that_is_written_is_a_key_of_the_contract():
    fields = CONTRACT["parameter_map_fields"]["2026-07"]
    for names, field in ((device_options._BOOLS, "b"), (device_options._INTS, "i"), (device_options._STRINGS, "s")):
        for name in names:
            assert fields[name.lstrip("_")] == field
    for name, field in device_options._UNGUARDED:
        assert fields[name.lstrip("_")] == field
