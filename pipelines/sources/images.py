"""Records over image files: what the folder and the table source share."""

import os
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.images.decode import MAX_PIXELS, read_image, read_shape, read_values
from pipelines.images.records import Records

PathOf = Callable[[int], str]


def file_records(
    *,
    name: str,
    task: str,
    class_names: Sequence[str],
    table: pd.DataFrame,
    labels: np.ndarray,
    path_of: PathOf,
    mask_of: PathOf | None = None,
    boxes: Callable[[int, tuple[int, ...]], np.ndarray] | None = None,
    max_pixels: int = MAX_PIXELS,
    train_labels: np.ndarray | None = None,
) -> Records:
    """Returns records whose images, and masks if any, are read from files when they are asked for.

    Args:
        name: As in `Records`, and so `task`, `class_names`, `table` and `labels`.
        task: See `name`.
        class_names: See `name`.
        table: See `name`.
        labels: See `name`.
        path_of: Record index to the image file; raises `ValueError` for a record whose file must not be read.
        mask_of: Record index to the file of its mask; every pixel that is not 0 belongs to the lesion.
        boxes: Instead: record index and size of the image to its mask.
        max_pixels: As for `pipelines.images.decode.read_image`.
        train_labels: See `name`.
    """

    def size_of(i: int) -> tuple[int, ...]:
        return read_shape(path_of(i), max_pixels=max_pixels)

    def read_mask(i: int) -> np.ndarray:
        size = size_of(i)[:2]
        return boxes(i, size) if mask_of is None else _read_mask(mask_of(i), size, max_pixels)

    return Records(
        name=name,
        task=task,
        class_names=tuple(class_names),
        table=table,
        labels=labels,
        read=lambda i: read_image(path_of(i), max_pixels=max_pixels),
        read_mask=None if mask_of is None and boxes is None else read_mask,
        read_shape=size_of,
        fingerprint=lambda i: file_fingerprint(path_of(i)),
        train_labels=train_labels,
    )


def file_fingerprint(path: str) -> str:
    """Returns a string that changes when a file does: its size and the time of its last change, in nanoseconds.

    Raises:
        OSError: If there is no such file.
    """
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def _read_mask(path: str, size: tuple[int, ...], max_pixels: int) -> np.ndarray:
    mask = read_values(path, max_pixels=max_pixels) != 0
    mask = mask.any(axis=2) if mask.ndim == 3 else mask
    if mask.shape != size:
        raise InputError(f"Cannot read {path}: a mask has the size of its image, {size}. Received: {mask.shape}")
    return mask


def files_below(folder: str) -> list[str]:
    """Returns the files below a folder as sorted relative paths with `/`, hidden ones left out.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("b.png", "a.txt", ".hidden"):
        ...     (folder / name).touch()
        >>> files_below(str(folder))
        ['a.txt', 'b.png']
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = os.path.relpath(parent, folder)
        found += [os.path.normpath(os.path.join(relative, name)) for name in files if not name.startswith(".")]
    return sorted(path.replace(os.sep, "/") for path in found)
