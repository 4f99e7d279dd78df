"""Inputs: images without labels, named on the command line, as records like any other."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from medkeras.models import ImageClassifier
from medkeras.tasks import is_multilabel
from pipelines.images.decode import read_image
from pipelines.images.names import IMAGE_SUFFIXES, is_dicom, is_image, is_volume
from pipelines.images.records import Records
from pipelines.io.npz_file import read_npz
from pipelines.preprocess import preprocess as preprocessed
from pipelines.sources.images import files_below

Reader = Callable[[], np.ndarray]
Spacing = Callable[[], tuple[float, ...] | None]
OF_DICOM, OF_IMAGES = ("window", "frame", "max_pixels"), ("max_pixels",)


def open_inputs(
    inputs: Sequence[str | os.PathLike],
    *,
    model: ImageClassifier,
    options: Mapping[str, Any] | None = None,
    preprocess: Sequence[Any] = (),
) -> Records:
    """Returns the images at some paths as records for a model; their labels mean nothing.

    Args:
        inputs: Files of images, DICOM or volumes; folders that are searched for them to any depth; and `.npz`
            files whose arrays `images` or `*_images` hold `(n, H, W)`, `(n, H, W, C)`, `(n, D, H, W)` or
            `(n, D, H, W, C)`. A file that is named itself is taken whatever its suffix.
        model: The model that they are for; it gives the rank and the classes.
        options: Options of the source that the model was trained on: its `window`, `frame`, `spacing` and so on
            hold for DICOM files and volumes here too.
        preprocess: Steps that the model was trained with, see `pipelines.preprocess`.

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
        readers |= _readers(path, options or {})
    if not readers:
        raise InputError("There must be an image to read. Received: no input")
    names, (read, spacing) = list(readers), zip(*readers.values(), strict=True)
    shape = (len(names), model.num_classes) if is_multilabel(model.task) else (len(names),)
    records = Records(
        name=f"{len(names)} images",
        task=model.task,
        class_names=model.class_names,
        table=pd.DataFrame({"id": names, "patient": names, "split": ""}),
        labels=np.zeros(shape, np.float32 if is_multilabel(model.task) else np.int32),
        read=lambda i: read[i](),
        rank=rank,
        read_spacing=lambda i: spacing[i](),
    )
    return preprocessed(records, preprocess) if preprocess else records


def _readers(path: pathlib.Path, options: Mapping[str, Any]) -> dict[str, tuple[Reader, Spacing]]:
    """Returns the images at a path by name, each as functions that read it and its spacing."""
    if path.is_dir():
        files = [path / name for name in files_below(str(path)) if _is_input(path / name)]
        if not files:
            kinds = f"{', '.join(IMAGE_SUFFIXES)}, DICOM or a volume"
            raise InputError(f"A folder must hold an image ({kinds}). Received: {path}")
        return {str(file): _reader(file, options) for file in files}
    if not path.exists():
        raise FileNotFoundError(f"No such file or folder: {path}")
    return _array_readers(path) if path.suffix == ".npz" else {str(path): _reader(path, options)}


def _is_input(path: pathlib.Path) -> bool:
    return is_image(path.name) or is_volume(path.name) or is_dicom(path)


def _reader(path: pathlib.Path, options: Mapping[str, Any]) -> tuple[Reader, Spacing]:
    """Returns the functions that read a file as the source of its kind would with these options, and its spacing."""
    if is_volume(path.name):
        from pipelines.sources.volume.view import VolumeView

        view = VolumeView(**_some(options, _of_volumes()))
        return functools.partial(view.read, path), functools.partial(view.spacing_of, path)
    if is_dicom(path):
        from pipelines.sources.dicom.header import read_header
        from pipelines.sources.dicom.image import read_dicom

        read = functools.partial(read_dicom, path, **_some(options, OF_DICOM))
        return read, lambda: read_header(path, frame=options.get("frame")).spacing
    return functools.partial(read_image, path, **_some(options, OF_IMAGES)), _unknown


def _unknown() -> None:
    """Returns the spacing of an image whose file does not say it."""


def reading_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those options of a source that hold for any file of its kind, and say nothing of where it lies.

    Example:
        >>> reading_options({"window": [40, 400], "label_columns": ["finding"]})
        {'window': [40, 400]}
    """
    return _some(options, sorted({*_of_volumes(), *OF_DICOM, *OF_IMAGES}))


def _of_volumes() -> list[str]:
    from pipelines.sources.volume.view import VolumeView

    return [field.name for field in dataclasses.fields(VolumeView)]


def _some(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _array_readers(path: pathlib.Path) -> dict[str, tuple[Reader, Spacing]]:
    arrays = read_npz(path, lambda name: name == "images" or name.endswith("_images"))
    if not arrays:
        raise InputError(f"Cannot read {path}: it holds no array `images` or `*_images`")
    return {
        f"{path}#{key}_{i}": (functools.partial(np.asarray, image), _unknown)
        for key, images in arrays.items()
        for i, image in enumerate(images)
    }
