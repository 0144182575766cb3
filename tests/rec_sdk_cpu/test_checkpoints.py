"""Sparse checkpoints (rec_sdk_api 5.3): layout byte for byte, retention, restore, permissions, export."""
import glob
import os
import pathlib
import stat

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.core import sparse_files
from tests.rec_sdk_cpu.tools import ids_placeholder, keys_of, lookup, make_table, rows_of, session, start, write_sparse


def _adam(table, out):
    from mx_rec.optimizers.lazy_adam import create_hash_optimizer
    loss = tf.reduce_sum(tf.square(out - 1.0))
    return create_hash_optimizer(0.1).apply_gradients([(tf.gradients(loss, [table.variable])[0], table.variable)])


@pytest.fixture
def trained(sdk, tmp_path):
    """(table, ids, train op, saver, session) after two steps."""
    start()
    table, ids = make_table(), ids_placeholder()
    step = _adam(table, lookup(table, ids))
    saver = tf.compat.v1.train.Saver(max_to_keep=2)
    sess = session()
    sess.run(step, {ids: [70, 5, 70]})
    sess.run(step, {ids: [5, 9]})
    return table, ids, step, saver, sess


def test_layout_byte_for_byte(trained, tmp_path):
    table, _, _, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), np.int64(2))
    assert path == str(tmp_path / "model.ckpt-2")
    folder = str(tmp_path / "sparse-model.ckpt-2" / "t")
    files = {os.path.relpath(name, folder): pathlib.Path(name).read_bytes()
             for name in glob.glob(folder + "/**/*", recursive=True) if os.path.isfile(name)}
    names = ["embedding", "LazyAdam_momentum", "LazyAdam_velocity"]
    assert sorted(files) == sorted(["key/slice.data", "key/slice.attribute"] + [
        "%s/slice.%s" % (name, end) for name in names for end in ("data", "attribute")])
    assert files["key/slice.data"] == np.array([70, 5, 9], "<i8").tobytes()
    assert files["key/slice.attribute"] == np.array([3, 8], "<i8").tobytes()
    for name in names:
        state = table.states()[name].variable
        assert files["%s/slice.data" % name] == sess.run(state)[:3].astype("<f4").tobytes()
        assert files["%s/slice.attribute" % name] == np.array([3, 3, 4], "<i8").tobytes()
    for name in glob.glob(str(tmp_path / "sparse-model.ckpt-2") + "/**", recursive=True):
        mode = stat.S_IMODE(os.stat(name).st_mode)
        assert mode == (0o750 if os.path.isdir(name) else 0o640)


def test_the_tensorflow_checkpoint_holds_no_table(trained, tmp_path):
    _, _, _, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    names = [name for name, _ in tf.train.list_variables(path)]
    assert sorted(names) == ["beta1_power", "beta2_power", "global_step"]


def test_restore_brings_everything_back_and_drops_what_was_there(trained, tmp_path):
    table, ids, step, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    other = session()
    other.run(step, {ids: [1, 2, 3, 70]})
    saver.restore(other, path)
    assert keys_of(other, table) == keys_of(sess, table) == {70: 0, 5: 1, 9: 2}
    for state in table.states().values():
        np.testing.assert_array_equal(sess.run(state.variable)[:3], other.run(state.variable)[:3])


def test_a_resumed_run_equals_one_without_a_break(trained, tmp_path):
    table, ids, step, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    # Restored straight away, as Estimators do: the initializer's first draw fills the rows of keys to come.
    other = tf.compat.v1.Session()
    saver.restore(other, path)
    for batch in ([70, 11], [5, 12, 12]):
        sess.run(step, {ids: batch})
        other.run(step, {ids: batch})
    for state in table.states().values():
        np.testing.assert_array_equal(sess.run(state.variable)[:5], other.run(state.variable)[:5])


def test_retention_goes_with_the_dense_files(trained, tmp_path):
    _, _, _, saver, sess = trained
    for number in range(4):
        saver.save(sess, str(tmp_path / "model.ckpt"), number)
    assert sorted(os.path.basename(name) for name in glob.glob(str(tmp_path / "sparse-*"))) == [
        "sparse-model.ckpt-2", "sparse-model.ckpt-3"]
    assert not glob.glob(str(tmp_path / ".sparse*"))


def test_a_failed_save_leaves_no_folder_and_no_dense_files(trained, tmp_path, monkeypatch):
    _, _, _, saver, sess = trained
    monkeypatch.setattr(sparse_files.FolderWriter, "write_rows", lambda *args: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        saver.save(sess, str(tmp_path / "model.ckpt"), 1)
    assert os.listdir(str(tmp_path)) == []


def test_a_missing_folder_is_the_sdks_exception(trained, tmp_path):
    import shutil
    _, _, _, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    shutil.rmtree(sparse_files.sparse_directory(path))
    with pytest.raises(FileExistsError, match="does not exist"):
        saver.restore(sess, path)


@pytest.mark.parametrize("file, content", [
    ("key/slice.data", b"1234567"), ("embedding/slice.data", b""), ("embedding/slice.attribute", b"12"),
    ("LazyAdam_velocity/slice.data", None), ("key/slice.attribute", None)])
def test_incomplete_folders_are_never_restored_from(trained, tmp_path, file, content):
    _, _, _, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    name = os.path.join(sparse_files.sparse_directory(path), "t", file)
    os.remove(name)
    if content is not None:
        with open(name, "wb") as stream:
            stream.write(content)
        os.chmod(name, 0o640)
    with pytest.raises(sparse_files.SparseFilesError):
        saver.restore(session(), path)


def test_files_that_others_may_write_are_refused(trained, tmp_path):
    _, _, _, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    os.chmod(os.path.join(sparse_files.sparse_directory(path), "t", "key", "slice.data"), 0o660)
    with pytest.raises(PermissionError, match="chmod go-w"):
        saver.restore(sess, path)


def test_more_keys_than_rows_are_refused(trained, tmp_path):
    _, _, _, saver, sess = trained
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    with tf.Graph().as_default():
        table = make_table(rows=2)
        lookup(table, ids_placeholder(), is_train=False)
        smaller = tf.compat.v1.train.Saver([tf.compat.v1.train.get_global_step()])
        smaller_session = session()
        with pytest.raises(RuntimeError, match="3 keys, more than its capacity 2"):
            smaller.restore(smaller_session, path)


@pytest.mark.parametrize("path, problem", [("a\nb", "control"), ("", "1 to 1024"), ("x" * 1025, "1 to 1024"),
                                           ("/etc/model", "not saved below"), ("LINK/model", "symbolic link")])
def test_save_paths_that_are_refused(trained, tmp_path, path, problem):
    _, _, _, saver, sess = trained
    (tmp_path / "real").mkdir()
    os.symlink(str(tmp_path / "real"), str(tmp_path / "link"))
    with pytest.raises(ValueError, match=problem):
        saver.save(sess, path.replace("LINK", str(tmp_path / "link")))


def test_tables_without_is_save_are_not_saved(sdk, tmp_path):
    start()
    table, ids = make_table(is_save=False), ids_placeholder()
    lookup(table, ids)
    saver = tf.compat.v1.train.Saver()
    saver.save(session(), str(tmp_path / "model.ckpt"))
    assert os.listdir(str(tmp_path / "sparse-model.ckpt")) == []


def test_a_graph_without_tables_behaves_as_before(sdk, tmp_path):
    weight = tf.compat.v1.get_variable("w", [])
    saver = tf.compat.v1.train.Saver([weight])
    sess = session()
    path = saver.save(sess, str(tmp_path / "model.ckpt"))
    saver.restore(sess, path)
    assert not glob.glob(str(tmp_path / "sparse*"))


@pytest.mark.parametrize("ranks", [1, 8])
def test_a_folder_of_an_npu_run_is_loaded(sdk, tmp_path, ranks):
    """Key order of a merged folder: rank after rank (string order), each rank its own keys."""
    start()
    keys = np.concatenate([[key for key in range(40) if key % ranks == rank] for rank in range(ranks)])
    random = np.random.RandomState(0)
    embedding, momentum, velocity = random.normal(size=(3, 40, 3)).astype(np.float32)
    table, ids = make_table(rows=50), ids_placeholder()
    out = lookup(table, ids, is_train=False)
    step = _adam(table, lookup(table, ids))
    saver = tf.compat.v1.train.Saver()
    sess = session()
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 1)
    import shutil
    shutil.rmtree(str(tmp_path / "sparse-model.ckpt-1"))
    write_sparse(str(tmp_path / "sparse-model.ckpt-1"), "t", keys, embedding,
                 {"LazyAdam_momentum": momentum, "LazyAdam_velocity": np.abs(velocity)})
    saver.restore(sess, path)
    order = np.argsort(keys)
    np.testing.assert_array_equal(sess.run(out, {ids: np.arange(40)}), embedding[order])
    sess.run(step, {ids: [3, 45]})
    assert keys_of(sess, table)[45] == 40
    row = order[3]
    m = 0.9 * momentum[row] + 0.1 * 2 * (embedding[row] - 1)
    v = 0.999 * np.abs(velocity[row]) + 0.001 * (2 * (embedding[row] - 1)) ** 2
    expected = embedding[row] - 0.1 * np.sqrt(1 - 0.999) / (1 - 0.9) * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(rows_of(sess, table, [3])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("tables", [None, ["t"], ["t", "unknown"]])
def test_export_writes_a_dict_of_keys_and_vectors(trained, tmp_path, tables):
    from mx_rec.saver.sparse import export
    table, _, _, saver, sess = trained
    with pytest.raises(RuntimeError, match="must follow a save"):
        export()
    path = saver.save(sess, str(tmp_path / "model.ckpt"), 2)
    export(tables)
    made = os.path.join(sparse_files.sparse_directory(path), "t", "key-emb.npy")
    values = np.load(made, allow_pickle=True).item()
    assert all(type(key) is np.uint64 and value.dtype == np.float32 for key, value in values.items())
    assert sorted(values) == [5, 9, 70]
    np.testing.assert_array_equal([values[np.uint64(key)] for key in (70, 5, 9)], rows_of(sess, table, [70, 5, 9]))
    sparse_files.check(sparse_files.sparse_directory(path))
    saver.restore(sess, path)


def test_export_is_not_for_dynamic_expansion(sdk):
    from mx_rec.saver.sparse import export
    start(use_dynamic_expansion=True)
    with pytest.raises(RuntimeError, match="not with dynamic expansion"):
        export()
