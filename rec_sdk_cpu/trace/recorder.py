"""Writes down every call that a program makes of an SDK callable."""
import enum
import functools
import inspect
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import tensorflow as tf
from tensorflow.python.data.ops import dataset_ops
from tensorflow_estimator.python.estimator import estimator as estimator_lib

from rec_sdk_cpu import installer
from rec_sdk_cpu.core import config, graph_state, table
from rec_sdk_cpu.mx_rec.util import ops

_OWN = ("rec_sdk_cpu.", "tensorflow", "tensorflow_core.", "tensorflow_estimator.")
# Calls in a function that a dataset maps go through AutoGraph.
_AUTOGRAPH = ("tensorflow.python.autograph", "tensorflow_core.python.autograph")
_MOST_VALUES = 4
# Methods of TensorFlow's that decide what a run does on a device.
_ESTIMATOR_METHODS = ("train", "evaluate", "predict", "export_saved_model", "export_savedmodel")


@dataclass
class Call:
    """The calls of one callable with one set of argument names.

    Attributes:
        name: dotted name by which the program reached it.
        origin: dotted name of where the SDK defines it.
        positional: number of positional arguments.
        keywords: names of the keyword arguments, sorted.
        where: "file:line" of the first call.
        count: how often.
        values: {argument: the different values given, as text}.
    """

    name: str
    origin: str
    positional: int
    keywords: Tuple[str, ...]
    where: str
    count: int = 0
    values: Dict[str, List[str]] = field(default_factory=dict)


class Recorder:
    """Wraps the registered modules; ``calls`` fills while the program runs."""

    def __init__(self, root: str) -> None:
        """Prepares a recording.

        Args:
            root: folder of the program; places in it are named from there.
        """
        self._root = root
        self.calls: Dict[Tuple[Any, ...], Call] = {}
        # Tensors whose values the sparse optimizers take as gradients; their graphs stay alive with them.
        self.sparse_gradients: List[Any] = []
        # Tensors of ids that were looked up; their graphs stay alive with them.
        self.looked_up: List[tf.Tensor] = []
        # {option of a session's NpuOptimizer: the different values given, as text}.
        self.session_options: Dict[str, List[str]] = {}
        # {attribute of ConfigInitializer.get_instance(): the different values that the program set, as text}.
        self.config_settings: Dict[str, List[str]] = {}
        self._undo: List[Callable[[], None]] = []
        self._classes: Set[type] = set()

    def start(self) -> None:
        """Puts the recording in place."""
        for name in installer.module_names():
            self._wrap_module(name, installer.module(name))
        library, singleton = "import_host_pipeline_ops()", "ConfigInitializer.get_instance()."
        for owner, prefix, origin in (
                (ops.HostPipelineOps, library, ""), (ops.NpuOps, library, ""),
                (table.BaseSparseEmbedding, "create_table()", ""),
                (config.ConfigInitializer, "ConfigInitializer", "mx_rec.util.initialize."),
                (config.TrainParamsConfig, "train_params_config", singleton),
                (config.SparseEmbedConfig, "sparse_embed_config", singleton),
                (config.OptimizerConfig, "optimizer_config", singleton)):
            for name, value in list(vars(owner).items()):
                function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                if not name.startswith("_") and inspect.isfunction(function):
                    self._wrap_method(owner, name, value, function, "%s.%s" % (prefix, name), origin)
        for owner, prefix in ((config.ConfigInitializer, ""), (config.TrainParamsConfig, "train_params_config."),
                              (config.SparseEmbedConfig, "sparse_embed_config."),
                              (config.OptimizerConfig, "optimizer_config.")):
            self._wrap_setting(owner, prefix)
        for name in _ESTIMATOR_METHODS:
            original = getattr(estimator_lib.Estimator, name)
            self._wrap_method(estimator_lib.Estimator, name, original, original, "Estimator.%s" % name)
        self._wrap_method(dataset_ops.DatasetV2, "eos_map", dataset_ops.DatasetV2.eos_map,
                          dataset_ops.DatasetV2.eos_map, "Dataset.eos_map")
        self._wrap_session()
        graph_state.gradient_listeners.append(self.sparse_gradients.append)
        self._undo.append(lambda: graph_state.gradient_listeners.remove(self.sparse_gradients.append))

    def stop(self) -> None:
        """Takes the recording away."""
        while self._undo:
            self._undo.pop()()

    def of(self, *suffixes: str) -> List[Call]:
        """Returns the calls whose name, or origin, ends with one of some names."""
        return [call for call in self.calls.values()
                if any(name == suffix or name.endswith("." + suffix) for name in (call.name, call.origin)
                       for suffix in suffixes)]

    def _wrap_module(self, module_name: str, module: Any) -> None:
        for name, value in sorted(vars(module).items()):
            defined = getattr(value, "__module__", None) or ""
            if name.startswith("_") or not defined.startswith("rec_sdk_cpu."):
                continue
            if inspect.isfunction(value):
                wrapped = self._recording(value, "%s.%s" % (module_name, name), _real_name(value), 0)
                self._replace(module, name, value, wrapped)
            elif inspect.isclass(value) and value not in self._classes and not issubclass(value, enum.Enum):
                self._classes.add(value)
                self._wrap_class(value)

    def _wrap_class(self, value: type) -> None:
        own, name = vars(value), _real_name(value)
        if "__new__" in own and "__init__" not in own:
            original = own["__new__"]
            function = original.__func__ if isinstance(original, staticmethod) else original
            self._replace(value, "__new__", original, staticmethod(self._recording(function, name, name, 1)))
        elif "__init__" in own:
            self._replace(value, "__init__", own["__init__"], self._recording(own["__init__"], name, name, 1))

    def _wrap_method(self, owner: type, name: str, value: Any, function: Callable[..., Any], label: str,
                     origin: str = "") -> None:
        is_static = isinstance(value, staticmethod)
        wrapped: Any = self._recording(function, label, origin + label, 0 if is_static else 1)
        if isinstance(value, (staticmethod, classmethod)):
            wrapped = type(value)(wrapped)
        self._replace(owner, name, value, wrapped)

    def _wrap_setting(self, owner: Any, prefix: str) -> None:
        def set_attribute(instance: Any, name: str, value: Any) -> None:
            if not _module(sys._getframe(1)).startswith(_OWN):
                _add(self.config_settings.setdefault(prefix + name, []), _text(value))
            object.__setattr__(instance, name, value)
        owner.__setattr__ = set_attribute
        self._undo.append(lambda: delattr(owner, "__setattr__"))

    def _wrap_session(self) -> None:
        original = tf.compat.v1.Session.__init__

        @functools.wraps(original)
        def init(session: Any, target: str = "", graph: Optional[tf.Graph] = None, config: Any = None) -> None:
            if config is not None and not _module(sys._getframe(1)).startswith(_OWN):
                for optimizer in config.graph_options.rewrite_options.custom_optimizers:
                    for name, value in optimizer.parameter_map.items():
                        _add(self.session_options.setdefault(name, []), _text(_option(value)))
            original(session, target, graph, config)
        self._replace(tf.compat.v1.Session, "__init__", original, init)

    def _replace(self, owner: Any, name: str, original: Any, wrapped: Any) -> None:
        setattr(owner, name, wrapped)
        self._undo.append(lambda: setattr(owner, name, original))

    def _recording(self, function: Callable[..., Any], name: str, origin: str, bound: int) -> Callable[..., Any]:
        # Left alone by AutoGraph, which would put its own frames between the program's and this one.
        @tf.autograph.experimental.do_not_convert
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            frame: Any = sys._getframe(1)
            while _module(frame).startswith(_AUTOGRAPH):
                frame = frame.f_back
            if not _module(frame).startswith(_OWN):
                self._note(function, name, origin, args, kwargs, bound, _written(frame))
            return function(*args, **kwargs)
        return call

    def _note(self, function: Callable[..., Any], name: str, origin: str, args: Tuple[Any, ...],
              kwargs: Dict[str, Any], bound: int, frame: Any) -> None:
        key = (name, len(args) - bound, tuple(sorted(kwargs)))
        if key not in self.calls:
            place = os.path.relpath(frame.f_code.co_filename, self._root)
            self.calls[key] = Call(name, origin, key[1], key[2], "%s:%d" % (place, frame.f_lineno))
        noted = self.calls[key]
        noted.count += 1
        given = _given(function, args, kwargs)
        for argument, value in given.items():
            values = noted.values.setdefault(argument, [])
            _add(values, _text(value))
            if argument == "ids" and isinstance(value, tf.Tensor):
                self.looked_up.append(value)


def _module(frame: Any) -> str:
    return frame.f_globals.get("__name__") or ""


def _written(frame: Any) -> Any:
    """Returns the frame itself, or for code that AutoGraph made the nearest outer one that the program's file has."""
    outer = frame
    while outer is not None:
        if not _module(outer).startswith(_OWN) and outer.f_code.co_filename == outer.f_globals.get("__file__"):
            return outer
        outer = outer.f_back
    return frame


def _add(values: List[str], text: str) -> None:
    if text not in values and len(values) <= _MOST_VALUES:
        values.append(text)


def _option(value: Any) -> Any:
    """Returns what an AttrValue of a session's configuration holds."""
    kind = value.WhichOneof("value")
    held = getattr(value, kind) if kind else None
    return held.decode("utf-8", "replace") if isinstance(held, bytes) else held


def _given(function: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Dict[str, Any]:
    try:
        given = dict(inspect.signature(function).bind_partial(*args, **kwargs).arguments)
    except TypeError:
        given = {}
    for name in ("self", "cls", "_cls"):
        given.pop(name, None)
    given.update(given.pop("kwargs", {}))
    return given


def _text(value: Any) -> str:
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[%s]" % ", ".join(_text(item) for item in value[:_MOST_VALUES])
    if isinstance(value, dict) and all(item is None or isinstance(item, (bool, int, float, str))
                                       for item in value.values()):
        return "{%s}" % ", ".join("%s: %s" % item for item in sorted(value.items()))
    if isinstance(value, (tf.DType, tf.TensorShape)):
        return value.name if isinstance(value, tf.DType) else str(value)
    return getattr(value, "__name__", None) or type(value).__name__


def _real_name(value: Any) -> str:
    module = value.__module__.replace("rec_sdk_cpu.npu_bridge_modules.", "").replace("rec_sdk_cpu.", "")
    return "%s.%s" % (module, value.__qualname__)


def find(calls: List[Call], argument: str) -> Optional[str]:
    """Returns the first value given for an argument in some calls, as text, or None."""
    return next((call.values[argument][0] for call in calls if call.values.get(argument)), None)
