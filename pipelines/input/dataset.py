"""tf.data input: pure dataset operations without Python state, so that a killed training goes on exactly."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError
from medkeras.tasks import is_multilabel
from pipelines.images.records import Records
from pipelines.input.cache import Images, constant, images_from_memory
from pipelines.input.order import EpochOrder

if TYPE_CHECKING:
    from pipelines.augment import Augmentation

service = tf.data.experimental.service

Example = tuple[tf.Tensor, Any]


class InputPipeline:
    """The batches of one split.

    Every dataset gives `(image, label)`: images float32 in [0, 1], `(batch, *image_shape)`; labels int32
    `(batch,)`, or float32 `(batch, labels)` with NaN for unknown; `stream` and `epoch` give the records'
    `train_labels` where there are any. Augmentations that mix images make the
    labels of `stream` and `epoch` float32 shares of each class, `(batch, classes)`. With masks, the label is a
    dictionary of `label` and `mask`, float32 0 or 1, `(batch, *sizes)`.

    Args:
        records: The split.
        image_shape: `(H, W, C)` or `(D, H, W, C)` of every image.
        batch_size: Images per batch, at most as many as an epoch shows.
        seed: Chooses the order and the augmentation of every epoch.
        augmentations: What `stream` and `epoch` apply; `batches` never does.
        images: Gives the decoded images by index, see `pipelines.input.cache` and `pipelines.input.shards`; kept in
            memory by default.
        masks: The same for the masks of `pipelines.input.cache.mask_records`, where masks are to come along.
        class_counts: How many images of each class an epoch shows, see `pipelines.splits.balance`; by default every
            record once.
        attention: An `AttentionStore` for augmentations that follow the model's attention.
        data_service: Address of a tf.data service, `grpc://host:port`, whose workers make the batches of
            `stream` and `epoch`. Each batch is the same as without it, but their order is not kept.

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
        augmentations: "Sequence[Augmentation]" = (),
        images: Images | None = None,
        masks: Images | None = None,
        class_counts: Sequence[int] | None = None,
        attention: Any = None,
        data_service: str | None = None,
    ) -> None:
        self.size, self.seed, self.data_service = len(records), seed, data_service
        self.class_counts = class_counts
        self._order = EpochOrder(size=self.size, seed=seed, labels=records.labels, class_counts=class_counts)
        self.batch_size = min(batch_size, self.size, self._order.size)
        self._images, self._masks, self.attention = (
            images or images_from_memory(records, image_shape),
            masks,
            attention,
        )
        self._labels = constant(records.labels)
        self._train_labels = self._labels if records.train_labels is None else constant(records.train_labels)
        self._classes = None if is_multilabel(records.task) else len(records.class_names)
        self._augment = None
        if augmentations:
            from pipelines.augment import Augmenter

            self._augment = Augmenter(augmentations, image_shape=image_shape, seed=seed)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches per epoch; what is left over takes its turn in other epochs."""
        return self._order.size // self.batch_size

    def stream(
        self, start_epoch: int = 0, *, start_step: int = 0, rows: tuple[int, int] | None = None
    ) -> tf.data.Dataset:
        """Returns an endless dataset of augmented, shuffled batches, `steps_per_epoch` an epoch.

        Order and augmentation of an epoch follow from its number alone: `stream(3)` equals `stream(0)` from
        its fourth epoch on, bit for bit.

        Args:
            start_epoch: The first epoch.
            start_step: Its first step, from 0.
            rows: First row, and the one after the last, of what is wanted of each batch; all by default. Nothing
                else is read or augmented, unless augmentations mix the images of a batch.
        """
        steps = self.steps_per_epoch
        dataset = tf.data.Dataset.range(start_epoch * steps + start_step, np.iinfo(np.int64).max)
        dataset = self._mapped(dataset, lambda step: self._augmented(step // steps, step % steps, rows))
        if self.data_service:
            dynamic = service.ShardingPolicy.DYNAMIC
            dataset = dataset.apply(service.distribute(processing_mode=dynamic, service=self.data_service))
        return self._finished(dataset)

    def epoch(self) -> tf.data.Dataset:
        """Returns one epoch of augmented, shuffled batches, another one each time it is iterated.

        Raises:
            ValueError: With a tf.data service, whose workers would not agree on which epoch it is.
        """
        if self.data_service:
            raise InputError(f"A tf.data service makes `train_stream`. Received: data_service={self.data_service!r}")
        steps = self.steps_per_epoch
        draw = tf.data.Dataset.random(seed=self.seed, rerandomize_each_iteration=True).take(1)
        dataset = draw.flat_map(lambda epoch: tf.data.Dataset.range(steps).map(lambda step: (epoch, step)))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps))
        return self._finished(self._mapped(dataset, self._augmented))

    def batches(self) -> tf.data.Dataset:
        """Returns all images once, in the order of the records, neither shuffled nor augmented."""
        dataset = tf.data.Dataset.range(self.size).batch(self.batch_size)
        return self._finished(self._mapped(dataset, lambda indices: self._example(self._batch(indices, self._labels))))

    def shared_batches(self, *, replicas: int, first: int = 0, count: int = 1) -> tf.data.Dataset:
        """Returns the images of some of several replicas, which all together see every image exactly once.

        Step by step and replica by replica, in the order of the records. All replicas take equally many steps, none
        is ever left without images, and what they see in a step differs by one image at most.

        Args:
            replicas: How many replicas share the images.
            first: The first one of those asked for, from 0.
            count: How many are asked for; each step has an element for each of them.

        Raises:
            ValueError: If there are fewer images than replicas.
        """
        if self.size < replicas:
            raise InputError(
                f"Each replica needs an image of a split. Received: {self.size} images, {replicas} replicas"
            )
        steps = max(1, min(-(-self.size // self.batch_size), self.size // replicas))

        def share(number: tf.Tensor) -> Example:
            place = number // count * replicas + first + number % count
            start, end = (i * self.size // (steps * replicas) for i in (place, place + 1))
            return self._example(self._batch(tf.range(start, end), self._labels))

        return self._finished(self._mapped(tf.data.Dataset.range(steps * count), share))

    def shared_steps(self, replicas: int) -> int:
        """Returns the steps of `shared_batches`.

        Raises:
            ValueError: If there are fewer images than replicas.
        """
        if self.size < replicas:
            raise InputError(
                f"Each replica needs an image of a split. Received: {self.size} images, {replicas} replicas"
            )
        return min(-(-self.size // self.batch_size), self.size // replicas)

    def _augmented(self, epoch: tf.Tensor, step: tf.Tensor, rows: tuple[int, int] | None = None) -> Example:
        start, end = rows or (0, self.batch_size)
        if self._mixes:
            # Each image is mixed with its neighbour in the batch, which must be there.
            whole = self._augmented_rows(epoch, step, 0, self.batch_size)
            return tf.nest.map_structure(lambda value: value[start:end], whole)
        return self._augmented_rows(epoch, step, start, end)

    def _augmented_rows(self, epoch: tf.Tensor, step: tf.Tensor, start: int, end: int) -> Example:
        positions = step * self.batch_size + tf.range(start, end, dtype=tf.int64)
        records, copies = self._order(epoch, positions)
        batch = self._batch(records, self._train_labels)
        if self._mixes and self._classes:
            batch["label"] = tf.one_hot(batch["label"], self._classes)
        if self.attention is not None:
            batch["attention"] = self.attention.lookup(records)
        if self._augment is not None:
            # A record that is shown again in an epoch looks another way each time.
            batch = self._augment.augment_batch(batch, epoch, records + copies * self.size)
        return self._example(batch)

    @property
    def _mixes(self) -> bool:
        return self._augment is not None and self._augment.soft_labels

    def _batch(self, indices: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = {"image": self._images(indices), "label": tf.gather(labels, indices)}
        if self._masks is not None:
            batch["mask"] = tf.cast(self._masks(indices)[..., 0] >= 0.5, tf.float32)
        return batch

    def _example(self, batch: dict[str, tf.Tensor]) -> Example:
        if self._masks is None:
            return batch["image"], batch["label"]
        return batch["image"], {"label": batch["label"], "mask": batch["mask"]}

    def _mapped(self, dataset: tf.data.Dataset, fetch: Callable[..., Example]) -> tf.data.Dataset:
        return dataset.map(fetch, num_parallel_calls=tf.data.AUTOTUNE)

    def _finished(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        options = tf.data.Options()
        options.deterministic = True
        return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
