"""Reads checkpoint files into named arrays; nothing in a file is ever executed."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from medkeras.errors import InputError

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
INNER = ("state_dict", "net")  # keys under which training code keeps the weights beside optimiser and counters
WRAPPER = "module."  # torch's data-parallel wrapper puts this in front of every name


def read_arrays(source: str | os.PathLike | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the named arrays of a checkpoint.

    A `module.` in front of every name, which training on several devices leaves there, is taken off.

    Args:
        source: A `.safetensors` file, a torch file (`.pt`, `.pth`, `.bin`; needs the extra `[torch]`), or a
            mapping of arrays.

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If a torch file is given and torch is not installed.
        ValueError: If the file is of another kind, damaged, or holds anything but tensors.

    Example:
        >>> sorted(read_arrays({"a": np.zeros(2)}))
        ['a']
    """
    arrays = _read(source)
    if all(name.startswith(WRAPPER) for name in arrays):
        return {name.removeprefix(WRAPPER): array for name, array in arrays.items()}
    return arrays


def _read(source: str | os.PathLike | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if isinstance(source, Mapping):
        return {name: np.asarray(array) for name, array in source.items()}
    path = pathlib.Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file here. Received: {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path)
    known = ", ".join((".safetensors", *TORCH_SUFFIXES))
    raise InputError(f"A checkpoint file must end in one of {known}. Received: {path}")


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise InputError(f"Not a readable safetensors file ({error}). Received: {path}") from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Reading {path.name} needs torch: pip install 'medkeras[torch]', or convert it to safetensors."
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own and pickle's errors for a damaged or unsafe file
        raise InputError(f"Not a torch file of tensors alone ({type(error).__name__}). Received: {path}") from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in INNER if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise InputError(f"A torch file must hold a dict of tensors. Received: {path}")
    return {name: tensor.float().numpy() for name, tensor in content.items()}
