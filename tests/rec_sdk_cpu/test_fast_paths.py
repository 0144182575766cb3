"""The stand-in's shortcuts against TensorFlow's own way: the same values, errors and files."""
import os

import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.core import lookup, meta_graph_file, session_runs


class Counter:
    def __init__(self, function):
        self.function = function
        self.calls = 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.function(*args, **kwargs)


@pytest.fixture
def counting():
    """A session with a variable that an op increments, its steps and its plain ``run``, counted."""
    with tf.Graph().as_default() as graph:
        value = tf.compat.v1.get_variable("value", initializer=0)
        step = tf.compat.v1.assign_add(value, 1)
        failing = tf.debugging.Assert(value < 0, ["too much:", value], name="guard")
        fed = tf.compat.v1.placeholder_with_default(7, [])
        with tf.compat.v1.Session() as session:
            session.run(value.initializer)
            graph.finalize()
            session.run = plain = Counter(session.run)
            session_runs.reuse_fetches(session)
            yield session, plain, value, step, failing, fed


def test_repeated_fetches_keep_structure_and_side_effects(counting):
    session, plain, value, step, _, _ = counting
    hook = object()
    for number in range(1, 4):
        found = session.run({"caller": [step.op, step], hook: (value, {"again": [value]}), "none": []})
        assert found["caller"][0] is None and found["caller"][1] == number and found["none"] == []
        assert isinstance(found[hook], tuple) and set(found[hook][1]) == {"again"}
    assert plain.calls == 0
    assert session.run(value) == 3 and session.run([value]) == [3] and session.run(step.op) is None


def test_feeds_and_traces_go_the_plain_way(counting):
    session, plain, value, _, _, fed = counting
    assert session.run(fed) == 7 and session.run(fed, {fed: 9}) == 9 and plain.calls == 1
    metadata = tf.compat.v1.RunMetadata()
    session.run(value, options=tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE),
                run_metadata=metadata)
    assert plain.calls == 2 and metadata.step_stats.dev_stats
    assert session.run(value, options=tf.compat.v1.RunOptions()) == 0 and plain.calls == 2


def test_errors_name_the_op_as_before(counting):
    session, plain, _, _, failing, _ = counting
    with pytest.raises(tf.errors.InvalidArgumentError, match="too much") as expected:
        plain.function(failing)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too much") as found:
        session.run(failing)
    assert isinstance(found.value, type(expected.value)) and found.value.op.name == expected.value.op.name
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(failing)


def test_the_meta_graph_comes_first_and_is_made_once(tmp_path):
    original = tf.compat.v1.train.Saver.save
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        value = tf.compat.v1.get_variable("value", initializer=1.0)
        saver = tf.compat.v1.train.Saver(max_to_keep=2)
        session.run(value.initializer)
        graph.finalize()
        writes = Counter(saver.export_meta_graph)
        saver.export_meta_graph = writes

        def killed_after(*arguments):
            # However early a process dies after TensorFlow's files, the graph is beside them.
            assert len(list(tmp_path.glob("m-*.meta"))) > len(list(tmp_path.glob("m-*.index")))
            return original(*arguments)

        for step in (1, 2, 3):
            path = meta_graph_file.save(saver, killed_after, session, str(tmp_path / "m"), step,
                                        (None, "meta", True, True, False, False))
            assert path == str(tmp_path / ("m-%d" % step)) and os.path.isfile(path + ".meta")
        assert writes.calls == 1 and not os.path.exists(str(tmp_path / "m-1.meta"))
        kept = (tmp_path / "m-3.meta").read_bytes()
        original(saver, session, str(tmp_path / "new"))
    first, second = tf.compat.v1.MetaGraphDef(), tf.compat.v1.MetaGraphDef()
    first.ParseFromString(kept)
    second.ParseFromString((tmp_path / "new.meta").read_bytes())
    assert first == second
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.train.import_meta_graph(str(tmp_path / "m-3.meta")).restore(session, str(tmp_path / "m-3"))
        assert session.run("value:0") == 1.0


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("widths", [None, (1, 3), (2, 2)])
@pytest.mark.parametrize("known_batch", [True, False])
def test_pooled_product_equals_the_sum_with_and_without_known_sizes(known_batch, widths, weighted):
    random = np.random.RandomState(0)
    ids = random.randint(0, 9, (5, 4))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        rows = tf.constant(random.normal(0, 1, (9, 3)), tf.float32)
        flat = tf.compat.v1.placeholder_with_default(ids.astype(np.int64), ids.shape if known_batch else [None, 4])
        keys, positions = tf.unique(tf.reshape(flat, [-1]), out_idx=tf.int64)
        picked = tf.gather(rows, keys)
        embedded = tf.reshape(tf.gather(picked, positions), tf.concat([tf.shape(flat), [3]], 0))
        embedded.set_shape(flat.shape.concatenate([3]))
        lookup.graph_state.of().lookups.append(lookup.LookupResult(embedded, picked, positions, True))
        weights = tf.constant(random.rand(5, 4), tf.float32) if weighted else None
        pooled = lookup.pooled_product(embedded, weights, widths)
        factors = embedded if weights is None else embedded * weights[:, :, None]
        plain = (tf.reduce_sum(factors, axis=1) if widths is None else
                 tf.stack([tf.reduce_sum(part, axis=1) for part in tf.split(factors, widths, axis=1)], axis=1))
        factor = tf.constant(random.normal(0, 1, (5, 3) if widths is None else (5, len(widths), 3)), tf.float32)
        gradients = [tf.convert_to_tensor(tf.gradients(tf.reduce_sum(value * factor), picked)[0])
                     for value in (pooled, plain)]
        found = session.run([pooled, plain] + gradients)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[2], found[3], atol=1e-6)
