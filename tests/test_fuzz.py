"""Readers under mutated input: a result or the documented error, never another exception and never a hang.

``bash run_estimator.sh test --all tests/test_fuzz.py`` gives each reader 20,000 inputs (FUZZ_INPUTS and FUZZ_SEED
are number and seed); without ``--all`` it is 300.
"""
import dataclasses
import gzip
import json
import os
import signal

import numpy as np
import pytest

from estimator_app.config import Config
from estimator_app.model_dir import checkpoints, history, sparse_tables
from estimator_app.model_dir import directory as model_directory
from feature_specs.dataset_file import DatasetFile, load_dataset
from feature_specs.errors import DataError, UserError
from feature_specs.manifest import Manifest, read_manifest
from preprocessing.reading.columns import number_name
from preprocessing.reading.readers import Reading, read_frames
from rec_sdk_cpu.core import sparse_files
from tests.support.rows import TOY, TOY_YAML, text_of, toy_rows
from tests.support.small_data import RICH, write_data

HANG_SECONDS = 120
TOKENS = [b"", b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"null", b"{}", b"[]", b'""', b"true", b",", b"\n", b"\r",
          b"\0", b'"', b"\\u0000", b"\xff", b"\xef\xbb\xbf", b"../", b"/etc/passwd", b"99999999999999999999999",
          b"9223372036854775807", b"[" * 3000, b"{\"a\":" * 500, b" " * 100, b"\x00" * 8, b"\xff" * 8,
          b"\x01\x00\x00\x00\x00\x00\x00\x00", b"\xff\xff\xff\xff\xff\xff\xff\x7f"]


def mutate(random, content):
    """One to four changes of a text: flipped bits, cuts, repetitions, tokens put in or over, swapped halves."""
    data = bytearray(content)
    for _ in range(random.randint(1, 5)):
        start = random.randint(len(data) + 1)
        end = min(len(data), start + random.randint(1, 40))
        kind = random.randint(8)
        if kind <= 1 and data:
            data[start % len(data)] ^= 1 << random.randint(8)
        elif kind == 2:
            del data[start:end]
        elif kind == 3:
            data[start:start] = data[start:end] * random.randint(1, 4)
        elif kind == 4:
            data[start:start] = TOKENS[random.randint(len(TOKENS))]
        elif kind == 5:
            data[start:end] = TOKENS[random.randint(len(TOKENS))]
        elif kind == 6:
            del data[start:]
        else:
            data = data[start:] + data[:start]
    return bytes(data)


def mutate_json(random, content):
    """Puts other values at random places of a JSON text, so that the structure stays one that is looked into."""
    if random.randint(3) == 0:
        return mutate(random, content)
    root = node = json.loads(content)
    for depth in range(random.randint(1, 6)):
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            break
        key = keys[random.randint(len(keys))]
        if depth and random.randint(3) == 0 or not isinstance(node[key], (dict, list)):
            values = [None, True, -1, 0, 1, 2 ** 70, 1e308, float("nan"), "", "x", "../x", "\0", "\ud800", [], {},
                      [[]], {"a": 1}, "1"]
            node[key] = values[random.randint(len(values))]
            break
        node = node[key]
    else:
        if isinstance(node, dict) and node:
            del node[sorted(node)[0]]
    return json.dumps(root).encode()


def raw_text(root):
    path = root / "raw"

    def read(content):
        path.write_bytes(content)
        for frame in read_frames(TOY, [str(path)], Reading("100%")):
            for column in ("price", "years"):
                assert not np.isinf(frame[number_name(column)].to_numpy(np.float64)).any()

    return text_of(toy_rows(8)).encode(), mutate, read, DataError


def raw_gzip(root):
    path = root / "raw.gz"

    def read(content):
        path.write_bytes(content)
        for _ in read_frames(TOY, [str(path)], Reading("100%")):
            pass

    return gzip.compress(text_of(toy_rows(8)).encode()), mutate, read, DataError


def dataset_file(root):
    path = root / "mine.yaml"

    def read(content):
        path.write_bytes(content)
        assert isinstance(load_dataset(str(path)), DatasetFile)

    return TOY_YAML.encode(), mutate, read, UserError


def manifest(root):
    write_data(root, 12, 8, dataset=RICH)
    path = root / "manifest.json"

    def read(content):
        path.write_bytes(content)
        found = read_manifest(str(root))
        assert isinstance(found, Manifest)
        for split in found.splits.values():
            for shard in split.shards:
                inside = os.path.relpath(os.path.join(str(root), shard.path), str(root))
                assert not inside.startswith("..")

    return path.read_bytes(), mutate_json, read, DataError


def slices(root):
    folder = str(root / "sparse-model.ckpt-7")
    with sparse_files.FolderWriter(folder) as writer:
        writer.write_keys("table", np.array([3, 5, 9], np.int64))
        for state in ("embedding", "LazyAdam_momentum"):
            writer.write_rows("table", state, 2, [np.ones((3, 2), np.float32)])
        writer.write_history("table", np.array([[3, 1, 5], [5, 2, 6], [-1, 0, 6]], np.int64))
    names = sorted(writer.checksums)
    whole = {name: (root / "sparse-model.ckpt-7" / name).read_bytes() for name in names}
    content = b"".join(whole[name] for name in names)
    changed = []

    def change(random, _):
        changed[:] = [names[random.randint(len(names))]]
        return mutate(random, whole[changed[0]])

    def read(mutated):
        path = root / "sparse-model.ckpt-7" / changed[0]
        path.write_bytes(mutated)
        try:
            sparse_files.check(folder)
            keys, rows = sparse_files.read_table(folder, "table")
            assert keys.shape[0] == rows.shape[0]
            np.asarray(sparse_files.open_rows(folder, "table", "LazyAdam_momentum")).sum()
            sparse_files.read_history(folder, "table")
        finally:
            path.write_bytes(whole[changed[0]])

    return content, change, read, sparse_files.SparseFilesError


def slices_of_the_app(root):
    """The same files through the app's own reader."""
    content = slices(root)[0]
    folder = str(root / "sparse-model.ckpt-7")
    files = {os.path.join(base, name) for base, _, names in os.walk(folder) for name in names}
    whole = {path: open(path, "rb").read() for path in files}  # noqa: SIM115
    changed = []

    def change_one(random, _):
        changed[:] = [sorted(whole)[random.randint(len(whole))]]
        return mutate(random, whole[changed[0]])

    def read(mutated):
        with open(changed[0], "wb") as stream:
            stream.write(mutated)
        try:
            sparse_tables.check(folder, {})
            keys, rows = sparse_tables.read_keys(folder, "table"), sparse_tables.open_rows(folder, "table")
            assert keys.shape[0] == rows.shape[0]
            np.asarray(rows).sum()
        finally:
            with open(changed[0], "wb") as stream:
                stream.write(whole[changed[0]])

    return content, change_one, read, sparse_tables.SparseTableError


def settings_file(root):
    config = Config(model_dir=str(root), data_dir=str(root / "data"), dense_bins=20, drop_dense=("age",))
    model_directory.record_stage(config, write_data(root / "data", 12, 8, dataset=RICH)[0], 0, 0, 1, 5)
    path = root / "args.json"

    def read(content):
        path.write_bytes(content)
        found, _ = model_directory.read_settings(str(root), {})
        assert dataclasses.is_dataclass(found)

    return path.read_bytes(), mutate_json, read, UserError


def notes(root):
    """The small files of a model directory: best checkpoint, metrics, checksums."""
    paths = {"best/best.json": b'{"format_version": 1, "step": 7, "metric": "auc_mean", "value": 0.5}',
             "metrics.jsonl": b'{"format_version": 1}\n{"kind": "eval", "global_step": 3, "auc_mean": 0.5}\n' * 2,
             "model.ckpt-7.checksums": b'{"format_version": 1, "crc32": {"model.ckpt-7.index": [1, 2]}}'}
    (root / "best").mkdir()
    names = sorted(paths)
    changed = []

    def change(random, _):
        changed[:] = [names[random.randint(len(names))]]
        content = paths[changed[0]]
        return mutate(random, content) if changed[0] == "metrics.jsonl" else mutate_json(random, content)

    def read(content):
        (root / changed[0]).write_bytes(content)
        try:
            checkpoints.read_best(str(root))
            assert all(isinstance(entry["global_step"], int) for entry in history.read(str(root)))
            checkpoints.Checkpoint(str(root), 7).checksum_problem()
        finally:
            (root / changed[0]).write_bytes(paths[changed[0]])

    return b"", change, read, UserError


READERS = [raw_text, raw_gzip, dataset_file, manifest, slices, slices_of_the_app, settings_file, notes]
# Each input takes milliseconds: half as many.
SLOW = (raw_text, dataset_file)


def fuzz(root, make, count):
    content, change, read, error_type = make(root)
    random = np.random.RandomState(int(os.environ.get("FUZZ_SEED", "1")))
    results = {"read": 0, "refused": 0}

    def hangs(number, frame):
        raise AssertionError("the reader hangs")

    previous = signal.signal(signal.SIGALRM, hangs)
    try:
        for number in range(count):
            data = change(random, content)
            signal.alarm(HANG_SECONDS)
            try:
                read(data)
                results["read"] += 1
            except error_type as error:
                assert str(error).strip()
                results["refused"] += 1
            except Exception as error:
                raise AssertionError("input %d: %r gives %r" % (number, data[:2000], error)) from error
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, previous)
    print("%s: %d inputs, %s" % (make.__name__, count, results))
    # Both ends must have been reached, or the mutations test nothing.
    assert results["read"] and results["refused"]


@pytest.mark.parametrize("make", READERS)
def test_mutated_input(tmp_path, make):
    fuzz(tmp_path, make, 150)


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("make", READERS)
def test_much_mutated_input(tmp_path, make):
    fuzz(tmp_path, make, int(os.environ.get("FUZZ_INPUTS", "20000")) // (2 if make in SLOW else 1))
