"""Classes that Keras finds in saved files, imported when a file names them."""

import importlib
from collections.abc import Sequence
from typing import Any

import keras


class LazyClass:
    """Stands for a class in Keras' registry of custom objects; its module puts the class itself in the same place.

    Keras asks what it finds there for `from_config` alone.

    Args:
        module: Where the class is.
        name: Of the class.

    Example:
        >>> LazyClass("keras.layers", "Dense").from_config({"units": 3}).units
        3
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def from_config(self, config: dict[str, Any], *args: Any, **options: Any) -> Any:
        """Makes what a saved configuration describes."""
        return getattr(importlib.import_module(self.module), self.name).from_config(config, *args, **options)


def register_lazily(module: str, names: Sequence[str]) -> None:
    """Registers classes of this package by their names, without importing their module.

    Args:
        module: Where they are, each decorated with `keras.saving.register_keras_serializable("medkeras")`.
        names: Of the classes.
    """
    for name in names:
        keras.saving.get_custom_objects().setdefault(f"medkeras>{name}", LazyClass(module, name))
