"""The uneven brightness of magnetic resonance images."""

import dataclasses
import itertools
from typing import ClassVar

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.random_numbers import fold_in, normal, uniform
from pipelines.augment.smooth_fields import expand, legendre


@dataclasses.dataclass(frozen=True)
class BiasField:
    """Multiplies an image by a smooth positive field, as an uneven receive coil does.

    The logarithm of the field is a random polynomial in the axes' positions, without a constant.

    Args:
        strength: Largest standard deviation of the field's logarithm over the image, drawn between 0 and
            this, > 0.
        order: Highest total degree of the polynomial, >= 1.

    Raises:
        ValueError: If an argument is out of its range.

    Reference:
        Van Leemput et al., Automated model-based bias field correction of MR images of the brain, IEEE TMI
        18(10), 1999, for the polynomial model.

    Example:
        >>> BiasField(order=2).draw(tf.constant([0, 0], tf.int64), (8, 8, 1)).shape
        TensorShape([3, 3])
    """

    strength: float = 0.2
    order: int = 3
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.strength > 0 and self.order >= 1):
            raise InputError(f"`strength` must be > 0 and `order` >= 1. Received: {self}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the coefficients of the products of Legendre polynomials, `(order + 1,) * axes`."""
        degrees = range(self.order + 1)
        rank = len(image_shape) - 1
        used = [0 < sum(powers) <= self.order for powers in itertools.product(degrees, repeat=rank)]
        shape = (self.order + 1,) * rank
        random = normal(fold_in(key, 1), shape) * tf.constant(np.reshape(used, shape), tf.float32)
        return uniform(key, [], 0.0, self.strength) * random / tf.norm(random)

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Multiplies as drawn."""
        field = expand(parameters, [legendre(size, self.order) for size in images.shape[1:-1]])
        return tf.clip_by_value(images * tf.exp(field)[..., None], 0.0, 1.0)
