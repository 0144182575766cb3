"""Finds the race of the upstream recipe: a dense update of a variable that the tables' gradients still read.

The recipe makes two backward passes in one step, one by the dense optimizer and one with respect to the tables. The
dense optimizer then writes into ref variables (TensorFlow 1's default), and the second pass reads their memory, before
or after the write: results vary from run to run, on any device.
"""
from typing import Any, Dict, List, Set

import tensorflow as tf

_REF_VARIABLES = ("VariableV2", "Variable")
_UPDATES = ("Apply", "Assign", "SparseApply", "Scatter")


def find(gradients: List[Any]) -> List[str]:
    """Returns the names of the variables that are written and read without an order, sorted.

    Args:
        gradients: what the sparse optimizers were given, tensors or IndexedSlices of any graphs.
    """
    by_graph: Dict[tf.Graph, List[Any]] = {}
    for gradient in gradients:
        by_graph.setdefault(gradient.graph, []).append(gradient)
    return sorted({name for graph, tensors in by_graph.items() for name in _of_graph(graph, tensors)})


def _of_graph(graph: tf.Graph, gradients: List[Any]) -> Set[str]:
    needed = _ancestors([part.op for gradient in gradients for part in (
        (gradient.values, gradient.indices) if isinstance(gradient, tf.IndexedSlices) else (gradient,))])
    found = set()
    for update in graph.get_operations():
        if not (update.type.startswith(_UPDATES) and update.inputs and update.inputs[0].op.type in _REF_VARIABLES):
            continue
        variable = update.inputs[0].op
        # Initializers and restores run alone; an update of training is never an Assign of those.
        if update in needed or variable.name + "/Assign" == update.name or update.name.startswith("save"):
            continue
        readers = [reader for read in variable.outputs[0].consumers() if read.type == "Identity"
                   for reader in read.outputs[0].consumers() if reader in needed]
        before = _ancestors([update])
        if any(reader not in before and update not in _ancestors([reader]) for reader in readers):
            found.add(variable.name)
    return found


def _ancestors(operations: List[tf.Operation]) -> Set[tf.Operation]:
    found: Set[tf.Operation] = set()
    waiting = list(operations)
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found.add(operation)
            waiting.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
    return found
