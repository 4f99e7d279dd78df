"""Consistency: an enlarged image that, made small again, is the image that it came from."""

import functools
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.super_resolution.degrade import downscaling


def make_consistent(large: Any, small: Any) -> np.ndarray:
    """Returns the nearest images to enlarged ones that `degrade` makes the given small ones of.

    What the small image shows is then taken from it, and only what it cannot hold is left to the upscaler. The way
    there is an orthogonal projection, so where the true image, too, becomes the small one by `degrade`, no image gets
    farther from it. A small image of another device's blur is not matched better by that.

    Args:
        large: `(n, height, width, channels)`, edges the same multiple of those of `small`.
        small: `(n, height / factor, width / factor, channels)`.

    Returns:
        Float32 of the shape of `large`. Values may pass the range of the images slightly: who clips them loses as much
        of the consistency.

    Raises:
        ValueError: If the shapes do not fit.

    Reference:
        The range-null space decomposition of Wang et al., Zero-Shot Image Restoration Using Denoising Diffusion
        Null-Space Model, arXiv 2212.00490, section 3.2, applied to the result alone.

    Example:
        >>> from medkeras.super_resolution import degrade
        >>> found = make_consistent(np.zeros((1, 8, 8, 1)), np.full((1, 2, 2, 1), 0.5))
        >>> np.asarray(degrade(found)).round(5).ravel().tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    large, small = np.asarray(large, "float32"), np.asarray(small, "float32")
    factor = large.shape[1] // small.shape[1] if large.ndim == small.ndim == 4 and small.size else 0
    wanted = (small.shape[0], *(factor * n for n in small.shape[1:3]), *small.shape[3:])
    if factor < 1 or large.shape != wanted:
        raise InputError(
            "`large` must be `small` times a whole factor. "
            f"Received: large of shape {large.shape}, small of shape {small.shape}"
        )
    (down_rows, up_rows), (down_columns, up_columns) = (_pair(n, factor) for n in large.shape[1:3])
    missing = small - _along_axes(large, down_rows, down_columns)
    return large + _along_axes(missing, up_rows, up_columns)


def _along_axes(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.moveaxis(rows @ np.moveaxis(images, -1, 1) @ columns.T, 1, -1)


@functools.lru_cache(maxsize=16)
def _pair(size: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights that make an axis small, and their pseudo-inverse."""
    down = downscaling(size, factor)
    return down, np.linalg.pinv(down.astype("float64")).astype("float32")
