"""Stateless augmentation: every random number follows from the seed, the epoch and the record."""

from collections.abc import Sequence
from typing import Any, Protocol

import tensorflow as tf


class Augmentation(Protocol):
    """One kind of random change.

    Drawing and applying are apart because random numbers differ between XLA and graph: `draw` runs outside
    XLA, for one record; `apply` runs for a batch, inside XLA where `compiled` says so.
    """

    compiled: bool

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> Any:
        """Returns the parameters of one record, a nest of tensors, from its key `(2,)`."""

    def apply(self, images: tf.Tensor, parameters: Any) -> tf.Tensor:
        """Changes images `(batch, *image_shape)` by the parameters of each."""


class Augmenter:
    """Applies augmentations in turn to a batch, each record by its own key.

    Args:
        augmentations: What to apply, in this order.
        image_shape: `(H, W, C)` or `(D, H, W, C)`.
        seed: Any integer; the same seed gives the same augmentation of a record in an epoch, whatever the
            batch it comes in and the number of workers.

    Raises:
        ValueError: If an augmentation does not fit the image shape.

    Example:
        >>> from pipelines.augment import Flip
        >>> augment = Augmenter([Flip(("width",))], image_shape=(1, 2, 1), seed=0)
        >>> images = tf.tile(tf.reshape([0.0, 1.0], (1, 1, 2, 1)), (4, 1, 1, 1))
        >>> augment(images, epoch=0, indices=[0, 1, 2, 3])[:, 0, 0, 0].numpy()
        array([1., 1., 0., 1.], dtype=float32)
    """

    def __init__(self, augmentations: Sequence[Augmentation], *, image_shape: Sequence[int], seed: int = 0) -> None:
        self.augmentations, self.image_shape, self.seed = tuple(augmentations), tuple(image_shape), seed
        # Compiled one by one: fused, the gather of a warp would compute what comes before it once per corner.
        self._apply = [tf.function(a.apply, jit_compile=a.compiled) for a in self.augmentations]
        self._signature = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), self._draw(tf.zeros(2, tf.int64))
        )

    def __call__(self, images: tf.Tensor, epoch: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Returns the images of records `indices` as epoch `epoch` shows them, within [0, 1]."""
        for apply, parameters in zip(self._apply, self.draw(epoch, indices), strict=True):
            images = apply(images, parameters)
        return tf.clip_by_value(images, 0.0, 1.0)

    def draw(self, epoch: tf.Tensor, indices: tf.Tensor) -> tuple[Any, ...]:
        """Returns each augmentation's parameters for a batch of records."""
        if not self.augmentations:
            return ()
        key = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(epoch, tf.int64)])
        return tf.map_fn(
            lambda index: self._draw(tf.random.experimental.stateless_fold_in(key, index)),
            tf.cast(indices, tf.int64),
            fn_output_signature=self._signature,
        )

    def _draw(self, key: tf.Tensor) -> tuple[Any, ...]:
        return tuple(
            augmentation.draw(tf.random.experimental.stateless_fold_in(key, position), self.image_shape)
            for position, augmentation in enumerate(self.augmentations)
        )
