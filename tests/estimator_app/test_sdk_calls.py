"""Every call that the app makes of the SDK, recorded by running it, binds to every recorded signature."""
import ast
import glob
import inspect
import json
import os
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT
from tests.support.small_data import write_data

_CONTRACTS = os.path.join(PROJECT, "rec_sdk_cpu", "contracts")
with open(os.path.join(_CONTRACTS, "mx_rec.json")) as _stream:
    MX_REC = json.load(_stream)
with open(os.path.join(_CONTRACTS, "npu_bridge.json")) as _stream:
    NPU_BRIDGE = json.load(_stream)
PROFILES = ("2021-02", "undated-A", "undated-B", "2026-07")
QUICK_RUNS = (
    ("G3", ("--use_dynamic_expansion", "true", "--use_multi_lookup", "true")),
)
MORE_RUNS = (
    ("G3", ()),
    ("G2", ("--use_faae", "true")),
    ("G2", ("--use_faae", "true", "--use_modify_graph", "true", "--use_dynamic", "false", "--cache_mode", "DDR")),
)
# A call of these is part of any run; what else is called depends on the mode.
ALWAYS = ("init", "terminate_config_initializer", "FeatureSpec", "get_asc_insert_func", "create_table", "sparse_lookup",
          "get_dense_and_sparse_variable", "GraphModifierHook", "NPURunConfig", "NPUEstimator", "get_rank_id",
          "get_rank_size")
# Ops and dataset methods whose signatures are in the sheet's text, not in its tables (rec_sdk_api 2.2, 6).
IN_TEXT = {"mx_rec.util.ops.HostOps.return_timestamp": [["input"]]}


def record(base, runs):
    """Returns {generation: calls} of short trainings with evaluation, in a directory ``base``."""
    write_data(base / "data", 40, 20)
    environment = dict(os.environ, PYTHONPATH=PROJECT, TF_CPP_MIN_LOG_LEVEL="2", PYTHONWARNINGS="ignore::FutureWarning",
                       OMPI_COMM_WORLD_RANK="0", OMPI_COMM_WORLD_SIZE="1", OMPI_COMM_WORLD_LOCAL_SIZE="1", JOB_ID="1")
    found = {"G2": [], "G3": []}
    for number, (generation, flags) in enumerate(runs):
        output, model = base / ("calls-%d.json" % number), base / ("model-%d" % number)
        subprocess.run(
            [sys.executable, "-m", "tests.support.sdk_recorder", generation, str(output), "train", "--data_dir",
             str(base / "data"), "--model_dir", str(model), "--train_epoch", "1", "--batch_size", "20",
             "--eval_batch_size", "20", "--expert_num", "2", "--expert_layers", "4", "--expert_dropout", "0.1",
             "--device", "cpu", *flags],
            env=environment, cwd=str(base), check=True, stdout=subprocess.DEVNULL)
        with open(str(output), encoding="utf-8") as stream:
            found[generation] += json.load(stream)
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(tmp_path_factory.mktemp("calls"), QUICK_RUNS)


@pytest.fixture(scope="module")
def recorded_in_every_mode(recorded, tmp_path_factory):
    more = record(tmp_path_factory.mktemp("more"), MORE_RUNS)
    return {generation: calls + more[generation] for generation, calls in recorded.items()}


def _signatures(generation, profile):
    """{full name: parameters} of all that is recorded for one generation and one version of npu_bridge."""
    names = {}
    for entry in MX_REC["callables"]:
        if generation in entry["generations"]:
            for path in (entry.get("g2_paths") if generation == "G2" else None) or entry["paths"]:
                names[path] = entry["parameters"]
    # Only two versions have all signatures on record; the two between them are held to the older one.
    names.update(NPU_BRIDGE["signatures"]["2026-07" if profile == "2026-07" else "2021-02"])
    names[NPU_BRIDGE["run_config_class"]] = NPU_BRIDGE["run_config_by_profile"][profile]
    names.update(IN_TEXT)
    return {name[:-len(".__new__")] if name.endswith(".__new__") else name: value for name, value in names.items()}


def _as_signature(parameters):
    made = []
    for name, *default in parameters:
        if name.startswith("**"):
            made.append(inspect.Parameter(name[2:], inspect.Parameter.VAR_KEYWORD))
        elif name.startswith("*"):
            made.append(inspect.Parameter(name[1:], inspect.Parameter.VAR_POSITIONAL))
        else:
            made.append(inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                          default=default[0] if default else inspect.Parameter.empty))
    return inspect.Signature(made)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("generation", ["G2", "G3"])
@pytest.mark.parametrize("runs", ["recorded", pytest.param("recorded_in_every_mode", marks=pytest.mark.long)])
def test_every_call_binds(request, runs, generation, profile):
    recorded = request.getfixturevalue(runs)
    signatures = _signatures(generation, profile)
    # A call of G3's modules would not be there under G2; the other calls of a G3 run must bind under G2 as well.
    calls = recorded[generation] + ([] if generation == "G3" else [
        call for call in recorded["G3"] if not call["name"].startswith("rec_sdk_common.")])
    for call in calls:
        assert call["name"] in signatures, "%s has no recorded signature" % call
        keywords = [name for name in call["keywords"].split(",") if name]
        _as_signature(signatures[call["name"]]).bind(*[None] * call["positional"], **dict.fromkeys(keywords))


@pytest.mark.long
@pytest.mark.parametrize("generation", ["G2", "G3"])
def test_the_recording_is_whole(recorded_in_every_mode, generation):
    names = {call["name"].rpartition(".")[2] for call in recorded_in_every_mode[generation]}
    assert set(ALWAYS) <= names


@pytest.mark.long
def test_the_modes_reach_the_calls_that_only_they_make(recorded_in_every_mode):
    called = {generation: {call["name"] for call in calls} for generation, calls in recorded_in_every_mode.items()}
    assert "mx_rec.optimizers.lazy_adam_by_addr.create_hash_optimizer_by_address" in called["G3"]
    assert "mx_rec.optimizers.lazy_adam.create_hash_optimizer" in called["G2"] & called["G3"]
    assert "mx_rec.core.feature_process.EvictHook" in called["G2"]
    lookups = [call["keywords"] for call in recorded_in_every_mode["G2"] if call["name"].endswith(".sparse_lookup")]
    assert any("access_and_evict_config" in keywords for keywords in lookups)


@pytest.mark.long
def test_rank_helpers_come_from_the_generation_at_hand(recorded_in_every_mode):
    for generation, module in (("G2", "mx_rec.util.communication.hccl_ops"),
                               ("G3", "rec_sdk_common.communication.hccl.hccl_info")):
        paths = {call["name"] for call in recorded_in_every_mode[generation]
                 if "get_rank_" in call["name"]}
        assert paths == {module + ".get_rank_id", module + ".get_rank_size"}


def test_a_call_that_does_not_fit_is_seen():
    signature = _as_signature(NPU_BRIDGE["run_config_by_profile"]["2021-02"])
    with pytest.raises(TypeError, match="deterministic"):
        signature.bind(deterministic=1)


@pytest.mark.parametrize("profile", ["2021-02", "2026-07"])
def test_what_is_imported_of_npu_bridge_is_there_in_every_version(profile):
    """Names that a version lacks end the app at its start, before any call could be recorded."""
    exported = set(NPU_BRIDGE["npu_init_exports"][profile])
    asked = set()
    for path in glob.glob(os.path.join(PROJECT, "estimator_app", "**", "*.py"), recursive=True):
        with open(path, encoding="utf-8") as stream:
            for node in ast.walk(ast.parse(stream.read())):
                if isinstance(node, ast.ImportFrom) and node.module == "npu_bridge.npu_init":
                    asked |= {alias.name for alias in node.names}
    assert {"NPUEstimator", "NPURunConfig"} <= asked <= exported
