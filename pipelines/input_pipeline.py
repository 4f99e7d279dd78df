"""tf.data input: pure dataset operations without Python state, so that a killed training goes on exactly."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from pipelines.augment import Augmentation, Augmenter
from pipelines.cache import constant, images_from_memory, images_from_source
from pipelines.records import Records


class InputPipeline:
    """The batches of one split.

    Every dataset gives `(image, label)`: images float32 in [0, 1], `(batch, *image_shape)`; labels int32
    `(batch,)`, or float32 `(batch, labels)` with NaN for unknown.

    Args:
        records: The split.
        image_shape: `(H, W, C)` or `(D, H, W, C)` of every image.
        batch_size: Images per batch, at most as many as there are records.
        seed: Chooses the order and the augmentation of every epoch.
        augmentations: What `stream` and `epoch` apply; `batches` never does.
        in_memory: Whether the decoded images are kept, or read again in every epoch.

    Raises:
        ValueError: If a kept image cannot be read or is not finite; the record is named.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"id": list("abcd"), "patient": list("abcd"), "split": ""})
        >>> records = Records(name="four", task="binary", class_names=("dark", "light"), table=table,
        ...                   labels=np.array([0, 0, 1, 1]),
        ...                   read=lambda i: np.full((2, 2), 80 * i, np.uint8))
        >>> pipeline = InputPipeline(records, image_shape=(2, 2, 1), batch_size=3)
        >>> [label.numpy().tolist() for _, label in pipeline.batches()]
        [[0, 0, 1], [1]]
    """

    def __init__(
        self,
        records: Records,
        *,
        image_shape: Sequence[int],
        batch_size: int = 32,
        seed: int = 0,
        augmentations: Sequence[Augmentation] = (),
        in_memory: bool = True,
    ) -> None:
        self.size, self.seed = len(records), seed
        self.batch_size = min(batch_size, self.size)
        self._images = (images_from_memory if in_memory else images_from_source)(records, image_shape)
        self._labels = constant(records.labels)
        self._augment = Augmenter(augmentations, image_shape=image_shape, seed=seed)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches per epoch; what is left over takes its turn in other epochs."""
        return self.size // self.batch_size

    def stream(self, start_epoch: int = 0) -> tf.data.Dataset:
        """Returns an endless dataset of augmented, shuffled batches, `steps_per_epoch` an epoch.

        Order and augmentation of an epoch follow from its number alone: `stream(3)` equals `stream(0)` from
        its fourth epoch on, bit for bit.
        """
        epochs = tf.data.Dataset.range(start_epoch, np.iinfo(np.int64).max)
        return self._finish(epochs.flat_map(self._epoch_indices), self._augmented)

    def epoch(self) -> tf.data.Dataset:
        """Returns one epoch of augmented, shuffled batches, another one each time it is iterated."""
        draw = tf.data.Dataset.random(seed=self.seed, rerandomize_each_iteration=True).take(1)
        indices = draw.flat_map(self._epoch_indices)
        indices = indices.apply(tf.data.experimental.assert_cardinality(self.steps_per_epoch))
        return self._finish(indices, self._augmented)

    def batches(self) -> tf.data.Dataset:
        """Returns all images once, in the order of the records, neither shuffled nor augmented."""
        return self._finish(tf.data.Dataset.range(self.size).batch(self.batch_size), self._plain)

    def _epoch_indices(self, epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.cast(self.seed, tf.int64), epoch])
        order = tf.random.experimental.stateless_shuffle(tf.range(self.size, dtype=tf.int64), key)
        order = tf.reshape(order[: self.steps_per_epoch * self.batch_size], (-1, self.batch_size))
        return tf.data.Dataset.from_tensor_slices(order).map(lambda indices: (epoch, indices))

    def _augmented(self, epoch: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = self._plain(indices)
        return self._augment(images, epoch, indices), labels

    def _plain(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._images(indices), tf.gather(self._labels, indices)

    def _finish(self, indices: tf.data.Dataset, fetch: Callable) -> tf.data.Dataset:
        options = tf.data.Options()
        options.deterministic = True
        dataset = indices.map(fetch, num_parallel_calls=tf.data.AUTOTUNE)
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
