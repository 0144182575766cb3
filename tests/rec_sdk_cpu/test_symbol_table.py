"""docs/rec_sdk_cpu.md names every symbol of the contracts, and only tests that exist."""
import glob
import json
import os
import re

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))


def _read(*parts):
    with open(os.path.join(ROOT, *parts), encoding="utf-8") as stream:
        return stream.read()


def test_every_symbol_of_the_contracts_is_in_the_table():
    rows = "\n".join(line for line in _read("docs", "rec_sdk_cpu.md").splitlines() if line.startswith("|"))
    named = set(re.findall(r"[A-Za-z_][A-Za-z_0-9]*", rows))
    mx_rec = json.loads(_read("rec_sdk_cpu", "contracts", "mx_rec.json"))
    npu_bridge = json.loads(_read("rec_sdk_cpu", "contracts", "npu_bridge.json"))
    wanted = {name for entry in mx_rec["callables"] for name in entry["name"].split(".")}
    # The one hook of the older generation only is covered by its module's row.
    wanted -= {"ACGPushOpsToDatasetHook"}
    wanted |= {name.replace(".__new__", "").rpartition(".")[2] for name in npu_bridge["signatures"]["2026-07"]}
    assert not wanted - named, sorted(wanted - named)


def test_the_table_names_tests_that_exist():
    files = {os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "tests", "rec_sdk_cpu", "**", "*.py"),
                                                         recursive=True)}
    named = set(re.findall(r"test_\w+\.py", _read("docs", "rec_sdk_cpu.md")))
    assert named and not named - files, sorted(named - files)
