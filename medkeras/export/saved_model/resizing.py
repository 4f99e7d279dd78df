"""Resizing in a TensorFlow graph exactly as OpenCV does it, level for level.

A model was trained on images that OpenCV resized. Area means of whole levels often end on a half, and then the order
of the sums decides how it is rounded; hence the sums here are OpenCV's own, tap by tap, in its precision.
"""

from collections.abc import Sequence
from typing import Any

# The weights of OpenCV's grey, ITU-R BT.601, in 2**-15.
_RED, _GREEN, _BLUE, _BITS = 9798, 19235, 3735, 15
_SLIVER = 1e-3  # OpenCV passes over a share of a pixel below this.


def fit_levels(levels: Any, shape: Sequence[int]) -> Any:
    """Brings the stored levels of an image to a shape: grey or RGB, then resized, and rounded to levels again.

    Each axis is resized on its own, by area means where it shrinks and linearly where it grows.

    Args:
        levels: int32 `(H, W, C)` of 1 or 3 channels.
        shape: `(H, W, C)` wanted, of 1 or 3 channels.

    Returns:
        float32 of this shape, whole numbers.

    Example:
        >>> import tensorflow as tf
        >>> float(fit_levels(tf.constant([[[10], [20]], [[30], [41]]]), (1, 1, 1))[0, 0, 0])
        25.0
    """
    import tensorflow as tf

    *size, channels = shape
    if channels == 1:
        levels = tf.cond(tf.shape(levels)[-1] == 3, lambda: _grey(levels), lambda: levels)
    levels = _resized(tf.cast(levels, tf.float32), size)
    if channels == 3:
        levels = tf.cond(tf.shape(levels)[-1] == 1, lambda: tf.repeat(levels, 3, axis=-1), lambda: levels)
    return tf.ensure_shape(levels, shape)


def _grey(levels: Any) -> Any:
    import tensorflow as tf

    red, green, blue = tf.unstack(tf.cast(levels[..., :3], tf.int64), num=3, axis=-1)
    total = red * _RED + green * _GREEN + blue * _BLUE + (1 << (_BITS - 1))
    return tf.cast(tf.bitwise.right_shift(total, tf.constant(_BITS, tf.int64)), tf.int32)[..., None]


def _resized(image: Any, size: Sequence[int]) -> Any:
    import tensorflow as tf

    stored, wanted = tf.shape(image)[:2], tf.constant(size)
    smaller = tf.minimum(stored, wanted)
    scales = 1 / (tf.cast(smaller, tf.float64) / tf.cast(stored, tf.float64))
    is_whole = tf.reduce_all(scales == tf.round(scales))
    for axis in (1, 0):
        image = _area(image, axis, smaller[axis], scales[axis], is_whole)
    image *= tf.where(is_whole, tf.cast(1 / tf.reduce_prod(scales), tf.float32), 1.0)
    # OpenCV's mean of two by two pixels rounds halves up; its other means round them to even.
    is_up = tf.reduce_any(smaller < wanted) | tf.reduce_all(scales == 2)
    for axis in (1, 0):
        image = _linear(image, axis, size[axis])
    return tf.where(is_up, tf.floor(image + 0.5), tf.round(image))


def _area(image: Any, axis: int, size: Any, scale: Any, is_whole: Any) -> Any:
    """Returns the area means along an axis; where every scale is whole, the sums."""
    import tensorflow as tf

    stored = tf.cast(tf.shape(image)[axis], tf.float64)
    start = tf.cast(tf.range(size), tf.float64) * scale
    end, cell = start + scale, tf.minimum(scale, stored - start)
    last = tf.minimum(tf.floor(end), stored - 1)
    first = tf.minimum(tf.math.ceil(start), last)
    head, tail = first - start, tf.minimum(tf.minimum(end - last, 1), cell)
    begin = tf.where(head > _SLIVER, first - 1, first)

    def add(tap: Any, total: Any) -> tuple[Any, Any]:
        place = begin + tf.cast(tap, tf.float64)
        behind = tf.where((place == last) & (end - last > _SLIVER), tail, 0)
        weight = tf.where(place < first, head, tf.where(place < last, tf.ones_like(start), behind)) / cell
        weight = tf.where(is_whole & (weight > 0), tf.ones_like(weight), weight)
        weight = tf.reshape(tf.cast(weight, tf.float32), (-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = tf.gather(image, tf.cast(tf.minimum(place, stored - 1), tf.int32), axis=axis)
        return tap + 1, total + pixels * weight

    taps = tf.cast(tf.math.ceil(scale), tf.int32) + 1
    zeros = tf.zeros_like(tf.gather(image, tf.cast(begin, tf.int32), axis=axis))
    shapes = (tf.TensorShape(()), tf.TensorShape((None, None, None)))
    return tf.while_loop(lambda tap, _: tap < taps, add, (0, zeros), shape_invariants=shapes)[1]


def _linear(image: Any, axis: int, size: int) -> Any:
    import tensorflow as tf

    stored = tf.shape(image)[axis]
    scale = 1 / (tf.constant(float(size), tf.float64) / tf.cast(stored, tf.float64))
    places = tf.cast((tf.range(size, dtype=tf.float64) + 0.5) * scale - 0.5, tf.float32)
    lower = tf.floor(places)
    share = tf.reshape(places - lower, (-1, 1, 1) if axis == 0 else (1, -1, 1))
    below, above = (tf.clip_by_value(tf.cast(lower, tf.int32) + n, 0, stored - 1) for n in (0, 1))
    return tf.gather(image, below, axis=axis) * (1 - share) + tf.gather(image, above, axis=axis) * share
