"""medkeras: medical image models for Keras 3 that say what, where and how sure."""

import importlib
from typing import Any

from medkeras import checkpoints, errors, layers, losses, metrics, models, tasks
from medkeras.version import __version__

_LAZY = ("evaluation", "explain", "export", "super_resolution", "uncertainty")

__all__ = ["__version__", "checkpoints", "errors", "layers", "losses", "metrics", "models", "tasks", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"medkeras.{name}")
    raise AttributeError(f"module 'medkeras' has no attribute {name!r}")
