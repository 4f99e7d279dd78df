"""Random Gaussian blur."""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.random_numbers import uniform


@dataclasses.dataclass(frozen=True)
class Blur:
    """Blurs with a Gaussian whose standard deviation is drawn between 0 and `sigma` for each record.

    The image goes on mirrored at its border; the Gaussian is cut off at three times `sigma`.

    Args:
        sigma: Largest standard deviation, in pixels, > 0.

    Raises:
        ValueError: If `sigma` is not positive, or when drawing, is above a third of an axis.

    Example:
        >>> 0 < float(Blur(1.5).draw(tf.constant([0, 0], tf.int64), (8, 8, 1))) < 1.5
        True
    """

    sigma: float = 1.0
    # Each axis is compiled on its own: XLA would join them and compute the first one once per tap of the second.
    compiled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError(f"`sigma` must be > 0. Received: sigma={self.sigma}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the standard deviation, a scalar."""
        if self.radius > min(image_shape[:-1]):
            raise InputError(
                f"`sigma` must be at most a third of each axis. Received: sigma={self.sigma}, "
                f"image_shape={tuple(image_shape)}"
            )
        return uniform(key, [], 0.0, self.sigma)

    @property
    def radius(self) -> int:
        """Pixels to either side that take part."""
        return math.ceil(3 * self.sigma)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Blurs each image as drawn."""
        distance = tf.range(self.radius + 1, dtype=tf.float32)
        weights = tf.exp(-((distance / tf.maximum(parameters[:, None], 1e-3)) ** 2) / 2)
        weights /= 2 * tf.reduce_sum(weights, axis=1, keepdims=True) - weights[:, :1]
        for axis in range(1, images.shape.rank - 1):
            images = _blur_axis(images, weights, axis)
        return images


def _blur_axis(images: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """Blurs along one axis; `weights` `(batch, radius + 1)` from the middle outwards."""
    shape, radius = images.shape, weights.shape[1] - 1
    size, inner = shape[axis], math.prod(shape[axis + 1 :])
    lines = tf.pad(tf.reshape(images, (-1, size, inner)), [[0, 0], [radius, radius], [0, 0]], "SYMMETRIC")
    lines = tf.reshape(lines, (tf.shape(images)[0], math.prod(shape[1:axis]), (size + 2 * radius) * inner))
    return tf.reshape(_weighted_sum(lines, weights, inner), tf.shape(images))


@tf.function(jit_compile=True, autograph=False)
def _weighted_sum(lines: tf.Tensor, weights: tf.Tensor, step: int) -> tf.Tensor:
    """Returns the sum over taps of the lines, shifted by `step` from tap to tap, `(batch, lines, length)`."""
    radius = weights.shape[1] - 1
    length = lines.shape[-1] - 2 * radius * step

    def tap(k: int) -> tf.Tensor:
        return lines[..., (radius + k) * step :][..., :length]

    blurred = weights[:, 0, None, None] * tap(0)
    for k in range(1, radius + 1):
        blurred += weights[:, k, None, None] * (tap(k) + tap(-k))
    return blurred
