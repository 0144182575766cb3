"""The recorded contract of mx_rec is well formed: what its reader relies on holds."""
import builtins
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from feature_specs.files import PROJECT

_PATH = os.path.join(PROJECT, "rec_sdk_cpu", "contracts",
                     "mx_rec.json")
with open(_PATH) as stream:
    CONTRACT = json.load(stream)
CALLABLES = {entry["name"]: entry for entry in CONTRACT["callables"]}
FIXTURES = {"feature_spec": object(), "table": object(), "host_table": object(), "ids_tensor": object(), "batch": {},
            "dim": 8, "tmp_path": "/", "FeatureSpec": lambda *args, **kwargs: object()}


def _values(node):
    if isinstance(node, dict):
        if set(node) == {"py"}:
            yield node["py"]
            return
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _values(child)


def test_each_expression_can_be_evaluated():
    for index, text in enumerate(_values([CONTRACT["callables"], CONTRACT["rules"], CONTRACT["calls"]])):
        with tf.compat.v1.variable_scope("case%d" % index):
            eval(text, dict(FIXTURES, np=np, tf=tf, os=os))


@pytest.mark.parametrize("entry", CONTRACT["callables"], ids=lambda entry: entry["name"])
def test_callable_entry(entry):
    assert entry["paths"] and entry["section"] and set(entry["generations"]) <= {"G2", "G3"}
    for parameters in (entry["parameters"], entry.get("g2_parameters", [])):
        required = [len(parameter) == 1 and not parameter[0].startswith("**") for parameter in parameters]
        assert required == sorted(required, reverse=True)
        assert len({parameter[0] for parameter in parameters}) == len(parameters)


def test_create_table_differs_between_the_generations_by_the_padding_arguments():
    entry = CALLABLES["create_table"]
    gone = [parameter[0] for parameter in entry["parameters"] if parameter not in entry["g2_parameters"]]
    assert gone == ["padding_keys", "padding_keys_mask", "padding_keys_len"]


@pytest.mark.parametrize("rule", CONTRACT["rules"], ids=lambda rule: "%s.%s" % (rule["callable"], rule["param"]))
def test_rule_entry(rule):
    entry = CALLABLES[rule["callable"]]
    names = {parameter[0] for parameter in entry["parameters"]}
    assert rule["param"] in names or "**kwargs" in names
    assert rule["accept"] and rule["refuse"] and rule["section"]
    assert {error for _, error in rule["refuse"]} <= {"ValueError", "TypeError"}


def test_call_entries_name_real_exceptions_and_callables():
    for call in CONTRACT["calls"]:
        assert call["callable"] in CALLABLES and call["section"]
        assert call["raises"] is None or issubclass(getattr(builtins, call["raises"]), Exception)


def test_every_init_argument_has_its_rule_and_default():
    ruled = {rule["param"] for rule in CONTRACT["rules"] if rule["callable"] == "init"}
    assert ruled == set(CONTRACT["init_defaults"])
