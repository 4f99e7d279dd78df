"""The voxels of a volume file: found by what its header says, read whole and no further."""

import bz2
import contextlib
import dataclasses
import gzip
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from medkeras.errors import InputError

OPENERS = {"raw": lambda file: file, "gzip": lambda file: gzip.GzipFile(fileobj=file), "bzip2": bz2.BZ2File}
CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """What a header says of a file.

    Attributes:
        sizes: Of all axes of the data, the fastest first.
        dtype: Type of one number, with its byte order.
        spatial: The three axes of space among them.
        color: The axis of channels, 3 (RGB) or 4 (with alpha), if there is one.
        frames: The axis of frames, if there is one.
        affine: As in `pipelines.sources.volume.grid.Grid`, or None where the file does not say it.
        spacing: Millimetres along the axes of space, where the affine is None.
        slope: What stored values are multiplied with.
        intercept: What is then added.
        data_path: The file of the voxels.
        start: Bytes in it before the voxels or what is coded; negative, counted from the end.
        skip: Bytes before the voxels in what is decoded.
        encoding: `raw`, `gzip` or `bzip2`.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    spatial: tuple[int, int, int]
    color: int | None = None
    frames: int | None = None
    affine: np.ndarray | None = None
    spacing: Sequence[float] = ()
    slope: float = 1.0
    intercept: float = 0.0
    data_path: str
    start: int = 0
    skip: int = 0
    encoding: str = "raw"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along the axes of space."""
        return tuple(self.sizes[axis] for axis in self.spatial)

    @property
    def channels(self) -> int:
        """Numbers per voxel that are read: 1, or 3 for colours."""
        return 1 if self.color is None else 3


def read_values(layout: Layout, *, frame: int | None = None) -> np.ndarray:
    """Reads the values of one frame.

    Args:
        layout: The header.
        frame: Which frame, from 0; may be left out where there is one.

    Returns:
        `(I, J, K)`, integers as they are stored or float32; or colours `(I, J, K, 3)`, uint8 or uint16.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged, shorter or longer than the header says, or a value is NaN or infinite.
    """
    first, count = _part(layout, frame)
    size = layout.dtype.itemsize
    with _damage_named(), open(layout.data_path, "rb") as file:
        file.seek(layout.start, os.SEEK_END if layout.start < 0 else os.SEEK_SET)
        with OPENERS[layout.encoding](file) as stream:
            _pass(stream, layout.skip + first * size)
            data = _exactly(stream, count * size)
            _pass(stream, (math.prod(layout.sizes) - first - count) * size)
            if stream.read(1):  # The checksum of a compressed file is compared when its end is reached.
                raise InputError("the data go on behind the last voxel that the header declares")
    sizes = [n for axis, n in enumerate(layout.sizes) if axis != layout.frames]
    array = np.frombuffer(data, layout.dtype).reshape(sizes, order="F")
    return _checked(_in_order(array, layout), layout)


def _part(layout: Layout, frame: int | None) -> tuple[int, int]:
    """Returns where the numbers of a frame begin and how many they are."""
    total = math.prod(layout.sizes)
    frames = 1 if layout.frames is None else layout.sizes[layout.frames]
    if frame is None and frames > 1:
        raise InputError(f"it has {frames} frames; pass frame, one of 0 to {frames - 1}")
    if frame is not None and not 0 <= frame < frames:
        raise InputError(f"`frame` must be in 0 to {frames - 1}. Received: frame={frame}")
    return (frame or 0) * (total // frames), total // frames


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Turns what the decoders raise into ValueError."""
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise InputError(f"truncated or damaged: {error}") from error
    except MemoryError as error:
        raise InputError("larger than the memory, or damaged") from error


def _pass(stream: BinaryIO, count: int) -> None:
    while count > 0:
        passed = len(stream.read(min(count, CHUNK)))
        if not passed:
            raise InputError(f"truncated: {count} bytes are missing that the header declares")
        count -= passed


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise InputError(f"truncated: {count - len(data)} bytes are missing that the header declares")
    return data


def _in_order(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Returns the array with the axes of space first, the channels last, and no other."""
    kept = [axis for axis in range(len(layout.sizes)) if axis != layout.frames]
    wanted = [*layout.spatial, *([] if layout.color is None else [layout.color])]
    others = [axis for axis in kept if axis not in wanted]
    array = array.transpose([kept.index(axis) for axis in (*wanted, *others)])
    array = array.reshape(array.shape[: len(wanted)])
    return array if layout.color is None else array[..., :3]


def _checked(array: np.ndarray, layout: Layout) -> np.ndarray:
    """Returns integers as they are, and all else scaled and finite."""
    scaled = (layout.slope, layout.intercept) != (1, 0)
    if array.dtype.kind in "iu" and not scaled:
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # What overflows is infinite, and found.
        values = array.astype(np.float64) * layout.slope + layout.intercept if scaled else array
        values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise InputError(f"voxels must be finite. Received: {(~np.isfinite(values)).sum()} that are NaN or infinite")
    return values
