"""The ``.meta`` file of a checkpoint, made once per session graph: it is the same for every checkpoint of it.

TensorFlow writes the whole graph out again with each checkpoint, 0.05 s and more for a training graph: half of what a
checkpoint of a small model costs.
"""
import os
from typing import Any, Callable, Tuple

_SUFFIX = "meta"


def save(saver: Any, original: Callable[..., Any], session: Any, save_path: str, global_step: Any,
         arguments: Tuple[Any, ...]) -> Any:
    """Calls ``Saver.save``; the meta graph is made once, and written before the files that announce the checkpoint.

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
    if (not write_meta_graph or not graph.finalized or suffix != _SUFFIX or strip_default_attrs or save_debug_info
            or saver._is_empty or saver._pad_step_number or not os.path.isdir(os.path.dirname(save_path) or ".")):
        return original(saver, session, save_path, global_step, *arguments)
    path = save_path if global_step is None else "%s-%d" % (save_path, global_step)
    kept = getattr(saver, "_kept_meta_graph", None)
    if kept is None or kept[0] is not graph:
        with graph.as_default():
            content = saver.export_meta_graph().SerializeToString()
        kept = saver._kept_meta_graph = (graph, content)
    # Before TensorFlow's files: a process that is killed must not leave a checkpoint without it.
    _write("%s.%s" % (path, suffix), kept[1])
    return original(saver, session, save_path, global_step, latest_filename, suffix, False, write_state,
                    strip_default_attrs, save_debug_info)


def _write(path: str, data: bytes) -> None:
    temporary = "%s.partial-%d" % (path, os.getpid())
    with open(temporary, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)
