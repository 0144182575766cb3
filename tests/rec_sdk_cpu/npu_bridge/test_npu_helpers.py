"""npu_init's helpers, hccl's rank numbers, scopes, the strategy, the overflow mode (npu_bridge_api 1.1, 1.4, 1.7)."""
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from rec_sdk_cpu.npu_bridge_modules.hccl.manage import api
from rec_sdk_cpu.npu_bridge_modules.npu_bridge import npu_init
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator import npu_ops
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_plugin, npu_scope, npu_strategy, util

RANK_FUNCTIONS = ("get_npu_rank_id", "get_npu_rank_size", "get_npu_local_rank_id", "get_npu_local_rank_size")


def test_hooks_append_extends_a_list_in_place(monkeypatch):
    monkeypatch.setenv("RANK_ID", "3")
    given = [object()]
    result = npu_init.npu_hooks_append(given)
    assert result is given and len(given) == 2
    assert isinstance(given[1], npu_init.NPUBroadcastGlobalVariablesHook)
    assert (given[1]._root_rank, given[1]._index) == (0, 3)


@pytest.mark.parametrize("given", [(object(),), None, ()])
def test_hooks_append_discards_anything_else(given):
    assert len(npu_init.npu_hooks_append(given)) == 1
    assert len(npu_init.npu_hooks_append()) == 1


def test_config_proto_is_mutated_once():
    given = tf.compat.v1.ConfigProto(log_device_placement=True)
    for _ in range(2):
        assert npu_init.npu_config_proto(given) is given
    options = given.graph_options
    assert [entry.name for entry in options.rewrite_options.custom_optimizers] == ["NpuOptimizer"]
    assert given.allow_soft_placement and not given.log_device_placement
    assert options.rewrite_options.remapping == RewriterConfig.OFF
    assert options.rewrite_options.memory_optimization == RewriterConfig.OFF
    assert options.optimizer_options.global_jit_level == config_pb2.OptimizerOptions.OFF
    with tf.compat.v1.Session(config=given) as session:
        assert session.run(tf.constant(1)) == 1


def test_memory_optimization_is_left_alone_where_the_entry_exists():
    given = tf.compat.v1.ConfigProto()
    given.graph_options.rewrite_options.custom_optimizers.add().name = "NpuOptimizer"
    given.graph_options.rewrite_options.memory_optimization = RewriterConfig.MANUAL
    npu_init.npu_config_proto(given)
    assert given.graph_options.rewrite_options.memory_optimization == RewriterConfig.MANUAL


def test_run_config_init_returns_the_same_object():
    for given in (tf.compat.v1.estimator.RunConfig(),
                  tf.compat.v1.estimator.RunConfig(session_config=tf.compat.v1.ConfigProto())):
        assert npu_init.npu_run_config_init(given) is given
        assert len(given.session_config.graph_options.rewrite_options.custom_optimizers) == 1
    assert npu_init.npu_run_config_init().session_config is not None
    with pytest.raises(ValueError, match="RunConfig"):
        npu_init.npu_run_config_init({})


@pytest.mark.parametrize("name", RANK_FUNCTIONS)
def test_recorded_ranks_are_a_name_error_without_init_resource(name):
    with pytest.raises(NameError, match="init_resource"):
        getattr(npu_init, name)()


@pytest.mark.parametrize("name", ["get_rank_id", "get_rank_size", "get_local_rank_id", "get_local_rank_size"])
def test_hccl_ranks_need_hccl(name):
    with pytest.raises(RuntimeError, match="init_resource"):
        getattr(api, name)()


def test_resource_life_cycle():
    session, stop = npu_init.init_resource()
    assert [getattr(npu_init, name)() for name in RANK_FUNCTIONS] == [0, 1, 0, 1]
    assert (api.get_rank_id(), api.get_rank_size()) == (0, 1)
    npu_init.shutdown_resource(session, stop)
    npu_init.close_session(session)
    assert npu_init.get_npu_rank_size() == 1
    with pytest.raises(RuntimeError):
        api.get_rank_size()
    with pytest.raises(RuntimeError, match="closed"):
        session.run(stop)


def test_system_ops_in_a_session_of_the_users():
    start, stop = npu_ops.initialize_system(), npu_ops.shutdown_system(name="end")
    assert isinstance(start, tf.Operation) and stop.name == "end"
    with tf.compat.v1.Session() as session:
        session.run(start)
        assert api.get_local_rank_size() == 1
        session.run(stop)
    with pytest.raises(RuntimeError):
        api.get_local_rank_size()


def test_scopes_run_their_body():
    for scope in (npu_scope.without_npu_compile_scope(), npu_scope.keep_dtype_scope(), npu_scope.npu_variable_scope(),
                  npu_scope.disable_autofuse()):
        with scope:
            tensor = tf.constant(1.0)
    assert tensor.dtype == tf.float32


def test_strategy_takes_the_host_only():
    assert isinstance(npu_strategy.NPUStrategy(), tf.compat.v1.distribute.OneDeviceStrategy)
    with pytest.raises(ValueError, match="/cpu:0"):
        npu_strategy.NPUStrategy("/gpu:0")


def test_overflow_mode():
    assert npu_plugin.is_inf_nan_enabled()
    npu_plugin.set_device_sat_mode(0)
    assert not npu_plugin.is_inf_nan_enabled()
    npu_plugin.set_device_sat_mode(1)
    assert npu_plugin.is_inf_nan_enabled()


def test_iteration_per_loop_of_a_session_program():
    step = tf.compat.v1.get_variable("step", [], initializer=tf.compat.v1.zeros_initializer())
    train_op = step.assign_add(1.0).op
    with tf.compat.v1.Session() as session:
        session.run(tf.compat.v1.global_variables_initializer())
        assert util.set_iteration_per_loop(session, train_op, 1) is train_op
        group = util.set_iteration_per_loop(session, train_op, 10)
        assert group.name == "IterationOp"
        session.run(group)
        assert session.run(step) == 1.0
    for value, error in ((0, ValueError), (1.0, TypeError)):
        with pytest.raises(error, match="iterations_per_loop"):
            util.set_iteration_per_loop(None, train_op, value)
