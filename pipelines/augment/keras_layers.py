"""Keras preprocessing layers as augmentations."""

from typing import Any, ClassVar

import keras
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.augment.augmenter import Batch


class KerasLayer:
    """Applies a Keras preprocessing layer to each batch, with random numbers from a key where it can.

    Core layers (`keras.layers.RandomRotation`, ...) take their numbers from the key of the batch's first
    record, so a seed and an epoch fix them too. Others, KerasCV's among them, draw from a state of their own
    and do not repeat. Images are in [0, 1]: give `value_range=(0, 1)` to a layer that asks for one.

    Args:
        layer: A layer that maps a batch of images to images of the same shape.

    Example:
        >>> flip = KerasLayer(keras.layers.RandomFlip("horizontal"))
        >>> keys = flip.draw(tf.constant([0, 0], tf.int64), (2, 2, 1))[None]
        >>> flip.apply(tf.ones((1, 2, 2, 1)), keys).shape
        TensorShape([1, 2, 2, 1])
    """

    # Rotations, zooms and shears of Keras have no XLA kernel.
    compiled: ClassVar[bool] = False

    def __init__(self, layer: keras.layers.Layer) -> None:
        self.layer = layer

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> tf.Tensor:
        """Returns the record's key."""
        return key

    def apply(self, images: tf.Tensor, parameters: tf.Tensor) -> tf.Tensor:
        """Calls the layer in training mode."""
        return self.apply_batch({"image": images}, parameters)["image"]

    def apply_batch(self, batch: Batch, parameters: tf.Tensor) -> Batch:
        """Calls the layer in training mode; a core layer takes masks along.

        Raises:
            ValueError: If the batch has what the layer cannot take along.
        """
        is_core = hasattr(self.layer, "transform_images")  # KerasCV has a transformation of another form
        left = batch.keys() & ({"boxes", "attention"} if is_core else {"mask", "boxes", "attention"})
        if left:
            raise InputError(
                "Keras layers take masks along, those of other libraries nothing; use the augmentations of "
                f"pipelines.augment. Received: layer={self.layer.name}, batch with {', '.join(sorted(left))}"
            )
        images = batch["image"]
        if not is_core:
            return batch | {"image": tf.ensure_shape(self.layer(images, training=True), images.shape)}
        seed = _KeySeed(parameters[0])
        transformation = self.layer.get_random_transformation(images, training=True, seed=seed)
        moved = {"image": self.layer.transform_images(images, transformation, training=True)}
        if "mask" in batch:
            masks = self.layer.transform_segmentation_masks(batch["mask"][..., None], transformation, training=True)
            moved["mask"] = tf.cast(masks[..., 0], batch["mask"].dtype)
        return batch | {name: tf.ensure_shape(value, batch[name].shape) for name, value in moved.items()}


class _KeySeed(keras.random.SeedGenerator):
    """Gives seeds counted up from a key in place of a variable."""

    def __init__(self, key: tf.Tensor) -> None:
        self._key, self._drawn = key, 0

    def next(self, ordered: bool = True) -> Any:
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._key, self._drawn)
