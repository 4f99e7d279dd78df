"""Decoded images by index: kept in memory in their own type, or read again each time they are asked for."""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from pipelines.decode import fit, to_float
from pipelines.records import Records

KEPT_TYPES = (np.uint8, np.uint16)

Images = Callable[[tf.Tensor], tf.Tensor]


def images_from_memory(records: Records, image_shape: Sequence[int]) -> Images:
    """Decodes all images now and returns the function that gathers a batch of them.

    Args:
        records: What to decode.
        image_shape: `(H, W, C)` or `(D, H, W, C)` to fit each image to.

    Returns:
        A function from int64 indices `(batch,)` to float32 images `(batch, *image_shape)` in [0, 1].

    Raises:
        ValueError: If an image cannot be read or is not finite; the record is named.
    """
    decoded = list(_decoded(records, tuple(image_shape)))
    if len({image.dtype for image in decoded}) > 1:
        decoded = [to_float(image) for image in decoded]
    pixels = constant(np.stack(decoded))
    largest = pixels.dtype.max if pixels.dtype.is_integer else 1
    return lambda indices: tf.cast(tf.gather(pixels, indices), tf.float32) / largest


def images_from_source(records: Records, image_shape: Sequence[int]) -> Images:
    """Returns the same function as `images_from_memory`, to the bit, that reads and decodes when called.

    Every image is read once now, so that a bad one is named before the training and not hours into it.
    """
    shape = tuple(image_shape)
    for _ in _decoded(records, shape):
        pass

    def read(indices: np.ndarray) -> np.ndarray:
        return np.stack([to_float(_decode(records, int(i), shape)) for i in indices])

    def images(indices: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(read, [indices], tf.float32, stateful=False)
        return tf.ensure_shape(pixels, (indices.shape[0], *shape))

    return images


def decoded_bytes(records: Records, image_shape: Sequence[int]) -> int:
    """Returns the memory that the decoded images take, judged by the first one."""
    kind = records.read(0).dtype
    return len(records) * math.prod(image_shape) * (kind.itemsize if kind in KEPT_TYPES else 4)


def constant(values: np.ndarray) -> tf.Tensor:
    """Returns a tensor in host memory: a dataset refers to it instead of copying it into its graph."""
    with tf.device("CPU"):
        return tf.constant(values)


def _decoded(records: Records, image_shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from rich.progress.track(
            pool.map(lambda i: _decode(records, i, image_shape), range(len(records))),
            f"Reading {records.name}",
            total=len(records),
            console=rich.console.Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )


def _decode(records: Records, index: int, image_shape: tuple[int, ...]) -> np.ndarray:
    """Returns one image of the wanted shape, in its own integer type or as float32 in [0, 1]."""
    name = records.table["id"][index]
    try:
        image = records.read(index)
        pixels = fit(image, image_shape)
    except (ValueError, OSError) as error:
        raise ValueError(f"Image {name} cannot be used: {error}") from error
    if image.dtype in KEPT_TYPES:
        return np.rint(pixels * np.iinfo(image.dtype).max).astype(image.dtype)
    return pixels
