"""Random calls against the SDK's rules, written here as a table of cases: what passes, and what raises what.

Nothing of the table comes from the stand-in. A call takes the accepted values of some parameters at random, and in half
of the calls one refused value, or one combination with its outcome.
"""
import random
import unittest.mock

import numpy as np
import pytest
import tensorflow as tf

CALLS = 400
INT32 = 2 ** 31 - 1
CONSTANT = tf.compat.v1.constant_initializer(0.1)


def _ints(low, high):
    return {"ok": [low, low + 1, high - 1, high],
            "bad": [low - 1, high + 1, True, False, np.int64(low + 1), float(low + 1), str(low), None, [low], b"1"]}


def _maybe(table):
    return {"ok": table["ok"] + [None], "bad": [value for value in table["bad"] if value is not None]}


def _text(longest):
    return {"ok": ["a", "b" * longest, "user id", "ä"], "bad": ["", "c" * (longest + 1), 1, b"a", ["a"], None]}


BOOL = {"ok": [True, False], "bad": [0, 1, "True", None, np.bool_(True)]}
RATE = {"ok": [0.0, 1e-3, 10.0, np.float64(0.5), lambda: tf.constant(0.1), lambda: tf.constant(10.0),
               lambda: tf.compat.v1.placeholder(tf.float32, []), lambda: tf.compat.v1.placeholder(tf.int32, [])],
        "bad": [-1e-9, 10.1, 1, 0, True, "0.1", None, np.float32(0.1), lambda: tf.constant(1),
                lambda: tf.constant(11.0), lambda: tf.constant(-1.0), lambda: tf.Variable(0.1)]}
OPEN = {"ok": [1e-12, 0.5, 1.0], "bad": [0.0, 1.0000001, -0.1, 1, "0.5", None]}

STEPS = _ints(-1, INT32)
STEPS["ok"] = [-1, 1, 5, INT32]

FAAE = _maybe(_ints(-1, INT32))

# callable: (parameters that are always given, {parameter: accepted and refused values}, combinations and their outcome)
CASES = {
    "init": ({}, {
        "max_steps": STEPS, "train_steps": STEPS, "eval_steps": STEPS, "save_steps": STEPS, "if_load": BOOL,
        "use_dynamic": BOOL, "use_dynamic_expansion": BOOL, "use_lccl": BOOL, "bind_cpu": BOOL,
        "save_checkpoint_due_time": _ints(1, INT32), "save_delta_checkpoints_secs": _ints(1, INT32),
        "restore_model_version": _ints(0, INT32), "recent_key_count_threshold": _ints(0, INT32),
        "is_incremental_checkpoint": {"ok": [False], "bad": [0, 1, "True", None]},
        "whatever": {"ok": [None, 1, "x"], "bad": []},
    }, [
        ({"max_steps": 0}, ValueError), ({"train_steps": 0, "eval_steps": 0}, ValueError),
        ({"max_steps": 0, "train_steps": 0, "eval_steps": 0}, ValueError), ({"max_steps": 0, "train_steps": 1}, None),
        ({"max_steps": -1, "eval_steps": 0}, None), ({"save_steps": 0}, None),
    ]),
    "FeatureSpec": ({"name": "f"}, {
        "name": _text(255), "table_name": _maybe(_text(255)), "access_threshold": FAAE,
        "index_key": {"ok": [None, 0, 255, "k", "k" * 255], "bad": [-1, 256, True, 1.0, "", "k" * 256, b"k"]},
        "is_timestamp": {"ok": [None, True, False], "bad": [0, 1, "True"]}, "batch_size": _maybe(_ints(1, INT32)),
        "faae_coefficient": _ints(1, INT32),
    }, [
        ({"eviction_threshold": 5}, ValueError), ({"access_threshold": 1, "eviction_threshold": 5}, None),
        ({"access_threshold": 0, "eviction_threshold": 0}, None),
        ({"access_threshold": 1, "eviction_threshold": -2}, ValueError),
        ({"access_threshold": 1, "eviction_threshold": 1.0}, ValueError),
        ({"access_threshold": None, "eviction_threshold": 0}, ValueError), ({"feat_count": 3}, TypeError),
        ({"table_name": "..."}, ValueError), ({"table_name": "a.b"}, None),
    ]),
    "create_table": ({"key_dtype": tf.int64, "dim": 8, "name": "t", "emb_initializer": CONSTANT}, {
        "key_dtype": {"ok": [tf.int64, tf.int32, "int64", "int32", np.int64, np.int32],
                      "bad": [tf.float32, "float32", "x", None, tf.int8, np.float64, b"?"]},
        "dim": {"ok": [1, 8, 8192, tf.TensorShape([1]), tf.TensorShape([8192])],
                "bad": [0, 8193, True, 8.0, "8", None, np.int64(8), tf.TensorShape([0]), tf.TensorShape([8193]),
                        tf.TensorShape([2, 2]), tf.TensorShape([None]), tf.TensorShape(None), [8]]},
        "name": {"ok": ["t", "T_9.x", "a" * 100, "a\n", "9"],
                 "bad": ["", "a" * 101, "a b", "ä", "a-b", 1, None, "..."]},
        "emb_initializer": {"ok": [CONSTANT, tf.zeros_initializer(), tf.compat.v1.glorot_uniform_initializer(),
                                   tf.random_normal_initializer()], "bad": [None, 0.1, "zeros", tf.zeros, max]},
        "device_vocabulary_size": _ints(1, 10 ** 9), "host_vocabulary_size": _ints(0, 10 ** 9),
        "is_save": BOOL, "is_dp": BOOL, "fusion_optimizer_var": BOOL,
        "init_param": {"ok": [-10.0, 0.0, 10.0, np.float64(1)],
                       "bad": [-10.1, 10.1, 1, True, "1", None, np.float32(1)]},
        "all2all_gradients_op": {"ok": ["sum_gradients", "sum_gradients_and_div_by_ranksize"],
                                 "bad": ["sum", "", None, 1]},
        "padding_keys_len": _maybe(_ints(1, INT32)),
        "value_dtype": {"ok": [tf.float32, "float32", np.float32], "bad": [tf.float64, "float16", None, tf.int64]},
        "shard_num": _ints(1, 8192), "hashtable_threshold": _ints(0, INT32),
        "ssd_data_path": {"ok": [["anywhere"], ("a", "b")], "bad": [[], (), "path", None, [1], ["a", None]]},
    }, [
        ({"ssd_vocabulary_size": 5}, ValueError), ({"ssd_vocabulary_size": -1}, ValueError),
        ({"ssd_vocabulary_size": True, "host_vocabulary_size": 5}, ValueError),
        ({"ssd_vocabulary_size": 5, "host_vocabulary_size": 5, "ssd_data_path": ["/tmp"]}, None),
        ({"ssd_vocabulary_size": 5, "host_vocabulary_size": 5, "ssd_data_path": ["/none"]}, ValueError),
        ({"ssd_vocabulary_size": 5, "host_vocabulary_size": 5, "ssd_data_path": ["/tmp/../tmp"]}, ValueError),
        ({"ssd_vocabulary_size": 5, "host_vocabulary_size": 5, "ssd_data_path": ["LINK"]}, ValueError),
        ({"ssd_vocabulary_size": 5, "host_vocabulary_size": 5, "ssd_data_path": ["LINK/below"]}, ValueError),
        ({"padding_keys_mask": True}, ValueError), ({"padding_keys": 0}, ValueError),
        ({"padding_keys": 0, "padding_keys_mask": True}, ValueError), ({"padding_keys_mask": 1}, ValueError),
        ({"enable_merge": True}, RuntimeError), ({"enable_merge": 1}, ValueError), ({"enable_merge": False}, None),
        ({"hashtable": 1}, TypeError), ({"use_dynamic_expansion": True}, TypeError),
    ]),
    "sparse_lookup": ({"hashtable": "TABLE", "ids": "IDS", "modify_graph": True}, {
        "send_count": _maybe(_ints(1, INT32)), "is_train": BOOL, "is_grad": BOOL,
        "name": {"ok": [None, "a", "a b", "a/b", "x" * 255], "bad": ["", "x" * 256, 1, b"a"]},
        "batch": {"ok": [None, {}, {"a": 1}], "bad": [[], 1, "x"]},
        "modify_graph": {"ok": [True], "bad": [False, None, 1, "True"]},
        "hashtable": {"ok": ["TABLE"], "bad": [None, 1, "t"]},
        "ids": {"ok": ["IDS"], "bad": [None, 1, [1, 2], np.array([1]), "SPARSE", "VARIABLE"]},
        "serving_default_value": {"ok": [None, "ROW"], "bad": [0.0, [0.0], np.zeros(3), "x"]},
        "dim": {"ok": [None, 3], "bad": []},
    }, [
        ({"access_and_evict_config": {}}, None), ({"access_and_evict_config": None}, None),
        ({"access_and_evict_config": {"unknown": 1}}, None), ({"access_and_evict_config": [1]}, ValueError),
        ({"access_and_evict_config": {"eviction_threshold": 3}}, ValueError),
        ({"access_and_evict_config": {"access_threshold": 3, "eviction_threshold": 3}}, ValueError),
        ({"access_and_evict_config": {"access_threshold": -1}}, ValueError),
        ({"access_and_evict_config": {"access_threshold": 2.0}}, ValueError),
        ({"access_and_evict_config": {"access_threshold": 2, "faae_coefficient": 0}}, ValueError),
    ]),
    "lazy_adam": ({}, {
        "learning_rate": RATE, "beta1": {"ok": [1e-9, 0.9, 0.999999], "bad": [0.0, 1.0, -0.1, 1, 0, "0.9", None]},
        "beta2": {"ok": [0.0, 0.999, 1.0], "bad": [-0.1, 1.1, 1, 0, None]}, "epsilon": OPEN, "name": _text(200),
        "use_fusion_optim": BOOL,
    }, [({"use_locking": True}, TypeError)]),
    "adagrad": ({}, {"learning_rate": RATE, "initial_accumulator_value": OPEN, "use_locking": BOOL,
                     "name": _text(200)}, [({"epsilon": 1e-7}, TypeError)]),
    "gradient_descent": ({"learning_rate": 0.1}, {
        "learning_rate": RATE, "use_locking": BOOL, "name": _text(200), "use_fusion_optim": BOOL,
        "weight_decay": {"ok": [None, 1e-5, 1e-3, 1e-2], "bad": [0.0, 9e-6, 0.011, -1e-5, 1, "x"]},
    }, []),
    "ftrl": ({"learning_rate": 0.1}, {
        "learning_rate": RATE, "use_locking": BOOL, "name": _text(200),
        "learning_rate_power": {"ok": [-0.5, -1.0, 0.0], "bad": [0.1, -1, None]}, "initial_accumulator_value": OPEN,
        "l1_regularization_strength": {"ok": [0.0, 1e4], "bad": [-0.1, 1e5, 0, None]},
        "l2_regularization_strength": {"ok": [0.0, 1e4], "bad": [-0.1, 1e5, 0, None]},
        "l2_shrinkage_regularization_strength": {"ok": [0.0, 1e4], "bad": [-0.1, 1e5, 0, None]},
        "accum_name": {"ok": ["a", "a" * 255], "bad": ["", "a" * 256, None, 1]}, "other": {"ok": [1, None], "bad": []},
    }, []),
    "lazy_adam_by_addr": ({}, {
        "learning_rate": RATE, "beta1": {"ok": [1e-9, 0.9], "bad": [0.0, 1.0, 1, None]},
        "beta2": {"ok": [0.0, 1.0], "bad": [-0.1, 1.1, 1]}, "epsilon": OPEN, "name": _text(200),
    }, [({"use_fusion_optim": False}, TypeError)]),
    "adagrad_by_addr": ({}, {"learning_rate": RATE, "initial_accumulator_value": OPEN, "name": _text(200)},
                        [({"use_locking": False}, TypeError)]),
    "gradient_descent_by_addr": ({"learning_rate": 0.1}, {
        "learning_rate": RATE, "use_locking": BOOL, "name": _text(200),
        "weight_decay": {"ok": [0.0, 1e-4, 1.0], "bad": [None, -1e-9, 1.1, 0, 1]},
    }, [({"use_fusion_optim": False}, TypeError)]),
    "NPURunConfig": ({"save_checkpoints_steps": 10}, {
        "iterations_per_loop": {"ok": [1, 2, 100, True], "bad": [0, -1, 1.0, "1", None]},
        "horovod_mode": {"ok": [True, False], "bad": [0, 1, "x", None]},
        "mix_compile_mode": {"ok": [False], "bad": [0, 1, None, "x"]},
        "graph_run_mode": {"ok": [0, 1], "bad": [2, -1, "1", None]},
        "enable_exception_dump": {"ok": [0, 1, 2, 7], "bad": [-1, None, "1"]},
        "jit_compile": {"ok": ["true", "false", "auto", "maybe"], "bad": [True, None, 1]},
        "dump_config": {"ok": [None], "bad": [{}, 3]}, "dynamic_input_config": {"ok": [None], "bad": [{}, 3]},
        "experimental_config": {"ok": [None], "bad": [{}, 3]}, "profiling_config": {"ok": [None, {}], "bad": []},
        "memory_config": {"ok": [None, {}], "bad": []}, "session_config": {"ok": [None], "bad": [{}, "x"]},
        "precision_mode": {"ok": [None, "allow_mix_precision", "nonsense", 5], "bad": []},
        "deterministic": {"ok": [0, 1, "1", None], "bad": []}, "hcom_parallel": {"ok": [True, None, "x"], "bad": []},
        "save_checkpoints_steps": {"ok": [0, 1, 100], "bad": [-1]},
        "log_step_count_steps": {"ok": [None, 1, 100], "bad": [0, -1]},
        "keep_checkpoint_max": {"ok": [0, 5], "bad": [-1]}, "distribute": {"ok": [None, 3, "x"], "bad": []},
    }, [
        ({"iterations_per_loop": 2, "mix_compile_mode": True}, ValueError), ({"mix_compile_mode": True}, None),
        ({"save_checkpoints_secs": 5}, ValueError), ({"auto_tune_mode": None}, TypeError),
        ({"device_fn": None}, TypeError), ({"protocol": None}, TypeError), ({"es_cluster_config": None}, TypeError),
        ({"mstune_mode": None}, TypeError), ({"train_distribute": None}, None),
    ]),
    "NPUEstimator": ({}, {
        "enable_data_pre_proc": {"ok": [True, False], "bad": [None, "x"]},
        "hcom_parallel": {"ok": [True], "bad": [None, "x"]},
        "is_tailing_optimization": {"ok": [True, False], "bad": [None]},
        "enable_small_channel": {"ok": [0, 1], "bad": [None, "1"]},
        "enable_compress_weight": {"ok": [True], "bad": [None]},
        "hcom_multi_mode": {"ok": [True], "bad": [None]}, "deterministic": {"ok": [0, 1], "bad": [None, "1"]},
        "event_sync_timeout": {"ok": [-1, 5], "bad": [None]}, "external_weight": {"ok": [True], "bad": [None]},
        "variable_placement": {"ok": ["Device", "Host"], "bad": [None, 3]},
        "device_type": {"ok": ["default_device_type"], "bad": [None]},
        "stream_sync_timeout": {"ok": [-1], "bad": [None]}, "input_fusion_size": {"ok": [1], "bad": [None]},
        "frozen_variable": {"ok": [True], "bad": [None]},
        "op_compiler_cache_mode": {"ok": [None, "enable"], "bad": [True]},
        "local_rank_id": {"ok": [None, 0], "bad": ["0"]}, "session_device_id": {"ok": [None, 1], "bad": [1.5]},
        "insert_op_file": {"ok": [None, b"file"], "bad": ["file"]},
    }, [
        ({"profiling_config": {}}, AttributeError), ({"memory_config": {}}, AttributeError),
        ({"precision_mode": "nonsense"}, ValueError), ({"precision_mode": 5}, TypeError),
        ({"precision_mode": "force_fp16", "precision_mode_v2": "fp16"}, ValueError),
        ({"enable_exception_dump": 7}, ValueError), ({"jit_compile": "maybe"}, ValueError),
    ]),
}
BY_ADDRESS = {"lazy_adam_by_addr": "create_hash_optimizer_by_address",
              "adagrad_by_addr": "create_hash_optimizer_by_address",
              "gradient_descent_by_addr": "create_hash_optimizer_by_addr"}
FEWER = ("adagrad", "gradient_descent", "NPUEstimator") + tuple(BY_ADDRESS)
# What a refused value raises, where it is no ValueError.
ERRORS = {
    ("NPURunConfig", "iterations_per_loop"): (TypeError, ValueError), ("NPURunConfig", "mix_compile_mode"): TypeError,
    ("NPURunConfig", "graph_run_mode"): (TypeError, ValueError), ("NPURunConfig", "jit_compile"): TypeError,
    ("NPURunConfig", "enable_exception_dump"): (TypeError, ValueError), "NPUEstimator": TypeError,
}



@pytest.fixture
def grid(sdk, tmp_path, monkeypatch):
    """Makes a call; tables and lookups themselves are not built, so that only the checks take time."""
    from mx_rec.core import create_table, sparse_lookup
    from mx_rec.core.asc import FeatureSpec
    from mx_rec.util import init
    from npu_bridge.npu_init import NPUEstimator, NPURunConfig

    from rec_sdk_cpu.core import config
    from tests.rec_sdk_cpu.tools import make_table, start

    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    start()
    values = {"TABLE": make_table("base", dim=3), "IDS": tf.constant([1], tf.int64), "ROW": tf.zeros([3]),
              "SPARSE": tf.SparseTensor([[0]], [1], [2]), "VARIABLE": tf.compat.v1.get_variable("v", [2]),
              "LINK": str(tmp_path / "link"), "LINK/below": str(tmp_path / "link" / "below")}
    embedding = "rec_sdk_cpu.mx_rec.core.embedding."
    monkeypatch.setattr(embedding + "BaseSparseEmbedding", unittest.mock.Mock())
    monkeypatch.setattr(embedding + "register", lambda table: table)
    monkeypatch.setattr(embedding + "embedding_lookup", lambda *args: values["ROW"])

    def estimator(**options):
        return NPUEstimator(lambda features: None, str(tmp_path), NPURunConfig(save_checkpoints_steps=0, **options))

    def optimizer(module):
        def make(**arguments):
            import importlib
            expansion = module.endswith("_by_addr")
            if config.ConfigInitializer.get_instance().use_dynamic_expansion != expansion:
                config.reset()
                start(use_dynamic_expansion=expansion)
            creator = BY_ADDRESS.get(module, "create_hash_optimizer")
            return getattr(importlib.import_module("mx_rec.optimizers." + module), creator)(**arguments)
        return make

    targets = {"init": init, "FeatureSpec": FeatureSpec, "create_table": create_table, "sparse_lookup": sparse_lookup,
               "NPURunConfig": NPURunConfig, "NPUEstimator": estimator}

    def value_of(given):
        if isinstance(given, list):
            return [value_of(item) for item in given]
        if isinstance(given, str):
            return values.get(given, given)
        return given() if callable(given) and getattr(given, "__name__", "") == "<lambda>" else given

    def call(name, arguments):
        if name == "init":
            config.reset()
        # Another limit holds for what one graph may have of a table: the grid is about single calls.
        values["TABLE"].multi_lookup_times = {True: 0, False: 0}
        values["TABLE"].lookup_limits = {}
        made = {parameter: value_of(given) for parameter, given in arguments.items()}
        return targets.get(name, optimizer(name))(**made)

    return call


def _calls(name):
    always, parameters, combinations = CASES[name]
    draw = random.Random(name)
    for number in range(CALLS // 4 if name in FEWER else CALLS):
        arguments, outcome = dict(always), None
        for parameter in draw.sample(sorted(parameters), draw.randint(0, min(6, len(parameters)))):
            arguments[parameter] = draw.choice(parameters[parameter]["ok"])
        if number % 4 == 1 or (number % 4 == 3 and not combinations):
            parameter = draw.choice([name for name in sorted(parameters) if parameters[name]["bad"]])
            arguments[parameter] = draw.choice(parameters[parameter]["bad"])
            outcome = ERRORS.get((name, parameter)) or ERRORS.get(name) or ValueError
        elif number % 4 == 3:
            combined, outcome = draw.choice(combinations)
            # Other arguments could turn the outcome of the combination: it comes with the needed ones only.
            arguments = dict(always, **combined)
        elif name == "NPURunConfig":
            # The two exclude each other; the combinations say so.
            arguments.pop("mix_compile_mode", None)
        yield arguments, outcome


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_accepted_and_what_is_refused(grid, name):
    for arguments, outcome in _calls(name):
        shown = "%s(%s)" % (name, ", ".join("%s=%r" % item for item in sorted(arguments.items())))
        try:
            grid(name, arguments)
        except Exception as error:  # noqa: B902 - any exception is an outcome to be compared
            assert outcome is not None and isinstance(error, outcome), "%s raised %r" % (shown, error)
        else:
            assert outcome is None, "%s was accepted" % shown


def test_the_grid_is_large_enough():
    assert sum(1 for name in CASES for _ in _calls(name)) >= 2000
