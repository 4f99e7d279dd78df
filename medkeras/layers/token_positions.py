"""Learned positions of a sequence of patches, and their change to another grid."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError

SHARPNESS = -0.75  # of the cubic kernel, as torch has it; Keras' own resizing has -0.5
INITIAL = keras.initializers.RandomNormal(stddev=0.02)


@keras.saving.register_keras_serializable("medkeras")
class TokenPositions(keras.layers.Layer):
    """Puts a learned class token before a sequence and adds a learned position to every token.

    Input shape:
        `(batch, tokens, channels)`, all but the batch known.

    Output shape:
        `(batch, 1 + tokens, channels)`, the class token first.

    Reference:
        Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale,
        arXiv 2010.11929.

    Example:
        >>> tuple(TokenPositions()(ops.ones((2, 6, 4))).shape)
        (2, 7, 4)
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the class token and the positions."""
        tokens, channels = input_shape[1:]
        self.class_token = self.add_weight(shape=(1, channels), initializer=INITIAL.clone(), name="class_token")
        self.positions = self.add_weight(shape=(1 + tokens, channels), initializer=INITIAL.clone(), name="positions")

    def call(self, inputs: Any) -> Any:
        """Adds the class token and the positions."""
        # The class token is what is added to an empty first token: no copy of it per image is needed.
        added = self.positions + ops.pad(self.class_token, ((0, inputs.shape[1]), (0, 0)))
        return ops.pad(inputs, ((0, 0), (1, 0), (0, 0))) + added

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the input shape with one more token."""
        batch, tokens, channels = input_shape
        return (batch, 1 + tokens, channels)


def resize_positions(positions: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Brings learned positions of a class token and a square grid of patches to another grid.

    Bicubic by half-pixel centres (torch's `align_corners=False`), flat beyond the outermost centres; not smoothed
    where the grid gets smaller, as in official code.

    Args:
        positions: `(1 + patches, channels)`, the class token first, the patches row by row.
        grid: Rows and columns that are wanted.

    Returns:
        `(1 + rows * columns, channels)`; as given where the grid is the same.

    Raises:
        ValueError: If the patches given form neither a square nor the grid that is wanted.

    Example:
        >>> resize_positions(np.ones((1 + 4 * 4, 3), "float32"), (2, 5)).shape
        (11, 3)
    """
    rows, columns = grid
    first, places = positions[:1], positions[1:]
    edge = math.isqrt(len(places))
    if edge**2 != len(places):
        if len(places) == rows * columns:
            return positions
        raise InputError(
            f"Learned positions must be those of a class token and a square grid. Received: {len(positions)} of them"
        )
    places = places.reshape(edge, edge, -1)
    down, across = (_bicubic_matrix(edge, n) for n in (rows, columns))
    resized = np.einsum("ri,sj,ijc->rsc", down, across, places, optimize=True)
    return np.concatenate([first, resized.reshape(rows * columns, -1)]).astype(positions.dtype)


def _bicubic_matrix(size: int, samples: int) -> np.ndarray:
    """Returns the weights that read `samples` places from an axis of `size`, `(samples, size)`."""
    matrix = np.zeros((samples, size))
    for i, place in enumerate((np.arange(samples) + 0.5) * size / samples - 0.5):
        start = math.floor(place) - 1
        for j in range(start, start + 4):
            matrix[i, min(max(j, 0), size - 1)] += _cubic(abs(place - j))
    return matrix


def _cubic(distance: float) -> float:
    a, d = SHARPNESS, distance
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0
