"""Finds where looked-up tensors come from in ways that a device's host pipeline does not follow (rec_sdk_api 5.1).

Graph modification finds the ids of the next batches by copying the way from the dataset to the lookup into the dataset.
"""
from typing import List, Set

import tensorflow as tf

_NEXT = "IteratorGetNext"
# What TensorFlow puts behind the program's own last stage.
_ADDED_STAGES = ("OptimizeDataset", "ModelDataset")


def without_dataset(ids: List[tf.Tensor]) -> List[str]:
    """Returns the names of the looked-up tensors that no dataset feeds, sorted."""
    return sorted({tensor.name for tensor in ids
                   if not any(operation.type == _NEXT for operation in _way(tensor))})


def string_operations(ids: List[tf.Tensor]) -> List[str]:
    """Returns the types of the operations that make ids of strings between dataset and lookup, sorted."""
    return sorted({operation.type for tensor in ids for operation in _way(tensor)
                   if operation.type not in (_NEXT, "Const", "Identity")
                   and any(value.dtype.base_dtype == tf.string for value in operation.inputs)})


def last_stages(ids: List[tf.Tensor]) -> List[str]:
    """Returns the types of the last stages of the lookups' datasets that are no ``prefetch``, sorted.

    One-shot iterators are left out: their datasets are functions of the graph.
    """
    found = set()
    for tensor in ids:
        iterators = {operation.inputs[0] for operation in _way(tensor) if operation.type == _NEXT}
        for maker in (consumer for iterator in iterators for consumer in iterator.consumers()
                      if consumer.type == "MakeIterator"):
            stage = maker.inputs[0].op
            while stage.type in _ADDED_STAGES:
                stage = stage.inputs[0].op
            if not stage.type.startswith("Prefetch"):
                found.add(stage.type)
    return sorted(found)


def _way(tensor: tf.Tensor) -> Set[tf.Operation]:
    """Returns the operations that a tensor is made of, up to the dataset's next batch."""
    found: Set[tf.Operation] = set()
    waiting = [tensor.op]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting.extend([] if operation.type == _NEXT else [value.op for value in operation.inputs])
    return found
