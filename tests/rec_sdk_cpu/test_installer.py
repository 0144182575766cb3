"""install, uninstall, idempotence, refusal: each in a process of its own."""
import os
import subprocess
import sys

import pytest

from feature_specs.files import PROJECT


def _run(code, path=""):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([PROJECT, path]), PYTHONWARNINGS="ignore")
    return subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def _real_packages(tmp_path):
    for name in ("mx_rec", "npu_bridge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("REAL = True\n")
    return str(tmp_path)


def test_install_registers_is_idempotent_and_uninstall_undoes_it():
    result = _run("""
import sys, tensorflow as tf, rec_sdk_cpu
from tensorflow_estimator.python.estimator import estimator, training
saver = tf.compat.v1.train.Saver
before = [saver.save, saver.build, saver.restore, estimator.Estimator.train, training._assert_eval_spec,
          tf.compat.v1.train.Optimizer._scale_loss]
rec_sdk_cpu.install(); names = rec_sdk_cpu.installer.module_names(); once = saver.save
import mx_rec
assert mx_rec.version() == mx_rec.__version__ == "6.0.RC3"
rec_sdk_cpu.install()
assert names == rec_sdk_cpu.installer.module_names() and saver.save is once and rec_sdk_cpu.is_installed()
import mx_rec.core.embedding, npu_bridge.npu_init, hccl, rec_sdk_common.communication.hccl.hccl_info
import mx_rec.graph, mx_rec
assert mx_rec.graph.modifier.GraphModifierHook is mx_rec.graph.GraphModifierHook
rec_sdk_cpu.uninstall(); rec_sdk_cpu.uninstall()
after = [saver.save, saver.build, saver.restore, estimator.Estimator.train, training._assert_eval_spec,
         tf.compat.v1.train.Optimizer._scale_loss]
assert before == after and not rec_sdk_cpu.is_installed() and "mx_rec" not in sys.modules
assert not hasattr(tf.data.Dataset, "eos_map")
try:
    import mx_rec
except ImportError:
    print("gone")
""")
    assert result.stdout.strip().endswith("gone"), result.stdout


@pytest.mark.long
def test_the_stand_in_and_the_app_leave_contrib_alone():
    # Its import takes a second or two of every start.
    result = _run("""
import sys, rec_sdk_cpu
rec_sdk_cpu.install()
import mx_rec.core.embedding, mx_rec.optimizers.lazy_adam, npu_bridge.npu_init
from estimator_app.serving import export, predict as prediction
from estimator_app.training import train as training
from rec_sdk_cpu.core import history, key_index
import tensorflow as tf
key_index.KeyIndex("t", 10).allow_release()
print(sorted(name for name in sys.modules if name.startswith("tensorflow_core.contrib")))
assert tf.contrib.lookup.MutableHashTable is key_index.lookup_ops.MutableHashTable
""")
    # Loading contrib itself prints a notice behind the list.
    assert result.returncode == 0 and "[]" in result.stdout.splitlines(), result.stdout


def test_install_refuses_where_the_real_packages_can_be_imported(tmp_path):
    result = _run("""
import rec_sdk_cpu
try:
    rec_sdk_cpu.install()
except rec_sdk_cpu.StandInError as error:
    print(error)
rec_sdk_cpu.install(force=True)
import mx_rec
assert not hasattr(mx_rec, "REAL")
rec_sdk_cpu.uninstall()
import mx_rec
print("real", mx_rec.REAL)
""", _real_packages(tmp_path))
    assert "mx_rec, npu_bridge can be imported here" in result.stdout and "real True" in result.stdout, result.stdout


@pytest.mark.parametrize("force", [False, True])
def test_install_refuses_after_the_real_package_was_imported(tmp_path, force):
    result = _run("""
import mx_rec, rec_sdk_cpu
try:
    rec_sdk_cpu.install(force=%r)
except rec_sdk_cpu.StandInError as error:
    print(error)
""" % force, _real_packages(tmp_path))
    assert "already imported" in result.stdout, result.stdout


def test_an_unknown_generation_is_refused(sdk):
    with pytest.raises(ValueError, match="G1"):
        sdk.install(generation="G1")


def test_what_the_stand_in_does_not_provide_is_absent(sdk):
    with pytest.raises(ImportError):
        import mx_rec.validator.emb_validator  # noqa: F401
