"""Stands in for ``npu_bridge.estimator.npu.util``: rank size, and the variables that steer the device's step loop."""
from typing import Any, Dict, Union

import tensorflow as tf

from rec_sdk_cpu.core import graph_state, session_runs
from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import npu_common

_SCOPE = "npu_runconfig"


def get_ranksize() -> int:
    """Returns the number of processes (RANK_SIZE or CM_WORKER_SIZE, default 1).

    Raises:
        ValueError: both variables are set, or hold no number.

    Source: npu_bridge_api 2.5.
    """
    return npu_common.read_rank_size()


def set_iteration_per_loop(sess: tf.compat.v1.Session, train_op: Union[tf.Operation, tf.Tensor],
                           iterations_per_loop: int = 1) -> Union[tf.Operation, tf.Tensor]:
    """Prepares a train op for several steps per session run, which a CPU makes one after the other.

    A run that fetches the op returns the values of its last step; where the data ends inside, the run fails with the
    dataset's OutOfRangeError, and the steps made so far stay.

    Args:
        sess: session of the op's graph.
        train_op: the op or tensor of one step.
        iterations_per_loop: steps per run, > 0.

    Returns:
        a group named "IterationOp" for more than one step per run, else train_op itself.

    Raises:
        TypeError: iterations_per_loop is not an int.
        ValueError: it is not positive.

    Source: npu_bridge_api 2.3, section 3 (route B).
    """
    _check_iterations(iterations_per_loop)
    if iterations_per_loop == 1:
        return train_op
    with sess.graph.as_default():
        variables = create_loop_variables()
        sess.run(tf.compat.v1.variables_initializer(list(variables.values())))
        load_loop_variables(sess, variables, iterations_per_loop)
        graph_state.of().iterations_per_loop = iterations_per_loop
        return tf.group(train_op, name=session_runs.ITERATION_OP)


def create_loop_variables() -> Dict[str, tf.Variable]:
    """Makes the local variables ``npu_runconfig/{iterations_per_loop,loop_cond,zero,one}`` (scalar int64).

    They are resource variables and never part of a checkpoint.

    Returns:
        {name without scope: variable}.

    Source: npu_bridge_api 2.3.
    """
    with tf.compat.v1.variable_scope(_SCOPE, reuse=tf.compat.v1.AUTO_REUSE):
        return {name: tf.compat.v1.get_variable(
            name, shape=[], dtype=tf.int64, initializer=tf.compat.v1.constant_initializer(value), trainable=False,
            collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES], use_resource=True)
            for name, value in (("iterations_per_loop", 0), ("loop_cond", 0), ("zero", 0), ("one", 1))}


def load_loop_variables(session: tf.compat.v1.Session, variables: Dict[str, tf.Variable],
                        iterations_per_loop: int) -> None:
    """Writes how many steps the device makes per run into the loop's variables.

    Args:
        session: session of the variables' graph.
        variables: what :func:`create_loop_variables` returned.
        iterations_per_loop: steps per run.
    """
    variables["iterations_per_loop"].load(iterations_per_loop, session=session)
    variables["loop_cond"].load(0, session=session)


def _check_iterations(iterations_per_loop: int) -> None:
    if not isinstance(iterations_per_loop, int):
        raise TypeError("iterations_per_loop must be int, but %r was given" % (iterations_per_loop,))
    if iterations_per_loop < 1:
        raise ValueError("iterations_per_loop must be positive, but %d was given" % iterations_per_loop)


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.estimator.npu.util", name)
