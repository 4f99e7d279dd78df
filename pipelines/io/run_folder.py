"""The run folder: every file is written to a temporary name and renamed, so a killed job leaves the last good state."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from medkeras.errors import InputError
from pipelines.io.json_types import mismatch
from pipelines.io.yaml_file import read_yaml


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path`, of the same suffix, and renames it to `path` if the block succeeds.

    Works for files and for folders; an existing folder of that name is replaced.

    Raises:
        OSError: If the folder cannot be written; nothing is left behind.

    Example:
        >>> import tempfile
        >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic_path(target) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        _sync(temporary)
        if path.is_dir() and temporary.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _sync(path: pathlib.Path) -> None:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    if path.is_dir():
        _sync_folder(path)


def _sync_folder(path: pathlib.Path) -> None:
    """Makes the names in a folder last, where the system lets a folder be opened."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class RunFolder:
    """A folder that holds one run: configuration, splits, model, measures and figures.

    Args:
        path: The folder; it is made on the first write.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = pathlib.Path(path)

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def open(self) -> "RunFolder":
        """Returns this folder if it holds a trained run.

        Raises:
            FileNotFoundError: If the folder, its `config.yaml` or its `model.keras` is missing.
        """
        for name in ("config.yaml", "model.keras"):
            if not (self / name).is_file():
                raise FileNotFoundError(f"A run folder holds {name}; `medkeras train` makes one. Received: {self.path}")
        return self

    def write_text(self, name: str, text: str) -> pathlib.Path:
        """Writes a text file whole, or not at all."""
        with atomic_path(self / name) as temporary:
            temporary.write_text(text)
        return self / name

    def write_json(self, name: str, value: Any) -> pathlib.Path:
        """Writes JSON whole, or not at all; NaN and infinity become null."""
        return self.write_text(name, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")

    def read_json(self, name: str, kind: Any = Any, *, make: Callable[[Any], Any] | None = None) -> Any:
        """Reads a JSON file of the run.

        Args:
            name: Of the file, below the folder.
            kind: What it must hold as far as it is used, see `pipelines.io.json_types`.
            make: Makes of it what is returned; a ValueError counts as damage too.

        Raises:
            OSError: If there is none.
            ValueError: If it is damaged or holds something else; the file and the reason are named.
        """
        try:
            value = json.loads((self / name).read_text())
            if reason := mismatch(value, kind):
                raise InputError(reason)
            return value if make is None else make(value)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Cannot read {self / name}: {' '.join(str(error).split())}") from error

    def write_config(self, config: dict[str, Any]) -> pathlib.Path:
        """Writes `config.yaml`."""
        return self.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))

    def salt(self) -> str:
        """Returns the secret with which patient identifiers are hashed; the first call draws it.

        Whoever has it can check whether a known identifier is in the run: it stays readable by its owner alone.
        """
        if not (self / "salt").is_file():
            self.write_text("salt", secrets.token_hex(16) + "\n")
            (self / "salt").chmod(0o600)
        return (self / "salt").read_text().strip()

    def read_config(self) -> dict[str, Any]:
        """Reads `config.yaml`.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        path = self / "config.yaml"
        if not path.is_file():
            raise FileNotFoundError(f"No config.yaml in the run folder. Received: {self.path}")
        return read_yaml(path)


def _finite(value: Any) -> Any:
    """Replaces numpy numbers by Python ones and non-finite floats by None, at any depth."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
