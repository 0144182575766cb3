"""Collectives, dropout, gelu, optimizers and loss scaling (npu_bridge_api 1.5, 1.6, 2.5, section 3)."""
import numpy as np
import pytest
import tensorflow as tf

from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator import npu_ops
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_optimizer
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_loss_scale_manager import (
    ExponentialUpdateLossScaleManager,
    FixedLossScaleManager,
)
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu.npu_loss_scale_optimizer import NPULossScaleOptimizer
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu_unary_ops import npu_unary_ops
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops

VALUES = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)


def run(fetches):
    with tf.compat.v1.Session() as session:
        session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.local_variables_initializer()])
        return session.run(fetches)


@pytest.mark.parametrize("reduction", ["sum", "max", "min", "prod"])
def test_reductions_over_one_rank_are_the_identity(reduction):
    tensor = tf.constant(VALUES)
    results = [hccl_ops.allreduce(tensor, reduction), hccl_ops.reduce(tensor, reduction, 0),
               hccl_ops.reduce_scatter(tensor, reduction, 1)]
    for result in run(results):
        np.testing.assert_array_equal(result, VALUES)


@pytest.mark.parametrize("reduction", ["mean", "SUM", "", None])
def test_other_reductions_are_refused(reduction):
    tensor = tf.constant(VALUES)
    for call in (lambda: hccl_ops.allreduce(tensor, reduction), lambda: hccl_ops.reduce(tensor, reduction, 0),
                 lambda: hccl_ops.reduce_scatter(tensor, reduction, 1)):
        with pytest.raises(ValueError, match="reduction must be one of"):
            call()


def test_allgather_and_broadcast():
    gathered = hccl_ops.allgather(tf.constant(VALUES), 1)
    sent = hccl_ops.broadcast([tf.constant(VALUES), tf.constant(7)], 0)
    assert isinstance(sent, list) and len(sent) == 2
    results = run([gathered] + sent)
    np.testing.assert_array_equal(results[0], VALUES)
    np.testing.assert_array_equal(results[1], VALUES)
    assert results[2] == 7


def test_broadcast_takes_a_list():
    with pytest.raises(TypeError, match="list"):
        hccl_ops.broadcast(tf.constant(VALUES), 0)


@pytest.mark.parametrize("call", [lambda t: hccl_ops.broadcast([t], 1), lambda t: hccl_ops.reduce(t, "sum", 1)])
def test_root_must_be_a_rank(call):
    with pytest.raises(ValueError, match="root_rank"):
        call(tf.constant(VALUES))


def test_only_allreduce_has_a_gradient():
    tensor = tf.constant(VALUES)
    gradient = tf.gradients(tf.reduce_sum(2.0 * hccl_ops.allreduce(tensor, "sum")), tensor)[0]
    np.testing.assert_array_equal(run(gradient), np.full((2, 2), 2.0))
    for result in (hccl_ops.allgather(tensor, 1), hccl_ops.broadcast([tensor], 0)[0],
                   hccl_ops.reduce(tensor, "sum", 0), hccl_ops.reduce_scatter(tensor, "sum", 1)):
        with pytest.raises(LookupError, match="no gradient"):
            tf.gradients(result, tensor)


@pytest.mark.parametrize("variable", ["RANK_SIZE", "CM_WORKER_SIZE", "OMPI_COMM_WORLD_SIZE"])
@pytest.mark.parametrize("call", [
    lambda t: hccl_ops.allreduce(t, "sum"), lambda t: hccl_ops.allgather(t, 1), lambda t: hccl_ops.broadcast([t], 0),
    lambda t: hccl_ops.reduce(t, "sum", 0), lambda t: hccl_ops.reduce_scatter(t, "sum", 1)])
def test_ranks_that_nobody_started_are_refused(monkeypatch, variable, call):
    monkeypatch.setenv(variable, "2")
    with pytest.raises(RuntimeError, match="start the ranks"):
        call(tf.constant(VALUES))


@pytest.mark.parametrize("call", [lambda t: hccl_ops.allgather(t, 2), lambda t: hccl_ops.reduce_scatter(t, "sum", 8)])
def test_a_rank_size_without_the_ranks_is_refused(call):
    with pytest.raises(RuntimeError, match="one rank by itself"):
        call(tf.constant(VALUES))


@pytest.mark.parametrize("call", [
    lambda t: hccl_ops.send(t, 0, 1), lambda t: hccl_ops.receive([1], tf.float32, 0, 1)])
def test_exchange_between_two_ranks_is_refused(call):
    with pytest.raises(RuntimeError, match="between all ranks only"):
        call(tf.constant(VALUES))


def test_all_to_all_over_one_rank_moves_values_to_their_displacement():
    values = tf.reshape(tf.range(6), [2, 3])
    one = tf.constant([4], tf.int64)
    moved = hccl_ops.all_to_all_v(values, one, one - 3, one, one - 2)
    assert run(moved).tolist() == [0, 0, 1, 2, 3, 4]
    assert run(hccl_ops.all_to_all_v_c(values, [[6]], 0)).tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="rank must be this process's"):
        hccl_ops.all_to_all_v_c(values, [[6]], 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match="other counts"):
        unknown = tf.compat.v1.placeholder_with_default(one + 1, [1])
        run(hccl_ops.all_to_all_v(values, one, one - 4, unknown, one - 4))


def test_dropout_keeps_with_the_probability_given():
    result = run(npu_ops.dropout(tf.ones([20000]), 0.8, seed=1))
    assert set(np.round(np.unique(result), 4)) == {0.0, 1.25}
    assert abs(np.mean(result > 0) - 0.8) < 0.02


def test_dropout_edges():
    x = tf.constant(VALUES)
    assert npu_ops.dropout(x, 1.0) is x and npu_ops.dropout(x, 1) is x
    tensor_prob = npu_ops.dropout(x, tf.constant(1.0), name="drop")
    np.testing.assert_allclose(run(tensor_prob), VALUES)
    masked = run(npu_ops.dropout(tf.ones([50, 4]), 0.5, noise_shape=[50, 1], seed=3))
    assert (masked == masked[:, :1]).all()


def test_dropout_is_a_function_of_seed_and_global_step():
    def masks(seed, steps):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            step = tf.compat.v1.train.create_global_step()
            dropped = npu_ops.dropout(tf.ones([4000]), 0.7, seed=seed)
            found = []
            for number in steps:
                step.load(number, session)
                found.append(session.run(dropped))
            return found
    first, second = masks(1, (5, 6))
    np.testing.assert_array_equal(masks(1, (6,))[0], second)
    assert (first != second).any() and (masks(2, (5,))[0] != first).any()
    np.testing.assert_allclose(np.unique(first), [0.0, 1 / 0.7], rtol=1e-6)
    assert abs(np.mean(first > 0) - 0.7) < 0.03


@pytest.mark.parametrize("x, keep_prob", [(tf.int32, 0.5), (tf.float32, 0.0), (tf.float32, 1.1), (tf.float32, -0.5)])
def test_dropout_refused(x, keep_prob):
    with pytest.raises(ValueError, match="npu_ops.dropout"):
        npu_ops.dropout(tf.ones([2], x), keep_prob)


def test_gelu_is_the_tanh_form():
    x = np.linspace(-4, 4, 9).astype(np.float32)
    expected = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))
    np.testing.assert_allclose(run(npu_unary_ops.gelu(x)), expected, atol=1e-6)


def _loss():
    weight = tf.compat.v1.get_variable("weight", [2], initializer=tf.compat.v1.ones_initializer())
    return tf.reduce_sum(tf.constant([2.0, 3.0]) * weight), weight


def test_wrapper_patches_in_place_and_is_neutral_on_one_rank(monkeypatch):
    optimizer = tf.compat.v1.train.AdamOptimizer()
    assert npu_optimizer.npu_distributed_optimizer_wrapper(optimizer) is optimizer
    assert type(optimizer) is tf.compat.v1.train.AdamOptimizer
    loss, weight = _loss()
    gradients = optimizer.compute_gradients(loss, [weight])
    np.testing.assert_allclose(run(gradients[0][0]), [2.0, 3.0])
    monkeypatch.setenv("RANK_SIZE", "2")
    with pytest.raises(RuntimeError, match="one rank"):
        optimizer.compute_gradients(loss, [weight])
    with pytest.raises(ValueError, match="optimizer"):
        npu_optimizer.npu_distributed_optimizer_wrapper(object())


def test_distributed_optimizer():
    inner = tf.compat.v1.train.MomentumOptimizer(0.1, 0.9)
    optimizer = npu_optimizer.NPUDistributedOptimizer(inner)
    assert optimizer.get_name() == "DistributedMomentumOptimizer"
    assert npu_optimizer.NPUDistributedOptimizer(inner, name="n").get_name() == "n"
    loss, weight = _loss()
    train_op = optimizer.minimize(loss, var_list=[weight])
    assert optimizer.get_slot_names() == ["momentum"] and optimizer.get_slot(weight, "momentum") is not None
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(train_op)
        np.testing.assert_allclose(session.run(weight), [0.8, 0.7], atol=1e-6)


def test_weight_update_sharding_rules(monkeypatch):
    optimizer = npu_optimizer.NPUDistributedOptimizer(
        tf.compat.v1.train.GradientDescentOptimizer(0.1), is_weight_update_sharding=True)
    loss, weight = _loss()
    optimizer.compute_gradients(loss, [weight])
    monkeypatch.setenv("RANK_SIZE", "2")
    with pytest.raises(ValueError, match="DEVICE_ID"):
        optimizer.compute_gradients(loss, [weight])
    monkeypatch.setenv("DEVICE_ID", "0")
    with pytest.raises(ValueError, match="2 ranks and 1 gradients"):
        optimizer.compute_gradients(loss, [weight])


def test_gradient_collectives(monkeypatch):
    dense = tf.constant(VALUES)
    slices = tf.IndexedSlices(dense, tf.constant([0, 1]))
    assert npu_optimizer.allreduce(dense) is dense and npu_optimizer.allreduce(slices) is slices
    assert npu_optimizer.reduce(dense, 0) is dense
    np.testing.assert_array_equal(run(npu_optimizer.npu_allreduce([dense, dense])[1]), VALUES)
    with pytest.raises(ValueError, match="reduction"):
        npu_optimizer.npu_allreduce(dense, "median")
    monkeypatch.setenv("RANK_SIZE", "2")
    for call in (lambda: npu_optimizer.allreduce(dense), lambda: npu_optimizer.allreduce(slices),
                 lambda: npu_optimizer.reduce(dense, 0), lambda: npu_optimizer.npu_allreduce(dense)):
        with pytest.raises(RuntimeError, match="one rank"):
            call()


def test_fixed_loss_scale_edge():
    assert run(FixedLossScaleManager(1).get_loss_scale()) == 1
    with pytest.raises(ValueError, match="loss_scale"):
        FixedLossScaleManager(0.5)


@pytest.mark.parametrize("enable_overflow_check, expected", [(True, [1.0, 1.0]), (False, [np.nan, 0.7])])
def test_overflow_skips_the_step_where_checked(enable_overflow_check, expected):
    _, weight = _loss()
    optimizer = NPULossScaleOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1),
                                      FixedLossScaleManager(8, enable_overflow_check))
    train_op = optimizer.apply_gradients([(tf.constant([np.nan, 3.0]), weight)])
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(train_op)
        np.testing.assert_allclose(session.run(weight), expected, atol=1e-6)


def test_loss_scaling_leaves_the_update_and_renames_adams_powers():
    loss, weight = _loss()
    manager = ExponentialUpdateLossScaleManager(2 ** 15, 2000, incr_ratio=2)
    optimizer = NPULossScaleOptimizer(tf.compat.v1.train.AdamOptimizer(0.1), manager)
    gradients = optimizer.compute_gradients(loss, [weight])
    train_op = optimizer.apply_gradients(gradients)
    assert "cond/beta1_power" in {variable.op.name for variable in tf.compat.v1.global_variables()}
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        np.testing.assert_allclose(session.run(gradients[0][0]), [2.0, 3.0])
        session.run(train_op)
        np.testing.assert_allclose(session.run(weight), [0.9, 0.9], atol=1e-4)


def test_distributed_loss_scaling_needs_one_rank(monkeypatch):
    _, weight = _loss()
    optimizer = NPULossScaleOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1), FixedLossScaleManager(8), True)
    optimizer.apply_gradients([(tf.constant([1.0, 1.0]), weight)])
    monkeypatch.setenv("RANK_SIZE", "2")
    with pytest.raises(RuntimeError, match="one rank"):
        optimizer.apply_gradients([(tf.constant([1.0, 1.0]), weight)])


@pytest.mark.parametrize("is_loss_scale, is_distributed", [(False, False), (True, False), (True, True)])
def test_npu_optimizer_combines_the_two(is_loss_scale, is_distributed):
    loss, weight = _loss()
    optimizer = npu_optimizer.NPUOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1), FixedLossScaleManager(4),
                                           is_distributed=is_distributed, is_loss_scale=is_loss_scale)
    train_op = optimizer.minimize(loss, var_list=[weight])
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(train_op)
        np.testing.assert_allclose(session.run(weight), [0.8, 0.7], atol=1e-6)


def test_npu_optimizer_needs_a_manager_for_loss_scaling():
    with pytest.raises(ValueError, match="loss_scale_manager"):
        npu_optimizer.NPUOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1), is_loss_scale=True)
