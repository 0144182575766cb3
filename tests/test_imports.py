"""Which package may import which, read from the syntax trees; and what starts without TensorFlow."""
import ast
import glob
import os
import re
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT

PACKAGES = ("estimator_app", "input_fn", "feature_specs", "preprocessing", "rec_sdk_cpu", "benchmarks")
SDK = ("mx_rec", "npu_bridge", "rec_sdk_common")

# Area -> the areas of ours that it may import besides itself. An area is the longest of these names that a module's
# name begins with. The command line and the entry may import anything but what is said below.
MAY_IMPORT = {
    "feature_specs": set(),
    "input_fn": {"feature_specs"},
    "preprocessing.reading": {"feature_specs"},
    "preprocessing.samples": {"feature_specs"},
    "preprocessing.drafting": {"feature_specs", "preprocessing.reading"},
    "preprocessing": {"feature_specs", "preprocessing.reading", "preprocessing.samples", "preprocessing.drafting"},
    "estimator_app.config": {"feature_specs"},
    "estimator_app.signals": set(),
    "estimator_app.device": {"feature_specs", "estimator_app.config", "estimator_app.model", "rec_sdk_cpu"},
    "estimator_app.model": {"feature_specs", "estimator_app.config"},
    "estimator_app.model_dir": {"feature_specs", "estimator_app.config"},
    "estimator_app.training": {"feature_specs", "input_fn", "estimator_app.config", "estimator_app.signals",
                               "estimator_app.model", "estimator_app.model_dir"},
    "estimator_app.serving": {"feature_specs", "input_fn", "estimator_app.config", "estimator_app.model",
                              "estimator_app.model_dir"},
    "estimator_app.tuning": {"feature_specs", "preprocessing", "preprocessing.reading", "estimator_app.config",
                             "estimator_app.signals", "estimator_app.model", "estimator_app.model_dir",
                             "estimator_app.training"},
    "estimator_app.launch": {"feature_specs", "estimator_app.config", "estimator_app.signals"},
    "rec_sdk_cpu": set(),
}
# Single modules that may import more: (module, imported area).
BESIDES = {
    # Reads raw files with the readers of the preparation.
    ("estimator_app.serving.predict", "preprocessing"),
    ("estimator_app.serving.predict", "preprocessing.reading"),
    # A process of its own, which the export starts for its check: it forces the CPU.
    ("estimator_app.training.reference", "estimator_app.device"),
    # Starts the processes of its phases.
    ("estimator_app.training.alternation", "estimator_app.launch"),
}
# What a package must not load, however.
NEVER = {
    "estimator_app.launch": ("tensorflow",) + SDK,
    "estimator_app.config": ("tensorflow",) + SDK,
    "estimator_app.cli": SDK,
    "estimator_app.parsers": ("tensorflow",) + SDK,
    "estimator_app.model_dir": SDK,
    "estimator_app.serving": SDK,
    "preprocessing": SDK,
    "preprocessing.reading": SDK,
    "preprocessing.samples": SDK,
    "preprocessing.drafting": SDK,
    "rec_sdk_cpu": PACKAGES[:4] + ("benchmarks", "tests"),
}


def module_of(path):
    name = os.path.relpath(path, PROJECT)[:-len(".py")].replace(os.sep, ".")
    return name[:-len(".__init__")] if name.endswith(".__init__") else name


MODULES = {module_of(path): path for package in PACKAGES
           for path in glob.glob(os.path.join(PROJECT, package, "**", "*.py"), recursive=True)}


def imports_of(module, path):
    """Full names that a module imports, anywhere in it, and strings given to ``import_module``."""
    with open(path, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")[:-node.level]
                base = ".".join(parts + ([node.module] if node.module else []))
            found |= {"%s.%s" % (base, alias.name) for alias in node.names}
        elif (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args
              and isinstance(node.args[0], ast.Str)):
            found.add(node.args[0].s)
    return found


def area_of(name):
    """The area that a name belongs to, or its first part."""
    areas = [area for area in MAY_IMPORT if name == area or name.startswith(area + ".")]
    return max(areas, key=len) if areas else name.split(".")[0]


def violations(module, path):
    area, found = area_of(module), []
    if area not in MAY_IMPORT:
        return []
    for name in sorted(imports_of(module, path) - {"estimator_app.__version__"}):
        other = area_of(name)
        is_ours = name.split(".")[0] in PACKAGES + ("tests",)
        if is_ours and other != area and other not in MAY_IMPORT[area] and (module, other) not in BESIDES:
            found.append("%s imports %s" % (module, name))
        if name.split(".")[0] in NEVER.get(area, ()):
            found.append("%s imports %s" % (module, name))
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module):
    assert violations(module, MODULES[module]) == []


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.split(".")[0] in PACKAGES[:4]))
def test_one_module_only_knows_the_stand_in(module):
    if module != "estimator_app.device":
        assert not {name for name in imports_of(module, MODULES[module]) if name.split(".")[0] == "rec_sdk_cpu"}


@pytest.mark.parametrize("module", ["estimator_app.cli", "estimator_app.__main__"])
def test_the_command_line_leaves_the_sdk_alone(module):
    assert not {name for name in imports_of(module, MODULES[module]) if name.split(".")[0] in SDK + ("rec_sdk_cpu",)}


def test_the_scan_sees_every_way_to_import(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import input_fn.plan\nfrom estimator_app import training\ndef f():\n"
                    "    from ..model import tasks\nimportlib.import_module('rec_sdk_cpu.core')\n")
    assert imports_of("estimator_app.launch.bad", str(path)) == {
        "input_fn.plan", "estimator_app.training", "estimator_app.model.tasks", "rec_sdk_cpu.core"}
    assert len(violations("estimator_app.launch.bad", str(path))) == 4
    assert area_of("estimator_app.model_dir.lock") == "estimator_app.model_dir"
    assert area_of("estimator_app.model.tasks") == "estimator_app.model"


@pytest.mark.parametrize("package", ["benchmarks", "tests"])
def test_the_projects_folder_is_known_in_one_place(package):
    climbs = re.compile(r"dirname\(\s*os\.path\.dirname|os\.pardir|\.parents\[[0-9]\]$", re.MULTILINE)
    assert climbs.search("ROOT = os.path.dirname(os.path.dirname(path))") and climbs.search("Path(path).parents[2]")
    for path in glob.glob(os.path.join(PROJECT, package, "**", "*.py"), recursive=True):
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        if path != os.path.abspath(__file__):
            assert not climbs.search(text), path + " counts folders: import PROJECT from feature_specs.files"


_CHECK = """
import sys
%s
heavy = sorted({"tensorflow", "pandas", "pyarrow", "mx_rec", "npu_bridge", "rec_sdk_cpu"} & set(sys.modules))
assert not heavy, heavy
"""


def loads(statement, cwd):
    return subprocess.run([sys.executable, "-c", _CHECK % statement], cwd=str(cwd),
                          env=dict(os.environ, PYTHONPATH=PROJECT), capture_output=True, text=True)


@pytest.mark.parametrize("statement", [
    "import estimator_app.cli",
    "from estimator_app.cli import main\ntry:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass",
    "from estimator_app.cli import main\nassert main(['train', '--batch_size', '0', '--data_dir', 'none']) == 1",
    "from estimator_app.cli import main\nassert main(['train', '--data_dir', 'none']) == 1",
    "import estimator_app.launch.launch",
], ids=["import", "help", "setting", "data", "launch"])
def test_nothing_heavy_loads_before_work_begins(statement, tmp_path):
    done = loads(statement, tmp_path)
    assert done.returncode == 0, done.stderr


def test_settings_are_held_against_the_data_without_tensorflow(tmp_path):
    from tests.support.small_data import RICH, write_data
    write_data(tmp_path / "data", dataset=RICH)
    for flags, words in ((["--task_weights", "bye=1"], "task_weights bye=1"), (["--drop_dense", "z"], "drop_dense"),
                         (["--input_layer", "sum"], "have a dim"), (["--model", "tree"], "tree"),
                         (["--early_stopping_metric", "auc_x", "--early_stopping_patience", "1"], "auc_x")):
        done = loads("from estimator_app.cli import main\nassert main(['train', '--data_dir', 'data', '--model_dir', "
                     "'model'] + %r) == 1" % flags, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert words in done.stderr
    assert not os.path.exists(str(tmp_path / "model"))
