"""Smooth fields over an image from few coefficients, by one small matrix per axis."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def expand(coefficients: tf.Tensor, matrices: Sequence[np.ndarray]) -> tf.Tensor:
    """Returns the field whose value is the sum of coefficients times the product of the axes' functions.

    Args:
        coefficients: `(batch, ..., *coarse sizes)`.
        matrices: For each axis the functions at its pixels, `(size, coarse size)`.

    Returns:
        `(batch, ..., *sizes)`.

    Example:
        >>> line = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
        >>> expand(tf.constant([[2.0, 4.0]]), [line]).numpy()
        array([[2., 3., 4.]], dtype=float32)
    """
    first = coefficients.shape.rank - len(matrices)
    for matrix in matrices:
        # Takes the first coarse axis away and adds the fine one at the end, so they come out in order.
        coefficients = tf.tensordot(coefficients, tf.constant(matrix, coefficients.dtype), [[first], [1]])
    return coefficients


def bsplines(positions: np.ndarray, spacing: float) -> np.ndarray:
    """Returns cubic B-splines on an even grid over [0, 1], at some positions.

    Args:
        positions: In [0, 1], `(n,)`.
        spacing: Distance of grid points, in (0, 1].

    Returns:
        `(n, spline_count(spacing))`; each row sums to 1.

    Example:
        >>> bsplines(np.array([0.0, 0.5]), 0.5).round(2).tolist()
        [[0.17, 0.67, 0.17, 0.0, 0.0], [0.0, 0.17, 0.67, 0.17, 0.0]]
    """
    distance = np.abs(positions[:, None] / spacing - np.arange(-1, spline_count(spacing) - 1))
    near, far = 2 / 3 - distance**2 + distance**3 / 2, (2 - distance) ** 3 / 6
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))


def spline_count(spacing: float) -> int:
    """Returns the number of cubic B-splines that reach into [0, 1].

    Example:
        >>> spline_count(0.5)
        5
    """
    return int(np.ceil(1 / spacing - 1e-6)) + 3


def legendre(size: int, order: int) -> np.ndarray:
    """Returns Legendre polynomials over the pixels of an axis, scaled to a mean square of 1.

    Args:
        size: Pixels of the axis, spread over [-1, 1].
        order: Highest degree.

    Returns:
        `(size, order + 1)`.

    Example:
        >>> legendre(3, 1).round(2).tolist()
        [[1.0, -1.15], [1.0, 0.0], [1.0, 1.15]]
    """
    positions = (2 * np.arange(size) + 1) / size - 1
    return np.polynomial.legendre.legvander(positions, order) * np.sqrt(2 * np.arange(order + 1) + 1)
