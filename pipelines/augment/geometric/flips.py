"""Random mirroring."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.augmenter import Batch
from pipelines.augment.geometric.boxes import flip_boxes
from pipelines.augment.random_numbers import uniform

AXES = {"width": -1, "height": -2, "depth": -3}


@dataclasses.dataclass(frozen=True)
class Flip:
    """Mirrors each axis of a record with probability one half, exactly; masks, boxes and attention go along.

    Args:
        axes: Any of `"width"`, `"height"` and, for volumes, `"depth"`. A chest X-ray is never upside down:
            choose the axes by what the anatomy allows.

    Raises:
        ValueError: If an axis is unknown, or when drawing, is not one of the image's.

    Example:
        >>> Flip(("width", "height")).draw(tf.constant([0, 0], tf.int64), (8, 8, 1)).numpy()
        array([ True,  True])
    """

    axes: tuple[str, ...] = ("width",)
    compiled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_axes(self.axes)

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns which axes to mirror, bool `(axes,)`."""
        return draw_flips(self.axes, key, image_shape)

    def apply_batch(self, batch: Batch, parameters: tf.Tensor) -> Batch:
        """Mirrors what `draw` chose."""
        batch = dict(batch)
        rank = batch["image"].shape.rank - 2
        for i, name in enumerate(self.axes):
            axis, chosen = rank + AXES[name], parameters[:, i]
            for key in ("image", "mask", "attention"):
                if key in batch:
                    batch[key] = _flip(batch[key], axis + 1, chosen)
            if "boxes" in batch:
                size = batch["image"].shape[axis + 1]
                batch["boxes"] = flip_boxes(batch["boxes"], axis=axis, size=size, chosen=chosen)
        return batch


def _flip(values: tf.Tensor, axis: int, chosen: tf.Tensor) -> tf.Tensor:
    chosen = tf.reshape(chosen, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(chosen, tf.reverse(values, [axis]), values)


def check_axes(axes: tuple[str, ...], *, none_allowed: bool = False) -> None:
    """Raises a ValueError unless `axes` are names of axes.

    Example:
        >>> check_axes(("width",))
    """
    if not (axes or none_allowed) or any(axis not in AXES for axis in axes):
        raise InputError(f"`axes` must name any of {', '.join(AXES)}. Received: axes={axes}")


def draw_flips(axes: tuple[str, ...], key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
    """Returns which axes to mirror, bool `(axes,)`, each with probability one half.

    Raises:
        ValueError: If the image has no such axis.

    Example:
        >>> draw_flips(("width",), tf.constant([0, 0], tf.int64), (8, 8, 1)).shape
        TensorShape([1])
    """
    if "depth" in axes and len(image_shape) < 4:
        raise InputError(f"Only volumes have a depth to flip. Received: image_shape={tuple(image_shape)}")
    return uniform(key, [len(axes)]) < 0.5
