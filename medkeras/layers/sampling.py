"""Linear sampling along image axes as matrix products: differentiable, of fixed size, compiled by XLA.

Linear interpolation on an axis-aligned grid is separable, so a crop, a shift or a resize of a 2D or 3D image
is one small matrix per axis. Positions outside the image read zeros. Nothing here gathers, so forward and
gradient run on every backend, under XLA, and in LiteRT with builtin operators.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

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
    for axis, equation in enumerate(_EQUATIONS[len(positions)]):
        matrix = interpolation_matrix(positions[axis], images.shape[1 + axis])
        images = ops.einsum(equation, ops.cast(matrix, images.dtype), images)
    return images
