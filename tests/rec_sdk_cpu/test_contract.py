"""The stand-in against the recorded contract: signatures, every rule's accepted edge and refused case, every call."""
import importlib
import inspect
import json
import os
import subprocess
import sys
import unittest.mock

import numpy as np
import pytest
import tensorflow as tf

from feature_specs.files import PROJECT
from tests.rec_sdk_cpu.tools import make_table, start

with open(os.path.join(PROJECT, "rec_sdk_cpu", "contracts",
                       "mx_rec.json")) as _stream:
    CONTRACT = json.load(_stream)
CALLABLES = {entry["name"]: entry for entry in CONTRACT["callables"] if "G3" in entry["generations"]}
BY_ADDRESS = ("lazy_adam_by_addr", "adagrad_by_addr", "gradient_descent_by_addr")
INITIALIZER = tf.compat.v1.constant_initializer(0.1)
# Arguments without which a call does not bind.
NEEDED = {
    "FeatureSpec": {"name": "f"},
    "create_table": {"key_dtype": tf.int64, "dim": 8, "name": "made", "emb_initializer": INITIALIZER},
    "gradient_descent.create_hash_optimizer": {"learning_rate": 0.01},
    "gradient_descent_by_addr.create_hash_optimizer_by_addr": {"learning_rate": 0.01},
    "ftrl.create_hash_optimizer": {"learning_rate": 0.01},
}


def _resolve(path):
    parts = path.replace("tf.", "tensorflow.", 1).split(".") if path.startswith("tf.") else path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ImportError(path)


class World:
    """The names that the contract's expressions use, made when one of them needs it."""

    def __init__(self, tmp_path):
        from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
        self._spec = FeatureSpec("f", table_name="table")
        self.batch = {"f": tf.constant([1], tf.int64)}
        self.insert = lambda: get_asc_insert_func(tgt_key_specs=self._spec)(self.batch)
        self.names = {"np": np, "tf": tf, "os": os, "FeatureSpec": FeatureSpec, "feature_spec": self._spec,
                      "dim": 8, "tmp_path": str(tmp_path), "batch": self.batch,
                      "ids_tensor": tf.constant([1], tf.int64)}

    @property
    def table(self):
        """Made when it is needed: most cases need none."""
        if "table" not in self.names:
            self.names["table"] = make_table("table", dim=8)
        return self.names["table"]

    def value(self, node):
        if isinstance(node, dict) and set(node) == {"py"}:
            if node["py"] == "table":
                return self.table
            if "host_table" in node["py"]:
                self.names.setdefault("host_table", make_table("host_table", dim=8, host_vocabulary_size=20))
            return eval(node["py"], dict(self.names))
        if isinstance(node, dict):
            return {name: self.value(child) for name, child in node.items()}
        if isinstance(node, list):
            return [self.value(child) for child in node]
        return node


@pytest.fixture
def world(sdk, tmp_path):
    return lambda **mode: (start(**mode), World(tmp_path))[1]


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_signature_equals_the_contract(sdk, name):
    for path in CALLABLES[name]["paths"]:
        made = _resolve(path)
        parameters = list(inspect.signature(made).parameters.values())
        expected = CALLABLES[name]["parameters"]
        assert [("**" if p.kind is p.VAR_KEYWORD else "") + p.name for p in parameters] == [e[0] for e in expected]
        for parameter, entry in zip(parameters, expected):
            if entry[0].startswith("**"):
                continue
            default = inspect.Parameter.empty if len(entry) == 1 else entry[1]
            if isinstance(default, dict):
                if "getcwd" in default["py"]:
                    _same_in_a_new_process(path, parameter.name, default["py"])
                    continue
                default = eval(default["py"], {"os": os})
            if parameter.default is tf.float32:
                assert default == "tf.float32"
            else:
                assert parameter.default == default and type(parameter.default) is type(default)


def _same_in_a_new_process(path, name, expression):
    """Holds a default that depends on the working directory of the import, which earlier tests may have changed."""
    module, _, attribute = path.rpartition(".")
    subprocess.run([sys.executable, "-c", (
        "import inspect, os, rec_sdk_cpu; rec_sdk_cpu.install(); from %s import %s as made; "
        "assert inspect.signature(made).parameters[%r].default == %s") % (module, attribute, name, expression)],
        env=dict(os.environ, PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore"), check=True)


def _cases(kind):
    for rule in CONTRACT["rules"]:
        if rule["callable"] == "Saver.save" and kind == "accept":
            continue
        for number, case in enumerate(rule[kind]):
            yield pytest.param(rule, case, id="%s.%s-%d" % (rule["callable"], rule["param"], number))


def _call(world, rule, value):
    name, parameter = rule["callable"], rule["param"]
    arguments = dict(NEEDED.get(name, {}))
    arguments.update(world.value(rule.get("with", {})) if world else rule.get("with", {}))
    if name == "Saver.save":
        saver, graph = tf.compat.v1.train.Saver(), tf.compat.v1.get_default_graph()
        with tf.compat.v1.Session(graph=graph) as session:
            return saver.save(session, value)
    if name == "sparse_lookup":
        arguments.update({"hashtable": world.table, "ids": world.names["ids_tensor"], "modify_graph": True})
        if value is world.names["feature_spec"]:
            world.insert()
            arguments["batch"] = world.batch
        if parameter == "modify_graph" and value is not True:
            world.insert()
            arguments.update(ids=world.names["feature_spec"], batch=world.batch)
    if name == "get_asc_insert_func" and parameter != "tgt_key_specs":
        arguments["tgt_key_specs"] = world.names["feature_spec"]
    if parameter == "access_and_evict_config":
        tf.compat.v1.add_to_collection("ASCEND_TIMESTAMP", tf.constant(1, tf.int64))
    arguments[parameter] = value
    return _resolve(CALLABLES[name]["paths"][0])(**arguments)


def _mode(rule):
    return {"use_dynamic_expansion": rule["callable"].startswith(BY_ADDRESS)}


@pytest.mark.parametrize("rule, case", _cases("accept"))
def test_rule_accepts(world, tmp_path, monkeypatch, rule, case):
    if rule["callable"] == "init":
        arguments = dict(rule.get("with", {}), **{rule["param"]: case})
        if arguments.get("is_incremental_checkpoint"):
            with pytest.raises(NotImplementedError):
                _resolve("mx_rec.util.initialize.init")(**arguments)
            return
        _resolve("mx_rec.util.initialize.init")(**arguments)
        return
    made = world(**_mode(rule))
    value = made.value(case)
    if rule["param"] == "is_timestamp" and value is False:
        pass  # The constructor takes it; the insert function refuses it for a tensor that is there.
    if rule["callable"] == "export":
        with pytest.raises(RuntimeError, match="must follow a save"):
            _call(made, rule, value)
        return
    if rule["param"] in ("device_vocabulary_size",) and value > 1000:
        # A table of that size is not made here: only the check is run.
        monkeypatch.setattr("rec_sdk_cpu.mx_rec.core.embedding.BaseSparseEmbedding", unittest.mock.Mock())
    if rule["param"] == "ssd_vocabulary_size":
        rule = dict(rule, **{"with": dict(rule["with"], ssd_data_path=[str(tmp_path)])})
    _call(made, rule, value)


@pytest.mark.parametrize("rule, case", _cases("refuse"))
def test_rule_refuses(world, rule, case):
    node, error = case
    expected = {"ValueError": ValueError, "TypeError": TypeError}[error]
    if rule["callable"] == "init":
        value = eval(node["py"], {"np": np}) if isinstance(node, dict) else node
        with pytest.raises(expected, match=rule["param"]):
            _resolve("mx_rec.util.initialize.init")(**dict(rule.get("with", {}), **{rule["param"]: value}))
        return
    made = world(**_mode(rule))
    value = made.value(node)
    with pytest.raises(expected):
        _call(made, rule, value)


def _call_id(call):
    return "%s: %s" % (call["callable"], call["case"])


@pytest.mark.parametrize("call", [c for c in CONTRACT["calls"] if "G3" in c.get("generations", ["G3"])], ids=_call_id)
def test_call(sdk, tmp_path, monkeypatch, call):
    name, case = call["callable"], call["case"]
    target = _resolve(CALLABLES[name]["paths"][0])
    error = {"EnvironmentError": OSError}.get(call["raises"], None) or (
        getattr(__import__("builtins"), call["raises"]) if call["raises"] else None)
    if name in ("init", "ConfigInitializer.get_instance", "terminate_config_initializer") or name.startswith("get_r") \
            or name == "get_local_rank_size":
        if call.get("after") == "init":
            start()
        for variable in ("RANK", "SIZE", "LOCAL_SIZE") if "not set" in case else ():
            monkeypatch.delenv("OMPI_COMM_WORLD_" + variable)
        run = lambda: target(**call["call"])  # noqa: E731
    else:
        start(**call.get("mode") or {})
        made = World(tmp_path)
        if name == "start_asc_pipeline":
            with tf.Graph().as_default(), pytest.raises(RuntimeError, match=call["message"]):
                target()
            return
        arguments = made.value(call["call"])
        _prepare(call, made, arguments, target)
        if "one table with host storage" in case:
            target(**arguments)
            target = _resolve("mx_rec.core.asc.manager.start_asc_pipeline")
            arguments = {}
        run = lambda: target(**arguments)  # noqa: E731
    if error is None:
        run()
        return
    with pytest.raises(error) as caught:
        run()
    if call.get("message"):
        assert call["message"].rstrip(".") in str(caught.value)


def _prepare(call, made, arguments, target):
    after = call.get("after") or ""
    if after.startswith("map of"):
        made.insert()
    if after == "create_table":
        target(**arguments)
    if "without host" in after or after == "pipeline start":
        assert made.table.is_hbm
    if after == "pipeline start":
        _resolve("mx_rec.core.asc.manager.start_asc_pipeline")()
    if after == "128 lookups":
        # Building 128 lookups takes a while: 127 are counted, the 128th is made.
        made.table.multi_lookup_times[True] = 127
        target(**arguments)


@pytest.mark.parametrize("name", sorted(CONTRACT["constants"]["values"]))
def test_constant(sdk, name):
    assert getattr(_resolve("mx_rec.constants.constants"), name) == CONTRACT["constants"]["values"][name]


@pytest.mark.parametrize("name", ["lazy_adam.create_hash_optimizer", "adagrad.create_hash_optimizer"])
def test_generation_g2_takes_a_learning_rate_tensor_with_a_warning_and_larger_host_tables(name):
    import rec_sdk_cpu
    from rec_sdk_cpu.core import config, notices
    rec_sdk_cpu.uninstall()
    rec_sdk_cpu.install(generation="G2")
    try:
        config.reset()
        with tf.Graph().as_default():
            start()
            notices.told.clear()
            for rate in (0.1, 0.2):
                assert _resolve(CALLABLES[name]["paths"][0])(learning_rate=tf.constant(rate))
            assert [line for line in notices.told.values() if "some versions of G2 refuse it" in line]
            # The default library of G2 holds the CPU ops, and the padding arguments came with G3.
            default = _resolve("mx_rec.util.ops.import_host_pipeline_ops")()
            assert default.return_timestamp(tf.constant([1], tf.int64)).dtype == tf.int64
            assert default.clear_channel(1).type == "NoOp"
            with pytest.raises(TypeError, match="padding_keys_len came with SDK generation G3"):
                make_table("padded", padding_keys_len=3)
            assert make_table(host_vocabulary_size=10 ** 10).capacity() == 10 ** 10
            with pytest.raises(ValueError, match="host_vocabulary_size"):
                make_table("b", host_vocabulary_size=10 ** 10 + 1)
    finally:
        rec_sdk_cpu.uninstall()
        rec_sdk_cpu.install()
