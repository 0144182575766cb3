"""TensorFlow, loaded by its first use: names, sizes and checks of the model are asked for before it is needed."""
import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf
else:
    class _TensorFlow:
        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("tensorflow"), name)

    tf = _TensorFlow()

__all__ = ["tf"]
