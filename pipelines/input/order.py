"""Which record stands where in an epoch: a seeded shuffle by index, in constant memory."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError

ROUNDS = 16  # Of the cipher; with 4, the op's default, neighbours stay neighbours more often than by chance.


class EpochOrder:
    """Maps positions of an epoch to records, another way in every epoch.

    Nothing as long as the data is shuffled or kept: position and epoch alone give the record, so any worker
    can make any batch, and a continued training goes on where it stood.

    Args:
        labels: Class index of every record, `(n,)`; only needed with `class_counts`.
        size: Number of records.
        seed: Any integer.
        class_counts: How many images of each class an epoch shows, see `pipelines.splits.balance`; by default every
            record is shown once. A class that is to show more images than it has shows each equally often,
            give or take one; a class that is to show fewer shows others in other epochs.

    Raises:
        ValueError: If images of a class are wanted that has none.

    Example:
        >>> order = EpochOrder(size=4, seed=0)
        >>> records, copies = order(tf.constant(0, tf.int64), tf.range(4, dtype=tf.int64))
        >>> sorted(records.numpy().tolist()), copies.numpy().tolist()
        ([0, 1, 2, 3], [0, 0, 0, 0])
    """

    def __init__(
        self,
        *,
        size: int,
        seed: int = 0,
        labels: np.ndarray | None = None,
        class_counts: Sequence[int] | None = None,
    ) -> None:
        self.seed = seed
        groups, counts = [np.arange(size)], [size]
        if class_counts is not None:
            groups = [np.flatnonzero(labels == c) for c in range(len(class_counts))]
            counts = [int(count) for count in class_counts]
        for c, (group, count) in enumerate(zip(groups, counts, strict=True)):
            if count and not len(group):
                raise InputError(f"Images of a class can be drawn where it has any. Received: {count} of class {c}")
        self._members = np.concatenate(groups).astype(np.int64)
        self._sizes = np.array([len(group) for group in groups], np.int64)
        self._counts = np.array(counts, np.int64)

    @property
    def size(self) -> int:
        """Images per epoch."""
        return int(self._counts.sum())

    def __call__(self, epoch: tf.Tensor, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the record at each position of an epoch, and which repetition of it that is, counted from 0.

        Args:
            epoch: int64 scalar.
            positions: int64 `(batch,)`, each below `size`.
        """
        places = _shuffled(positions, self.size, self._keys(epoch, tf.zeros_like(positions)))
        ends = np.cumsum(self._counts)
        group = tf.searchsorted(ends, places, side="right", out_type=tf.int64)
        rank = places - tf.gather(ends - self._counts, group)
        size = tf.gather(self._sizes, group)
        member = _shuffled(rank % size, size, self._keys(epoch, group + 1))
        first = tf.gather(np.cumsum(self._sizes) - self._sizes, group)
        return tf.gather(self._members, first + member), rank // size

    def _keys(self, epoch: tf.Tensor, streams: tf.Tensor) -> tf.Tensor:
        """Returns a well mixed key `(batch, 3)` of each stream of random numbers."""
        seed = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(epoch, tf.int64)])
        streams, where = tf.unique(streams)

        def mixed(stream: tf.Tensor) -> tf.Tensor:
            key = tf.random.experimental.stateless_fold_in(seed, stream)
            return tf.random.stateless_uniform([3], key, minval=None, maxval=None, dtype=tf.uint32)

        return tf.gather(tf.map_fn(mixed, streams, fn_output_signature=tf.uint32), where)


def _shuffled(index: tf.Tensor, size: int | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Returns where each index goes when the numbers below `size` are shuffled by the index's key."""
    last = tf.zeros_like(index) + size - 1
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=key, max_index=last, rounds=ROUNDS)
