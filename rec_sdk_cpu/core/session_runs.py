"""Session runs that repeat the same fetches, without the work that TensorFlow does anew for each of them.

``Session.run`` checks and maps its fetches in Python every time, about 0.1 ms for a training loop with hooks; at small
batches that is a third of a step. A callable per set of fetches does it once. On NPUs the device makes several steps
per run in place of this.
"""
from typing import Any, Callable, Dict, List, Tuple

import tensorflow as tf

_MAX_CALLABLES = 64


def reuse_fetches(session: tf.compat.v1.Session) -> None:
    """Makes a session keep what it learns of its fetches; values, errors and side effects stay the same.

    Runs with feeds or run options, and runs while the graph still changes, go TensorFlow's way.

    Args:
        session: its ``run`` is replaced.
    """
    original = session.run
    # The fetches are kept beside the callable: the key holds their ids, which must not be given to other objects.
    callables: Dict[Tuple[Any, ...], Tuple[Callable[[], Any], List[Any]]] = {}

    def run(fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        if feed_dict or (options is not None and options.ByteSize()) or session._closed or not session.graph.finalized:
            return original(fetches, feed_dict=feed_dict, options=options, run_metadata=run_metadata)
        key = _key(fetches)
        found = callables.get(key)
        if found is None:
            if len(callables) >= _MAX_CALLABLES:
                return original(fetches, options=options, run_metadata=run_metadata)
            found = (session.make_callable(fetches), _leaves(fetches))
            callables[key] = found
        # _do_call adds the failing op to an error's message, as in Session.run.
        return session._do_call(found[0])

    session.run = run


def _key(fetches: Any) -> Tuple[Any, ...]:
    if isinstance(fetches, dict):
        return (dict,) + tuple((id(name), _key(value)) for name, value in fetches.items())
    if isinstance(fetches, (list, tuple)):
        return (type(fetches),) + tuple([_key(value) for value in fetches])
    return (id(fetches),)


def _leaves(fetches: Any) -> List[Any]:
    if isinstance(fetches, dict):
        return [item for name, value in fetches.items() for item in [name] + _leaves(value)]
    if isinstance(fetches, (list, tuple)):
        return [item for value in fetches for item in _leaves(value)]
    return [fetches]
