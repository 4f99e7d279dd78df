"""Decoded images on disk: decoded once, in checksummed shards of one array that TensorFlow maps into memory.

A shard is a run of records. Its pixels are written at their place in `images.bin`, then its checksum to a file of
its own, by rename: a shard without a fitting checksum is not there. So a killed job goes on with the missing
shards, and jobs that make the same cache at once write the same bytes to the same places.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.images.records import Records
from pipelines.input.cache import Images, decode_all, decode_record, scaled
from pipelines.io.run_folder import atomic_path

FORMAT = 1
SHARD_BYTES = 32 * 2**20


def images_from_shards(records: Records, image_shape: Sequence[int], folder: str | os.PathLike) -> Images:
    """Decodes what is not yet in the cache and returns the function that gathers a batch from it.

    The function is made of TensorFlow operations alone: it also runs in the worker processes of a tf.data
    service that see the same folder. Memory stays bounded, as the system drops mapped pages at will.

    Args:
        records: What to decode; their source tells when an image has changed (`Records.fingerprint`).
        image_shape: `(H, W, C)` or `(D, H, W, C)` to fit each image to.
        folder: Folder of caches, on a local or network file system; each set of images has its own in it,
            named by a digest of ids, fingerprints and shape.

    Returns:
        A function from int64 indices `(batch,)` to float32 images `(batch, *image_shape)` in [0, 1].

    Raises:
        ValueError: If the source cannot tell when an image has changed, or an image cannot be read.
        OSError: If the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from pipelines.sources import open_source
        >>> images = images_from_shards(open_source("phantom", images=8), (64, 64, 1), tempfile.mkdtemp())
        >>> images(tf.constant([5, 2], tf.int64)).shape
        TensorShape([2, 64, 64, 1])
    """
    kind = decode_record(records, 0, image_shape).dtype
    try:
        shards = _complete(records, image_shape, folder, kind)
    except _OtherType:
        # Rare: a set whose images are stored in several types is kept in the type that holds them all.
        shards = _complete(records, image_shape, folder, np.dtype(np.float32))
    path, shape, dtype = str(shards.path.resolve()), (len(records), *image_shape), tf.as_dtype(shards.dtype)

    def images(indices: tf.Tensor) -> tf.Tensor:
        return scaled(tf.gather(mapped(path, shape, dtype), indices))

    return images


def mapped(path: str, shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Returns an array file as a tensor, mapped into memory, so that only rows that are gathered are read.

    The file must not change.

    Args:
        path: A file of at least as many bytes as the array, in C order and the machine's byte order.
        shape: Of the array.
        dtype: Of the array.
    """
    return tf.raw_ops.ImmutableConst(dtype=dtype, shape=shape, memory_region_name=path)


class _OtherType(Exception):
    pass


class _Shards:
    """The array file of one set of images, with the checksums of its shards."""

    def __init__(self, folder: pathlib.Path, *, count: int, image_shape: Sequence[int], dtype: np.dtype) -> None:
        self.folder, self.path = folder, folder / "images.bin"
        self.count, self.image_shape, self.dtype = count, tuple(image_shape), dtype
        self.record_bytes = int(np.prod(image_shape)) * dtype.itemsize
        self.records_per_shard = max(1, SHARD_BYTES // self.record_bytes)

    def __len__(self) -> int:
        return -(-self.count // self.records_per_shard)

    def records_of(self, shard: int) -> range:
        start = shard * self.records_per_shard
        return range(start, min(start + self.records_per_shard, self.count))

    def is_sound(self, shard: int) -> bool:
        """Says whether the bytes of a shard are those that its checksum was made of."""
        note = self.folder / f"{shard:05d}.sha256"
        try:
            return note.read_text() == hashlib.sha256(self._read(shard)).hexdigest()
        except OSError:
            return False

    def write(self, shard: int, pixels: np.ndarray) -> None:
        data = pixels.tobytes()
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            file.seek(shard * self.records_per_shard * self.record_bytes)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with atomic_path(self.folder / f"{shard:05d}.sha256") as temporary:
            temporary.write_text(hashlib.sha256(data).hexdigest())

    def _read(self, shard: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(shard * self.records_per_shard * self.record_bytes)
            return file.read(len(self.records_of(shard)) * self.record_bytes)


def _complete(records: Records, image_shape: Sequence[int], folder: str | os.PathLike, dtype: np.dtype) -> _Shards:
    """Makes the shards that are missing or damaged."""
    own = pathlib.Path(folder) / f"{_digest(records, image_shape)}-{dtype}"
    own.mkdir(parents=True, exist_ok=True)
    shards = _Shards(own, count=len(records), image_shape=image_shape, dtype=dtype)
    for shard in _from_anywhere(len(shards)):
        if not shards.is_sound(shard):
            shards.write(shard, _decoded(records, shards, shard))
    return shards


def _from_anywhere(count: int) -> Iterator[int]:
    """Yields all shards, each process from another one on: jobs that start together share the work."""
    start = os.getpid() % count
    return iter([*range(start, count), *range(start)])


def _decoded(records: Records, shards: _Shards, shard: int) -> np.ndarray:
    indices = shards.records_of(shard)
    title = f"Decoding {records.name}, part {shard + 1} of {len(shards)}"
    pixels = np.empty((len(indices), *shards.image_shape), shards.dtype)
    for row, image in enumerate(decode_all(records, shards.image_shape, indices, title=title)):
        if image.dtype != shards.dtype and shards.dtype != np.float32:
            raise _OtherType
        pixels[row] = image if image.dtype == shards.dtype else image / np.float32(np.iinfo(image.dtype).max)
    return pixels


def _digest(records: Records, image_shape: Sequence[int]) -> str:
    if records.fingerprint is None:
        raise InputError(
            f"A cache needs a source that tells when an image changes (Records.fingerprint). Received: {records.name}"
        )
    digest = hashlib.sha256(json.dumps([FORMAT, records.name, list(image_shape)]).encode())
    for i, name in enumerate(records.table["id"]):
        digest.update(json.dumps([str(name), records.fingerprint(i)]).encode())
    return digest.hexdigest()[:16]
