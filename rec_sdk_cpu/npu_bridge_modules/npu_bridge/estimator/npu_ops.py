"""Stands in for ``npu_bridge.estimator.npu_ops``: starting and stopping the device, and dropout."""
from typing import Any, Optional

import tensorflow as tf

from rec_sdk_cpu.npu_bridge_modules import absent
from rec_sdk_cpu.npu_bridge_modules.process_state import state


def initialize_system(name: Optional[str] = None) -> tf.Operation:
    """Builds the op that starts the device and HCCL; here it makes the rank numbers readable.

    Args:
        name: name of the op.

    Returns:
        operation, to be run in a session.

    Source: npu_bridge_api 1.1, 2.5.
    """
    return _switch(True, name or "initialize_system")


def shutdown_system(name: Optional[str] = None) -> tf.Operation:
    """Builds the op that ends what :func:`initialize_system` started.

    Args:
        name: name of the op.

    Returns:
        operation, to be run in a session.

    Source: npu_bridge_api 1.1, 2.5.
    """
    return _switch(False, name or "shutdown_system")


def dropout(x: tf.Tensor, keep_prob: Any, noise_shape: Any = None, seed: Optional[int] = None,
            name: Optional[str] = None) -> tf.Tensor:
    """Keeps each element with probability keep_prob, scaled by 1/keep_prob, and zeroes the rest.

    Args:
        x: float tensor of any shape.
        keep_prob: probability of keeping (TensorFlow 1's convention, not a drop rate): a number in (0, 1] or a
            scalar tensor of x's dtype. The number 1.0 returns x itself.
        noise_shape: shape of the random mask, broadcast to x; None = x's shape.
        seed: op seed.
        name: name of the op.

    Returns:
        tensor of the shape and dtype of x.

    Raises:
        ValueError: x is not floating point, or keep_prob is a number outside (0, 1].
        RuntimeError: called eagerly.

    Source: npu_bridge_api 1.1 and section 3, item 8.
    """
    if tf.executing_eagerly():
        raise RuntimeError("npu_ops.dropout cannot run eagerly: build it inside a graph")
    x = tf.convert_to_tensor(x, name="x")
    if not x.dtype.is_floating:
        raise ValueError("npu_ops.dropout needs a floating point tensor, but x is %s" % x.dtype.name)
    if isinstance(keep_prob, (int, float)):
        if not 0.0 < keep_prob <= 1.0:
            raise ValueError("npu_ops.dropout: keep_prob is the probability of keeping and must lie in (0, 1], but %r "
                             "was given" % (keep_prob,))
        if keep_prob == 1.0:
            return x
    step = tf.compat.v1.train.get_global_step()
    if seed is None or step is None:
        return tf.nn.dropout(x, rate=1.0 - keep_prob, noise_shape=noise_shape, seed=seed, name=name)
    # A function of seed and step, so that a run that is resumed drops what an uninterrupted one drops.
    with tf.name_scope(name or "dropout"):
        draws = tf.random.stateless_uniform(tf.shape(x) if noise_shape is None else noise_shape,
                                            seed=tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)]))
        kept = tf.cast(draws < keep_prob, x.dtype)
        return x / tf.cast(keep_prob, x.dtype) * kept


def _switch(on: bool, name: str) -> tf.Operation:
    def set_state() -> None:
        state.hccl_ready = on

    return tf.compat.v1.py_func(set_state, [], [], stateful=True, name=name)


def __getattr__(name: str) -> Any:
    raise absent.error("npu_bridge.estimator.npu_ops", name)
