"""Finds the tensors of a pretrained ViT: a file, the folder of a download, or a repository of the Hugging Face hub."""

import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np

from medkeras.checkpoints import read_arrays
from medkeras.models.vit.convert import official_layout

FILES = ("model.safetensors", "pytorch_model.bin")  # as the hub calls them
REPOSITORY = re.compile(r"(?:hf://)?([\w.-]+/[\w.-]+)")


def read_official(source: str | os.PathLike | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the tensors of a pretrained ViT under their official names.

    Args:
        source: A `.safetensors` or torch file; a folder with `model.safetensors` or `pytorch_model.bin`; a repository
            of the Hugging Face hub such as `"google/vit-base-patch16-224-in21k"`, downloaded now; or a mapping of
            arrays. For the layouts see `official_layout`.

    Raises:
        FileNotFoundError: If there is no such file or folder, or the repository cannot be had.
        ModuleNotFoundError: If a torch file is given and torch is not installed.
        ValueError: If the file is damaged or holds anything but tensors.

    Example:
        >>> list(read_official({"cls_token": np.zeros((1, 1, 4))}))
        ['vit.embeddings.cls_token']
    """
    if isinstance(source, Mapping):
        return official_layout(read_arrays(source))
    path, named = pathlib.Path(source), REPOSITORY.fullmatch(str(source))
    if path.is_dir():
        return official_layout(read_arrays(_in_folder(path)))
    if named and not path.exists() and path.suffix not in (".safetensors", ".bin", ".pt", ".pth"):
        return official_layout(read_arrays(_download(named[1])))
    return official_layout(read_arrays(path))


def _in_folder(folder: pathlib.Path) -> pathlib.Path:
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"The folder of a checkpoint must hold {' or '.join(FILES)}. Received: {folder}")


def _download(repository: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return hf_hub_download(repository, FILES[0])
        except LocalEntryNotFoundError:  # neither network nor an earlier download: the other file is no better
            raise
        except EntryNotFoundError:
            return hf_hub_download(repository, FILES[1])
    except Exception as error:  # what is raised depends on network, cache and version
        raise FileNotFoundError(
            f"The weights cannot be had from the hub ({type(error).__name__}): download "
            f"https://huggingface.co/{repository}/resolve/main/{FILES[0]} (or {FILES[1]}) by hand and give the path of "
            f"the file or of its folder. Received: {repository!r}"
        ) from error
