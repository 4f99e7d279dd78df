"""What a run was made with: versions, machine, command, settings."""

import importlib.metadata
import os
import platform
import sys
from typing import Any

import keras

PACKAGES = ("medkeras", "tensorflow", "keras", "numpy", "pandas", "opencv-python", "scikit-learn")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS")


def environment() -> dict[str, Any]:
    """Returns the versions, the machine, the command and the settings of this process, as plain values.

    Example:
        >>> sorted(environment())
        ['backend', 'command', 'cpu_count', 'packages', 'platform', 'python', 'variables']
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "backend": keras.backend.backend(),
        "packages": {name: _version(name) for name in PACKAGES},
        "command": sys.argv,
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
