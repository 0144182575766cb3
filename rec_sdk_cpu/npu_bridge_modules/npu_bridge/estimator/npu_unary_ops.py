"""Stands in for ``npu_bridge.estimator.npu_unary_ops``, whose one name is the handle of the op library."""
import math

import tensorflow as tf


class _UnaryOps:
    """The unary ops; the real object is a loaded op library."""

    @staticmethod
    def gelu(x: tf.Tensor) -> tf.Tensor:
        """Gaussian error linear unit in its tanh form.

        Not for the PREDICT branch: the exported graph of an NPU would hold an op that stock TensorFlow lacks
        (npu_bridge_api 3.2).

        Args:
            x: float tensor of any shape.

        Returns:
            tensor of the shape and dtype of x.

        Source: npu_bridge_api 1.1 and section 3, item 9.
        """
        x = tf.convert_to_tensor(x)
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * tf.pow(x, 3))
        return 0.5 * x * (1.0 + tf.tanh(inner))


npu_unary_ops = _UnaryOps()
