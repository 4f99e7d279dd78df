"""Reading images at fractional positions, by gathers that XLA compiles."""

import itertools
import math
from collections.abc import Sequence

import tensorflow as tf

from medkeras.errors import InputError

BORDERS = ("edge", "zero", "reflect")


def warp(images: tf.Tensor, coordinates: Sequence[tf.Tensor], *, border: str = "edge") -> tf.Tensor:
    """Reads images at fractional positions, linearly interpolated.

    Args:
        images: `(batch, *sizes, channels)`, float, one or more sizes, known.
        coordinates: For each axis the positions to read, in pixels, `(batch, *output sizes)`.
        border: What lies outside: `edge`, the nearest pixel; `zero`; `reflect`, the image mirrored about its
            outline (`d c b a | a b c d | d c b a`).

    Returns:
        `(batch, *output sizes, channels)`.

    Raises:
        ValueError: If the border is unknown.

    Example:
        >>> image = tf.reshape([0.0, 1.0, 2.0, 3.0], (1, 2, 2, 1))
        >>> warp(image, [tf.constant([[0.5]]), tf.constant([[0.25]])]).numpy()
        array([[[1.25]]], dtype=float32)
    """
    check_border(border)
    sizes = images.shape[1:-1]
    weights, index = [], _first_of_record(images, coordinates)
    for axis, size in enumerate(sizes):
        position = tf.clip_by_value(within(coordinates[axis], size, border), 0.0, size - 1.0)
        # The lower neighbour is at most the last but one, so that its upper neighbour exists.
        floor = tf.minimum(tf.floor(position), max(size - 2.0, 0.0))
        weights.append((position - floor)[..., None])
        index += tf.cast(floor, index.dtype) * math.prod(sizes[axis + 1 :])
    flat = tf.reshape(images, (-1, images.shape[-1]))
    steps = [math.prod(sizes[axis + 1 :]) if size > 1 else 0 for axis, size in enumerate(sizes)]
    output = 0.0
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        # Not low + weight * (high - low), which misses a pixel's own value by rounding where the weight is 1.
        share = math.prod(w if side else 1 - w for w, side in zip(weights, corner, strict=True))
        output += share * tf.gather(flat, index + sum(s * side for s, side in zip(steps, corner, strict=True)))
    return output * _coverage(coordinates, sizes)[..., None] if border == "zero" else output


def warp_nearest(values: tf.Tensor, coordinates: Sequence[tf.Tensor], *, border: str = "edge") -> tf.Tensor:
    """Reads masks, or any values without channels, at the nearest pixel; halves go up.

    Args:
        values: `(batch, *sizes)`, of any number type.
        coordinates: For each axis the positions to read, in pixels, `(batch, *output sizes)`.
        border: See `warp`.

    Returns:
        `(batch, *output sizes)`.

    Raises:
        ValueError: If the border is unknown.

    Example:
        >>> warp_nearest(tf.constant([[3, 5]]), [tf.constant([[-1.0, 0.4, 0.5]])]).numpy()
        array([[3, 3, 5]], dtype=int32)
    """
    check_border(border)
    sizes = values.shape[1:]
    index, inside = _first_of_record(values[..., None], coordinates), True
    for axis, size in enumerate(sizes):
        place = tf.floor(within(coordinates[axis], size, border) + 0.5)
        inside &= (place >= 0) & (place < size)
        place = tf.clip_by_value(place, 0.0, size - 1.0)
        index += tf.cast(place, index.dtype) * math.prod(sizes[axis + 1 :])
    read = tf.gather(tf.reshape(values, [-1]), index)
    return tf.where(inside, read, tf.zeros_like(read)) if border == "zero" else read


def within(position: tf.Tensor, size: int, border: str) -> tf.Tensor:
    """Returns the position in the image that stands for one outside; `zero` leaves it outside.

    Example:
        >>> within(tf.constant([-3.0, 1.2]), 4, "edge").numpy()
        array([0. , 1.2], dtype=float32)
    """
    if border == "edge":
        return tf.clip_by_value(position, 0.0, size - 1.0)
    if border == "reflect":
        return size - 0.5 - tf.abs(size - tf.math.floormod(position + 0.5, 2.0 * size))
    return position


def check_border(border: str) -> None:
    """Raises a ValueError unless the border is one of `BORDERS`.

    Example:
        >>> check_border("edge")
    """
    if border not in BORDERS:
        raise InputError(f"`border` must be one of {', '.join(BORDERS)}. Received: border={border!r}")


def _first_of_record(images: tf.Tensor, coordinates: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns where each record begins among the pixels of the batch, as a shape that meets the coordinates."""
    pixels = math.prod(images.shape[1:-1])
    # 32 bits are faster and hold 128 volumes of 256 x 256 x 256.
    dtype = tf.int32 if pixels <= 2**24 else tf.int64
    first = tf.range(tf.cast(tf.shape(images)[0], dtype), dtype=dtype) * pixels
    return tf.reshape(first, [-1] + [1] * (coordinates[0].shape.rank - 1))


def _coverage(coordinates: Sequence[tf.Tensor], sizes: Sequence[int]) -> tf.Tensor:
    """Returns how much of each read pixel lies in the image, in [0, 1]."""
    coverage = 1.0
    for position, size in zip(coordinates, sizes, strict=True):
        outside = tf.abs(position - tf.clip_by_value(position, 0.0, size - 1.0))
        coverage *= tf.maximum(1.0 - outside, 0.0)
    return coverage
