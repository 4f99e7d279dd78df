"""Random crops of a drawn size and shape, brought back to the image's own size."""

import dataclasses
import math
from typing import Any, ClassVar

import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.augmenter import Batch
from pipelines.augment.geometric.warp import Warp
from pipelines.augment.random_numbers import fold_in, uniform

TRIES = 10


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """Crops a random part of an image and resizes it to the whole; masks, boxes and attention go along.

    Size and shape are drawn up to ten times, until the crop lies within the image; failing that, it is the largest
    part in the middle whose shape is allowed. Positions are fractions of pixels. Crop and motion are one map, read
    once, so an image is interpolated a single time.

    Args:
        scale: Range of the share of the image's area, of a volume's content, that is kept, in (0, 1].
        ratio: Range of width to height of the crop in pixels, positive; for volumes also of the depth to the mean
            side of the plane.
        motion: What happens to the image before the crop: flips, turns and the like. An `elastic` motion bends the
            crop, its strength being a share of the crop.

    Raises:
        ValueError: If a range is not one.

    Reference:
        Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842, section 6; the rule and its defaults are
        those of torchvision's transformation of this name.

    Example:
        >>> RandomResizedCrop().draw(tf.constant([0, 0], tf.int64), (8, 8, 1))["matrix"].shape
        TensorShape([2, 3])
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    motion: Warp = Warp()
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (len(self.scale) == 2 and 0 < self.scale[0] <= self.scale[1] <= 1):
            raise InputError(f"`scale` must be (low, high) in (0, 1]. Received: scale={self.scale}")
        if not (len(self.ratio) == 2 and 0 < self.ratio[0] <= self.ratio[1] < math.inf):
            raise InputError(f"`ratio` must be (low, high), positive. Received: ratio={self.ratio}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> dict[str, tf.Tensor]:
        """Returns the parameters of `Warp`; its `matrix` leads into the crop, then through the motion."""
        sizes = tf.constant(image_shape[:-1], tf.float32)
        sides = self._sides(key, image_shape[:-1])
        shift = uniform(fold_in(key, 1), [len(image_shape) - 1], -0.5, 0.5) * (sizes - sides)
        drawn = self.motion.draw(fold_in(key, 2), image_shape)
        linear, offset = drawn["matrix"][:, :-1], drawn["matrix"][:, -1]
        moved = tf.reduce_sum(linear * shift, axis=1) + offset
        return drawn | {"matrix": tf.concat([linear * (sides / sizes), moved[:, None]], axis=1)}

    def apply_batch(self, batch: Batch, parameters: dict[str, tf.Tensor]) -> Batch:
        """Crops the images, and what belongs to them, as drawn."""
        return self.motion.apply_batch(batch, parameters)

    def _sides(self, key: tf.Tensor, sizes: tuple[int, ...]) -> tf.Tensor:
        """Returns the sides of the crop in pixels, one per axis."""
        rank = len(sizes)
        random = uniform(key, [TRIES, rank])
        low, high = self.scale
        content = (low + (high - low) * random[:, 0]) * math.prod(sizes)
        low, high = (math.log(limit) for limit in self.ratio)
        ratios = tf.exp(low + (high - low) * random[:, 1:])
        depth = []
        if rank == 3:
            depth = [tf.pow(content * ratios[:, 1] ** 2, 1 / 3)]
            content = content / depth[0]
        tries = tf.stack([*depth, tf.sqrt(content / ratios[:, 0]), tf.sqrt(content * ratios[:, 0])], axis=1)
        # Rounding must not refuse the whole image.
        fits = tf.reduce_all(tries <= tf.constant(sizes, tf.float32) * (1 + 1e-6), axis=1)
        first = tf.one_hot(tf.argmax(tf.cast(fits, tf.int32)), TRIES)
        chosen = tf.reduce_sum(tries * first[:, None], axis=0)
        sides = tf.where(tf.reduce_any(fits), chosen, tf.constant(self._largest(sizes), tf.float32))
        return tf.minimum(sides, tf.constant(sizes, tf.float32))

    def _largest(self, sizes: tuple[int, ...]) -> list[Any]:
        height, width = sizes[-2:]
        low, high = self.ratio
        return [*sizes[:-2], min(height, width / low), min(width, height * high)]
