"""Crops of images, and how well an upscaler restores them while it is trained."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from medkeras.evaluation import psnr
from medkeras.super_resolution import LDMUpscaler, degrade


def random_crops(batches: tf.data.Dataset, *, size: int, seed: int) -> tf.data.Dataset:
    """Returns batches of square crops, one of each image, at places that follow from the seed and the batch's number.

    Args:
        batches: `(images, labels)`, images `(batch, height, width, channels)`.
        size: Pixels per side, at most those of the images.
        seed: Of the places.

    Example:
        >>> batches = tf.data.Dataset.from_tensors((tf.zeros((3, 8, 9, 1)), tf.zeros(3)))
        >>> next(iter(random_crops(batches, size=4, seed=0))).shape
        TensorShape([3, 4, 4, 1])
    """

    def crop(step: tf.Tensor, batch: tuple[tf.Tensor, Any]) -> tf.Tensor:
        images, shape = batch[0], batch[0].shape
        room = tf.constant([shape[1] - size + 1, shape[2] - size + 1], tf.float32)
        draws = tf.random.stateless_uniform((tf.shape(images)[0], 2), tf.stack([tf.cast(seed, tf.int64), step]))
        starts = tf.cast(draws * room, tf.int32)
        for axis in (1, 2):
            places = starts[:, axis - 1, None] + tf.range(size)
            images = tf.gather(images, places, axis=axis, batch_dims=1)
        return tf.ensure_shape(images, (None, size, size, shape[3]))

    return batches.enumerate().map(crop, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def middle_crops(images: np.ndarray, size: int) -> np.ndarray:
    """Returns the middle of each image.

    Example:
        >>> middle_crops(np.arange(16.0).reshape(1, 4, 4, 1), 2).ravel().tolist()
        [5.0, 6.0, 9.0, 10.0]
    """
    top, left = ((n - size) // 2 for n in images.shape[1:3])
    return images[:, top : top + size, left : left + size]


class KeepBestRestored(keras.callbacks.Callback):
    """Restores images after each epoch of a denoiser, logs the mean PSNR as `val_psnr`, and keeps the best weights.

    Where the optimizer has a running mean of the weights, that is what restores and is kept. The best weights are in
    the denoiser when `take_best` was called after `fit`.

    Args:
        upscaler: The upscaler whose denoiser is trained.
        images: What to restore, `(n, height, width, channels)` in [0, 1].
        settings: Of `LDMUpscaler.upscale`.

    Attributes:
        best: The best value so far.
    """

    def __init__(self, upscaler: LDMUpscaler, images: np.ndarray, **settings: Any) -> None:
        super().__init__()
        self.upscaler, self.images, self.settings = upscaler, images, settings
        self.small = np.asarray(degrade(images, upscaler.factor))
        self.best, self.weights = -np.inf, None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Restores the images, and leaves the weights of the training as they were."""
        unet, logs = self.upscaler.unet, {} if logs is None else logs
        now = unet.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        restored = self.upscaler.upscale(self.small, **self.settings)
        logs["val_psnr"] = float(psnr(restored, self.images).mean())
        if logs["val_psnr"] > self.best:
            self.best, self.weights = logs["val_psnr"], unet.get_weights()
        unet.set_weights(now)

    def take_best(self) -> None:
        """Gives the denoiser its best weights."""
        self.upscaler.unet.set_weights(self.weights)
