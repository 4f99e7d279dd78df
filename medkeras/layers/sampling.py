"""Linear sampling along image axes as matrix products: differentiable, of fixed size, compiled by XLA.

Linear interpolation on an axis-aligned grid is separable, so a crop, a shift or a resize of a 2D or 3D image
is one small matrix per axis. Positions outside the image read zeros. Nothing here gathers, so forward and
gradient run on every backend, under XLA, and in LiteRT with builtin operators.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from medkeras.errors import InputError

# One equation per axis: the sampled axis is contracted in place, the others pass through.
_EQUATIONS = {
    2: ("bih,bhwc->biwc", "bjw,biwc->bijc"),
    3: ("bid,bdhwc->bihwc", "bjh,bihwc->bijwc", "bkw,bijwc->bijkc"),
}


def interpolation_matrix(positions: Any, size: int) -> Any:
    """Returns the weights that read `positions` from an axis by linear interpolation.

    Args:
        positions: `(batch, samples)`, float32, in pixels; 0 is the centre of the first pixel.
        size: Length of the axis, in pixels.

    Returns:
        `(batch, samples, size)`; a row sums to 1 inside the image and fades to 0 within a pixel outside it.

    Example:
        >>> ops.convert_to_numpy(interpolation_matrix(ops.array([[0.25]]), 3)).tolist()
        [[[0.75, 0.25, 0.0]]]
    """
    pixels = ops.arange(size, dtype="float32")
    return ops.relu(1 - ops.abs(positions[..., None] - pixels))


def sample_axes(images: Any, positions: Sequence[Any]) -> Any:
    """Samples images on the grid spanned by one list of positions per axis.

    Args:
        images: `(batch, height, width, channels)` or `(batch, depth, height, width, channels)`.
        positions: For each spatial axis in order, `(batch, samples)` in pixels, float32.

    Returns:
        `(batch, *samples, channels)`.

    Example:
        >>> rows = columns = ops.array([[0.0, 1.5]])
        >>> tuple(sample_axes(ops.ones((1, 4, 4, 3)), [rows, columns]).shape)
        (1, 2, 2, 3)
    """
    matrices = [interpolation_matrix(p, n) for p, n in zip(positions, images.shape[1:-1], strict=True)]
    return _apply(matrices, images)


def average_grid(features: Any, cells: int) -> Any:
    """Averages a map over a grid of `cells` per axis, as adaptive average pooling does.

    Cell `i` of an axis of `n` pixels covers `floor(i n / cells)` to `ceil((i + 1) n / cells)`; cells overlap where
    `n` is no multiple. Keras' own layer gives NaN in the last cells on JAX (3.15.1).

    Args:
        features: `(batch, *spatial, channels)` with two or three spatial axes.
        cells: Cells per axis.

    Returns:
        `(batch, cells, ..., channels)`.

    Example:
        >>> ops.convert_to_numpy(average_grid(ops.reshape(ops.arange(9.0), (1, 3, 3, 1)), 2))[0, ..., 0].tolist()
        [[2.0, 3.0], [5.0, 6.0]]
    """
    matrices = []
    for length in features.shape[1:-1]:
        matrix = np.zeros((cells, length), "float32")
        for cell in range(cells):
            start, end = cell * length // cells, -(-(cell + 1) * length // cells)
            matrix[cell, start:end] = 1 / (end - start)
        # One matrix per image: LiteRT has no product with a matrix that all images share.
        matrices.append(ops.broadcast_to(matrix, (ops.shape(features)[0], cells, length)))
    return _apply(matrices, features)


def resize_aligned(images: Any, size: Sequence[int]) -> Any:
    """Resizes linearly with aligned corners: first and last pixel centres stay where they are.

    This is torch's `align_corners=True`. Keras' own resize places pixels by half-pixel centres.

    Args:
        images: `(batch, *spatial, channels)` with two or three spatial axes.
        size: New length of each spatial axis, in pixels.

    Returns:
        `(batch, *size, channels)`.

    Raises:
        ValueError: If `size` does not have one positive length per spatial axis.

    Example:
        >>> column = ops.reshape(ops.arange(3.0), (1, 3, 1, 1))
        >>> ops.convert_to_numpy(resize_aligned(column, (5, 1)))[0, :, 0, 0].tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    lengths = tuple(images.shape[1:-1])
    if len(size) != len(lengths) or min(size) < 1:
        raise InputError(f"`size` must have {len(lengths)} positive lengths. Received: size={tuple(size)}")
    matrices = []
    for length, samples in zip(lengths, size, strict=True):
        positions = np.arange(samples) * ((length - 1) / max(samples - 1, 1))
        matrix = np.maximum(1 - np.abs(positions[:, None] - np.arange(length)), 0).astype("float32")
        matrices.append(ops.broadcast_to(matrix, (ops.shape(images)[0], samples, length)))
    return _apply(matrices, images)


def _apply(matrices: Sequence[Any], images: Any) -> Any:
    """Contracts each spatial axis with its matrix `(batch, samples, size)`."""
    for matrix, equation in zip(matrices, _EQUATIONS[len(matrices)], strict=True):
        images = ops.einsum(equation, ops.cast(matrix, images.dtype), images)
    return images
