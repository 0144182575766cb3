"""What no module may do, found in the syntax trees; permissions of what a run writes; pinned dependencies."""
import ast
import glob
import os
import re
import stat
import subprocess
import sys

import numpy as np
import pytest

from feature_specs.files import PROJECT
from rec_sdk_cpu.core import checksums, sparse_files

PACKAGES = ("estimator_app", "feature_specs", "input_fn", "preprocessing", "rec_sdk_cpu", "benchmarks")
MODULES = sorted(path for package in PACKAGES
                 for path in glob.glob(os.path.join(PROJECT, package, "**", "*.py"), recursive=True))
# Writes the SDK's own format, which is a pickled dict; it is never read here.
MAY_PICKLE = {os.path.join(PROJECT, "rec_sdk_cpu", "mx_rec", "saver", "sparse.py")}


def name_of(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed(parts + [node.id])) if isinstance(node, ast.Name) else ".".join(reversed(parts))


def offences(path):
    with open(path, encoding="utf-8") as stream:
        tree = ast.parse(stream.read())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.split(".")[0] in ("pickle", "marshal", "shelve", "dill")]
        if isinstance(node, ast.Call):
            name = name_of(node.func)
            if name in ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "pickle.load",
                        "commands.getoutput", "subprocess.getoutput"):
                found.append(name)
            if name.endswith((".extractall", ".extract")):
                found.append(name)
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                if keyword.arg in ("shell", "allow_pickle") and value is not False:
                    found.append("%s=%s" % (keyword.arg, value))
    return found


def test_the_scan_finds_what_it_looks_for(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("import pickle\nfrom marshal import loads\neval('1')\nsubprocess.run('x', shell=True)\n"
                    "np.load(p, allow_pickle=True)\narchive.extractall('.')\n")
    assert len(offences(str(path))) == 6


@pytest.mark.parametrize("path", MODULES, ids=[os.path.relpath(path, PROJECT) for path in MODULES])
def test_no_pickle_no_eval_no_shell_no_blind_unpacking(path):
    assert [offence for offence in offences(path)
            if not (path in MAY_PICKLE and offence.startswith("allow_pickle"))] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_dependencies_are_pinned_with_hashes(name):
    with open(os.path.join(PROJECT, name), encoding="utf-8") as stream:
        text = re.sub(r"\\\n", " ", stream.read())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("#", "-"))
             and not line.strip().startswith("#")]
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", line), line


def test_what_a_command_writes_is_not_writable_by_others(tmp_path):
    """Under the most careless umask."""
    command = [sys.executable, "-m", "estimator_app", "prepare", "--sample", "--sample_train_rows", "300",
               "--sample_test_rows", "100", "--output_path", "data"]
    subprocess.run(command, cwd=str(tmp_path), env=dict(os.environ, PYTHONPATH=PROJECT), check=True,
                   preexec_fn=lambda: os.umask(0), capture_output=True)
    paths = glob.glob(str(tmp_path / "data" / "**"), recursive=True)
    assert len(paths) > 4
    for path in paths:
        assert not os.stat(path).st_mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_slices_and_checksums_have_the_modes_that_the_sdk_asks_for(tmp_path):
    previous = os.umask(0)
    try:
        path = str(tmp_path / "model.ckpt-3")
        with sparse_files.FolderWriter(sparse_files.sparse_directory(path)) as writer:
            writer.write_keys("table", np.array([1], np.int64))
            writer.write_rows("table", "embedding", 2, [np.ones((1, 2), np.float32)])
        checksums.write(path)
    finally:
        os.umask(previous)
    sparse_files.check_permissions(sparse_files.sparse_directory(path))
    assert stat.S_IMODE(os.stat(checksums.path_of(path)).st_mode) == 0o640
