"""What an enhancement reads and writes: image values as they are stored, PNG files, their names, and the manifest."""

import hashlib
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import keras
import numpy as np

from medkeras.errors import InputError
from pipelines.io.json_shape import NUMBER
from pipelines.io.run_folder import RunFolder, atomic_path

MANIFEST = "enhanced.json"
SHAPE = {
    "settings": {str: object},
    "images": {str: {"key": str, "chosen": bool, "regions": [[int]], "seconds": NUMBER}},
}  # Of the manifest, see `pipelines.io.json_shape`.


class Manifest:
    """What was enhanced into a folder, and how: `enhanced.json`, with which an interrupted enhancement goes on.

    Args:
        folder: The folder.
        settings: All that a result follows from besides its image.

    Attributes:
        images: For each image by its name of output, `key` of its content, `regions`, `seconds` and whether it was
            `chosen`.

    Raises:
        ValueError: If the folder holds images that were enhanced otherwise, naming what differs.

    Example:
        >>> import tempfile
        >>> folder = RunFolder(tempfile.mkdtemp())
        >>> Manifest(folder, {"steps": 25}).save()
        >>> Manifest(folder, {"steps": 50})
        Traceback (most recent call last):
        ...
        medkeras.InputError: A folder holds images enhanced in one way; take another. Received: ... steps=50 (was 25)
    """

    def __init__(self, folder: RunFolder, settings: dict[str, Any]) -> None:
        self.folder, self.settings, self.images = folder, settings, {}
        if (folder / MANIFEST).is_file():
            found = folder.read_json(MANIFEST, SHAPE)
            self._check(found["settings"])
            self.images = found["images"]

    def has(self, name: str, key: str) -> bool:
        """Says whether an image of this content was enhanced and its file is still there."""
        return self.images.get(name, {}).get("key") == key and (self.folder / name).is_file()

    def save(self) -> None:
        """Writes `enhanced.json` whole."""
        self.folder.write_json(MANIFEST, {"settings": self.settings, "images": self.images})

    def _check(self, earlier: dict[str, Any]) -> None:
        names = [name for name in {**earlier, **self.settings} if earlier.get(name) != self.settings.get(name)]
        if names:
            values = ", ".join(f"{n}={self.settings.get(n)!r} (was {earlier.get(n)!r})" for n in names)
            raise InputError(
                f"A folder holds images enhanced in one way; take another. Received: {self.folder.path}, {values}"
            )


def output_names(ids: Sequence[str], inputs: Iterable[Any] = ()) -> list[str]:
    """Returns a file name below the folder of results for each image: the place in its input folder, as PNG.

    Args:
        ids: The records' ids.
        inputs: What was given; names count from the folders among it, and a file that was given loses its folders.

    Raises:
        ValueError: If two images would have one name.

    Example:
        >>> output_names(["scans/a/1.png", "x y.dcm"], ["scans"])
        ['images/a/1.png', 'images/x_y.dcm.png']
    """
    folders = [pathlib.PurePath(path) for path in inputs]
    taken: dict[str, str] = {}
    for name in ids:
        path = pathlib.PurePath(name)
        above = next((folder for folder in folders if folder in path.parents), None)
        if above is not None:
            path = path.relative_to(above)
        elif folders or path.is_absolute():
            path = pathlib.PurePath(path.name)
        safe = "/".join(re.sub(r"[^\w.-]+", "_", part) for part in path.parts if part != "..")
        target = f"images/{safe}" if safe.endswith(".png") else f"images/{safe}.png"
        if target in taken:
            raise InputError(f"Images of one name go to folders of their own. Received: {taken[target]} and {name}")
        taken[target] = name
    return list(taken)


def as_float(image: np.ndarray) -> np.ndarray:
    """Returns a stored image as float32 `(height, width, channels)` of the same values.

    Example:
        >>> as_float(np.full((2, 2), 4095, np.uint16)).max()
        np.float32(4095.0)
    """
    image = np.asarray(image, np.float32)
    return image[..., None] if image.ndim == 2 else image


def as_stored(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Returns values in the type of an image, and no further than its own darkest and brightest.

    Args:
        values: `(height, width, channels)`.
        like: The image before; its type decides, floats in [0, 1] and booleans become uint16 and uint8.

    Example:
        >>> as_stored(np.array([[[0.4], [300.0]]]), np.array([[0, 255]], np.uint8)).tolist()
        [[0, 255]]
    """
    values = np.clip(values, np.float32(like.min()), np.float32(like.max()))
    values = values[..., 0] if like.ndim == 2 else values
    if like.dtype in (np.uint8, np.uint16):
        return np.rint(values).astype(like.dtype)
    kind = np.uint8 if like.dtype == bool else np.uint16
    return np.rint(values * np.iinfo(kind).max).astype(kind)


def write_png(path: pathlib.Path, image: np.ndarray) -> None:
    """Writes `(H, W)`, `(H, W, 1)` or RGB `(H, W, 3)`, uint8 or uint16, as PNG, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    image = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", np.ascontiguousarray(image))[1].tobytes())


def content_key(*arrays: np.ndarray) -> str:
    """Returns a short text that stands for the type, shape and content of arrays.

    Example:
        >>> content_key(np.zeros((2, 3))) == content_key(np.zeros((3, 2)))
        False
    """
    key = hashlib.sha256()
    for array in arrays:
        key.update(f"{array.dtype}{array.shape}".encode())
        key.update(np.ascontiguousarray(array).tobytes())
    return key.hexdigest()[:16]


def weights_key(*models: keras.Model) -> str:
    """Returns a short text that stands for the weights of models.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> weights_key(model) == weights_key(model)
        True
    """
    return content_key(*(weight for model in models for weight in model.get_weights()))
