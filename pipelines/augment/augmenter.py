"""Stateless augmentation: every random number follows from the seed, the epoch and the record."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from pipelines.augment.random_numbers import fold_in

Batch = dict[str, tf.Tensor]


class Augmentation(Protocol):
    """One kind of random change.

    Drawing and applying are apart: `draw` runs outside XLA, where any random number of TensorFlow can be had;
    `apply` runs for a batch, inside XLA where `compiled` says so. `draw` is written for one record and
    vectorised; numbers of `pipelines.augment.random_numbers` are fast there, TensorFlow's are drawn in a loop.

    What changes more than images has, in place of `apply`, `apply_batch(batch, parameters) -> batch`. The batch
    holds `image` `(batch, *image_shape)`, and may hold `label`, float `(batch, classes)` or as the records have
    it; `mask` `(batch, *sizes)`; `boxes` `(batch, n, 2 * axes)`, see `pipelines.augment.geometric.boxes`; `attention`
    `(batch, *lower sizes)`. What mixes the images of a batch says `soft_labels = True` and needs float labels.
    """

    compiled: bool

    def draw(self, key: tf.Tensor, image_shape: tuple[int, ...]) -> Any:
        """Returns the parameters of one record, a nest of tensors, from its key, int64 `(2,)`."""

    def apply(self, images: tf.Tensor, parameters: Any) -> tf.Tensor:
        """Changes images `(batch, *image_shape)` by the parameters of each."""


class Augmenter:
    """Applies augmentations in turn to a batch, each record by its own key.

    Args:
        augmentations: What to apply, in this order.
        image_shape: `(H, W, C)` or `(D, H, W, C)`.
        seed: Any integer; the same seed gives the same augmentation of a record in an epoch, whatever the
            batch it comes in and the number of workers. Augmentations that mix the images of a batch depend
            on the batch too.

    Raises:
        ValueError: If an augmentation does not fit the image shape.

    Example:
        >>> from pipelines.augment import Flip
        >>> augment = Augmenter([Flip(("width",))], image_shape=(1, 2, 1), seed=0)
        >>> images = tf.tile(tf.reshape([0.0, 1.0], (1, 1, 2, 1)), (4, 1, 1, 1))
        >>> augment(images, epoch=0, indices=[0, 1, 2, 3])[:, 0, 0, 0].numpy()
        array([0., 0., 1., 1.], dtype=float32)
    """

    def __init__(self, augmentations: Sequence[Augmentation], *, image_shape: Sequence[int], seed: int = 0) -> None:
        self.augmentations, self.image_shape, self.seed = tuple(augmentations), tuple(image_shape), seed
        last = len(self.augmentations) - 1
        # Compiled one by one: fused, the gather of a warp would compute what comes before it once per corner.
        self._apply = [
            tf.function(functools.partial(_apply, a, is_last=i == last), jit_compile=a.compiled, autograph=False)
            for i, a in enumerate(self.augmentations)
        ]
        signature = [tf.TensorSpec([], tf.int64), tf.TensorSpec([None], tf.int64)]
        # A partial function is counted by itself when TensorFlow looks for functions that are traced too often.
        self._draw_records = tf.function(functools.partial(self._draw_each), signature, autograph=False)
        self._draw(tf.zeros(2, tf.int64))

    @property
    def soft_labels(self) -> bool:
        """Says whether labels must be shares of each class, because images are mixed."""
        return any(getattr(augmentation, "soft_labels", False) for augmentation in self.augmentations)

    def __call__(self, images: tf.Tensor, epoch: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        """Returns the images of records `indices` as epoch `epoch` shows them, within [0, 1]."""
        return self.augment_batch({"image": images}, epoch, indices)["image"]

    def augment_batch(self, batch: Mapping[str, tf.Tensor], epoch: tf.Tensor, indices: tf.Tensor) -> Batch:
        """Returns images with all that belongs to them, see `Augmentation`, as epoch `epoch` shows them.

        Example:
            >>> from pipelines.augment import Flip
            >>> augment = Augmenter([Flip(("width",))], image_shape=(1, 2, 1), seed=0)
            >>> batch = {"image": tf.zeros((1, 1, 2, 1)), "mask": tf.constant([[[0.0, 1.0]]])}
            >>> augment.augment_batch(batch, epoch=0, indices=[2])["mask"].numpy()
            array([[[1., 0.]]], dtype=float32)
        """
        batch = dict(batch)
        for apply, parameters in zip(self._apply, self.draw(epoch, indices), strict=True):
            batch = apply(batch, parameters)
        return batch

    def draw(self, epoch: tf.Tensor, indices: tf.Tensor) -> tuple[Any, ...]:
        """Returns each augmentation's parameters for a batch of records."""
        if not self.augmentations:
            return ()
        return self._draw_records(tf.cast(epoch, tf.int64), tf.cast(indices, tf.int64))

    def _draw_each(self, epoch: tf.Tensor, indices: tf.Tensor) -> tuple[Any, ...]:
        key = fold_in(fold_in(tf.zeros(2, tf.int64), self.seed), epoch)
        return tf.vectorized_map(self._draw, fold_in(key, indices))

    def _draw(self, key: tf.Tensor) -> tuple[Any, ...]:
        keys = fold_in(key, tf.range(len(self.augmentations)))
        return tuple(a.draw(keys[i], self.image_shape) for i, a in enumerate(self.augmentations))


def _apply(augmentation: Augmentation, batch: Batch, parameters: Any, *, is_last: bool) -> Batch:
    if hasattr(augmentation, "apply_batch"):
        batch = augmentation.apply_batch(batch, parameters)
    else:
        batch = batch | {"image": augmentation.apply(batch["image"], parameters)}
    # Here, where XLA joins it with the last change: on its own it would take as long as a warp.
    return batch | {"image": tf.clip_by_value(batch["image"], 0.0, 1.0)} if is_last else batch
