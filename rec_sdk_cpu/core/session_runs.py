"""``Session.run`` as it is patched: the steps of a device's loop, the sizes of tables, and fetches that repeat.

A device makes several steps per run where the train op is an ``IterationOp`` (npu_bridge_api 2.6); a CPU makes them one
after the other, and the values of the last one are returned. Where the data ends inside a loop the run fails with the
dataset's OutOfRangeError, and the steps made so far stay.

``Session.run`` checks and maps its fetches in Python every time, about 0.1 ms for a training loop with hooks; at small
batches that is a third of a step. For monitored sessions a callable per set of fetches does it once.
"""
import functools
import logging
import weakref
from typing import Any, Callable, Dict, List, Tuple

import tensorflow as tf

from rec_sdk_cpu.core import graph_state

logger = logging.getLogger("rec_sdk_cpu")

ITERATION_OP = "IterationOp"
_MAX_CALLABLES = 64


def make_run(original: Any) -> Any:
    """Returns ``BaseSession.run`` with a device's loop."""
    @functools.wraps(original)
    def run(self: Any, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        state = graph_state.peek(self.graph)
        if state is None:
            return original(self, fetches, feed_dict, options, run_metadata)
        state.session = weakref.ref(self)
        for _ in range(steps_per_run(state, self.graph, fetches) - 1):
            original(self, fetches, feed_dict, options, run_metadata)
        return original(self, fetches, feed_dict, options, run_metadata)
    return run


def make_close(original: Any) -> Any:
    """Returns ``BaseSession.close`` that keeps the sizes of the tables, which the device's host process knows on."""
    @functools.wraps(original)
    def close(self: Any) -> None:
        state = graph_state.peek(self.graph)
        if state is not None and not self._closed and state.session is not None and state.session() is self:
            for table in state.tables.values():
                try:
                    table.size()
                except (tf.errors.OpError, RuntimeError) as error:
                    logger.debug("the size of table %s is not known at the session's end: %s", table.table_name, error)
        original(self)
    return close


def steps_per_run(state: graph_state.GraphState, graph: tf.Graph, fetches: Any) -> int:
    """Returns how many steps a device makes in one run of some fetches: 1 unless they contain an IterationOp.

    Args:
        state: of the graph.
        graph: of the fetches.
        fetches: as given to ``run``.
    """
    if state.iterations_per_loop <= 1:
        return 1
    operations = tuple(_operation(graph, leaf) for leaf in _leaves(fetches))
    if operations not in state.loops:
        state.loops[operations] = any(_is_loop(operation) for operation in _ancestors(operations))
    return state.iterations_per_loop if state.loops[operations] else 1


def reuse_fetches(session: tf.compat.v1.Session) -> None:
    """Makes a session keep what it learns of its fetches; values, errors and side effects stay the same.

    Runs with feeds or run options, and runs while the graph still changes, go TensorFlow's way.

    Args:
        session: its ``run`` is replaced.
    """
    original = session.run
    # The fetches are kept beside the callable: the key holds their ids, which must not be given to other objects.
    callables: Dict[Tuple[Any, ...], Tuple[Callable[[], Any], int, List[Any]]] = {}

    def run(fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        if feed_dict or (options is not None and options.ByteSize()) or session._closed or not session.graph.finalized:
            return original(fetches, feed_dict=feed_dict, options=options, run_metadata=run_metadata)
        key = _key(fetches)
        found = callables.get(key)
        if found is None:
            if len(callables) >= _MAX_CALLABLES:
                return original(fetches, options=options, run_metadata=run_metadata)
            steps = steps_per_run(graph_state.of(session.graph), session.graph, fetches)
            found = (session.make_callable(fetches), steps, _leaves(fetches, with_keys=True))
            callables[key] = found
        # _do_call adds the failing op to an error's message, as in Session.run.
        for _ in range(found[1] - 1):
            session._do_call(found[0])
        return session._do_call(found[0])

    session.run = run


def _is_loop(operation: tf.Operation) -> bool:
    return operation.name.rpartition("/")[2].startswith(ITERATION_OP)


def _operation(graph: tf.Graph, leaf: Any) -> Any:
    found = graph.as_graph_element(leaf) if isinstance(leaf, str) else leaf
    return getattr(found, "op", found)


def _ancestors(operations: Tuple[Any, ...]) -> List[tf.Operation]:
    found: Dict[tf.Operation, None] = {}
    waiting = [operation for operation in operations if isinstance(operation, tf.Operation)]
    while waiting:
        operation = waiting.pop()
        if operation not in found:
            found[operation] = None
            waiting.extend([tensor.op for tensor in operation.inputs] + list(operation.control_inputs))
    return list(found)


def _key(fetches: Any) -> Tuple[Any, ...]:
    if isinstance(fetches, dict):
        return (dict,) + tuple((id(name), _key(value)) for name, value in fetches.items())
    if isinstance(fetches, (list, tuple)):
        return (type(fetches),) + tuple([_key(value) for value in fetches])
    return (id(fetches),)


def _leaves(fetches: Any, with_keys: bool = False) -> List[Any]:
    if isinstance(fetches, dict):
        return [item for name, value in fetches.items()
                for item in ([name] if with_keys else []) + _leaves(value, with_keys)]
    if isinstance(fetches, (list, tuple)):
        return [item for value in fetches for item in _leaves(value, with_keys)]
    return [fetches]
