"""TensorFlow, loaded by its first use: names, sizes and checks of the model are asked for before it is needed."""
import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # who looks through all modules for such a name does not want TensorFlow
        raise AttributeError(name)
    return getattr(importlib.import_module("tensorflow"), name)
