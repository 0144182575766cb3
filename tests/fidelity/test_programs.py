"""Each program, run as ``__main__`` on the stand-in, against NumPy or plain TensorFlow."""
import contextlib
import io
import os
import runpy
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from feature_specs.files import PROJECT
from tests.fidelity import oracle
from tests.rec_sdk_cpu.ranks.conftest import needs_horovod

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "programs")


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Runs a program in this process and returns what it saved."""
    import rec_sdk_cpu
    from rec_sdk_cpu.core import config

    rec_sdk_cpu.install()
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        output = str(tmp_path / "result.npz")
        monkeypatch.setattr(sys, "argv", [name] + [str(item) for item in (output,) + arguments])
        config.reset()
        with tf.Graph().as_default(), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(os.path.join(FOLDER, name), run_name="__main__")
        with np.load(output) as saved:
            return dict(saved)

    yield run
    config.reset()


def _losses(batches, dense, sparse, model=None):
    model = model or oracle.Model()
    return model, [model.train(batch, dense, sparse) for batch in batches]


@pytest.mark.parametrize("flags, loop", [
    ((), 10), (("--specs",), 10), pytest.param(("--loop", 1), 1, marks=pytest.mark.long)])
def test_session_loop(program, flags, loop):
    result = program("session_loop.py", *flags)
    model, losses = _losses(oracle.batches(20, 1), oracle.adam(0.01), oracle.adam(0.02))
    np.testing.assert_allclose(result["losses"], losses[loop - 1::loop], rtol=2e-5)
    assert result["sizes"][-1] == "%d of 100" % len(model.rows)
    evaluation = oracle.batches(3, 2)
    np.testing.assert_allclose(result["eval_loss"], [model.loss(batch) for batch in evaluation], rtol=2e-5)
    np.testing.assert_allclose(result["prediction"], np.concatenate([model.predict(b) for b in evaluation]), rtol=2e-5)
    np.testing.assert_array_equal(result["label"], np.concatenate([batch["label"] for batch in evaluation]))


@pytest.mark.long
def test_session_loop_under_generation_g2(tmp_path):
    # G2 puts epsilon inside the root; at 1e-8 that moves the last digits only, and the names must be there.
    output = tmp_path / "result.npz"
    done = _subprocess("--generation", "G2", os.path.join(FOLDER, "session_loop.py"), str(output), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.load(str(output))["losses"].shape == (2,)


@pytest.mark.parametrize("flags", [(), pytest.param(("--loop", 4), marks=pytest.mark.long), ("--together",)])
def test_estimator(program, tmp_path, flags):
    result = program("estimator_modes.py", "--model_dir", tmp_path / "model", *flags)
    model, _ = _losses(oracle.batches(12, 1), oracle.descent(0.1), oracle.descent(0.2))
    evaluation = oracle.batches(3, 2)
    predicted = np.concatenate([model.predict(batch) for batch in evaluation])
    np.testing.assert_allclose(result["prediction"], predicted, rtol=2e-5)
    np.testing.assert_array_equal(result["first_id"], np.concatenate([batch["ids"][:, 0] for batch in evaluation]))
    assert result["step"] == 12
    np.testing.assert_allclose(result["eval_loss"], np.mean([model.loss(batch) for batch in evaluation]), rtol=2e-5)
    np.testing.assert_allclose(result["mean"], predicted.mean(), rtol=2e-5)
    assert os.path.isfile(os.path.join(bytes(result["exported"]).decode(), "saved_model.pb"))


@pytest.mark.parametrize("coefficient, evict", [
    pytest.param(1, False, marks=pytest.mark.long), (2, False), (1, True)])
@pytest.mark.parametrize("specs", [True, False])
def test_admission_and_eviction(program, specs, coefficient, evict):
    flags = ["--coefficient", coefficient] + (["--specs"] if specs else []) + (["--evict"] if evict else [])
    result = program("admission.py", *flags)
    counts, seen, rows = {}, {}, set()
    for number, batch in enumerate(oracle.batches(10, 1)):
        now = 1100 + 100 * number
        for key in batch["ids"].ravel():
            counts[key] = counts.get(key, 0) + coefficient
            seen[key] = now
        admitted = {key for key in batch["ids"].ravel() if counts[key] >= 4}
        rows |= admitted
        expected = np.array([[key in admitted for key in row] for row in batch["ids"]])
        np.testing.assert_array_equal(result["admitted"][number], expected)
        # The hook evicts after the steps whose number is a multiple of five.
        if evict and (number + 1) % 5 == 0:
            for key in [key for key in seen if now - seen[key] >= 250]:
                del counts[key], seen[key]
                rows.discard(key)
        assert result["sizes"][number] == len(rows)


@pytest.mark.parametrize("kind", ["decay", "momentum", "address"])
def test_own_optimizer(program, kind):
    result = program("own_optimizer.py", "--kind", kind)
    if kind == "momentum":
        sparse = oracle.momentum(0.2)
    else:
        sparse = oracle.descent(0.2, decay=0.01)
    _, losses = _losses(oracle.batches(12, 1), oracle.descent(0.1), sparse)
    np.testing.assert_allclose(result["losses"], losses, rtol=2e-5)
    assert (result["slots"], result["derivative"]) == (0, 1)
    assert str(result["name"]).startswith("Decaying_")


@pytest.mark.parametrize("mode, capacity", [
    ("HBM", 100), pytest.param("DDR", 100, marks=pytest.mark.long), ("SSD", 150)])
def test_load_and_train(program, tmp_path, mode, capacity):
    model, losses = _losses(oracle.batches(20, 1), oracle.adam(0.01), oracle.adam(0.02))
    folder = tmp_path / "model"
    folder.mkdir()
    seen = [program("load_and_train.py", "--model_dir", folder, "--mode", mode, "--first", first, "--last", first + 10)
            for first in (0, 10)]
    np.testing.assert_allclose(np.concatenate([run["losses"] for run in seen]), losses, rtol=5e-5)
    assert int(seen[1]["size"]) == len(model.rows) and int(seen[1]["capacity"]) == capacity
    # The SDK's layout, with its names, read by NumPy and stock TensorFlow.
    keys = np.fromfile(str(folder / "sparse-model.ckpt-20" / "table" / "key" / "slice.data"), np.int64)
    rows = np.fromfile(str(folder / "sparse-model.ckpt-20" / "table" / "embedding" / "slice.data"), np.float32)
    np.testing.assert_allclose(rows.reshape(-1, 4), [model.rows[key] for key in keys], rtol=1e-4, atol=1e-6)
    names = {name for name, _ in tf.train.list_variables(str(folder / "model.ckpt-20"))}
    assert names == {"beta1_power", "beta1_power_1", "beta2_power", "beta2_power_1", "global_step", "v", "v/Adam",
                     "v/Adam_1", "w", "w/Adam", "w/Adam_1"}


@pytest.mark.parametrize("lookups", [pytest.param(128, marks=pytest.mark.long), 9])
def test_many_lookups_against_plain_tensorflow(program, lookups):
    result = program("many_lookups.py", "--lookups", lookups)
    with tf.Graph().as_default(), tf.compat.v1.Session() as sess:
        table = tf.compat.v1.get_variable("table", initializer=np.full([40, 3], 0.5, np.float32), use_resource=True)
        ids = tf.compat.v1.placeholder(tf.int64, [lookups, 5])
        squares = tf.reduce_sum(tf.square(tf.gather(table, ids)), axis=[1, 2])
        loss = tf.reduce_sum(squares * result["weights"])
        train = tf.compat.v1.train.GradientDescentOptimizer(0.001).minimize(loss)
        sess.run(tf.compat.v1.global_variables_initializer())
        losses = [sess.run([loss, train], {ids: batch})[0] for batch in result["ids"]]
        rows = sess.run(table)
    np.testing.assert_allclose(result["losses"], losses, rtol=2e-5)
    seen = np.unique(result["ids"])
    np.testing.assert_allclose(result["rows"][seen], rows[seen], rtol=2e-5)
    assert not np.delete(result["rows"], seen, axis=0).any() and result["size"] == seen.size


def _subprocess(*arguments, cwd):
    names = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "JOB_ID")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment.update(PYTHONPATH=PROJECT, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="2")
    return subprocess.run([sys.executable, "-m", "rec_sdk_cpu"] + [str(item) for item in arguments], cwd=str(cwd),
                          env=environment, capture_output=True, text=True, check=False)


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2])
def test_data_parallel_ranks_equal_one(tmp_path, ranks):
    if ranks > 1:
        needs_horovod()
    done = _subprocess("--ranks", ranks, "--trace", os.path.join(FOLDER, "data_parallel.py"), "result", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    model, losses = _losses(oracle.batches(20, 1), oracle.adam(0.01), oracle.adam(0.02))
    sizes = []
    for rank in range(ranks):
        with np.load(str(tmp_path / ("result.%d.npz" % rank))) as result:
            np.testing.assert_allclose(result["losses"], losses, rtol=5e-5)
            sizes.append(int(result["size"]))
            assert result["capacity"] == 100
    # Each rank keeps the ids that are its own, and says how many.
    assert sizes == [len([key for key in model.rows if key % ranks == rank]) for rank in range(ranks)]
    assert (done.stdout + done.stderr).count("Migration report of") == 1


@pytest.mark.long
@pytest.mark.parametrize("name, arguments", [
    ("session_loop.py", ["--specs"]), ("estimator_modes.py", ["--model_dir", "model"]), ("admission.py", []),
    ("own_optimizer.py", []), ("load_and_train.py", ["--model_dir", "model"]), ("many_lookups.py", ["--lookups", "3"])])
def test_the_command_runs_every_program_and_reports(tmp_path, name, arguments):
    (tmp_path / "model").mkdir()
    done = _subprocess("--trace", os.path.join(FOLDER, name), "result.npz", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "result.npz").exists()
    for part in ("Migration report of", "Calls", "Settings", "What does not fit everywhere", "What differs on a device",
                 "One rank ran here."):
        assert part in done.stderr
