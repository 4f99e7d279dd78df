"""Boxes that go along with an image: `(batch, n, 2 * axes)`, the lower corner, then the upper one.

Corners are in pixels and count like slices: a box holds the pixels lower, ..., upper - 1 of each axis (height and
width; or depth, height and width). A row whose upper corner is not above its lower one, such as all -1 or NaN, is
no box; every augmentation gives such rows back as -1.
"""

import math

import tensorflow as tf

NO_BOX = -1.0


def flip_boxes(boxes: tf.Tensor, *, axis: int, size: int, chosen: tf.Tensor) -> tf.Tensor:
    """Mirrors the boxes of chosen images along one axis.

    Args:
        boxes: `(batch, n, 2 * axes)`, see above.
        axis: The axis, 0 for the first of the image.
        size: Pixels of that axis.
        chosen: Which images to mirror, bool `(batch,)`.

    Returns:
        Boxes of the same shape.

    Example:
        >>> boxes = tf.constant([[[0.0, 1.0, 2.0, 4.0]]])
        >>> flip_boxes(boxes, axis=1, size=10, chosen=tf.constant([True])).numpy().tolist()
        [[[0.0, 6.0, 2.0, 9.0]]]
    """
    corners = tf.unstack(boxes, axis=-1)
    lower, upper = corners[axis], corners[axis + len(corners) // 2]
    chosen = chosen[:, None]
    corners[axis] = tf.where(chosen, size - upper, lower)
    corners[axis + len(corners) // 2] = tf.where(chosen, size - lower, upper)
    return without_empty(tf.stack(corners, axis=-1), boxes)


def boxes_of_map(boxes: tf.Tensor, coordinates: list[tf.Tensor], sizes: tuple[int, ...]) -> tf.Tensor:
    """Returns the smallest boxes around the output pixels whose source pixel lies in the old boxes.

    It holds for any map, also one that bends. A box whose pixels are all gone becomes no box.

    Args:
        boxes: `(batch, n, 2 * axes)`, see above.
        coordinates: For each axis, where the output pixels come from, in pixels, `(batch, *sizes)`.
        sizes: Pixels of each axis.

    Example:
        >>> height, width = tf.meshgrid(tf.range(4.0), tf.range(4.0), indexing="ij")
        >>> to_the_left = [height[None], width[None] + 1]
        >>> boxes_of_map(tf.constant([[[0.0, 2.0, 2.0, 4.0]]]), to_the_left, (4, 4)).numpy().tolist()
        [[[0.0, 1.0, 2.0, 3.0]]]
    """
    rank, count = len(sizes), boxes.shape[1]
    lower, upper = boxes[..., :rank], boxes[..., rank:]
    inside = True
    for axis, source in enumerate(coordinates):
        bounds = [tf.reshape(corner[..., axis] - 0.5, [-1, count] + [1] * rank) for corner in (lower, upper)]
        inside = (source[:, None] >= bounds[0]) & (source[:, None] < bounds[1]) & inside
    first, last = [], []
    for axis, size in enumerate(sizes):
        others = [2 + other for other in range(rank) if other != axis]
        met = tf.reduce_any(inside, axis=others)
        places = tf.range(size, dtype=boxes.dtype)
        first.append(tf.reduce_min(tf.where(met, places, math.inf), axis=-1))
        last.append(tf.reduce_max(tf.where(met, places + 1, -math.inf), axis=-1))
    return without_empty(tf.stack(first + last, axis=-1), boxes)


def without_empty(boxes: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
    """Returns the boxes with -1 in each row that is no box now, or was none before.

    Example:
        >>> without_empty(tf.constant([[5.0, 5.0, 2.0, 8.0]]), tf.zeros((1, 4))).numpy().tolist()
        [[-1.0, -1.0, -1.0, -1.0]]
    """
    rank = boxes.shape[-1] // 2
    boxes_stay = tf.ones_like(boxes[..., :1], tf.bool)
    for rows in (old, boxes):
        boxes_stay &= tf.reduce_all(rows[..., rank:] > rows[..., :rank], axis=-1, keepdims=True)
    return tf.where(boxes_stay, boxes, tf.cast(NO_BOX, boxes.dtype))
