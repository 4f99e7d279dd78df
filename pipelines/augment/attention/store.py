"""What the model attends to in each record, in a file that tf.data reads while training goes on."""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.io.run_folder import atomic_path

DTYPES = ("float16", "float32")
BATCH = 1024  # Maps written at a time.
# TensorFlow replaces a mapped file of at most this size by what it holds when a graph is built, for good.
FOLDED_BYTES = 10 * 2**20


class AttentionStore:
    """One attention map per record, memory-mapped.

    A lookup is a TensorFlow operation that maps the file each time it runs: it works in `Dataset.map`, on the
    workers of a tf.data service that see the same file, and gives the new maps as soon as they are written. A
    file that is there already is kept, so an interrupted training goes on with its maps; a new one is constant,
    which neither crops nor drops anything.

    A dataset that works ahead of the training across epochs reads maps that are replaced before they are used;
    a finite one that starts with each epoch, such as `InputPipeline.epoch()`, does not.

    Each map is divided by its largest absolute value, for only its shape matters and half precision cannot hold
    every scale.

    Args:
        path: The file; a folder that all workers see.
        size: Number of records.
        map_shape: Cells of each axis: two, or three for volumes.
        dtype: `float16` or `float32`.

    Raises:
        ValueError: If an argument is out of its range, or the file holds other maps.

    Example:
        >>> import tempfile
        >>> store = AttentionStore(f"{tempfile.mkdtemp()}/maps", size=3, map_shape=(1, 2))
        >>> store.write(np.array([[[0, 1]], [[2, 4]], [[8, 0]]]))
        >>> store.lookup(tf.constant([1, 0]))[:, 0].numpy().tolist()
        [[0.5, 1.0], [0.0, 1.0]]
    """

    def __init__(self, path: str | os.PathLike, *, size: int, map_shape: Sequence[int], dtype: str = "float16") -> None:
        # Absolute: a worker of a tf.data service stands in another folder.
        self.path = pathlib.Path(path).absolute()
        self.size, self.map_shape, self.dtype = int(size), tuple(map_shape), dtype
        if self.size < 1 or len(self.map_shape) not in (2, 3) or min(self.map_shape) < 1:
            raise InputError(
                "`size` must be positive and `map_shape` two or three positive numbers. "
                f"Received: size={size}, map_shape={self.map_shape}"
            )
        if dtype not in DTYPES:
            raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: dtype={dtype!r}")
        map_bytes = math.prod(self.map_shape) * np.dtype(dtype).itemsize
        # Behind the maps comes a hole, which takes no space on the disk, and behind that the description.
        self._rows = max(self.size, FOLDED_BYTES // map_bytes + 1)
        self._end = self._rows * map_bytes
        if not self.path.is_file():
            self.clear()
        self._check_file()

    def lookup(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns the maps of records, float32 `(batch, *map_shape)`.

        Args:
            indices: Which records, `(batch,)`; within a graph no constant, else it is looked up once for all.

        Raises:
            InvalidArgumentError: If an index is no record, when it runs.
            NotFoundError: If the file is gone, when it runs.
        """
        with tf.device("CPU"):
            indices = tf.convert_to_tensor(indices)
            # Not read here but mapped at each execution.
            maps = tf.raw_ops.ImmutableConst(
                dtype=tf.as_dtype(self.dtype), shape=(self._rows, *self.map_shape), memory_region_name=str(self.path)
            )
            # The rows of the hole are no records.
            rows = tf.where(indices < self.size, indices, self._rows)
            return tf.cast(tf.gather(maps, rows), tf.float32)

    def write(self, maps: np.ndarray | Iterable[np.ndarray]) -> None:
        """Replaces all maps at once; a lookup sees the old ones or the new ones, never some of each.

        Args:
            maps: `(size, *map_shape)` in the order of the records, or an iterable of batches of them. A map
                that is not finite becomes 0.

        Raises:
            ValueError: If the maps are of another shape or number; then the old ones stay.
        """
        batches = [maps[i : i + BATCH] for i in range(0, len(maps), BATCH)] if hasattr(maps, "shape") else maps
        written = 0
        with atomic_path(self.path) as temporary:
            with open(temporary, "wb") as file:
                for batch in batches:
                    batch = np.asarray(batch, np.float32)
                    if batch.shape[1:] != self.map_shape:
                        raise InputError(f"Maps must be of shape {self.map_shape}. Received: {batch.shape[1:]}")
                    file.write(_scaled(batch).astype(self.dtype).tobytes())
                    written += len(batch)
                file.seek(self._end)
                file.write(self._description())
            if written != self.size:
                raise InputError(f"There must be a map for each of the {self.size} records. Received: {written} maps")

    def clear(self) -> None:
        """Makes all maps constant, so that nothing is cropped or dropped until the next `write`."""
        blank = np.zeros((1, *self.map_shape), np.float32)
        self.write(
            np.broadcast_to(blank, (min(BATCH, self.size - i), *self.map_shape)) for i in range(0, self.size, BATCH)
        )

    def _description(self) -> bytes:
        return json.dumps({"size": self.size, "map_shape": self.map_shape, "dtype": self.dtype}).encode()

    def _check_file(self) -> None:
        with open(self.path, "rb") as file:
            file.seek(self._end)
            found = file.read()
        if found != self._description():
            raise InputError(
                f"{self.path} must hold {self.size} maps of shape {self.map_shape}, {self.dtype}; it is of another "
                f"training. Received: {found[:100].decode(errors='replace') or 'another size'}"
            )


def _scaled(maps: np.ndarray) -> np.ndarray:
    axes = tuple(range(1, maps.ndim))
    maps = np.where(np.isfinite(maps).all(axis=axes, keepdims=True), maps, 0)
    largest = np.abs(maps).max(axis=axes, keepdims=True)
    return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)
