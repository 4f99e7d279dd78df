"""Decoded images by index: kept in memory in their own type, or read again each time they are asked for."""

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import rich.console
import rich.progress
import tensorflow as tf

from medkeras.errors import InputError
from pipelines.images.decode import fit_stored, to_float
from pipelines.images.records import Records
from pipelines.input.failures import noting

# From int64 indices `(batch,)` to float32 images `(batch, *image_shape)` in [0, 1].
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
    decoded = list(decode_all(records, image_shape, range(len(records)), title=f"Reading {records.name}"))
    if len({image.dtype for image in decoded}) > 1:
        decoded = [to_float(image) for image in decoded]
    pixels = constant(np.stack(decoded))
    return lambda indices: scaled(tf.gather(pixels, indices))


def images_from_source(records: Records, image_shape: Sequence[int], *, check: bool = True) -> Images:
    """Returns the same function as `images_from_memory`, to the bit, that reads and decodes when called.

    Args:
        records: What to decode.
        image_shape: `(H, W, C)` or `(D, H, W, C)` to fit each image to.
        check: Whether to read every image once now, so that a bad one is named before the training and not
            hours into it.

    Raises:
        ValueError: If an image is checked and cannot be read or is not finite; the record is named.
    """
    shape, kinds = tuple(image_shape), {np.dtype(np.float32)}
    if check:
        decoded = decode_all(records, shape, range(len(records)), title=f"Checking {records.name}")
        kinds = {image.dtype for image in decoded}
    kind = kinds.pop() if len(kinds) == 1 else np.dtype(np.float32)

    def read(indices: np.ndarray) -> np.ndarray:
        decoded = [decode_record(records, int(i), shape) for i in indices]
        return np.stack([to_float(image) for image in decoded] if kind == np.float32 else decoded)

    def images(indices: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(noting(read), [indices], tf.as_dtype(kind), stateful=False)
        return scaled(tf.ensure_shape(pixels, (indices.shape[0], *shape)))

    return images


def taken(images: Images, positions: np.ndarray) -> Images:
    """Returns the images at some positions of others, by index of their own."""
    positions = constant(np.asarray(positions, np.int64))
    return lambda indices: images(tf.gather(positions, indices))


def mask_records(records: Records) -> Records:
    """Returns the lesion masks of records as records of grey images, 255 inside a lesion.

    Raises:
        ValueError: If the source has no masks.
    """
    read_mask = records.read_mask
    if read_mask is None:
        raise InputError(f"Masks can be had where the source has any. Received: {records.name} without masks")
    return dataclasses.replace(
        records,
        name=f"masks of {records.name}",
        read=lambda i: np.where(read_mask(i), np.uint8(255), np.uint8(0)),
        read_mask=None,
        read_shape=None,
    )


def decoded_bytes(records: Records, image_shape: Sequence[int]) -> int:
    """Returns the memory that the decoded images take, judged by the first one."""
    return len(records) * math.prod(image_shape) * decode_record(records, 0, image_shape).itemsize


def constant(values: np.ndarray) -> tf.Tensor:
    """Returns a tensor in host memory: a dataset refers to it instead of copying it into its graph."""
    with tf.device("CPU"):
        return tf.constant(values)


def scaled(pixels: tf.Tensor) -> tf.Tensor:
    """Scales stored pixels, of an integer type or float32 in [0, 1], to float32 in [0, 1]."""
    largest = pixels.dtype.max if pixels.dtype.is_integer else 1
    return tf.cast(pixels, tf.float32) / largest


def decode_all(
    records: Records, image_shape: Sequence[int], indices: Sequence[int], *, title: str
) -> Iterator[np.ndarray]:
    """Yields images in order, read by several threads of which each is at most a few images ahead."""
    ahead = 4 * (os.cpu_count() or 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = []
        for i in _progress(indices, title):
            waiting.append(pool.submit(decode_record, records, int(i), image_shape))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        yield from (image.result() for image in waiting)


def decode_record(records: Records, index: int, image_shape: Sequence[int]) -> np.ndarray:
    """Returns one image of the wanted shape, in its own integer type or as float32 in [0, 1].

    Raises:
        ValueError: If it cannot be read or is not finite; the record is named.
    """
    try:
        return fit_stored(records.read(index), tuple(image_shape))
    except (ValueError, OSError) as error:
        raise InputError(f"Image {records.table['id'].iloc[index]} cannot be used: {error}") from error


def _progress(indices: Sequence[int], title: str) -> Iterator[int]:
    """Shows a bar on a terminal, and nothing elsewhere."""
    return rich.progress.track(
        indices,
        title,
        total=len(indices),
        console=rich.console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
