"""TensorFlow, loaded by its first use: names, sizes and checks of the model are asked for before it is needed."""
import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(importlib.import_module("tensorflow"), name)
