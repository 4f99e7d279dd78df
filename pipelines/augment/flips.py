"""Random mirroring."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

AXES = {"width": -2, "height": -3, "depth": -4}


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirrors each axis of a record with probability one half.

    Args:
        axes: Any of `"width"`, `"height"` and, for volumes, `"depth"`. A chest X-ray is never upside down:
            choose the axes by what the anatomy allows.

    Raises:
        ValueError: If an axis is unknown, or when drawing, is not one of the image's.

    Example:
        >>> Flip(("width", "height")).draw(tf.constant([0, 0]), (8, 8, 1)).numpy()
        array([ True, False])
    """

    axes: tuple[str, ...] = ("width",)
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.axes or any(axis not in AXES for axis in self.axes):
            raise ValueError(f"`axes` must name any of {', '.join(AXES)}. Received: axes={self.axes}")

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns which axes to mirror, bool `(axes,)`."""
        if "depth" in self.axes and len(image_shape) < 4:
            raise ValueError(f"Only volumes have a depth to flip. Received: image_shape={tuple(image_shape)}")
        return tf.random.stateless_uniform([len(self.axes)], key) < 0.5

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Mirrors the images that `draw` chose."""
        for i, axis in enumerate(self.axes):
            chosen = tf.reshape(parameters[:, i], [-1] + [1] * (images.shape.rank - 1))
            images = tf.where(chosen, tf.reverse(images, [images.shape.rank + AXES[axis]]), images)
        return images
