"""Stand-in for ``mx_rec.util.ops``: the host op libraries (rec_sdk_api 6, 12)."""
from typing import Any

import tensorflow as tf

from rec_sdk_cpu.core import constants, graph_state
from rec_sdk_cpu.core import table as table_module
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import Int, Text, checked

_LIBASC = "libasc_ops.so"
_OWN_DATASET_OPS = ("read_emb_key_v2", "read_emb_key_v2_dynamic")


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

    @staticmethod
    def clear_channel(channel_id: int) -> tf.Operation:
        """Returns an op that empties a channel of the host pipeline; on a CPU there is nothing in it to drop.

        Args:
            channel_id: 0 for training, 1 for evaluation.

        Raises:
            ValueError: another number.
        """
        Int("channel_id", constants.TRAIN_CHANNEL_ID, constants.EVAL_CHANNEL_ID).check(channel_id)
        return tf.no_op(name="clear_channel")

    @staticmethod
    def set_threshold(input: tf.Tensor, emb_name: str = "", ids_name: str = "") -> tf.Tensor:  # noqa: A002
        """Returns an op that changes how training batches admit ids from then on.

        Args:
            input: int32 scalar: the access threshold; 0 stops the counting and keeps the threshold.
            emb_name: the table, or "" for all tables of the graph.
            ids_name: accepted; all lookups of a table share one threshold here.

        Returns:
            int32 scalar, the input. A negative value fails the step.

        Raises:
            TypeError: the input is not int32.
        """
        del ids_name
        value = tf.convert_to_tensor(input)
        if value.dtype != tf.int32:
            raise TypeError("set_threshold needs an int32 tensor, given %s" % value.dtype.name)
        check = tf.debugging.Assert(tf.reduce_all(value >= 0), ["set_threshold: the threshold must be >= 0; given:",
                                                                value])
        with tf.control_dependencies([check]):
            changed = graph_state.of().set_threshold(emb_name, tf.cast(value, tf.int64))
        with tf.control_dependencies([changed]):
            return tf.identity(value)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN_DATASET_OPS:
            raise AttributeError("%s is not provided by the CPU stand-in: get_asc_insert_func inserts it on a device, "
                                 "and a CPU's dataset needs no such op" % name)
        raise AttributeError("the CPU op library has no op %r" % name)


class EosOps:
    """The library that ``Dataset.eos_map`` takes; its op runs only on NPUs, the stand-in's map is the identity."""


class NpuOps:
    """The ops of the NPU library that optimizers of programs use with dynamic expansion."""

    @staticmethod
    def embedding_lookup_by_address(address: tf.Tensor, embedding_dim: int, embedding_type: int = 1) -> tf.Tensor:
        """Returns the rows at addresses, float32 [n, dim].

        Args:
            address: an entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET.
            embedding_dim: values per row: the table's dim.
            embedding_type: accepted; rows are float32.

        Raises:
            NotImplementedError: rows with optimizer states behind them, which the stand-in keeps elsewhere.
            ValueError: the tensor is no address.
        """
        del embedding_type
        table = _table_at(address)
        if embedding_dim != table.emb_size:
            raise NotImplementedError("embedding_lookup_by_address(embedding_dim=%d): the CPU stand-in keeps optimizer "
                                      "states apart from the rows, which have dim=%d" % (embedding_dim, table.emb_size))
        return tf.gather(table.variable, address)

    @staticmethod
    def embedding_update_by_address(address: tf.Tensor, update: tf.Tensor, update_type: int = 0) -> tf.Operation:
        """Returns an op that adds to the rows at addresses.

        Args:
            address: an entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET.
            update: float32 [n, dim].
            update_type: 0, addition.

        Raises:
            NotImplementedError: another kind of update.
            ValueError: the tensor is no address.
        """
        if update_type != 0:
            raise NotImplementedError("embedding_update_by_address(update_type=%r): the CPU stand-in adds (0)"
                                      % (update_type,))
        return tf.group(_table_at(address).variable.scatter_add(tf.IndexedSlices(update, address)))

    def __getattr__(self, name: str) -> Any:
        if hasattr(HostPipelineOps, name) or name in _OWN_DATASET_OPS:
            raise AttributeError("%s is in the library LIBREC_TF_REC_V1_CPU_SO in G3: "
                                 "import_host_pipeline_ops(LIBREC_TF_REC_V1_CPU_SO).%s" % (name, name))
        raise AttributeError("the NPU op library of the CPU stand-in has no op %r: it runs only on the device" % name)


class _AllOps(HostPipelineOps, NpuOps):
    """The one library of G2."""


@checked(Text("so_pkg_name", 1, 100, word=True))
def import_host_pipeline_ops(so_pkg_name: str = constants.LIBREC_TF_NPU_OPS_SO) -> Any:
    """Returns the op library of that name.

    Args:
        so_pkg_name: file name of the library; G2 has one library, whose default name is another.

    Raises:
        ValueError: the SDK has no such library.
    """
    libraries = {constants.LIBREC_TF_NPU_OPS_SO: NpuOps, constants.LIBREC_TF_REC_V1_CPU_SO: HostPipelineOps,
                 constants.LIBREC_EOS_OPS_SO: EosOps, _LIBASC: _AllOps}
    if ConfigInitializer.generation == "G2":
        libraries[constants.LIBREC_TF_NPU_OPS_SO] = _AllOps
    if so_pkg_name not in libraries:
        raise ValueError("Please check if `%s` exists (mxRec correctly installed). Known: %s"
                         % (so_pkg_name, ", ".join(sorted(libraries))))
    return libraries[so_pkg_name]()


def _table_at(address: Any) -> Any:
    table = table_module.of_address(address) if isinstance(address, tf.Tensor) else None
    if table is None:
        raise ValueError("%s is not an entry of ASCEND_SPARSE_LOOKUP_ID_OFFSET" % getattr(address, "name", address))
    return table
