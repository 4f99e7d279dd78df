"""Folders in the diffusers layout: found, downloaded where possible, read and written."""

import dataclasses
import json
import os
import pathlib
from typing import Any, TypeVar

from medkeras.checkpoints import load, read_arrays
from medkeras.errors import InputError
from medkeras.super_resolution import convert, settings

Model = TypeVar("Model")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PARTS = {"UNet": "unet", "VQVAE": "vqvae"}
NEEDED = "unet/ and vqvae/, each with config.json and diffusion_pytorch_model.safetensors (or .bin), and scheduler/"


def find(path_or_repo: str | os.PathLike) -> pathlib.Path:
    """Returns the folder of a pretrained upscaler, downloaded if need be.

    Args:
        path_or_repo: A folder, or `"owner/name"` of a repository on Hugging Face.

    Raises:
        FileNotFoundError: If there is no such folder and nothing can be downloaded.

    Example:
        >>> find("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: No folder here. It must hold unet/ and vqvae/, ... Received: no/such/folder
    """
    path = pathlib.Path(path_or_repo)
    if path.is_dir():
        return path
    if len(path.parts) != 2 or path.is_absolute():
        raise FileNotFoundError(f"No folder here. It must hold {NEEDED}. Received: {path_or_repo}")
    return _download(str(path_or_repo))


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a folder holds: all files are there and all settings are understood, but no weight is read yet.

    Attributes:
        arguments: Of `UNet`, `VQVAE` and `DDIM`, by their names.
        weights: The files of weights of the former two.
        sample_size: Edge of what the denoiser was trained on, in pixels, if that is known.
    """

    arguments: dict[str, dict[str, Any]]
    weights: dict[str, pathlib.Path]
    sample_size: int | None


def look(folder: pathlib.Path) -> Parts:
    """Looks through a folder.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a configuration is damaged or has a setting that is not built here.
    """
    files = {kind: folder / part / "config.json" for kind, part in PARTS.items()}
    files["DDIM"] = folder / "scheduler" / "scheduler_config.json"
    read = {kind: _read_json(file) for kind, file in files.items()}
    return Parts(
        {kind: settings.arguments(config, kind) for kind, config in read.items()},
        {kind: _weights(folder / part) for kind, part in PARTS.items()},
        settings.sample_size(read["UNet"]),
    )


def fill(model: Model, path: pathlib.Path) -> Model:
    """Fills a model with the weights of a file, in either layout of attention, and returns it.

    Raises:
        ModuleNotFoundError: If a torch file is given and torch is not installed.
        ValueError: If the file is damaged or does not fit.
    """
    try:
        load(model, convert.modern(read_arrays(path)))
    except ValueError as error:
        raise InputError(f"{error} In: {path}") from error
    return model


def write(folder: pathlib.Path, models: dict[str, Any], schedule: Any, *, sample_size: int | None) -> None:
    """Writes what `look` and `fill` read.

    Args:
        folder: Made where it is missing; files of these names in it are replaced.
        models: `UNet` and `VQVAE`, by these names.
        schedule: The `DDIM`.
        sample_size: Edge of what the denoiser was trained on, in pixels, if that is known.
    """
    from safetensors.numpy import save_file

    known = {} if sample_size is None else {"UNet": sample_size, "VQVAE": sample_size * models["VQVAE"].factor}
    for kind, part in PARTS.items():
        config = settings.configuration(models[kind].get_config(), kind) | {"sample_size": known.get(kind)}
        _write_json(folder / part / "config.json", config)
        save_file(convert.official_arrays(models[kind]), folder / part / WEIGHTS[0])
    _write_json(
        folder / "scheduler" / "scheduler_config.json", settings.configuration(dataclasses.asdict(schedule), "DDIM")
    )


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"A pretrained upscaler has {path.parent.name}/{path.name}. Received: {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"Not a readable JSON file ({error}). Received: {path}") from error
    if not isinstance(content, dict):
        raise InputError(f"A configuration must be a JSON object. Received: {path}")
    return content


def _weights(folder: pathlib.Path) -> pathlib.Path:
    """Returns the file of weights; of two kinds, the one that needs no torch."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"A pretrained upscaler has {folder.name}/{WEIGHTS[0]} or .bin. Received: {folder}")


def _download(repo: str) -> pathlib.Path:
    """Returns the local copy of a repository, made now or earlier."""
    try:
        from huggingface_hub import snapshot_download

        patterns = [f"{part}/{name}" for part in PARTS.values() for name in ("config.json", *WEIGHTS)]
        return pathlib.Path(snapshot_download(repo, allow_patterns=[*patterns, "scheduler/*.json"]))
    except Exception as error:  # no package, no network, no such repository: the way out is the same
        raise FileNotFoundError(
            f"No folder of this name, and it cannot be downloaded ({type(error).__name__}). Download "
            f"https://huggingface.co/{repo} elsewhere and give the path of a folder with {NEEDED}. Received: {repo}"
        ) from error
