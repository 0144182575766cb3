"""Stands in for ``npu_bridge.estimator.npu.npu_hook``: the hooks that NPUEstimator adds (npu_bridge_api 2.3)."""
from typing import Any, Dict, List, Optional, TextIO

import tensorflow as tf

from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.estimator.npu import util
from rec_sdk_cpu.npu_bridge_modules.npu_bridge.hccl import hccl_ops


class NPUBroadcastGlobalVariablesHook(tf.estimator.SessionRunHook):
    """Gives every rank the root's trainable variables, once, after the session is created.

    Despite its name it leaves out the global step, moving averages, slots and non-trainable tables. With one rank it
    does nothing.

    Source: npu_bridge_api 2.3.
    """

    def __init__(self, root_rank: Optional[int] = None, index: Optional[int] = None) -> None:
        """Keeps the numbers.

        Args:
            root_rank: the rank whose values count; None = 0.
            index: this process's rank.
        """
        self._root_rank = root_rank or 0
        self._index = index
        self._broadcast_op: Optional[tf.Operation] = None

    def begin(self) -> None:
        """Builds the broadcast where there is more than one rank.

        Raises:
            RuntimeError: ranks that were not started.
        """
        if util.get_ranksize() <= 1:
            return
        variables = tf.compat.v1.trainable_variables()
        received = hccl_ops.broadcast([variable.value() for variable in variables], self._root_rank)
        self._broadcast_op = tf.group(*(tf.compat.v1.assign(*pair) for pair in zip(variables, received)))

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Runs the broadcast."""
        if self._broadcast_op is not None:
            session.run(self._broadcast_op)


class NPUSaver(tf.compat.v1.train.Saver):
    """The saver of NPUEstimator's checkpoints: plain, unsharded, over all saveable global variables.

    It adds nothing, so that whatever has been put onto ``Saver`` (the Rec SDK saves its tables there) applies.

    Source: npu_bridge_api 2.4.
    """


class NPUCheckpointSaverHook(tf.estimator.CheckpointSaverHook):
    """Saves checkpoints every N steps or seconds; being TensorFlow's hook too, it takes the place of the default one.

    Source: npu_bridge_api 2.3, 2.4.
    """

    def __init__(self, checkpoint_dir: str, save_secs: Optional[int] = None, save_steps: Optional[int] = None,
                 saver: Optional[tf.compat.v1.train.Saver] = None, checkpoint_basename: str = "model.ckpt",
                 scaffold: Optional[tf.compat.v1.train.Scaffold] = None,
                 listeners: Optional[List[tf.estimator.CheckpointSaverListener]] = None) -> None:
        """See TensorFlow's CheckpointSaverHook.

        Raises:
            ValueError: not exactly one of save_secs and save_steps, or both of saver and scaffold.
        """
        super().__init__(checkpoint_dir, save_secs=save_secs, save_steps=save_steps, saver=saver,
                         checkpoint_basename=checkpoint_basename, scaffold=scaffold, listeners=listeners)


class SetIterationsVarHook(tf.estimator.SessionRunHook):
    """Tells the device how many steps to make per session run; a CPU makes them one after the other.

    Source: npu_bridge_api 2.3, 2.6.
    """

    def __init__(self, iterations_per_loop: Optional[int] = None) -> None:
        """Keeps the number.

        Args:
            iterations_per_loop: steps per run; None = 1.
        """
        self._iterations_per_loop = iterations_per_loop or 1
        self._variables: Dict[str, tf.Variable] = {}

    def begin(self) -> None:
        """Makes the local variables of the device's loop."""
        self._variables = util.create_loop_variables()

    def after_create_session(self, session: tf.compat.v1.Session, coord: tf.train.Coordinator) -> None:
        """Sets them."""
        graph_state.of(session.graph).iterations_per_loop = self._iterations_per_loop
        util.load_loop_variables(session, self._variables, self._iterations_per_loop)


class NPUInfeedOutfeedSessionHook(tf.estimator.SessionRunHook):
    """Runs the ops of an NPUEstimatorSpec's host call.

    On an NPU a thread takes the tensors out of a channel; a CPU has them at hand, so the ops are fetched with each
    step and see exactly the step's values.

    Source: npu_bridge_api 2.3.
    """

    def __init__(self, dequeue_ops: Any, channel_name: str) -> None:
        """Keeps the ops.

        Args:
            dequeue_ops: op, tensor or nest of them to run with each step.
            channel_name: name of the device's channel; no effect here.
        """
        self._dequeue_ops = dequeue_ops
        self._channel_name = channel_name

    def before_run(self, run_context: tf.estimator.SessionRunContext) -> tf.estimator.SessionRunArgs:
        """Returns the ops as further fetches."""
        return tf.estimator.SessionRunArgs(self._dequeue_ops)


class NPULogOutfeedSessionHook(tf.estimator.SessionRunHook):
    """Shows what ``tf.print`` writes on the device; on a CPU ``tf.print`` writes by itself, so there is nothing to do.

    Source: npu_bridge_api 2.3.
    """

    def __init__(self, output_stream: TextIO) -> None:
        """Keeps the stream.

        Args:
            output_stream: ignored, as in the real hook (npu_bridge_api section 4, ``tf.print``).
        """
        self._output_stream = output_stream


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.estimator.npu.npu_hook", name)
