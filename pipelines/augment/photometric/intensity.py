"""Random changes of grey values; images stay within [0, 1]."""

import dataclasses
import math
from typing import ClassVar

import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.random_numbers import fold_in, normal, uniform


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
        >>> [t.shape for t in Intensity().draw(tf.constant([0, 0], tf.int64), (8, 8, 1))]
        [TensorShape([]), TensorShape([]), TensorShape([])]
    """

    brightness: float = 0.1
    contrast: float = 0.2
    gamma: float = 0.2
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.brightness < 1 and 0 <= self.contrast < 1 and self.gamma >= 0):
            raise InputError(f"`brightness` and `contrast` must be in [0, 1) and `gamma` >= 0. Received: {self}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tuple[tf.Tensor, ...]:
        """Returns the shift, the contrast factor and the exponent, scalars."""
        shift, contrast, gamma = tf.unstack(uniform(key, [3], -1.0, 1.0))
        return (
            self.brightness * shift,
            1 + self.contrast * contrast,
            tf.exp(math.log(1 + self.gamma) * gamma),
        )

    def apply(self, images: tf.Tensor, parameters: tuple[tf.Tensor, ...]) -> tf.Tensor:
        """Changes the grey values as drawn."""
        shift, contrast, gamma = (per_image(p, images) for p in parameters)
        images = tf.clip_by_value(images, 0.0, 1.0)
        if self.gamma:
            # The power of the same name is not vectorised by XLA on CPU and takes nine times as long.
            images = tf.exp(gamma * tf.math.log(tf.maximum(images, 1e-30)))
        mean = tf.reduce_mean(images, axis=list(range(1, images.shape.rank)), keepdims=True)
        return tf.clip_by_value((images - mean) * contrast + mean + shift, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Gain:
    """Multiplies an image by a factor: brighter or darker, and black stays black.

    Args:
        strength: The factor lies between 1 - strength and 1 + strength, strength in [0, 1].

    Raises:
        ValueError: If `strength` is out of its range.

    Example:
        >>> 0.9 <= float(Gain(0.1).draw(tf.constant([0, 0], tf.int64), (8, 8, 1))) < 1.1
        True
    """

    strength: float = 0.1
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"`strength` must be in [0, 1]. Received: strength={self.strength}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the factor, a scalar."""
        return uniform(key, [], 1 - self.strength, 1 + self.strength)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Multiplies the images as drawn."""
        return tf.clip_by_value(images * per_image(parameters, images), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise, its standard deviation drawn between 0 and `std` for each record.

    The noise is computed from the record's key where it is added, by the hash of
    `pipelines.augment.random_numbers`, so it is the same inside and outside XLA.

    Args:
        std: Largest standard deviation, as a share of the full range, >= 0.

    Raises:
        ValueError: If `std` is negative.

    Example:
        >>> strength, key = Noise(0.02).draw(tf.constant([0, 0], tf.int64), (8, 8, 1))
        >>> 0 <= float(strength) < 0.02, key.shape
        (True, TensorShape([2]))
    """

    std: float = 0.02
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise InputError(f"`std` must be >= 0. Received: std={self.std}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the standard deviation and the key of the noise."""
        return uniform(key, [], 0.0, self.std), fold_in(key, 1)

    def apply(self, images: tf.Tensor, parameters: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Adds the noise as drawn."""
        std, keys = parameters
        return tf.clip_by_value(images + per_image(std, images) * normal(keys, images.shape[1:]), 0.0, 1.0)


def per_image(values: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Returns one value per image in a shape that meets the images.

    Example:
        >>> per_image(tf.constant([1.0, 2.0]), tf.zeros((2, 8, 8, 3))).shape
        TensorShape([2, 1, 1, 1])
    """
    return tf.reshape(values, [-1] + [1] * (images.shape.rank - 1))
