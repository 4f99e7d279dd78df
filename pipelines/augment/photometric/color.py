"""Random changes of colour."""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.random_numbers import uniform

# Luma and two colour differences of the NTSC system.
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Changes the saturation and turns the hue of colour images; images of one channel stay as they are.

    Both are one 3 x 3 matrix in YIQ, so grey stays grey and the luma of a pixel stays the same, but for values
    that leave [0, 1] and are cut off.

    Args:
        saturation: Saturation is scaled by a factor between 1 - saturation and 1 + saturation, in [0, 1].
        hue: Largest turn of the hue either way, in degrees, in [0, 180].

    Raises:
        ValueError: If an argument is out of its range, or when drawing, the image has neither 1 nor 3 channels.

    Example:
        >>> ColorJitter().draw(tf.constant([0, 0], tf.int64), (8, 8, 3)).shape
        TensorShape([3, 3])
    """

    saturation: float = 0.2
    hue: float = 10.0
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.saturation <= 1 and 0 <= self.hue <= 180):
            raise InputError(f"`saturation` must be in [0, 1] and `hue` in [0, 180] degrees. Received: {self}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the matrix from RGB to RGB, `(3, 3)`."""
        if image_shape[-1] not in (1, 3):
            raise InputError(f"Colour needs 1 or 3 channels. Received: image_shape={tuple(image_shape)}")
        saturation, hue = tf.unstack(uniform(key, [2], -1.0, 1.0))
        factor, angle = 1 + self.saturation * saturation, math.radians(self.hue) * hue
        cos, sin = factor * tf.cos(angle), factor * tf.sin(angle)
        change = tf.stack([1.0, 0.0, 0.0, 0.0, cos, -sin, 0.0, sin, cos])
        to_yiq, to_rgb = (tf.constant(m, tf.float32) for m in (RGB_TO_YIQ, np.linalg.inv(RGB_TO_YIQ)))
        return to_rgb @ tf.reshape(change, (3, 3)) @ to_yiq

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Changes the colours as drawn."""
        if images.shape[-1] == 1:
            return images
        pixels = tf.reshape(images, (tf.shape(images)[0], -1, 3))
        colors = sum(pixels[..., i, None] * parameters[:, None, :, i] for i in range(3))
        return tf.clip_by_value(tf.reshape(colors, tf.shape(images)), 0.0, 1.0)
