"""Random small motions, as one interpolating gather that XLA compiles."""

import dataclasses
import itertools
import math
from typing import ClassVar

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Affine:
    """Rotates within the image plane, scales and shifts; what enters at the border repeats the edge.

    Args:
        rotation: Largest angle either way, in degrees. Volumes turn about their depth axis.
        scale: The size is multiplied by a factor between 1 / (1 + scale) and 1 + scale, scale >= 0.
        translation: Largest shift along each axis, as a share of its length, in [0, 1).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> Affine().draw(tf.constant([0, 0]), (8, 8, 1)).shape
        TensorShape([2, 3])
    """

    rotation: float = 10.0
    scale: float = 0.1
    translation: float = 0.06
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.rotation <= 180 and self.scale >= 0 and 0 <= self.translation < 1):
            raise ValueError(
                f"`rotation` must be in [0, 180] degrees, `scale` >= 0 and `translation` in [0, 1). Received: {self}"
            )

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the matrix `(axes, axes + 1)` from output to input pixels, both counted from the centre."""
        rank = len(image_shape) - 1
        random = tf.random.stateless_uniform([2 + rank], key, -1.0, 1.0)
        angle = math.radians(self.rotation) * random[0]
        shrink = tf.exp(-math.log(1 + self.scale) * random[1])
        shift = self.translation * tf.constant(image_shape[:-1], tf.float32) * random[2:]
        cos, sin = tf.cos(angle), tf.sin(angle)
        in_plane = [[rank - 2, 0], [rank - 2, 0]]
        turn = tf.eye(rank) + tf.pad([[cos - 1, -sin], [sin, cos - 1]], in_plane)
        return tf.concat([shrink * turn, shift[:, None]], axis=1)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Moves the images as drawn."""
        sizes = images.shape[1:-1]
        centre = [(n - 1) / 2 for n in sizes]
        axes = [tf.range(n, dtype=tf.float32) - c for n, c in zip(sizes, centre, strict=True)]
        grid = tf.reshape(tf.stack(tf.meshgrid(*axes, indexing="ij")), (len(sizes), -1))
        coordinates = parameters[:, :, :-1] @ grid + parameters[:, :, -1:]
        return warp(images, coordinates + tf.constant(centre)[:, None])


def warp(images: tf.Tensor, coordinates: tf.Tensor) -> tf.Tensor:
    """Reads images at fractional positions, linearly interpolated; outside, the edge goes on.

    Args:
        images: `(batch, *sizes, channels)`, two or three sizes, known.
        coordinates: `(batch, axes, positions)` in pixels of each axis, as many positions as pixels.

    Returns:
        Images of the same shape.

    Example:
        >>> image = tf.reshape([0.0, 1.0, 2.0, 3.0], (1, 2, 2, 1))
        >>> centre = tf.fill((1, 2, 4), 0.5)
        >>> warp(image, centre)[0, :, :, 0].numpy()
        array([[1.5, 1.5],
               [1.5, 1.5]], dtype=float32)
    """
    sizes = images.shape[1:-1]
    flat = tf.reshape(images, (-1, math.prod(sizes), images.shape[-1]))
    lower, weight, stride = [], [], []
    for axis, size in enumerate(sizes):
        position = tf.clip_by_value(coordinates[:, axis], 0.0, size - 1.0)
        # The lower neighbour is at most the last but one, so that its upper neighbour exists.
        floor = tf.minimum(tf.floor(position), max(size - 2.0, 0.0))
        lower.append(tf.cast(floor, tf.int32))
        weight.append(position - floor)
        stride.append(math.prod(sizes[axis + 1 :]) if size > 1 else 0)
    output = 0.0
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        index = sum((low + side) * step for low, side, step in zip(lower, corner, stride, strict=True))
        share = math.prod(w if side else 1 - w for w, side in zip(weight, corner, strict=True))
        output += share[..., None] * tf.gather(flat, index, batch_dims=1)
    return tf.reshape(output, tf.shape(images))
