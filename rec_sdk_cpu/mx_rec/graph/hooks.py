"""Stand-in for ``mx_rec.graph.hooks``: the hooks that move id preprocessing into the dataset (rec_sdk_api 5.1).

On NPUs the ops between the dataset and a lookup run on the host; these hooks move them there. On a CPU they run where
they are, so the hooks only hold the rules of use: they come before GraphModifierHook, and only with graph modification.
"""
from typing import Any, List

import tensorflow as tf

from rec_sdk_cpu.core import graph_state
from rec_sdk_cpu.core.config import ConfigInitializer
from rec_sdk_cpu.core.validator import Rule, checked


class _OpTypes(Rule):
    """A non-empty list of op type names."""

    def allowed(self) -> str:
        """See the base class."""
        return "a non-empty list of op types (str)"

    def accepts(self, value: Any) -> bool:
        """See the base class."""
        return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


class _SlicerHook(tf.compat.v1.train.SessionRunHook):
    def __init__(self) -> None:
        ConfigInitializer.get_instance()

    def begin(self) -> None:
        """Checks the order of the hooks.

        Raises:
            RuntimeError: the pipeline of this graph runs already.
        """
        if graph_state.of().pipeline_started:
            raise RuntimeError("%s must come before GraphModifierHook in the list of hooks" % type(self).__name__)


class LookupSubgraphSlicerHook(_SlicerHook):
    """Moves ops of the given types, between the dataset and a lookup's ids, into the dataset."""

    @checked(_OpTypes("op_types"))
    def __init__(self, op_types: List[str]):
        super().__init__()
        self.op_types = list(op_types)


class OrphanLookupKeySlicerHook(_SlicerHook):
    """Supports ids that do not come from a dataset."""

    def __init__(self) -> None:
        super().__init__()
