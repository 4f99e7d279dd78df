"""From a stored image to the float array a model takes: reading, scaling to [0, 1], channels and size."""

import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd

from medkeras.errors import InputError
from pipelines.images.defects import defect
from pipelines.images.headers import Header, read_header
from pipelines.images.records import Records
from pipelines.images.tiff import read_tiff

# More than any radiograph, mammogram or camera gives; at 3 bytes a pixel, the 300 MB that one thread may take.
MAX_PIXELS = 10**8
# OpenCV decodes: Pillow gives colours of 16 bits as 8, see `test_16_bits_with_alpha_keep_their_16_bits`.
CHANNELS = ((), (3,), (4,))  # As OpenCV decodes them: grey, BGR, BGR and alpha.
INTEGER_TYPES = (np.uint8, np.uint16)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # Our own errors name the file.


def read_image(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file as it is stored: no scaling, no turning, 16 bits kept, alpha dropped, RGB.

    What a file is, its content says and not its name. CMYK becomes RGB. A PNG with damage of any kind is
    refused. JPEG, BMP, GIF, TIFF and WebP have no checksum: a truncated file and a broken structure are
    refused, but damage inside the coded pixels may decode to wrong pixels without a sign; only checksums kept
    beside the files can tell.

    Args:
        path: A PNG, JPEG, BMP, GIF, TIFF or WebP.
        max_pixels: Height times width up to which an image is decoded. The header is asked before anything is
            decoded, so that a small file cannot fill the memory.

    Returns:
        `(H, W)` or `(H, W, 3)`, uint8, uint16, or float in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is empty, truncated, damaged, no image, larger than `max_pixels`, of several
            frames or pages, or holds other values than an image has.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.png"
        >>> _ = cv2.imwrite(path, np.zeros((4, 6), np.uint16))
        >>> read_image(path).shape, read_image(path).dtype
        ((4, 6), dtype('uint16'))
    """
    image = read_values(path, max_pixels=max_pixels)
    try:
        _check_values(image)
    except ValueError as error:
        raise InputError(f"Cannot read {path}: {error}") from error
    return image


def read_values(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file as `read_image`, but of any type and range of values, as label masks have them.

    Args:
        path: As for `read_image`.
        max_pixels: As for `read_image`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As by `read_image`, except for the values.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/a.tif"
        >>> _ = cv2.imwrite(path, np.full((4, 6), 70000, np.int32))
        >>> int(read_values(path).max())
        70000
    """
    if max_pixels < 1:
        raise InputError(f"`max_pixels` must be >= 1. Received: max_pixels={max_pixels}")
    data = _bytes(path)
    header = checked_header(data, path, max_pixels=max_pixels)
    try:
        image = _decode(data, header)
    except ValueError as error:
        raise InputError(f"Cannot read {path}: {error}") from error
    if image is None:
        raise InputError(f"Cannot read {path}: damaged {header.format}, or of a kind that is not read")
    return image


def checked_header(data: bytes, name: str | os.PathLike, *, max_pixels: int) -> Header:
    """Returns the header of an image that is whole and not too large to be decoded.

    Args:
        data: The file.
        name: What it is called, for the error.
        max_pixels: As for `read_image`.

    Raises:
        ValueError: If it is not.
    """
    if reason := defect(data):
        raise InputError(f"Cannot read {name}: {reason}")
    header = read_header(data)
    if header.height * header.width > max_pixels:
        raise InputError(
            f"Cannot read {name}: {header.width} x {header.height} pixels are more than `max_pixels`. "
            f"Received: max_pixels={max_pixels}"
        )
    return header


def _bytes(path: str | os.PathLike) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Cannot read {path}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name.
        raise InputError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _decode(data: bytes, header: Header) -> np.ndarray | None:
    """Returns the image as grey or RGB, or None if it cannot be decoded to the size of its header."""
    if header.format == "TIFF":
        return read_tiff(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if image is None or image.shape[:2] != (header.height, header.width) or image.shape[2:] not in CHANNELS:
        return None
    if image.ndim == 2:
        return image
    return image[..., 0].copy() if header.channels == 1 else _rgb(image)


def _rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype in (*INTEGER_TYPES, np.float32):
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(image[..., 2::-1])


def read_shape(path: str | os.PathLike, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int, int]:
    """Returns `(H, W, C)` of an image file, from its header where that tells, else by decoding.

    Args:
        path: As for `read_image`.
        max_pixels: As for `read_image`, where the image must be decoded.

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
            header = read_header(file)
    except (OSError, ValueError):
        header = None  # `read_image` says what is wrong.
    shape = header and header.shape
    return shape or _with_channels(read_values(path, max_pixels=max_pixels).shape, rank=2)


def to_float(image: np.ndarray) -> np.ndarray:
    """Scales an image to float32 in [0, 1] by its type: uint8 by 255, uint16 by 65535, bool and float by 1.

    Raises:
        ValueError: If a float image has NaN, infinity or a value outside [0, 1], or the type is another.

    Example:
        >>> to_float(np.array([0, 51, 255], np.uint8))
        array([0. , 0.2, 1. ], dtype=float32)
    """
    _check_values(image)
    if image.dtype in INTEGER_TYPES:
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return image.astype(np.float32)


def _check_values(image: np.ndarray) -> None:
    if image.dtype in INTEGER_TYPES or image.dtype == bool:
        return
    if image.dtype.kind != "f":
        raise InputError(f"An image is uint8, uint16, bool or float in [0, 1]. Received: {image.dtype}")
    if not np.isfinite(image).all():
        raise InputError(
            f"A float image must be finite. Received: {(~np.isfinite(image)).sum()} values NaN or infinite"
        )
    if image.min() < 0 or image.max() > 1:
        raise InputError(f"A float image must lie in [0, 1]. Received: {image.min():.4g} to {image.max():.4g}")


def fit(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Brings an image to exactly `shape`, float32 in [0, 1], channels last.

    Args:
        image: As for `fit_stored`.
        shape: `(H, W, C)` or `(D, H, W, C)`.

    Raises:
        ValueError: As by `fit_stored`.

    Example:
        >>> fit(np.full((4, 4), 255, np.uint8), (2, 2, 3))[0, 0]
        array([1., 1., 1.], dtype=float32)
    """
    return to_float(fit_stored(image, shape))


def fit_stored(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Brings an image to exactly `shape` in its own type: uint8 and uint16 stay, all else becomes float32.

    Grey becomes RGB by repetition, RGB becomes grey by luma (ITU-R BT.601). Each axis is resized on its own: by
    area means when it shrinks, linearly when it grows. Integers are rounded to the nearest level once by the
    grey conversion and once by the resizing.

    Args:
        image: `(H, W)` or `(H, W, C)` for a shape of three, `(D, H, W)` or `(D, H, W, C)` for a shape of
            four; of a type that `to_float` takes.
        shape: `(H, W, C)` or `(D, H, W, C)`.

    Raises:
        ValueError: If the number of axes or of channels cannot be brought to `shape`, or by `to_float`.

    Example:
        >>> fit_stored(np.array([[10, 20], [30, 41]], np.uint8), (1, 1, 1))
        array([[[25]]], dtype=uint8)
    """
    shape = tuple(shape)
    rank = len(shape) - 1
    if rank not in (2, 3) or image.ndim not in (rank, rank + 1):
        raise InputError(f"An image of {rank} axes and its channels is needed. Received: {image.shape} for {shape}")
    image = image.reshape(_with_channels(image.shape, rank))
    image = image if image.dtype in INTEGER_TYPES else to_float(image)
    if shape[-1] < image.shape[-1]:  # Fewer channels first: less to resize.
        image = _fit_channels(image, shape[-1])
    image = _resize_image(image, shape[:2]) if rank == 2 else _resize_volume(image, shape[:3])
    return np.ascontiguousarray(_fit_channels(image, shape[-1]))


def _with_channels(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return shape if len(shape) > rank else (*shape, 1)


def _fit_channels(image: np.ndarray, channels: int) -> np.ndarray:
    stored = image.shape[-1]
    if stored == channels:
        return image
    if stored == 1:
        return np.repeat(image, channels, axis=-1)
    if stored == 3 and channels == 1:
        rows = np.ascontiguousarray(image).reshape(-1, image.shape[-2], 3)
        return cv2.cvtColor(rows, cv2.COLOR_RGB2GRAY).reshape(*image.shape[:-1], 1)
    raise InputError(f"{stored} channels cannot become {channels}. Received: channels={channels}")


def _resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smaller = tuple(np.minimum(size, image.shape[:2]).tolist())
    if smaller == size:
        return _rounded(_resize_by(image, size, cv2.INTER_AREA), image.dtype)
    # In floats: OpenCV's linear resizing of integers errs by 0.8 of a level and is no faster.
    shrunk = _resize_by(image.astype(np.float32), smaller, cv2.INTER_AREA)
    return _rounded(_resize_by(shrunk, size, cv2.INTER_LINEAR), image.dtype)


def _resize_by(image: np.ndarray, size: tuple[int, int], method: int) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=method).reshape(*size, image.shape[-1])


def _resize_volume(volume: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """Resizes axis by axis, each by the matrix that OpenCV's own resizing of the identity gives."""
    kind = volume.dtype
    for axis, (stored, wanted) in enumerate(zip(volume.shape, size, strict=False)):
        if stored != wanted:
            method = cv2.INTER_AREA if wanted < stored else cv2.INTER_LINEAR
            matrix = cv2.resize(np.eye(stored, dtype=np.float32), (stored, wanted), interpolation=method)
            volume = np.moveaxis(np.tensordot(matrix, volume, (1, axis)), 0, axis)
    return _rounded(volume, kind)


def _rounded(image: np.ndarray, kind: np.dtype) -> np.ndarray:
    """Returns a resized image in the type it had; what rounding puts just outside the range comes back."""
    if image.dtype == kind and kind in INTEGER_TYPES:
        return image
    return (image + np.float32(0.5)).astype(kind) if kind in INTEGER_TYPES else np.clip(image, 0, 1)


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
        raise InputError(f"`channels` must be >= 1. Received: channels={channels}")
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
        raise InputError(f"`image_size` must be one side or {axes}, positive. Received: image_size={image_size}")
    return size


def _shared(records: Records, values: list[tuple[int, ...]], what: str, argument: str) -> tuple[int, ...]:
    other = next((i for i, value in enumerate(values) if value != values[0]), None)
    if other is None:
        return values[0]
    named = [f"{records.table['id'].iloc[i]} with {'x'.join(map(str, values[i]))}" for i in (0, other)]
    raise InputError(f"All images must have one {what}; pass {argument}. Received: {' and '.join(named)}")


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

    progress = {"description": "Checking images", "console": Console(stderr=True), "transient": True}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(lambda i: _why_unreadable(records, i), range(len(records)))
        found = list(track(reasons, total=len(records), **progress))
    rows = [(name, reason) for name, reason in zip(records.table["id"], found, strict=True) if reason]
    return pd.DataFrame(rows, columns=["id", "reason"])


def _why_unreadable(records: Records, index: int) -> str | None:
    try:
        _check_values(records.read(index))
    except (ValueError, OSError) as error:
        return str(error) or type(error).__name__
    return None
