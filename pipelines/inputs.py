"""Inputs: images without labels, named on the command line, as records like any other."""

import functools
import os
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.decode import read_image
from pipelines.records import Records
from pipelines.sources.images import IMAGE_SUFFIXES, files_below, is_image


def open_inputs(inputs: Sequence[str | os.PathLike], *, model: ImageClassifier) -> Records:
    """Returns the images at some paths as records for a model; their labels mean nothing.

    Args:
        inputs: Image files, folders that are searched for images to any depth, and `.npz` files whose arrays
            `images` or `*_images` hold `(n, H, W)`, `(n, H, W, C)`, `(n, D, H, W)` or `(n, D, H, W, C)`. A
            file that is named itself is taken whatever its suffix.
        model: The model that they are for; it gives the rank and the classes.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder holds no image, or an `.npz` no images.

    Example:
        >>> import tempfile
        >>> from medkeras.models import create
        >>> path = tempfile.mkdtemp() + "/scans.npz"
        >>> np.savez(path, images=np.zeros((3, 28, 28), "uint8"))
        >>> records = open_inputs([path], model=create("focusnet2d", input_shape=(28, 28, 1), num_classes=2))
        >>> records.read(2).shape, records.table["id"][2].endswith("scans.npz#images_2")
        ((28, 28), True)
    """
    rank = len(model.image_shape) - 1
    readers = {}
    for path in map(pathlib.Path, inputs):
        readers |= _readers(path)
    if not readers:
        raise ValueError("There must be an image to read. Received: no input")
    names, read = list(readers), list(readers.values())
    shape = (len(names), model.num_classes) if is_multilabel(model.task) else (len(names),)
    return Records(
        name=f"{len(names)} images",
        task=model.task,
        class_names=model.class_names,
        table=pd.DataFrame({"id": names, "patient": names, "split": ""}),
        labels=np.zeros(shape, np.float32 if is_multilabel(model.task) else np.int32),
        read=lambda i: read[i](),
        rank=rank,
    )


def _readers(path: pathlib.Path) -> dict[str, Callable[[], np.ndarray]]:
    """Returns the images at a path by name, each as a function that reads it."""
    if path.is_dir():
        files = [path / name for name in files_below(str(path)) if is_image(name)]
        if not files:
            raise ValueError(f"A folder must hold an image ({', '.join(IMAGE_SUFFIXES)}). Received: {path}")
        return {str(file): functools.partial(read_image, file) for file in files}
    if not path.exists():
        raise FileNotFoundError(f"No such file or folder: {path}")
    return _array_readers(path) if path.suffix == ".npz" else {str(path): functools.partial(read_image, path)}


def _array_readers(path: pathlib.Path) -> dict[str, Callable[[], np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key == "images" or key.endswith("_images")}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"Cannot read {path}: no npz, or damaged") from error
    if not arrays:
        raise ValueError(f"Cannot read {path}: it holds no array `images` or `*_images`")
    return {
        f"{path}#{key}_{i}": functools.partial(np.asarray, image)
        for key, images in arrays.items()
        for i, image in enumerate(images)
    }
