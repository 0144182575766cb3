"""Lookups on several ranks: key k and its row live on rank k mod ranks, or with ``is_dp`` on every rank.

A sharded lookup sends each distinct key of the batch to its owner, which finds or inserts the keys of all ranks at once
and sends their rows back. On the way back the gradients go to the owners, which sum them, so that an optimizer sees
one gradient per row as on one rank. A replicated lookup gathers the keys of all ranks, so that every rank makes the
same insertions, and sums the rows' gradients over the ranks.
"""
from typing import Any, Callable, NamedTuple, Optional, Tuple

import tensorflow as tf

from rec_sdk_cpu.core import collectives, ranks


class Request(NamedTuple):
    """Distinct keys of a batch.

    Attributes:
        keys: int64 [n].
        occurrences: int64 [n], how often each stands in the batch; None where nobody counts.
    """

    keys: tf.Tensor
    occurrences: Optional[tf.Tensor]


class Answer(NamedTuple):
    """Rows for the keys of a request.

    Attributes:
        rows: float32 [m, dim].
        places: int64 [n], the row of each key; None where row i belongs to key i.
    """

    rows: tf.Tensor
    places: Optional[tf.Tensor]

    def placed(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns the row of each of the given positions (int64) in the request."""
        return positions if self.places is None else tf.gather(self.places, positions)


# Finds the rows of keys that live on this rank.
Serve = Callable[[Request], Answer]


def owners(keys: tf.Tensor) -> tf.Tensor:
    """Returns the rank that each key (int64 [n]) lives on, int32 [n]."""
    return tf.cast(tf.math.floormod(keys, ranks.get_rank_size()), tf.int32)


def sharded(request: Request, serve: Serve, gradient_scale: float, send_count: Optional[Callable[[tf.Tensor], Any]],
            label: str) -> Answer:
    """Asks the owners for rows.

    Args:
        request: the distinct keys of this rank's batch.
        serve: finds the rows of the keys that this rank owns; its rows carry the gradient.
        gradient_scale: multiplies the summed gradients.
        send_count: makes a check of the keys that go to each rank (int32 [ranks]); or None.
        label: of the collectives.

    Returns:
        The rows in the order of their owners, and the place of each key.
    """
    size = ranks.get_rank_size()
    owner = owners(request.keys)
    order = tf.argsort(owner, stable=True)
    splits = tf.math.bincount(owner, minlength=size, maxlength=size, dtype=tf.int32)
    with tf.control_dependencies([send_count(splits)] if send_count is not None else []):
        sent = tf.gather(_packed(request), order)
    asked, asked_splits = collectives.alltoall(sent, splits, label + ".keys")
    distinct, positions = _merged(asked, request.occurrences is not None)
    answer = serve(distinct)
    answers = _round_trip(answer.rows, answer.placed(positions), asked_splits, gradient_scale, label)
    return Answer(answers, tf.cast(tf.math.invert_permutation(order), tf.int64))


def replicated(request: Request, serve: Serve, label: str) -> Answer:
    """Looks the keys of all ranks up on every rank; arguments and result as for :func:`sharded`."""
    keys = _packed(request)
    mine = tf.fill([tf.shape(keys)[0], 1], tf.constant(ranks.get_rank_id(), tf.int64))
    gathered = collectives.allgather(tf.concat([mine, tf.reshape(keys, [-1, _width(request)])], axis=1),
                                     label + ".keys")
    columns = gathered[:, 1:] if request.occurrences is not None else gathered[:, 1]
    distinct, positions = _merged(columns, request.occurrences is not None)
    answer = serve(distinct)
    places = tf.boolean_mask(positions, tf.equal(gathered[:, 0], ranks.get_rank_id()))
    return Answer(_summed_gradient(answer.rows, label), answer.placed(places))


def _width(request: Request) -> int:
    return 1 if request.occurrences is None else 2


def _packed(request: Request) -> tf.Tensor:
    """Returns the keys, int64 [n], or keys and occurrences, int64 [n, 2]: one message instead of two."""
    if request.occurrences is None:
        return request.keys
    return tf.stack([request.keys, request.occurrences], axis=1)


def _merged(asked: tf.Tensor, counted: bool) -> Tuple[Request, tf.Tensor]:
    """Returns the distinct keys that several ranks asked for, and the position of each asked key in them."""
    keys = asked[:, 0] if counted else asked
    distinct, positions = tf.unique(keys, out_idx=tf.int64)
    if not counted:
        return Request(distinct, None), positions
    occurrences = tf.math.unsorted_segment_sum(asked[:, 1], positions, tf.size(distinct, out_type=tf.int64))
    return Request(distinct, occurrences), positions


def _round_trip(rows: tf.Tensor, places: tf.Tensor, splits: tf.Tensor, scale: float, label: str) -> tf.Tensor:
    """Sends the rows at ``places`` back to those who asked; the gradients come the same way and are summed by row."""
    @tf.custom_gradient
    def answered(own: tf.Tensor) -> Any:
        answers, answers_splits = collectives.alltoall(tf.gather(own, places), splits, label + ".rows")

        def gradient(upstream: Any) -> tf.Tensor:
            returned, _ = collectives.alltoall(_dense(upstream, answers), answers_splits, label + ".gradients")
            summed = tf.math.unsorted_segment_sum(returned, places, tf.shape(own, out_type=tf.int64)[0])
            return summed if scale == 1.0 else summed * scale
        return answers, gradient
    return answered(rows)


def _summed_gradient(rows: tf.Tensor, label: str) -> tf.Tensor:
    @tf.custom_gradient
    def shared(own: tf.Tensor) -> Any:
        return tf.identity(own), lambda upstream: collectives.allreduce(
            _dense(upstream, own), "sum", label + ".gradients")
    return shared(rows)


def _dense(gradient: Any, like: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of rows as one tensor; the gather of a batch leaves slices of it."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, tf.shape(like, out_type=tf.int64)[0])
