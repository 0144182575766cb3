"""The app on checkpoints that an NPU run of 1 and of 8 ranks would have left, written by hand with NumPy."""
import json
import os
import shutil

import numpy as np
import pytest

from tests.rec_sdk_cpu.tools import write_sparse
from tests.support.cli_runner import run_app
from tests.support.small_data import write_data


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(data directory, model directory, its metrics, directory of the run gone on) of a short run on small data."""
    base = tmp_path_factory.mktemp("npu")
    write_data(base / "data", 200, 60)
    _train(base / "data", base / "model", 2)
    metrics = _evaluate(base / "model")
    shutil.copytree(str(base / "model"), str(base / "own"))
    _train(base / "data", base / "own", 3)
    return base / "data", base / "model", metrics, base / "own"


def _train(data, model, epochs):
    return run_app("train", "--data_dir", data, "--model_dir", model, "--train_epoch", epochs, "--batch_size", 20,
                   "--eval_batch_size", 20, "--expert_num", 2, "--expert_layers", 4, "--device", "cpu", cwd=data.parent)


def _read(folder, table="embeddings"):
    def array(name, dtype, size):
        return np.fromfile(os.path.join(folder, table, name, "slice.data"), dtype).reshape(size)
    keys = array("key", np.int64, -1)
    dim = int(np.fromfile(os.path.join(folder, table, "embedding", "slice.attribute"), np.int64)[1])
    return keys, {name: array(name, np.float32, (keys.size, dim))
                  for name in sorted(os.listdir(os.path.join(folder, table))) if name != "key"}


def _as_npu(source, target, ranks):
    """Copies a model directory; its tables get the key order of so many ranks, merged in string order of the ranks."""
    # The SDK writes no checksums, and those of other bytes would make the copy a damaged checkpoint.
    shutil.copytree(str(source), str(target), ignore=shutil.ignore_patterns("*.checksums"))
    for name in os.listdir(str(target)):
        if not name.startswith("sparse-model.ckpt-"):
            continue
        folder = str(target / name)
        keys, states = _read(folder)
        order = np.concatenate([np.flatnonzero(keys % ranks == rank)
                                for rank in sorted(range(ranks), key=str)])[:keys.size]
        shutil.rmtree(folder)
        embedding = states.pop("embedding")[order]
        write_sparse(folder, "embeddings", keys[order], embedding, {state: v[order] for state, v in states.items()})


def _predict(model, output):
    rows = output.parent / "rows.txt"
    rows.write_text("".join("a%d,b%d,c%d,%d.5,%d\n" % (n % 7, n % 8, n % 4, n, -n) for n in range(40)))
    run_app("predict", "--model_dir", model, "--input", rows, "--output", output, cwd=model.parent)
    lines = output.read_text().splitlines()
    assert len(lines) == 41
    return lines


def _evaluate(model):
    return json.loads(run_app("eval", "--model_dir", model, cwd=model.parent).stdout.strip().splitlines()[-1])


def _numbers(value):
    """All numbers of a JSON value, in order."""
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in _numbers(value[key])]
    return [number for item in value for number in _numbers(item)] if isinstance(value, list) else [value]


@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 8])
def test_the_app_evaluates_predicts_resumes_and_exports_it(trained, tmp_path, ranks):
    data, model, before, own = trained
    npu = tmp_path / "npu"
    _as_npu(model, npu, ranks)
    after = _evaluate(npu)
    assert before.keys() == after.keys()
    assert before["global_step"] == 20
    for name, value in before.items():
        np.testing.assert_allclose(_numbers(after[name]), _numbers(value), rtol=0, atol=1e-6, err_msg=name)
    assert _predict(npu, tmp_path / "npu.csv") == _predict(model, tmp_path / "own.csv")

    _train(data, npu, 3)
    (own_keys, own_states), (npu_keys, npu_states) = _read(str(own / "sparse-model.ckpt-30")), _read(
        str(npu / "sparse-model.ckpt-30"))
    assert sorted(own_keys) == sorted(npu_keys)
    for state, values in own_states.items():
        np.testing.assert_allclose(npu_states[state][np.argsort(npu_keys)], values[np.argsort(own_keys)], rtol=1e-4,
                                   atol=1e-5)

    run_app("export", "--model_dir", npu, cwd=tmp_path)
    found = [base for base, _, names in os.walk(str(npu)) if "saved_model.pb" in names]
    assert len(found) == 1
