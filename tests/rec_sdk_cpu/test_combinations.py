"""The combination matrix (rec_sdk_api 7.5): each refused combination, and the app on real data in every allowed one."""
import importlib
import itertools
import json
import os

import pytest
import tensorflow as tf

from tests.rec_sdk_cpu.tools import ids_placeholder, lookup, make_table, start
from tests.support.cli_runner import run_app

GUARD = "The dynamic expansion mode is not compatible with the optimizer"
TOLERANCE = 0.002


@pytest.mark.parametrize("module, function, expansion", [
    ("lazy_adam", "create_hash_optimizer", True), ("adagrad", "create_hash_optimizer", True),
    ("gradient_descent", "create_hash_optimizer", True), ("ftrl", "create_hash_optimizer", True),
    ("lazy_adam_by_addr", "create_hash_optimizer_by_address", False),
    ("adagrad_by_addr", "create_hash_optimizer_by_address", False),
    ("gradient_descent_by_addr", "create_hash_optimizer_by_addr", False)])
def test_optimizer_of_the_other_mode(sdk, module, function, expansion):
    start(use_dynamic_expansion=expansion)
    with pytest.raises(ValueError, match=GUARD):
        getattr(importlib.import_module("mx_rec.optimizers." + module), function)(learning_rate=0.1)


def test_expansion_resets_host_and_disk_sizes_silently(sdk, tmp_path):
    start(use_dynamic_expansion=True)
    table = make_table(host_vocabulary_size=5, ssd_vocabulary_size=5, ssd_data_path=[str(tmp_path)])
    assert table.is_hbm and table.sizes == (20, 0, 0)


def test_host_tables_need_graph_modification(sdk):
    from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
    from mx_rec.core.embedding import sparse_lookup
    start()
    spec, batch = FeatureSpec("f", table_name="t"), {"f": ids_placeholder()}
    get_asc_insert_func(tgt_key_specs=spec)(batch)
    with pytest.raises(RuntimeError, match="when the 'ddr or ssd' mode are used, the 'modify graph' is required"):
        sparse_lookup(make_table(host_vocabulary_size=20), spec, batch=batch)


@pytest.mark.parametrize("device, host, place", [(9, 20, "device"), (20, 9, "host")])
def test_static_mode_with_host_tables_needs_slices_of_send_count(sdk, device, host, place):
    start(use_dynamic=False)
    with pytest.raises(ValueError, match="9 rows|it has 9"):
        lookup(make_table(rows=device, host_vocabulary_size=host), tf.constant([1], tf.int64), send_count=10)
    lookup(make_table("u", rows=device, host_vocabulary_size=host), tf.constant([1], tf.int64), send_count=9)


def test_disk_tables_need_host_tables_and_real_directories(sdk, tmp_path):
    start()
    (tmp_path / "real").mkdir()
    os.symlink(str(tmp_path / "real"), str(tmp_path / "link"))
    with pytest.raises(ValueError, match="needs host_vocabulary_size > 0"):
        make_table(ssd_vocabulary_size=5, ssd_data_path=[str(tmp_path)])
    for path, problem in (("none", "not an existing"), ("link", "symbolic link"), ("real/../real", "contains")):
        with pytest.raises(ValueError, match=problem):
            make_table(host_vocabulary_size=5, ssd_vocabulary_size=5, ssd_data_path=[str(tmp_path) + "/" + path])


def test_tables_of_device_and_host_memory_do_not_mix(sdk):
    from mx_rec.core.asc.manager import start_asc_pipeline
    start()
    make_table("a")
    make_table("b", host_vocabulary_size=5)
    with pytest.raises(ValueError, match="all tables must be HBM or all must be DDR/SSD"):
        start_asc_pipeline()


def test_merging_tables_needs_dynamic_expansion(sdk):
    start()
    with pytest.raises(RuntimeError, match="merge table function requires dynamic expansion mode"):
        make_table(enable_merge=True)


def test_adagrad_does_not_go_with_host_tables(sdk):
    from mx_rec.graph.merge_lookup import do_merge_lookup
    from mx_rec.graph.modifier import modify_graph_and_start_emb_cache
    from mx_rec.optimizers import adagrad, lazy_adam
    start()
    table = make_table(host_vocabulary_size=20)
    out = lookup(table, tf.constant([1], tf.int64))
    do_merge_lookup()
    pairs = list(zip(tf.gradients(tf.reduce_sum(out), [table.variable]), [table.variable]))
    adagrad.create_hash_optimizer(0.1).apply_gradients(pairs)
    with pytest.raises(RuntimeError, match="table_instance should have been set_optimizer_for_table"):
        modify_graph_and_start_emb_cache()
    lazy_adam.create_hash_optimizer(0.1).apply_gradients(pairs)
    modify_graph_and_start_emb_cache()


def test_incremental_checkpoints_are_not_provided(sdk, tmp_path):
    with pytest.raises(NotImplementedError, match="incremental"):
        start(is_incremental_checkpoint=True, save_checkpoint_due_time=1, save_delta_checkpoints_secs=1)
    start()
    make_table()
    saver = tf.compat.v1.train.Saver()
    with tf.compat.v1.Session() as session, pytest.raises(NotImplementedError, match="incremental"):
        saver.save(session, str(tmp_path / "m"), is_incremental_checkpoint=True)


def test_padding_keys_are_not_provided(sdk):
    start()
    with pytest.raises(NotImplementedError, match="padding keys"):
        make_table(padding_keys=[0], padding_keys_mask=True, padding_keys_len=1)


def test_sparse_tensors_are_refused(sdk):
    start()
    with pytest.raises(ValueError, match="ids must be"):
        lookup(make_table(), tf.SparseTensor([[0, 0]], tf.constant([1], tf.int64), [1, 1]))


def test_feature_specs_and_tensors_do_not_mix_in_one_graph(sdk):
    from mx_rec.core.asc.helper import FeatureSpec, get_asc_insert_func
    from mx_rec.core.embedding import sparse_lookup
    start()
    spec, batch = FeatureSpec("f", table_name="t"), {"f": ids_placeholder()}
    get_asc_insert_func(tgt_key_specs=spec)(batch)
    table = make_table()
    sparse_lookup(table, spec, batch=batch)
    with pytest.raises(RuntimeError, match="cannot be mixed"):
        lookup(table, tf.constant([1], tf.int64))


# The app on real data.

def _switches(graph, dynamic, several, kind, admission):
    return {"use_modify_graph": graph, "use_dynamic": dynamic, "use_multi_lookup": several,
            "cache_mode": "HBM" if kind == "expansion" else kind, "use_dynamic_expansion": kind == "expansion",
            "use_faae": admission}


def _allowed(graph, kind, admission):
    if kind in ("DDR", "SSD"):
        return graph
    return not (kind == "expansion" and admission)


COMBINATIONS = list(itertools.product((False, True), (True, False), (False, True), ("HBM", "DDR", "SSD", "expansion"),
                                      (False, True)))
ALLOWED = [item for item in COMBINATIONS if _allowed(item[0], item[3], item[4])]
REFUSED = [item for item in COMBINATIONS if not _allowed(item[0], item[3], item[4])]


def _name(item):
    graph, dynamic, several, kind, admission = item
    return "-".join(["graph" if graph else "specs", "dynamic" if dynamic else "static",
                     "several" if several else "one", kind, "admission" if admission else "all"])


def _arguments(item):
    flags = []
    for name, value in _switches(*item).items():
        flags += ["--" + name, str(value).lower() if isinstance(value, bool) else value]
    return flags


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    source = os.environ.get("CENSUS_KDD_DIR")
    if not source:
        pytest.skip("CENSUS_KDD_DIR does not name the folder of the real census files")
    target = tmp_path_factory.mktemp("census") / "data"
    run_app("prepare", "--train_data_path", os.path.join(source, "census-income.data.gz"), "--test_data_path",
            os.path.join(source, "census-income.test.gz"), "--output_path", target, cwd=target.parent)
    return target


def _train(prepared, directory, item):
    # One evaluation, at the end; after four epochs AUC depends little on the initial values, which differ by storage.
    run_app("train", "--data_dir", prepared, "--model_dir", directory, "--train_epoch", 4, "--eval_interval", 100000,
            *_arguments(item), cwd=directory.parent)
    with open(str(directory / "metrics.jsonl")) as stream:
        return [line for line in map(json.loads, stream) if line.get("kind") == "eval"][-1]


@pytest.fixture(scope="module")
def default_metrics(prepared, tmp_path_factory):
    return _train(prepared, tmp_path_factory.mktemp("default") / "model", (False, True, False, "HBM", False))


@pytest.mark.long
@pytest.mark.realdata
@pytest.mark.parametrize("item", ALLOWED, ids=_name)
def test_app_trains_real_data(prepared, default_metrics, tmp_path, item):
    metrics = _train(prepared, tmp_path / "model", item)
    for task in ("auc_income", "auc_marital"):
        difference = abs(metrics[task] - default_metrics[task])
        print("%s %s %.5f default %.5f" % (_name(item), task, metrics[task], default_metrics[task]))
        assert difference < (0.02 if item[4] else TOLERANCE)


@pytest.mark.parametrize("item", REFUSED, ids=_name)
def test_app_refuses(item):
    from estimator_app.config import Config
    from feature_specs.errors import ConfigError
    with pytest.raises(ConfigError, match="graph modification|cannot evict|HBM only"):
        Config(**_switches(*item))
