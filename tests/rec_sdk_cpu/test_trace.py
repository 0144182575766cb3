"""The migration report: calls, settings, what does not fit, and what differs on a device."""
import textwrap

import pytest
import tensorflow as tf

from tests.rec_sdk_cpu.test_runner import run
from tests.rec_sdk_cpu.tools import lookup, make_table, start

PROGRAM = """
import tensorflow as tf
from mx_rec.core import create_table, sparse_lookup
from mx_rec.util import init
from rec_sdk_common.log import logger
from npu_bridge.npu_init import NPURunConfig, npu_hooks_append, npu_ops
import helper
init(max_steps=3, use_dynamic=True)
values = tf.compat.v1.truncated_normal_initializer()
table = create_table(tf.int64, 4, "users\\n", values, host_vocabulary_size=9, padding_keys_len=3)
for number in range(3):
    sparse_lookup(table, tf.constant([1], tf.int64), is_train=number == 0, modify_graph=True)
NPURunConfig(deterministic=1, precision_mode="allow_mix_precision", save_checkpoints_steps=0)
npu_hooks_append([])
helper.drop(tf.ones([2]))
try:
    create_table(no_such_argument=1)
except TypeError:
    print("refused as on a device", table.size())
raise SystemExit(4)
"""
HELPER = """
from npu_bridge.npu_init import npu_ops
def drop(x):
    return npu_ops.dropout(x, 0.5)
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    (folder / "mine.py").write_text(PROGRAM)
    (folder / "helper.py").write_text(HELPER)
    return run("--trace", "mine.py", cwd=folder, USE_COMBINE_FAAE="1")


def test_the_program_runs_and_ends_as_without_it(traced):
    assert traced.returncode == 4 and traced.stdout == "refused as on a device 0\n"


@pytest.mark.parametrize("text", [
    "mx_rec.core.create_table                                       1x  mine.py:10",
    "mx_rec.core.sparse_lookup                                      3x  mine.py:12               G2:yes G3:yes",
    "npu_bridge.estimator.npu_ops.dropout                           1x  helper.py:4",
    "init: max_steps=3, use_dynamic=True",
    "is_train=True | False",
    "precision_mode='allow_mix_precision'", "has an effect here: USE_COMBINE_FAAE=1",
])
def test_calls_and_settings(traced, text):
    assert text in traced.stderr, traced.stderr


@pytest.mark.parametrize("what, reasons", [
    ("mx_rec.core.create_table(..., ..., ..., ..., host_vocabulary_size=, padding_keys_len=) (mine.py:10)",
     ["G2: got an unexpected keyword argument 'padding_keys_len'"]),
    ("npu_bridge.estimator.npu.npu_config.NPURunConfig(deterministic=, precision_mode=, save_checkpoints_steps=) "
     "(mine.py:13)", ["2021-02: got an unexpected keyword argument 'deterministic'", "undated-A: got an"]),
    ("npu_bridge.npu_init.npu_hooks_append(...) (mine.py:14)", ["2021-02: is not there"]),
    ("mx_rec.core.create_table(no_such_argument=) (mine.py:17)", ["G2: ", "G3: "]),
    ("from rec_sdk_common.log import logger (mine.py:5)", ["G2: is not there; use mx_rec.util.log"]),
])
def test_what_does_not_fit(traced, what, reasons):
    lines = traced.stderr.splitlines()
    assert "  " + what in lines, traced.stderr
    found = lines[lines.index("  " + what) + 1:][:len(reasons)]
    assert [line.strip().startswith(reason) for line, reason in zip(found, reasons)] == [True] * len(reasons), found


@pytest.mark.parametrize("text", [
    "One rank ran here.", "Rows begin with random values (TruncatedNormal)", "precision 'allow_mix_precision'",
    "npu_ops.dropout: a device draws masks", "Tables in host memory or on disk", "table.size() is the number of keys",
    "becomes 'users', as in the SDK",
])
def test_what_differs(traced, text):
    assert text in " ".join(traced.stderr.split()), traced.stderr


def test_what_is_not_used_is_not_reported(traced):
    for text in ("FTRL", "Adagrad", "Dynamic expansion", "Results vary", "Collective"):
        assert text not in traced.stderr


def _recipe(order):
    """The upstream recipe: dense Adam, lazy Adam, two backward passes; ``order`` ties the first to the second."""
    from mx_rec.optimizers.lazy_adam import create_hash_optimizer
    start()
    table = make_table()
    weight = tf.compat.v1.get_variable("w", [3], use_resource=False)
    unread = tf.compat.v1.get_variable("unread", [3], use_resource=False)
    loss = tf.reduce_sum(tf.square(lookup(table, tf.constant([1, 2], tf.int64)) * weight)) + tf.reduce_sum(unread)
    dense = tf.compat.v1.train.AdamOptimizer()
    gradients = dense.compute_gradients(loss, [weight, unread])
    sparse = tf.gradients(loss, [table.variable])
    with tf.control_dependencies([sparse[0].values] if order else []):
        dense.apply_gradients([(tf.identity(gradient), variable) for gradient, variable in gradients])
    create_hash_optimizer().apply_gradients(zip(sparse, [table.variable]))


@pytest.mark.parametrize("order, racing", [(False, ["w"]), (True, [])])
def test_the_race_of_the_two_backward_passes(sdk, order, racing):
    from rec_sdk_cpu.core import graph_state
    from rec_sdk_cpu.trace import races
    seen = []
    graph_state.gradient_listeners.append(seen.append)
    try:
        _recipe(order)
    finally:
        graph_state.gradient_listeners.remove(seen.append)
    assert len(seen) == 1 and races.find(seen) == racing


def test_imports_of_one_generation_are_found_in_the_source(sdk, tmp_path):
    from rec_sdk_cpu.trace import binding
    (tmp_path / "a.py").write_text(textwrap.dedent("""
        from mx_rec.util.log import logger
        from mx_rec.util import init
        from rec_sdk_common.communication.hccl.hccl_info import get_rank_id
    """))
    found = binding.imports_of(binding.Contracts(), str(tmp_path / "a.py"), str(tmp_path))
    assert [(item.what, item.where, sorted(item.reasons)) for item in found] == [
        ("from mx_rec.util.log import logger", "a.py:2", ["G3"]),
        ("from rec_sdk_common.communication.hccl.hccl_info import get_rank_id", "a.py:4", ["G2"])]


def test_the_recording_leaves_no_trace(sdk, tmp_path):
    import mx_rec.core.embedding as embedding
    from npu_bridge.npu_init import NPURunConfig

    from rec_sdk_cpu import trace
    before = embedding.create_table, NPURunConfig.__init__, tf.estimator.Estimator.train
    (tmp_path / "p.py").write_text("")
    recording = trace.start(str(tmp_path / "p.py"))
    assert embedding.create_table is not before[0]
    with open(str(tmp_path / "report"), "w") as stream:
        recording.finish(stream)
    assert (embedding.create_table, NPURunConfig.__init__, tf.estimator.Estimator.train) == before
    assert "  none" in (tmp_path / "report").read_text()
