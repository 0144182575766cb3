"""The ``.meta`` file of a checkpoint, made once per session graph: it is the same for every checkpoint of it.

TensorFlow writes the whole graph out again with each checkpoint, 0.05 s and more for a training graph: half of what a
checkpoint of a small model costs.
"""
import os
from typing import Any, Callable, Tuple

_SUFFIX = "meta"


def save(saver: Any, original: Callable[..., Any], session: Any, save_path: str, global_step: Any,
         arguments: Tuple[Any, ...]) -> Any:
    """Calls ``Saver.save``, and writes the kept meta graph in place of a new one where that is the same.

    Args:
        saver: the Saver; the bytes of its first meta graph are kept in it.
        original: TensorFlow's ``Saver.save``.
        session: the session; only finalised graphs are known not to change.
        save_path, global_step: as for ``Saver.save``.
        arguments: latest_filename, meta_graph_suffix, write_meta_graph, write_state, strip_default_attrs,
            save_debug_info.

    Returns:
        What ``Saver.save`` returns.
    """
    latest_filename, suffix, write_meta_graph, write_state, strip_default_attrs, save_debug_info = arguments
    graph = session.graph
    if (not write_meta_graph or not graph.finalized or suffix != _SUFFIX or strip_default_attrs or save_debug_info):
        return original(saver, session, save_path, global_step, *arguments)
    kept = getattr(saver, "_kept_meta_graph", None)
    if kept is not None and kept[0] is graph:
        result = original(saver, session, save_path, global_step, latest_filename, suffix, False, write_state,
                          strip_default_attrs, save_debug_info)
        if result:
            _write("%s.%s" % (result, suffix), kept[1])
        return result
    result = original(saver, session, save_path, global_step, *arguments)
    path = "%s.%s" % (result, suffix)
    if result and os.path.isfile(path):
        with open(path, "rb") as stream:
            saver._kept_meta_graph = (graph, stream.read())
    return result


def _write(path: str, data: bytes) -> None:
    temporary = "%s.partial-%d" % (path, os.getpid())
    with open(temporary, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)
