"""Parts of the stand-in's ranks that one process can show: environment, shares, streams, the watchdog's notes."""
import os

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu import rank_launcher
from rec_sdk_cpu.core import exchange, initial_rows, merged_states, rank_shares, ranks, sparse_files, watchdog
from tests.rec_sdk_cpu.tools import lookup, make_table, session, start


@pytest.fixture
def rank_1_of_3(monkeypatch):
    """The environment of a rank that nobody started."""
    for name, value in (("RANK", "1"), ("SIZE", "3"), ("LOCAL_SIZE", "3")):
        monkeypatch.setenv("OMPI_COMM_WORLD_" + name, value)
    for name in ("HOROVOD_RANK", "HOROVOD_GLOO_RENDEZVOUS_ADDR"):
        monkeypatch.delenv(name, raising=False)


def test_shares_are_merged_in_the_order_of_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "12")
    directory = str(tmp_path / "sparse-model.ckpt-1")
    for rank in range(12):
        with sparse_files.FolderWriter(rank_shares.share_directory(directory, rank)) as writer:
            keys = np.array([rank, rank + 12], np.int64)
            writer.write_keys("t", keys)
            writer.write_rows("t", "embedding", 2, [np.stack([keys, -keys], axis=1)])
            writer.write_history("t", np.array([[-1, 0, 70 + rank], [rank, 3, 5]]))
    with sparse_files.FolderWriter(directory) as writer:
        rank_shares.merge(directory, writer, "t", 2, False, {})
    rank_shares.remove(directory)
    assert os.listdir(str(tmp_path)) == ["sparse-model.ckpt-1"]
    keys, rows = sparse_files.read_table(directory, "t")
    assert keys.tolist()[:6] == [0, 12, 1, 13, 10, 22] and (rows == np.stack([keys, -keys], axis=1)).all()
    assert sparse_files.read_history(directory, "t")[:3].tolist() == [[-1, 0, 81], [0, 3, 5], [1, 3, 5]]


def test_a_rank_takes_its_keys_and_every_clock(rank_1_of_3):
    keys = np.array([-1, 0, 1, 2, 4, 7, 9], np.int64)
    assert rank_shares.owned(keys, is_dp=False).tolist() == [True, False, True, False, True, True, False]
    assert rank_shares.owned(keys, is_dp=True).all()
    with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
        assert sess.run(exchange.owners(tf.constant(keys))).tolist() == [2, 0, 1, 2, 1, 1, 0]


def test_horovods_environment_is_taken_over(monkeypatch):
    for name in ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "RANK_ID", "RANK_SIZE",
                 "OMPI_COMM_WORLD_LOCAL_RANK"):
        monkeypatch.setenv(name, "9")
    for name, value in (("RANK", "5"), ("SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_SIZE", "4")):
        monkeypatch.setenv("HOROVOD_" + name, value)
    ranks.adopt_environment()
    assert (ranks.get_rank_id(), ranks.get_rank_size(), ranks.get_local_rank_size()) == (5, 8, 4)
    assert (os.environ["RANK_ID"], os.environ["RANK_SIZE"]) == ("5", "8") and ranks.several()


def test_the_environment_of_a_rank(monkeypatch):
    monkeypatch.setenv("CM_WORKER_SIZE", "8")
    found = rank_launcher.rank_environment(2, 4, 1234)
    assert (found["OMPI_COMM_WORLD_RANK"], found["RANK_ID"], found["HOROVOD_LOCAL_RANK"]) == ("2", "2", "2")
    assert (found["OMPI_COMM_WORLD_SIZE"], found["RANK_SIZE"], found["HOROVOD_SIZE"]) == ("4", "4", "4")
    assert found["HOROVOD_GLOO_RENDEZVOUS_PORT"] == "1234" and "CM_WORKER_SIZE" not in found


def test_ranks_that_nobody_started_end_with_a_line(sdk, rank_1_of_3):
    with pytest.raises(RuntimeError, match="announces 3 ranks .* start the ranks with: python -m rec_sdk_cpu"):
        start()


def test_ranks_draw_rows_of_their_own():
    initializer = tf.compat.v1.random_normal_initializer(stddev=1.0, seed=3)
    with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
        first, last = tf.constant(0, tf.int64), tf.constant(initial_rows.BLOCK, tf.int64)
        drawn = [sess.run(initial_rows.from_initializer(initializer, 4, 1.0, rank).range(first, last))
                 for rank in (0, 1, 1)]
        again = [sess.run(initial_rows.from_initializer(initializer, 4, 1.0, rank).reused(tf.range(last)))
                 for rank in (0, 1)]
    assert (drawn[0] != drawn[1]).all() and (again[0] != again[1]).all()
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_send_count_holds_on_one_rank_too(sdk):
    start(use_dynamic=False)
    table = make_table()
    ids = tf.compat.v1.placeholder(tf.int64, [4])
    out = lookup(table, ids, send_count=3)
    sess = session()
    assert sess.run(out, {ids: [1, 2, 3, 3]}).shape == (4, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"t\[0\]: overflow! set send count bigger than\] \[4\]"):
        sess.run(out, {ids: [1, 2, 3, 4]})


def test_dynamic_shape_has_no_send_count(sdk):
    start()
    assert session_of(lookup(make_table(), tf.constant([1, 2, 3], tf.int64), send_count=1)).shape == (3, 3)


def session_of(tensor):
    return session().run(tensor)


def test_a_merged_state_is_saved_as_one_variable(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
        state = merged_states.MergedState("t/Adagrad/accumulator", [5, 2], 0.9)
        saver = tf.compat.v1.train.Saver([state])
        state.keep(np.array([[1, 2], [3, 4]], np.float32))
        path = saver.save(sess, str(tmp_path / "model.ckpt"))
        saver.restore(sess, path)
        assert tf.train.load_checkpoint(path).get_tensor("t/Adagrad/accumulator").tolist() == np.array(
            [[1, 2], [3, 4]] + [[0.9, 0.9]] * 3, np.float32).tolist()
        assert state.read(path, 2).tolist() == [[1, 2], [3, 4]]
        with pytest.raises(ValueError, match="expected 6 rows or more of 2"):
            state.read(path, 6)


def test_the_watchdog_knows_what_waits_longest(rank_1_of_3):
    found = watchdog.Watchdog()
    assert found.longest() is None
    found.begin("first")
    found.begin("second")
    name, seconds = found.longest()
    assert name == "first" and seconds >= 0
    found.end("first")
    assert found.longest()[0] == "second"
    found.end("second")
    found.end("never begun")
    assert found.longest() is None
    # No launcher's store answers: only this rank is known to wait.
    assert "rank 1 of 3: collective x has waited 7 s (HCCL_EXEC_TIMEOUT); rank 0, 2 did not come" in watchdog._message(
        "x", 7.0)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "nan", "inf"])
def test_timeouts_that_are_refused(monkeypatch, text):
    monkeypatch.setenv("HCCL_EXEC_TIMEOUT", text)
    with pytest.raises(ValueError, match="HCCL_EXEC_TIMEOUT must be a positive number"):
        watchdog.timeout_seconds()


def test_timeout(monkeypatch):
    monkeypatch.delenv("HCCL_EXEC_TIMEOUT", raising=False)
    assert watchdog.timeout_seconds() == 1836
    monkeypatch.setenv("HCCL_EXEC_TIMEOUT", "12.5")
    assert watchdog.timeout_seconds() == 12.5
