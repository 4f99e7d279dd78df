"""medkeras: medical image models for Keras 3 that say what, where and how sure."""

import importlib
from typing import Any

from medkeras import checkpoints, layers, losses, metrics, models, tasks
from medkeras.errors import InputError
from medkeras.version import __version__

_LAZY = ("evaluation", "explain", "export", "super_resolution", "uncertainty")

__all__ = ["InputError", "__version__", "checkpoints", "layers", "losses", "metrics", "models", "tasks", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"medkeras.{name}")
    raise AttributeError(f"module 'medkeras' has no attribute {name!r}")
