"""The table of the SDK's symbols: each is there, refused or absent as it says; the docs name them all."""
import glob
import importlib
import json
import os
import re
import subprocess
import sys

import pytest
import tensorflow as tf

from feature_specs.files import PROJECT
from tests.rec_sdk_cpu.tools import CONSTANT, start

CPU_OPS = "librecsdk_tf_rec_v1_cpu_ops.so"


def _read(*parts):
    with open(os.path.join(PROJECT, *parts), encoding="utf-8") as stream:
        return stream.read()


SYMBOLS = json.loads(_read("rec_sdk_cpu", "contracts", "symbols.json"))["symbols"]


def _table(**arguments):
    from mx_rec.core import create_table
    return create_table(tf.int64, 2, "t", CONSTANT(0.0), **arguments)


def resolve(name):
    """The object of a symbol; whatever its module answers passes through."""
    from mx_rec.util import ConfigInitializer, import_host_pipeline_ops
    roots = {"ConfigInitializer.get_instance()": ConfigInitializer.get_instance, "create_table()": _table,
             "import_host_pipeline_ops()": import_host_pipeline_ops,
             "import_host_pipeline_ops(LIBREC_TF_REC_V1_CPU_SO)": lambda: import_host_pipeline_ops(CPU_OPS)}
    root = next((root for root in roots if name.startswith(root + ".")), None)
    if root is not None:
        found, rest = roots[root](), name[len(root) + 1:].split(".")
    else:
        parts = name.replace("tf.", "tensorflow.", 1).split(".") if name.startswith("tf.") else name.split(".")
        found, rest = importlib.import_module(parts[0]), parts[1:]
    path = name[:len(name) - len(".".join(rest)) - 1]
    for part in rest:
        path += "." + part
        try:
            found = getattr(found, part)
        except AttributeError as error:
            if not hasattr(found, "__path__"):
                raise
            try:
                found = importlib.import_module(path)
            except ModuleNotFoundError as missing:
                raise (error if str(missing).startswith("No module named") else missing) from None
    return found


def _of(status, generation):
    return [pytest.param(symbol, id=symbol["name"]) for symbol in SYMBOLS
            if symbol["status"] == status and (generation in symbol["in"]) == (generation == "G3")]


@pytest.mark.parametrize("symbol", _of("there", "G3"))
def test_it_is_there(sdk, symbol):
    start()
    resolve(symbol["name"])


@pytest.mark.parametrize("symbol", [pytest.param(symbol, id=symbol["name"]) for symbol in SYMBOLS
                                    if symbol["status"] == "absent" or "G3" not in symbol["in"]])
def test_it_is_absent_with_a_line_that_says_why(sdk, symbol):
    start()
    with pytest.raises((ImportError, AttributeError)) as caught:
        resolve(symbol["name"])
    assert symbol["note"] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("symbol", _of("refused", "G3"))
def test_it_is_refused_with_a_line(sdk, symbol):
    from mx_rec.util import init
    if not symbol["call"].startswith("init("):
        start()
    with pytest.raises(NotImplementedError, match=symbol["note"]):
        eval(symbol["call"], {"init": init, "table": _table, "saver": lambda: tf.compat.v1.train.Saver(
            [tf.compat.v1.get_variable("v", [1])])})


def test_generation_g2_has_its_names_and_lacks_g3s():
    there = [symbol["name"] for symbol in SYMBOLS if symbol["status"] == "there" and "G2" in symbol["in"]]
    absent = [(symbol["name"], symbol["note"]) for symbol in SYMBOLS
              if symbol["status"] == "there" and symbol["in"] == "G3"]
    result = subprocess.run([sys.executable, "-c", """
import json, sys
import rec_sdk_cpu
rec_sdk_cpu.install(generation="G2")
import tensorflow as tf
from tests.rec_sdk_cpu.tools import start
from tests.rec_sdk_cpu.test_symbol_table import resolve
start()
there, absent = json.loads(sys.argv[1])
for name in there:
    with tf.Graph().as_default():
        resolve(name)
for name, note in absent:
    try:
        resolve(name)
    except (ImportError, AttributeError) as error:
        assert note in str(error), (name, str(error))
    else:
        raise AssertionError("%s is of G3 only" % name)
print("as written:", len(there), len(absent))
""", json.dumps([there, absent])], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "as written: %d %d" % (len(there), len(absent)), result.stderr
    assert there and absent


def _rows():
    rows = "\n".join(line for line in _read("docs", "rec_sdk_cpu.md").splitlines() if line.startswith("|"))
    return set(re.findall(r"[A-Za-z_][A-Za-z_0-9]*", rows))


def test_the_docs_name_every_symbol():
    wanted = {re.sub(r"\(.*\)$", "", symbol["name"]).rpartition(".")[2] for symbol in SYMBOLS
              if not symbol["name"].startswith("mx_rec.constants.constants.")}
    npu_bridge = json.loads(_read("rec_sdk_cpu", "contracts", "npu_bridge.json"))
    wanted |= {name.replace(".__new__", "").rpartition(".")[2] for name in npu_bridge["signatures"]["2026-07"]}
    assert not wanted - _rows(), sorted(wanted - _rows())


def test_every_callable_of_the_contract_is_in_the_table():
    names = {symbol["name"] for symbol in SYMBOLS}
    for entry in json.loads(_read("rec_sdk_cpu", "contracts", "mx_rec.json"))["callables"]:
        assert set(entry["paths"] + (entry.get("g2_paths") or [])) <= names, entry["name"]


def test_the_docs_name_tests_that_exist():
    files = [path for folder in ("rec_sdk_cpu", "fidelity")
             for path in glob.glob(os.path.join(PROJECT, "tests", folder, "**", "*.py"), recursive=True)]
    named = set(re.findall(r"test_\w+\.py", _read("docs", "rec_sdk_cpu.md")))
    assert named and not named - {os.path.basename(path) for path in files}
