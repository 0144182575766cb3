"""The migration report: calls, settings, what does not fit, and what differs on a device."""
import textwrap

import pytest
import tensorflow as tf

from tests.rec_sdk_cpu.test_runner import run
from tests.rec_sdk_cpu.tools import lookup, make_table, start

PROGRAM = """
import tensorflow as tf
from mx_rec.core import create_table, sparse_lookup
from mx_rec.util import ConfigInitializer, init
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
config = ConfigInitializer.get_instance()
config.if_load = not config.if_load
config.train_params_config.get_initializer(is_training=True)
config.sparse_embed_config.get_table_instance_by_name("users")
config.train_params_config.ascend_global_hashtable_collection = "mine"
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


def test_a_program_that_fails_is_no_clean_one(tmp_path):
    (tmp_path / "mine.py").write_text("import mx_rec\nfrom mx_rec.util.communication.hccl_ops import get_rank_id\n")
    done = run("--trace", "mine.py", cwd=tmp_path)
    report = " ".join(done.stderr.split())
    assert done.returncode == 1 and "the program ended with ModuleNotFoundError: SDK generation G3 has no" in report
    assert "What differs on a device - the program called nothing of the SDK" in report


@pytest.mark.parametrize("text", [
    "mx_rec.core.create_table                                       1x  mine.py:10",
    "mx_rec.core.sparse_lookup                                      3x  mine.py:12               G2:yes G3:yes",
    "npu_bridge.estimator.npu_ops.dropout                           1x  helper.py:4",
    "ConfigInitializer.get_instance                                 1x  mine.py:20               G2:yes G3:yes",
    "train_params_config.get_initializer                            1x  mine.py:22               G2:yes G3:yes",
    "sparse_embed_config.get_table_instance_by_name                 1x  mine.py:23               G2:yes G3:yes",
    "ConfigInitializer.get_instance(): if_load=True, train_params_config.ascend_global_hashtable_collection='mine'\n",
    "init: max_steps=3, use_dynamic=True",
    "is_train=True | False",
    "precision_mode='allow_mix_precision'", "have an effect here: USE_COMBINE_FAAE=1",
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


def _differences(act):
    """What a recording of a function's calls says of a device, one text."""
    from rec_sdk_cpu.trace import differences, recorder
    recording = recorder.Recorder("/")
    recording.start()
    try:
        act()
    finally:
        recording.stop()
    return recording, " ".join(differences.find_all(recording))


def test_calls_in_a_mapped_function_are_recorded_where_the_program_maps_it(sdk):
    from mx_rec.constants.constants import LIBREC_TF_REC_V1_CPU_SO
    from mx_rec.util import ops

    def act():
        library = ops.import_host_pipeline_ops(LIBREC_TF_REC_V1_CPU_SO)

        def stamp(x):
            if tf.equal(x, 0):
                x += 1
            return library.return_timestamp(x)
        tf.data.Dataset.range(3).map(stamp)
    recording, _ = _differences(act)
    (call,) = recording.of("return_timestamp")
    place, line = call.where.rsplit(":", 1)
    assert place.endswith("test_trace.py") and int(line) == act.__code__.co_firstlineno + 7


def _look_up(ids_of, prefetch=True):
    start()
    data = tf.data.Dataset.from_tensor_slices({"id": [[1, 2]], "text": [["3", "4"]]}).map(
        lambda batch: dict(batch, id=tf.cast(batch["id"], tf.int64)))
    data = data.prefetch(1) if prefetch else data
    batch = tf.compat.v1.data.make_initializable_iterator(data).get_next()
    lookup(make_table(), ids_of(batch), access_and_evict_config={"access_threshold": 2, "eviction_threshold": None})


_PREFETCH = "A dataset of looked-up tensors ends with MapDataset"
_STRINGS = "Ids are made of strings in the graph (StringToNumber)"
_ORPHAN = "No dataset feeds the looked-up tensors Const"


@pytest.mark.parametrize("ids_of, prefetch, expected", [
    (lambda batch: tf.maximum(batch["id"], 0), True, []),
    (lambda batch: batch["id"], False, [_PREFETCH]),
    (lambda batch: tf.strings.to_number(batch["text"], tf.int64), True, [_STRINGS]),
    (lambda batch: tf.constant([1], tf.int64), True, [_ORPHAN]),
])
def test_where_looked_up_tensors_come_from(sdk, ids_of, prefetch, expected):
    recording, text = _differences(lambda: _look_up(ids_of, prefetch))
    assert [line for line in (_PREFETCH, _STRINGS, _ORPHAN) if line in text] == expected, text
    (call,) = recording.of("sparse_lookup")
    assert call.values["access_and_evict_config"] == ["{access_threshold: 2, eviction_threshold: None}"]


def test_a_slicer_hook_takes_ids_of_strings(sdk):
    from mx_rec.graph.hooks import LookupSubgraphSlicerHook

    def act():
        _look_up(lambda batch: tf.strings.to_number(batch["text"], tf.int64))
        LookupSubgraphSlicerHook(["StringToNumber"])
    assert _STRINGS not in _differences(act)[1]


@pytest.mark.parametrize("whole", [False, True])
def test_feature_specs_need_the_pipeline_and_an_announced_end(sdk, whole):
    def act():
        from mx_rec.constants.constants import LIBREC_EOS_OPS_SO
        from mx_rec.core.asc.feature_spec import FeatureSpec
        from mx_rec.core.asc.helper import get_asc_insert_func
        from mx_rec.core.asc.manager import start_asc_pipeline
        from mx_rec.core.embedding import sparse_lookup
        from mx_rec.util.ops import import_host_pipeline_ops

        start()
        spec = FeatureSpec("id", table_name="t")
        data = tf.data.Dataset.from_tensor_slices({"id": tf.constant([[1, 2]], tf.int64)})
        if whole:
            data = data.eos_map(import_host_pipeline_ops(LIBREC_EOS_OPS_SO), 0)
        data = data.map(get_asc_insert_func(tgt_key_specs=spec, is_training=True)).prefetch(1)
        batch = tf.compat.v1.data.make_initializable_iterator(data).get_next()
        sparse_lookup(make_table(), spec, is_train=True, batch=batch)
        if whole:
            start_asc_pipeline()
    _, text = _differences(act)
    assert ("KeyProcess not running" in text, "without Dataset.eos_map" in text) == (not whole, not whole), text


def test_options_of_a_session_are_settings(sdk):
    from rec_sdk_cpu.trace import report

    def act():
        start()
        make_table()
        config = tf.compat.v1.ConfigProto()
        options = config.graph_options.rewrite_options.custom_optimizers.add(name="NpuOptimizer").parameter_map
        options["precision_mode"].s = b"force_fp16"
        options["use_off_line"].b = True
        tf.compat.v1.Session(config=config).close()
    recording, text = _differences(act)
    assert recording.session_options == {"precision_mode": ["'force_fp16'"], "use_off_line": ["True"]}
    assert "precision 'force_fp16'" in text
    assert "NpuOptimizer, without effect here: precision_mode='force_fp16', use_off_line=True" in " ".join(
        " ".join(report._setting_lines(recording, [])).split())


@pytest.mark.parametrize("is_npu", [False, True])
def test_only_an_npu_estimator_has_the_hooks_of_one(sdk, tmp_path, is_npu):
    def model_fn(features, labels, mode):
        step = tf.compat.v1.assign_add(tf.compat.v1.train.get_global_step(), 1)
        return tf.estimator.EstimatorSpec(mode, loss=tf.reduce_sum(features), train_op=step)

    def act():
        from npu_bridge.npu_init import NPUEstimator, NPURunConfig
        start(max_steps=1, save_steps=5)
        made = NPURunConfig if is_npu else tf.estimator.RunConfig
        config = made(model_dir=str(tmp_path / "m"), save_checkpoints_steps=5)
        (NPUEstimator if is_npu else tf.estimator.Estimator)(model_fn, config=config).train(
            lambda: tf.data.Dataset.from_tensors(tf.ones([2])).repeat(), max_steps=1)
    assert ("NPUCheckpointSaverHook" in _differences(act)[1]) == is_npu
