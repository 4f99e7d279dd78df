"""Random changes of grey values; images stay within [0, 1]."""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Intensity:
    """Gamma, then contrast about the image's mean, then brightness.

    Args:
        brightness: Largest shift up or down, as a share of the full range, in [0, 1).
        contrast: Contrast is scaled by a factor between 1 - contrast and 1 + contrast, in [0, 1).
        gamma: The exponent lies between 1 / (1 + gamma) and 1 + gamma, gamma >= 0.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [t.shape for t in Intensity().draw(tf.constant([0, 0]), (8, 8, 1))]
        [TensorShape([]), TensorShape([]), TensorShape([])]
    """

    brightness: float = 0.1
    contrast: float = 0.2
    gamma: float = 0.2
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.brightness < 1 and 0 <= self.contrast < 1 and self.gamma >= 0):
            raise ValueError(f"`brightness` and `contrast` must be in [0, 1) and `gamma` >= 0. Received: {self}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tuple[tf.Tensor, ...]:
        """Returns the shift, the contrast factor and the exponent, scalars."""
        shift, contrast, gamma = tf.unstack(tf.random.stateless_uniform([3], key, -1.0, 1.0))
        return (
            self.brightness * shift,
            1 + self.contrast * contrast,
            tf.exp(math.log(1 + self.gamma) * gamma),
        )

    def apply(self, images: tf.Tensor, parameters: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Changes the grey values as drawn."""
        shift, contrast, gamma = (_per_image(p, images) for p in parameters)
        images = tf.clip_by_value(images, 0.0, 1.0) ** gamma
        mean = tf.reduce_mean(images, axis=list(range(1, images.shape.rank)), keepdims=True)
        return tf.clip_by_value((images - mean) * contrast + mean + shift, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise, its standard deviation drawn between 0 and `std` for each record.

    Args:
        std: Largest standard deviation, as a share of the full range, >= 0.

    Raises:
        ValueError: If `std` is negative.

    Example:
        >>> Noise(0.02).draw(tf.constant([0, 0]), (8, 8, 1)).shape
        TensorShape([8, 8, 1])
    """

    std: float = 0.02
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.std < 0:
            raise ValueError(f"`std` must be >= 0. Received: std={self.std}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the noise of one record, of the image's shape."""
        strength = tf.random.stateless_uniform([], key, 0.0, self.std)
        field_key = tf.random.experimental.stateless_fold_in(key, 1)
        return strength * tf.random.stateless_normal(image_shape, field_key)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Adds the noise as drawn."""
        return tf.clip_by_value(images + parameters, 0.0, 1.0)


def _per_image(values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    return tf.reshape(values, [-1] + [1] * (images.shape.rank - 1))
