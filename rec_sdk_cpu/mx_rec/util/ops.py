"""Stand-in for ``mx_rec.util.ops``: the host op libraries (rec_sdk_api 6)."""
from typing import Any

import tensorflow as tf

from rec_sdk_cpu.core import constants
from rec_sdk_cpu.core.validator import Text, checked

_LIBRARIES = (constants.LIBREC_TF_NPU_OPS_SO, constants.LIBREC_TF_REC_V1_CPU_SO, constants.LIBREC_EOS_OPS_SO,
              "libasc_ops.so")
_WITH_CPU_OPS = (constants.LIBREC_TF_REC_V1_CPU_SO, "libasc_ops.so")


class HostPipelineOps:
    """The ops of the CPU library, on stock TensorFlow ops."""

    @staticmethod
    def return_timestamp(input: tf.Tensor) -> tf.Tensor:  # noqa: A002 - the op's own argument name
        """Returns the current time, int64 scalar, seconds since the epoch; the input's value does not matter.

        Args:
            input: int64, any shape; it only ties the op to the batch.

        Raises:
            TypeError: the input is not int64.
        """
        tensor = tf.convert_to_tensor(input)
        if tensor.dtype != tf.int64:
            raise TypeError("return_timestamp needs an int64 tensor, given %s" % tensor.dtype.name)
        with tf.control_dependencies([tensor]):
            return tf.cast(tf.floor(tf.timestamp()), tf.int64)


class EosOps:
    """The library that ``Dataset.eos_map`` takes; its op runs only on NPUs, the stand-in's map is the identity."""


@checked(Text("so_pkg_name", 1, 100, word=True))
def import_host_pipeline_ops(so_pkg_name: str = constants.LIBREC_TF_NPU_OPS_SO) -> Any:
    """Returns the op library of that name.

    Args:
        so_pkg_name: file name of the library.

    Raises:
        ValueError: the SDK has no such library.
    """
    if so_pkg_name not in _LIBRARIES:
        raise ValueError("Please check if `%s` exists (mxRec correctly installed). Known: %s"
                         % (so_pkg_name, ", ".join(_LIBRARIES)))
    if so_pkg_name in _WITH_CPU_OPS:
        return HostPipelineOps()
    if so_pkg_name == constants.LIBREC_EOS_OPS_SO:
        return EosOps()
    return object()
