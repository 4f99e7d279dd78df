"""Hiding random regions."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.photometric.intensity import per_image
from pipelines.augment.random_numbers import uniform

FILLS = ("zero", "mean")


@dataclasses.dataclass(frozen=True)
class CoarseDropout:
    """Covers random boxes of an image, so that no single region is relied upon.

    Args:
        count: Largest number of boxes, drawn between 0 and this, >= 1.
        size: Length of a box along each axis, as a share of the axis: lowest and highest, in (0, 1]. A box
            may reach over the border.
        fill: What covers: `zero`, or `mean`, the image's mean of each channel.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, arXiv
        1708.04552.

    Example:
        >>> CoarseDropout(count=3).draw(tf.constant([0, 0], tf.int64), (8, 8, 1)).shape
        TensorShape([3, 2, 2])
    """

    count: int = 4
    size: tuple[float, float] = (0.05, 0.2)
    fill: str = "mean"
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"`count` must be >= 1. Received: count={self.count}")
        if not 0 < self.size[0] <= self.size[1] <= 1:
            raise InputError(f"`size` must be 0 < lowest <= highest <= 1. Received: size={self.size}")
        if self.fill not in FILLS:
            raise InputError(f"`fill` must be one of {', '.join(FILLS)}. Received: fill={self.fill!r}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns first and last position of each box on each axis, as shares, `(count, axes, 2)`."""
        rank = len(image_shape) - 1
        random = uniform(key, [2 * self.count * rank + 1])
        middle, length = tf.unstack(tf.reshape(random[1:], (2, self.count, rank)))
        half = (self.size[0] + (self.size[1] - self.size[0]) * length) / 2
        # A box that is not used lies outside the image.
        used = tf.range(self.count, dtype=tf.float32) < tf.floor(random[0] * (self.count + 1))
        middle = tf.where(used[:, None], middle, 9.0)
        return tf.stack([middle - half, middle + half], axis=-1)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Covers the boxes as drawn."""
        rank = images.shape.rank - 2
        hidden = False
        for box in range(self.count):
            inside = True
            for axis, size in enumerate(images.shape[1:-1]):
                places = tf.reshape((tf.range(size, dtype=tf.float32) + 0.5) / size, _along(axis, rank))
                lower, upper = (per_image(parameters[:, box, axis, side], images) for side in (0, 1))
                inside &= (places >= lower) & (places < upper)
            hidden |= inside
        fill = tf.zeros_like(images[:1])
        if self.fill == "mean":
            fill = tf.reduce_mean(images, axis=list(range(1, rank + 1)), keepdims=True)
        return tf.where(hidden, fill, images)


def _along(axis: int, rank: int) -> list[int]:
    return [1] + [-1 if i == axis else 1 for i in range(rank)] + [1]
