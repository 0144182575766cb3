"""The lookup itself: distinct ids once, one gather, and a pooled product for those who sum over the ids."""
import functools
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import tensorflow as tf

from rec_sdk_cpu.core import constants, exchange, graph_state, ranks
from rec_sdk_cpu.core.exchange import Answer, Request, Serve
from rec_sdk_cpu.core.graph_state import LookupResult
from rec_sdk_cpu.core.history import Thresholds
from rec_sdk_cpu.core.table import BaseSparseEmbedding

_ROWS_GRADIENT = "RecSdkCpuGradientOfDistinctRows"
SEND_COUNT_OVERFLOW = "%s[%d]: overflow! set send count bigger than"


class Admission(NamedTuple):
    """How a training lookup counts its ids.

    Attributes:
        limits: thresholds of the table.
        coefficient: ``faae_coefficient``, int.
        timestamp: of the batch, int64 scalar, or None.
    """

    limits: Thresholds
    coefficient: int
    timestamp: Optional[tf.Tensor]


def embedding_lookup(table: BaseSparseEmbedding, ids: tf.Tensor, is_train: bool, is_grad: bool,
                     default_value: Optional[tf.Tensor], admission: Optional[Admission] = None,
                     send_count: Optional[int] = None) -> tf.Tensor:
    """Looks ids up: training inserts unseen ids, evaluation and prediction give zeros for them (rec_sdk_api 3.5).

    Args:
        table: the table.
        ids: int32 or int64, any shape.
        is_train: whether unseen ids are inserted.
        is_grad: whether gradients reach the table.
        default_value: float32, broadcastable to the rows, in place of zeros for ids without a row; or None. Tables
            with dynamic expansion ignore it, as in the SDK.
        admission: counting of the ids, in training; or None.
        send_count: the most distinct ids that may go to one rank, with static shape; or None.

    Returns:
        float32, shape of ``ids`` + [dim].
    """
    state = graph_state.of()
    if table.is_dynamic:
        default_value = None
    with tf.name_scope("%s_lookup" % table.table_name):
        flat = tf.reshape(tf.cast(ids, tf.int64), [-1])
        if is_train and admission is not None:
            keys, positions, occurrences = tf.unique_with_counts(flat, out_idx=tf.int64)
            request = Request(keys, occurrences)
        else:
            keys, positions = tf.unique(flat, out_idx=tf.int64)
            request = Request(keys, None)
        answer = _answer(table, request, _server(table, is_train, is_grad, default_value, admission), is_train,
                         send_count)
        rows, positions = answer.rows, answer.placed(positions)
        shape = tf.concat([tf.shape(ids), [table.emb_size]], axis=0)
        with rows.graph.gradient_override_map({"GatherV2": _ROWS_GRADIENT}):
            output = tf.reshape(tf.gather(rows, positions), shape)
        output.set_shape(ids.shape.concatenate([table.emb_size]))
    state.lookups.append(LookupResult(output, rows, positions, is_train))
    return output


@tf.RegisterGradient(_ROWS_GRADIENT)
def _gradient_of_distinct_rows(op: tf.Operation, gradient: tf.Tensor) -> List[Optional[tf.Tensor]]:
    """Sums per distinct row: what TensorFlow makes of its IndexedSlices next, with a warning on every training."""
    rows, positions = op.inputs[0], op.inputs[1]
    return [tf.math.unsorted_segment_sum(gradient, positions, tf.shape(rows)[0]), None, None]


def pooled_product(embedded: tf.Tensor, weights: Optional[tf.Tensor],
                   widths: Optional[Sequence[int]]) -> tf.Tensor:
    """Sums the rows of a lookup per field without the [batch, ids, dim] intermediate.

    The sums are a product of a sparse [batch * fields, unique] matrix of weights with the [unique, dim] rows.

    Args:
        embedded: float32 [batch, ids, dim], exactly what ``sparse_lookup`` returned.
        weights: float32 [batch, ids], factors of the rows; None where all are 1.
        widths: how many neighbouring ids each field has; None sums over all ids.

    Returns:
        float32 [batch, fields, dim], or [batch, dim] without ``widths``.

    Raises:
        RuntimeError: the tensor is not the result of a lookup: what was done to it would be lost.
    """
    result = graph_state.of(embedded.graph).find_lookup(embedded)
    if result is None or embedded.shape.rank != 3:
        raise RuntimeError("%s is not the [batch, ids, dim] tensor that sparse_lookup returned; pool that tensor itself"
                           % embedded.name)
    ids = embedded.shape[1].value
    if widths is not None and weights is None and all(width == 1 for width in widths):
        return embedded
    fields = 1 if widths is None else len(widths)
    field_of_id = np.repeat(np.arange(fields), [ids] if widths is None else list(widths))
    with tf.name_scope("pooled_product"):
        batch = embedded.shape[0].value
        if batch is not None:
            # Constants where the sizes are known: at small batches a step is little more than the number of its ops.
            places = tf.constant((np.arange(batch)[:, None] * fields + field_of_id).ravel(), tf.int64)
            ones = tf.constant(np.ones(batch * ids, np.float32))
        else:
            batch = tf.shape(result.positions, out_type=tf.int64)[0] // ids
            places = tf.reshape(tf.expand_dims(tf.range(batch) * fields, 1) + field_of_id, [-1])
            ones = tf.ones([batch * ids], tf.float32)
        indices = tf.stack([places, tf.cast(result.positions, tf.int64)], axis=1)
        unique = tf.shape(result.rows, out_type=tf.int64)[0]
        values = ones if weights is None else tf.reshape(weights, [-1])
        matrix = tf.SparseTensor(indices, values, tf.stack([batch * fields, unique]))
        pooled = tf.sparse.sparse_dense_matmul(matrix, result.rows)
        if widths is None:
            pooled.set_shape([embedded.shape[0], embedded.shape[2]])
            return pooled
        return tf.reshape(pooled, [-1 if embedded.shape[0].value is None else embedded.shape[0].value, fields,
                                   embedded.shape[2].value])


def _server(table: BaseSparseEmbedding, is_train: bool, is_grad: bool, default_value: Optional[tf.Tensor],
            admission: Optional[Admission]) -> Serve:
    """Returns the function that finds the rows of keys that live on this rank."""
    if not is_train:
        return lambda request: Answer(_rows_or_default(table, table.find(request.keys), default_value), None)
    if admission is None:
        return lambda request: Answer(_training_rows(table, request.keys, is_grad), None)
    return functools.partial(_admitted_rows, table, admission, is_grad, default_value)


def _answer(table: BaseSparseEmbedding, request: Request, serve: Serve, is_train: bool,
            send_count: Optional[int]) -> Answer:
    """Returns the rows of the distinct keys of a batch, of whichever rank."""
    check = None if send_count is None else functools.partial(_check_send_count, table, is_train, send_count)
    if ranks.several() and not table.is_dp:
        mode = "train" if is_train else "eval"
        return exchange.sharded(request, serve, table.gradient_scale, check, "%s.%s" % (table.table_name, mode))
    if check is not None:
        with tf.control_dependencies([check(tf.size(request.keys))]):
            request = request._replace(keys=tf.identity(request.keys))
    if ranks.several() and is_train:
        return exchange.replicated(request, serve, table.table_name + ".train")
    return serve(request)


def _check_send_count(table: BaseSparseEmbedding, is_train: bool, send_count: int, counts: tf.Tensor) -> tf.Operation:
    largest = tf.reduce_max(counts)
    channel = constants.TRAIN_CHANNEL_ID if is_train else constants.EVAL_CHANNEL_ID
    return tf.debugging.Assert(largest <= send_count, [SEND_COUNT_OVERFLOW % (table.table_name, channel), largest])


def _training_rows(table: BaseSparseEmbedding, keys: tf.Tensor, is_grad: bool) -> tf.Tensor:
    """Returns the rows of distinct keys, float32 [n, dim], inserted where they are new."""
    state = graph_state.of()
    row_indices = table.find_or_insert(keys)
    state.unique_row_indices.append(row_indices)
    # Read after the insertion: a growing table has its new rows only then.
    rows = tf.gather(table.variable, row_indices)
    if table.is_dynamic:
        # Gradients are taken with respect to these tensors and applied by address (rec_sdk_api 4, gradient recipe).
        tf.compat.v1.add_to_collection(constants.ASCEND_SPARSE_LOOKUP_LOCAL_EMB, rows)
        tf.compat.v1.add_to_collection(constants.ASCEND_SPARSE_LOOKUP_ID_OFFSET, row_indices)
        state.addresses.append((row_indices, table))
    if not is_grad:
        return tf.stop_gradient(rows)
    table.gradient_enabled = True
    return rows


def _admitted_rows(table: BaseSparseEmbedding, admission: Admission, is_grad: bool,
                   default_value: Optional[tf.Tensor], request: Request) -> Answer:
    """Returns the rows of the admitted distinct ids with one row more for all others, and each id's place there.

    Only admitted ids take part in the gather, so that the others get neither a row nor a gradient.
    """
    history = table.use_history(admission.limits)
    admitted = history.admit(request.keys, request.occurrences, admission.coefficient, admission.timestamp)
    rows = _training_rows(table, tf.boolean_mask(request.keys, admitted), is_grad)
    count = tf.shape(rows, out_type=tf.int64)[0]
    place = tf.where(admitted, tf.cumsum(tf.cast(admitted, tf.int64)) - 1, tf.fill(tf.shape(request.keys), count))
    other = tf.zeros([1, table.emb_size], tf.float32)
    if default_value is not None:
        other += tf.cast(default_value, tf.float32)
    return Answer(tf.concat([rows, other], axis=0), place)


def _rows_or_default(table: BaseSparseEmbedding, row_indices: tf.Tensor,
                     default_value: Optional[tf.Tensor]) -> tf.Tensor:
    found = row_indices >= 0
    rows = tf.gather(table.variable, tf.maximum(row_indices, 0))
    mask = tf.expand_dims(tf.cast(found, rows.dtype), 1)
    if default_value is None:
        return rows * mask
    return rows * mask + (1.0 - mask) * tf.cast(default_value, rows.dtype)
