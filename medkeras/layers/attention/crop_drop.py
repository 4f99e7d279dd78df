"""Attention-guided cropping and dropping: an image zoomed to what a map attends to, or without it.

Everything has a fixed size, so it compiles under XLA, in 2D and 3D. Positions are found in whole numbers, hence
equal on every backend, and a box that is the whole image changes no pixel. Images are read by gathering two
neighbours per axis: at 224 pixels on a CPU, a dense matrix per axis takes over ten times as long.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from medkeras.errors import InputError

PEAKS = ("map", "image")


def attention_crop(
    images: Any, attention: Any, *, threshold: Any = 0.5, padding: float = 0.1, peak: str = "map"
) -> Any:
    """Cuts out of each image the box that its attention map chooses, and resizes it to the size of the image.

    Args:
        images: `(batch, *sizes, channels)`, float, two or three sizes, known.
        attention: `(batch, *cells)`, one map per image; no gradient flows to it.
        threshold: See `attention_box`.
        padding: See `attention_box`.
        peak: See `attention_box`.

    Returns:
        Images of the same shape, interpolated linearly with aligned corners.

    Raises:
        ValueError: If an argument is out of range, or the ranks do not fit.

    Reference:
        Hu et al., See Better Before Looking Closer: Weakly Supervised Data Augmentation Network for Fine-Grained
        Visual Classification, arXiv 1901.09891.

    Example:
        >>> images = ops.reshape(ops.arange(9.0), (1, 3, 3, 1))
        >>> attention = ops.reshape(ops.array([1.0, 1.0, 0.0] * 3), (1, 3, 3))
        >>> ops.convert_to_numpy(attention_crop(images, attention, padding=0.34))[0, ..., 0].tolist()
        [[0.0, 0.5, 1.0], [3.0, 3.5, 4.0], [6.0, 6.5, 7.0]]
    """
    sizes = _sizes(images, attention)
    boxes = attention_box(attention, image_size=sizes, threshold=threshold, padding=padding, peak=peak)
    return crop_to_boxes(images, boxes)


def attention_drop(
    images: Any, attention: Any, *, threshold: Any = 0.5, peak: str = "map", fill: float | Sequence[float] = 0.0
) -> Any:
    """Erases from each image the pixels where its attention map is at least a share of its maximum.

    Args:
        images: `(batch, *sizes, channels)`, float, two or three sizes, known.
        attention: `(batch, *cells)`, resized to the image as in `attention_box`; no gradient flows to it. A map
            that is constant, nowhere positive or not finite erases nothing.
        threshold: Share of the maximum, in [0, 1]; a number, or a tensor with one per image.
        peak: See `attention_box`.
        fill: The value of erased pixels, one or one per channel. The published systems erase after
            normalisation: on images in [0, 1], their 0 is the mean of the data set.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: If an argument is out of range, or the ranks do not fit.

    Reference:
        Hu et al., arXiv 1901.09891.

    Example:
        >>> attention = ops.reshape(ops.array([1.0, 0.4, 0.2]), (1, 1, 3))
        >>> ops.convert_to_numpy(attention_drop(ops.ones((1, 1, 3, 1)), attention))[0, 0, :, 0].tolist()
        [0.0, 1.0, 1.0]
    """
    sizes, channels = _sizes(images, attention), images.shape[-1]
    values, limit, has_peak = _levels(attention, sizes, threshold, peak, repeats=channels)
    # Pixels and channels are one axis: a mask repeated along a short last axis would not be vectorised.
    rows = ops.reshape(images, (-1, *sizes[:-1], sizes[-1] * channels))
    kept = ops.logical_or(values < limit, ops.logical_not(has_peak))
    filling = np.tile(np.broadcast_to(np.asarray(fill, "float32"), (channels,)), sizes[-1])
    return ops.reshape(ops.where(kept, rows, ops.cast(filling, images.dtype)), (-1, *sizes, channels))


def attention_box(
    attention: Any, *, image_size: Sequence[int], threshold: Any = 0.5, padding: float = 0.1, peak: str = "map"
) -> Any:
    """Returns, for each map, the box around all pixels where it is at least a share of its maximum.

    The map is resized to the image linearly with aligned corners. The box goes from the first such row (column,
    slice) less the padding up to the last one plus the padding, which itself it does not hold; both are cut to
    whole pixels and to the image. Where the map is constant, nowhere positive or not finite, or where the box
    would be empty, it is the whole image.

    Args:
        attention: `(batch, *cells)`, two or three axes of cells; no gradient flows to it.
        image_size: Pixels of each axis.
        threshold: Share of the maximum, in [0, 1]; a number, or a tensor with one per image.
        padding: Margin on each side, as a share of the image's axis, in [0, 1).
        peak: Where the maximum is taken: of the `map` as it is (CAL, DualAttendMed), or after it was resized to
            the `image` (WS-DAN), which is lower where the peak lies between pixels.

    Returns:
        int32 `(batch, 2 * axes)`: the lower corner, then the upper one, counted like slices.

    Raises:
        ValueError: If an argument is out of range, or the ranks do not fit.

    Example:
        >>> attention = ops.reshape(ops.array([0.0, 1.0, 0.0, 0.0]), (1, 2, 2))
        >>> ops.convert_to_numpy(attention_box(attention, image_size=(101, 101))).tolist()
        [[0, 39, 60, 101]]
    """
    sizes = tuple(image_size)
    if not 0 <= padding < 1:
        raise InputError(f"`padding` must be in [0, 1). Received: padding={padding}")
    values, limit, has_peak = _levels(attention, sizes, threshold, peak)
    inside = values >= limit
    lower, upper = [], []
    for axis, size in enumerate(sizes):
        met = ops.any(inside, axis=tuple(1 + other for other in range(len(sizes)) if other != axis))
        places, margin = ops.arange(size, dtype="int32"), padding * size
        first = ops.min(ops.where(met, places, size), axis=1)
        last = ops.max(ops.where(met, places, -size), axis=1)
        lower.append(ops.maximum(first - math.ceil(margin), 0))
        upper.append(ops.minimum(last + math.floor(margin), size))
    lower, upper = ops.stack(lower, axis=1), ops.stack(upper, axis=1)
    is_box = ops.logical_and(ops.all(upper > lower, axis=1), ops.reshape(has_peak, (-1,)))
    whole = np.array([0] * len(sizes) + list(sizes), "int32")
    return ops.where(is_box[:, None], ops.concatenate([lower, upper], axis=1), whole)


def crop_to_boxes(images: Any, boxes: Any, *, interpolation: str = "linear") -> Any:
    """Cuts one box out of each image and resizes it to the size of the image, with aligned corners.

    Args:
        images: `(batch, *sizes, channels)`, two or three sizes, known.
        boxes: int32 `(batch, 2 * axes)` as `attention_box` returns them, within the images.
        interpolation: `linear`, or `nearest` for masks, halves going up.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: If the ranks do not fit, or the interpolation is unknown.

    Example:
        >>> images = ops.reshape(ops.arange(9.0), (1, 3, 3, 1))
        >>> corner = ops.array([[1, 1, 3, 3]], "int32")
        >>> ops.convert_to_numpy(crop_to_boxes(images, corner))[0, ..., 0].tolist()
        [[4.0, 4.5, 5.0], [5.5, 6.0, 6.5], [7.0, 7.5, 8.0]]
    """
    axes = len(images.shape) - 2
    if len(boxes.shape) != 2 or boxes.shape[1] != 2 * axes:
        raise InputError(f"`boxes` must be (batch, {2 * axes}). Received: boxes of shape {tuple(boxes.shape)}")
    if interpolation not in ("linear", "nearest"):
        raise InputError(f"`interpolation` must be linear or nearest. Received: interpolation={interpolation!r}")
    # The last axis first: XLA joins the steps, and reads whole rows in the outer one.
    for axis in reversed(range(axes)):
        size, start = images.shape[1 + axis], boxes[:, axis, None]
        length = boxes[:, axes + axis, None] - start
        intervals = max(size - 1, 1)
        travelled = ops.arange(size, dtype="int32") * (length - 1)
        if interpolation == "nearest":
            images = _take(images, axis, start + (2 * travelled + intervals) // (2 * intervals))
            continue
        step = travelled // intervals
        weight = ops.cast(travelled - step * intervals, "float32") / intervals
        weight = ops.reshape(ops.cast(weight, images.dtype), (-1, *[1] * axis, size, *[1] * (axes - axis)))
        below, above = (_take(images, axis, start + s) for s in (step, ops.minimum(step + 1, length - 1)))
        images = below + weight * (above - below)
    return images


def attention_indices(maps: Any, uniforms: Any) -> Any:
    """Chooses among the attention maps of each image, with replacement, by the root of their mean.

    Args:
        maps: `(batch, *cells, maps)`. Negative values count as 0; if nothing is left, all maps are as likely.
        uniforms: `(batch, draws)` in [0, 1): WS-DAN draws one map to crop by and one to drop by.

    Returns:
        int32 `(batch, draws)`.

    Raises:
        ValueError: If the ranks do not fit.

    Reference:
        Hu et al., arXiv 1901.09891.

    Example:
        >>> maps = ops.reshape(ops.array([1.0, 9.0, 0.0]), (1, 1, 1, 3))
        >>> ops.convert_to_numpy(attention_indices(maps, ops.array([[0.2, 0.3, 0.9]]))).tolist()
        [[0, 1, 1]]
    """
    if len(maps.shape) not in (4, 5) or len(uniforms.shape) != 2:
        raise InputError(
            "`maps` must be (batch, *cells, maps) and `uniforms` (batch, draws). "
            f"Received: shapes {tuple(maps.shape)} and {tuple(uniforms.shape)}"
        )
    maps = ops.stop_gradient(ops.cast(maps, "float32"))
    mean = ops.mean(ops.relu(maps), axis=tuple(range(1, len(maps.shape) - 1)))
    mean = ops.where(ops.isfinite(mean), mean, 0.0)
    summed = ops.cumsum(ops.sqrt(mean + 1e-12), axis=1)
    chosen = ops.cast(uniforms, "float32")[..., None] * summed[:, None, -1:] >= summed[:, None, :]
    return ops.minimum(ops.sum(ops.cast(chosen, "int32"), axis=-1), maps.shape[-1] - 1)


def _sizes(images: Any, attention: Any) -> tuple[int, ...]:
    """Returns the pixels of each axis."""
    shapes = tuple(images.shape), tuple(attention.shape)
    if len(shapes[0]) not in (4, 5) or len(shapes[1]) != len(shapes[0]) - 1:
        raise InputError(
            "`images` must be (batch, *sizes, channels) and `attention` (batch, *cells), with two or three axes. "
            f"Received: shapes {shapes[0]} and {shapes[1]}"
        )
    return shapes[0][1:-1]


def _levels(attention: Any, sizes: tuple[int, ...], threshold: Any, peak: str, repeats: int = 1) -> tuple[Any, ...]:
    """Returns the map at each pixel, the value to reach, and whether the map has a peak at all."""
    axes = tuple(range(1, len(sizes) + 1))
    if len(attention.shape) != len(sizes) + 1:
        raise InputError(
            f"`attention` must be (batch, *cells) with {len(sizes)} axes of cells. "
            f"Received: attention of shape {tuple(attention.shape)}"
        )
    if peak not in PEAKS:
        raise InputError(f"`peak` must be one of {PEAKS}. Received: peak={peak!r}")
    attention = ops.stop_gradient(ops.cast(attention, "float32"))
    values = _at_pixels(attention, sizes, repeats)
    largest, smallest = (reduce(attention, axis=axes, keepdims=True) for reduce in (ops.max, ops.min))
    is_finite = ops.all(ops.isfinite(attention), axis=axes, keepdims=True)
    has_peak = ops.logical_and(is_finite, ops.logical_and(largest > 0, largest > smallest))
    if peak == "image":
        largest = ops.max(values, axis=axes, keepdims=True)
    return values, _per_image(threshold, len(sizes)) * largest, has_peak


def _per_image(threshold: Any, axes: int) -> Any:
    if not len(getattr(threshold, "shape", ())):
        if isinstance(threshold, (int, float)) and not 0 <= threshold <= 1:
            raise InputError(f"`threshold` must be in [0, 1]. Received: threshold={threshold}")
        return threshold
    if len(threshold.shape) != 1:
        raise InputError(
            f"`threshold` must be a number or one per image. Received: threshold of shape {tuple(threshold.shape)}"
        )
    return ops.reshape(ops.stop_gradient(ops.cast(threshold, "float32")), (-1, *[1] * axes))


def _at_pixels(maps: Any, sizes: tuple[int, ...], repeats: int) -> Any:
    """Resizes `(batch, *cells)` with aligned corners; each value of the last axis comes `repeats` times."""
    step, weight = _aligned(maps.shape[-1], sizes[-1])
    matrix = np.zeros((sizes[-1], maps.shape[-1]), "float32")
    matrix[np.arange(sizes[-1]), step] = 1 - weight
    matrix[np.arange(sizes[-1]), np.minimum(step + 1, maps.shape[-1] - 1)] += weight
    # A sum, no matrix product: GPUs round the factors of a product to ten bits, which would move the edges.
    maps = ops.sum(maps[..., None, :] * np.repeat(matrix, repeats, axis=0), axis=-1)
    for axis in reversed(range(1, len(sizes))):
        cells, size = maps.shape[axis], sizes[axis - 1]
        step, weight = _aligned(cells, size)
        below = ops.take(maps, step, axis=axis)
        above = ops.take(maps, np.minimum(step + 1, cells - 1), axis=axis)
        maps = below + weight.reshape(-1, *[1] * (len(sizes) - axis)) * (above - below)
    return maps


def _aligned(cells: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for each pixel of an axis, the cell at or below it and the weight of the next one."""
    intervals = max(size - 1, 1)
    step, rest = np.divmod(np.arange(size) * (cells - 1), intervals)
    return step.astype("int32"), (rest / intervals).astype("float32")


def _take(images: Any, axis: int, index: Any) -> Any:
    """Reads each image at the places `(batch, samples)` of one of its axes, as one gather of whole runs."""
    sizes = images.shape[1:]
    before, size = math.prod(sizes[:axis]), sizes[axis]
    runs = ops.reshape(images, (-1, *sizes[axis + 1 :]))
    starts = ops.arange(ops.shape(images)[0] * before, dtype="int32") * size
    index = ops.reshape(starts, (-1, before, 1)) + index[:, None, :]
    return ops.reshape(ops.take(runs, index, axis=0), (-1, *sizes[:axis], index.shape[-1], *sizes[axis + 1 :]))
