"""From a stored image to the float array a model takes: reading, scaling to [0, 1], channels and size."""

import os
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from pipelines.image_headers import defect, header_shape
from pipelines.records import Records

HEAD = 1 << 16  # Bytes that hold the header of nearly every file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # Our own errors name the file.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file as it is stored: no scaling, 16 bits kept, alpha dropped, RGB.

    Args:
        path: A PNG, JPEG, BMP or TIFF.

    Returns:
        `(H, W)` or `(H, W, 3)`, uint8, uint16 or float.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, truncated or no image, or a TIFF of several pages.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.png"
        >>> _ = cv2.imwrite(path, np.zeros((4, 6), np.uint16))
        >>> read_image(path).shape, read_image(path).dtype
        ((4, 6), dtype('uint16'))
    """
    path = pathlib.Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Cannot read {path}: no such file") from error
    except OSError as error:
        raise ValueError(f"Cannot read {path}: {error.strerror}") from error
    if reason := defect(data):
        raise ValueError(f"Cannot read {path}: {reason}")
    image = _decode(data)
    if image is None:
        raise ValueError(f"Cannot read {path}: not an image, or damaged")
    if data[:2] in (b"II", b"MM") and cv2.imcount(str(path)) > 1:
        raise ValueError(f"Cannot read {path}: a TIFF of several pages is not one image")
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _decode(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def read_shape(path: str | os.PathLike) -> tuple[int, int, int]:
    """Returns `(H, W, C)` of an image file, from its header where that tells, else by decoding.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.png"
        >>> _ = cv2.imwrite(path, np.zeros((4, 6, 3), np.uint8))
        >>> read_shape(path)
        (4, 6, 3)
    """
    try:
        with open(path, "rb") as file:
            shape = header_shape(file.read(HEAD))
    except OSError:
        shape = None  # `read_image` says what is wrong.
    return shape or _with_channels(read_image(path).shape, rank=2)


def to_float(image: np.ndarray) -> np.ndarray:
    """Scales an image to float32 in [0, 1] by its type: uint8 by 255, uint16 by 65535, bool and float by 1.

    Raises:
        ValueError: If a float image has NaN, infinity or a value outside [0, 1], or the type is another.

    Example:
        >>> to_float(np.array([0, 51, 255], np.uint8))
        array([0. , 0.2, 1. ], dtype=float32)
    """
    if image.dtype in (np.uint8, np.uint16):
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    if image.dtype == bool:
        return image.astype(np.float32)
    if image.dtype.kind != "f":
        raise ValueError(f"An image is uint8, uint16, bool or float in [0, 1]. Received: {image.dtype}")
    if not np.isfinite(image).all():
        raise ValueError(
            f"A float image must be finite. Received: {(~np.isfinite(image)).sum()} values NaN or infinite"
        )
    if image.min() < 0 or image.max() > 1:
        raise ValueError(f"A float image must lie in [0, 1]. Received: {image.min():.4g} to {image.max():.4g}")
    return image.astype(np.float32)


def fit(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Brings an image to exactly `shape`, float32 in [0, 1], channels last.

    Grey becomes RGB by repetition, RGB becomes grey by luma. Each axis is resized on its own: by area means
    when it shrinks, linearly when it grows.

    Args:
        image: `(H, W)` or `(H, W, C)` for a shape of three, `(D, H, W)` or `(D, H, W, C)` for a shape of
            four; of a type that `to_float` takes.
        shape: `(H, W, C)` or `(D, H, W, C)`.

    Raises:
        ValueError: If the number of axes or of channels cannot be brought to `shape`, or by `to_float`.

    Example:
        >>> fit(np.full((4, 4), 255, np.uint8), (2, 2, 3))[0, 0]
        array([1., 1., 1.], dtype=float32)
    """
    shape = tuple(shape)
    rank = len(shape) - 1
    if rank not in (2, 3) or image.ndim not in (rank, rank + 1):
        raise ValueError(f"An image of {rank} axes and its channels is needed. Received: {image.shape} for {shape}")
    image = to_float(image.reshape(_with_channels(image.shape, rank)))
    if shape[-1] < image.shape[-1]:  # Fewer channels first: less to resize.
        image = _fit_channels(image, shape[-1])
    image = _resize_image(image, shape[:2]) if rank == 2 else _resize_volume(image, shape[:3])
    return np.ascontiguousarray(np.clip(_fit_channels(image, shape[-1]), 0, 1))


def _with_channels(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return shape if len(shape) > rank else (*shape, 1)


def _fit_channels(image: np.ndarray, channels: int) -> np.ndarray:
    stored = image.shape[-1]
    if stored == channels:
        return image
    if stored == 1:
        return np.repeat(image, channels, axis=-1)
    if stored == 3 and channels == 1:
        return (image @ LUMA)[..., None]
    raise ValueError(f"{stored} channels cannot become {channels}. Received: channels={channels}")


def _resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smaller = tuple(np.minimum(size, image.shape[:2]).tolist())
    for target, method in ((smaller, cv2.INTER_AREA), (size, cv2.INTER_LINEAR)):
        if image.shape[:2] != target:
            resized = cv2.resize(image, target[::-1], interpolation=method)
            image = resized.reshape(*target, image.shape[-1])
    return image


def _resize_volume(volume: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Resizes axis by axis, each by the matrix that OpenCV's own resizing of the identity gives."""
    for axis, (stored, wanted) in enumerate(zip(volume.shape, size, strict=False)):
        if stored != wanted:
            method = cv2.INTER_AREA if wanted < stored else cv2.INTER_LINEAR
            matrix = cv2.resize(np.eye(stored, dtype=np.float32), (stored, wanted), interpolation=method)
            volume = np.moveaxis(np.tensordot(matrix, volume, (1, axis)), 0, axis)
    return volume


def stored_shapes(records: Records) -> list[tuple[int, ...]]:
    """Returns the stored shape of every record, `(H, W, C)` or `(D, H, W, C)`, from headers where they tell.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is no image.

    Example:
        >>> from pipelines.sources import open_source
        >>> set(stored_shapes(open_source("phantom:binary3d", images=4)))
        {(32, 32, 32, 1)}
    """
    shape_of = records.read_shape or (lambda i: _with_channels(records.read(i).shape, records.rank))
    return [shape_of(i) for i in range(len(records))]


def common_shape(
    records: Records, *, image_size: int | Sequence[int] | None = None, channels: int | None = None
) -> tuple[int, ...]:
    """Returns the shape that all images are brought to, `(H, W, C)` or `(D, H, W, C)`.

    Args:
        records: The images.
        image_size: One side in pixels or voxels, `(height, width)` or `(depth, height, width)`; by default
            the size that all images share.
        channels: Number of channels, 1 or 3; by default the number that all images share.

    Raises:
        ValueError: If an argument is out of range, or left out where the images differ: two are then named.

    Example:
        >>> from pipelines.sources import open_source
        >>> common_shape(open_source("phantom", images=4), channels=3)
        (64, 64, 3)
    """
    size = _check_size(image_size, records.rank)
    if channels is not None and channels < 1:
        raise ValueError(f"`channels` must be >= 1. Received: channels={channels}")
    if size and channels:
        return (*size, channels)
    shapes = stored_shapes(records)
    size = size or _shared(records, [shape[:-1] for shape in shapes], "size", "image_size")
    return (
        *size,
        channels or _shared(records, [shape[-1:] for shape in shapes], "number of channels", "channels")[0],
    )


def _check_size(image_size: int | Sequence[int] | None, rank: int) -> tuple[int, ...] | None:
    if image_size is None:
        return None
    size = (image_size,) * rank if isinstance(image_size, int) else tuple(image_size)
    if len(size) != rank or min(size) < 1:
        axes = "(height, width)" if rank == 2 else "(depth, height, width)"
        raise ValueError(f"`image_size` must be one side or {axes}, positive. Received: image_size={image_size}")
    return size


def _shared(records: Records, values: list[tuple[int, ...]], what: str, argument: str) -> tuple[int, ...]:
    other = next((i for i, value in enumerate(values) if value != values[0]), None)
    if other is None:
        return values[0]
    named = [f"{records.table['id'].iloc[i]} with {'x'.join(map(str, values[i]))}" for i in (0, other)]
    raise ValueError(f"All images must have one {what}; pass {argument}. Received: {' and '.join(named)}")


def find_unreadable(records: Records) -> pd.DataFrame:
    """Reads every image and returns those that cannot be used.

    Args:
        records: The images, as from `open_source(..., on_error="skip")`.

    Returns:
        A table with `id` and `reason`, one row per such record, in their order.

    Example:
        >>> from pipelines.sources import open_source
        >>> len(find_unreadable(open_source("phantom", images=4)))
        0
    """
    from rich.console import Console
    from rich.progress import track

    rows = []
    progress = {"description": "Checking images", "console": Console(stderr=True), "transient": True}
    for i, name in enumerate(track(records.table["id"], **progress)):
        try:
            to_float(records.read(i))
        except (ValueError, OSError) as error:
            rows.append((name, str(error)))
    return pd.DataFrame(rows, columns=["id", "reason"])
