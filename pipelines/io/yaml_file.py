"""A YAML file of settings."""

import pathlib
from typing import Any

import yaml

from medkeras.errors import InputError


def read_yaml(path: pathlib.Path, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Reads a YAML file that holds a table.

    Args:
        path: The file.
        may_be_empty: Whether a file without a word, or of comments alone, is an empty table.

    Raises:
        OSError: If there is none.
        ValueError: If it is damaged or holds something else; the file and the reason are named.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"Cannot read {path}: {' '.join(str(error).split())}") from error
    if values is None and may_be_empty:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"Cannot read {path}: it must hold settings. Received: {type(values).__name__}")
    return values
