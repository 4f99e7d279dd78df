"""Contrast from the image's own grey values: CLAHE and percentile clipping."""

import dataclasses
from typing import ClassVar

import cv2
import numpy as np

from medkeras.errors import InputError
from pipelines.images.decode import to_float
from pipelines.preprocess.step import Step, from_float

LEVELS = 256


@dataclasses.dataclass(frozen=True)
class Clahe(Step):
    """Contrast-limited adaptive histogram equalisation; of a colour image, the lightness (L of CIELAB) alone.

    Every type is equalised by histograms of 256 levels, between which grey values are interpolated, so that
    16-bit images come back with 16 bits and as smooth as 8-bit ones. (OpenCV takes 65,536 levels for them: no
    level then reaches the limit, and noise is blown up to full contrast.) Volumes are not taken: each slice
    would get a contrast of its own.

    Args:
        clip: Largest slope of a tile's grey value curve, > 0: how much contrast may grow there.
        tiles: Tiles along each side, at least 1; no more than the side has pixels.

    Raises:
        ValueError: If an option is out of its range, or an image has neither 1 nor 3 channels.

    Reference:
        Zuiderveld, Contrast limited adaptive histogram equalization, Graphics Gems IV, 1994; tiles, limit and
        interpolation as in OpenCV.

    Example:
        >>> ramp = np.tile(np.arange(96, 160, dtype=np.uint16) * 257, (64, 1))
        >>> equalised = Clahe(clip=3.0, tiles=2)(ramp)
        >>> equalised.dtype, bool(np.ptp(equalised) > 1.5 * np.ptp(ramp))
        (dtype('uint16'), True)
    """

    clip: float = 2.0
    tiles: int = 8
    name: ClassVar[str] = "clahe"

    def __post_init__(self) -> None:
        if not 0 < self.clip < np.inf:
            raise InputError(f"`clip` must be > 0 and finite. Received: clip={self.clip}")
        if self.tiles < 1:
            raise InputError(f"`tiles` must be >= 1. Received: tiles={self.tiles}")

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Equalises the grey values, or the lightness."""
        height, width, channels = image.shape
        if channels not in (1, 3):
            raise InputError(f"{self.name} takes 1 or 3 channels. Received: {channels}")
        grid = min(self.tiles, height), min(self.tiles, width)
        missing = [(0, -size % tiles) for size, tiles in zip((height, width), grid, strict=True)]
        padded = np.pad(image, [*missing, (0, 0)], mode="reflect")
        equalise = self._equalise_bytes if image.dtype == np.uint8 else self._equalise_floats
        return equalise(padded, grid)[:height, :width]

    def _equalise_bytes(self, image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        equalise = cv2.createCLAHE(self.clip, grid[::-1]).apply
        if image.shape[-1] == 1:
            return equalise(image[..., 0])[..., None]
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
        lab[..., 0] = equalise(lab[..., 0])
        return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)

    def _equalise_floats(self, image: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
        floats = to_float(image)
        if image.shape[-1] == 1:
            return from_float(_equalise(floats[..., 0], grid, self.clip)[..., None], image.dtype)
        lab = cv2.cvtColor(floats, cv2.COLOR_RGB2LAB)
        lab[..., 0] = 100 * _equalise(np.clip(lab[..., 0] / 100, 0, 1), grid, self.clip)
        return from_float(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), image.dtype)


def _equalise(grey: np.ndarray, grid: tuple[int, int], clip: float) -> np.ndarray:
    """Equalises `(H, W)` values in [0, 1], H and W multiples of the grid: each pixel by the four tiles around it."""
    levels = grey * np.float32(LEVELS - 1)
    curves = _curves(levels, grid, clip)
    low = np.minimum(levels.astype(np.intp), LEVELS - 2)
    rest = levels - low
    rows, columns = (_neighbours(size, tiles) for size, tiles in zip(grey.shape, grid, strict=True))
    result = np.zeros_like(levels)
    for row, row_weight in rows:
        for column, column_weight in columns:
            start = (row[:, None] * grid[1] + column) * LEVELS + low
            value = (1 - rest) * curves[start] + rest * curves[start + 1]
            result += row_weight[:, None] * column_weight * value
    return result


def _curves(levels: np.ndarray, grid: tuple[int, int], clip: float) -> np.ndarray:
    """Returns the grey value curve of every tile, one after the other, `(tiles * LEVELS,)`, in [0, 1]."""
    height, width = (size // tiles for size, tiles in zip(levels.shape, grid, strict=True))
    tiles = np.rint(levels).astype(np.intp).reshape(grid[0], height, grid[1], width)
    tiles = tiles.swapaxes(1, 2).reshape(-1, height * width)
    offsets = LEVELS * np.arange(len(tiles))[:, None]
    counts = np.bincount((tiles + offsets).ravel(), minlength=LEVELS * len(tiles)).reshape(-1, LEVELS)
    clipped = np.minimum(counts, max(int(clip * height * width / LEVELS), 1))
    curves = np.cumsum(clipped + _shared_out((counts - clipped).sum(axis=1)), axis=1) / (height * width)
    return curves.ravel().astype(np.float32)


def _shared_out(excess: np.ndarray) -> np.ndarray:
    """Shares the pixels above the limit out among the levels, whole pixels, `(tiles, LEVELS)`, as OpenCV does."""
    each, rest = np.divmod(excess[:, None], LEVELS)
    step = np.maximum(LEVELS // np.maximum(rest, 1), 1)
    level = np.arange(LEVELS)
    return each + ((level % step == 0) & (level // step < rest))


def _neighbours(size: int, tiles: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the tiles before and after each pixel of an axis, with their weights."""
    places = np.arange(size, dtype=np.float32) * np.float32(tiles / size) - np.float32(0.5)
    before = np.floor(places).astype(np.intp)
    weight = places - before
    return [(np.clip(before, 0, tiles - 1), 1 - weight), (np.clip(before + 1, 0, tiles - 1), weight)]


@dataclasses.dataclass(frozen=True)
class Percentile(Step):
    """Stretches the grey values between two percentiles to the full range of the type; beyond them, it clips.

    The percentiles are taken over all pixels and channels together, so that colours keep their hue. An image
    whose two percentiles are equal, a constant one say, comes back as it is.

    Args:
        low: Percentile that becomes black, in [0, 100).
        high: Percentile that becomes white, in (0, 100], above `low`.

    Raises:
        ValueError: If the percentiles are not so.

    Example:
        >>> Percentile(low=25.0, high=75.0)(np.array([[10, 20, 30, 40, 50]], np.uint8))
        array([[  0,   0, 128, 255, 255]], dtype=uint8)
    """

    low: float = 1.0
    high: float = 99.0
    name: ClassVar[str] = "percentile"
    ranks: ClassVar[tuple[int, ...]] = (2, 3)

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise InputError(f"`low` and `high` must be 0 <= low < high <= 100. Received: {self}")

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Stretches the grey values."""
        black, white = np.percentile(image, [self.low, self.high])
        if black == white:
            return image
        if image.dtype.kind == "f":
            return from_float((image - black) / (white - black), image.dtype)
        table = (np.arange(np.iinfo(image.dtype).max + 1) - black) / (white - black)
        return from_float(table, image.dtype)[image]
