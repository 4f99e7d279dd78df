"""Reintegration: a region cut out of an image for an upscaler, and what came of it put back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from medkeras.errors import InputError

PASTES = ("hard", "feathered")
METHODS = {"bicubic": "bicubic", "lanczos": "lanczos3"}


def cut(image: np.ndarray, box: Sequence[int], *, multiple: int) -> np.ndarray:
    """Cuts a box out of an image, and pads it by reflection below and on the right to whole multiples.

    Args:
        image: `(height, width, channels)`.
        box: Top, left, bottom and right, within the image.
        multiple: Pixels.

    Example:
        >>> cut(np.arange(6.0).reshape(1, 6, 1), (0, 1, 1, 4), multiple=4)[0, :, 0].tolist()
        [1.0, 2.0, 3.0, 2.0]
    """
    top, left, bottom, right = box
    part = image[top:bottom, left:right]
    return np.pad(part, [*((0, -edge % multiple) for edge in part.shape[:2]), (0, 0)], mode="reflect")


def reintegrate(
    image: Any,
    boxes: Any,
    enlarged: Sequence[np.ndarray],
    *,
    factor: int,
    paste: str = "hard",
    keep_scale: bool = False,
    feather: int = 8,
) -> np.ndarray:
    """Puts enlarged regions back into their image.

    At the image's own size, each is shrunk by area means, and pixels outside of all boxes stay as they are, bit by bit.
    Nothing is clipped.

    Args:
        image: `(height, width, channels)`, float of any range.
        boxes: `(regions, 4)`, top, left, bottom and right, the strongest first; where they overlap, it lies on top.
        enlarged: Each box's content `factor` times as large, `(factor * height, factor * width, channels)`; what lies
            below or to the right of that, as of a padded region, is cut off.
        factor: The enlargement.
        paste: `"hard"`, or `"feathered"`: the weight of a region falls linearly to its border, but not to that of the
            image.
        keep_scale: Gives the whole image `factor` times as large, by Lanczos, with the enlarged regions in it.
        feather: Pixels of `image` over which a feathered region fades, at least 1.

    Returns:
        The image, of its type and size, or `factor` times as large.

    Raises:
        ValueError: If the image is not of floats and three axes, an argument is out of range, or a region does not fit
            its box.

    Example:
        >>> image, region = np.zeros((4, 4, 1)), np.ones((8, 8, 1))
        >>> reintegrate(image, [(0, 0, 2, 2)], [region], factor=4)[..., 0].sum()
        np.float64(4.0)
    """
    image, boxes = np.asarray(image), np.asarray(boxes, np.int64).reshape(-1, 4)
    _check(image, boxes, enlarged, factor=factor, paste=paste, feather=feather)
    scale = factor if keep_scale else 1
    result = resize(image, factor) if keep_scale else image.copy()
    for box, region in reversed(list(zip(boxes, enlarged, strict=True))):
        top, left, bottom, right = scale * box
        region = region[: factor * (box[2] - box[0]), : factor * (box[3] - box[1])]
        region = region if keep_scale else shrink(region, factor)
        weight = 1.0 if paste == "hard" else _weights(box, image.shape, scale, feather)
        part = result[top:bottom, left:right]
        result[top:bottom, left:right] = part + weight * (region - part) if paste == "feathered" else region
    return result


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Shrinks `(height, width, channels)` by a whole factor, each pixel the mean of those that it replaces.

    Example:
        >>> shrink(np.arange(4.0).reshape(2, 2, 1), 2).tolist()
        [[[1.5]]]
    """
    height, width, channels = image.shape
    return image.reshape(height // factor, factor, width // factor, factor, channels).mean(axis=(1, 3))


def resize(image: np.ndarray, factor: float, *, method: str = "lanczos") -> np.ndarray:
    """Resizes `(height, width, channels)` by a factor, with a filter that widens where the image shrinks.

    Args:
        image: Float of any range; results may leave it a little.
        factor: Above 0; sizes are rounded.
        method: `"bicubic"` or `"lanczos"`.

    Raises:
        ValueError: If the method is unknown.

    Example:
        >>> resize(np.ones((4, 6, 1), "float32"), 4).shape
        (16, 24, 1)
    """
    if method not in METHODS:
        raise InputError(f"`method` must be one of {', '.join(METHODS)}. Received: method={method!r}")
    size = [max(round(factor * edge), 1) for edge in image.shape[:2]]
    resized = ops.image.resize(
        ops.convert_to_tensor(image, "float32"),
        size,
        interpolation=METHODS[method],
        antialias=True,
        data_format="channels_last",
    )
    return ops.convert_to_numpy(resized).astype(image.dtype)


def _weights(box: np.ndarray, shape: Sequence[int], scale: int, feather: int) -> np.ndarray:
    """Returns the weight of each pixel of a region, `(height, width, 1)`: 1 inside and at the borders of the image."""
    ramps = []
    for first, last, edge in zip(box[:2], box[2:], shape, strict=False):
        place = np.arange(scale * (last - first)) + 0.5
        before = place if first > 0 else np.full(len(place), np.inf)
        after = place[::-1] if last < edge else np.full(len(place), np.inf)
        ramps.append(np.minimum(np.minimum(before, after) / (scale * feather), 1))
    return (ramps[0][:, None] * ramps[1])[..., None].astype("float32")


def _check(
    image: np.ndarray, boxes: np.ndarray, enlarged: Sequence[np.ndarray], *, factor: int, paste: str, feather: int
) -> None:
    if image.ndim != 3 or image.dtype.kind != "f":
        raise InputError(
            f"`image` must be (height, width, channels), float. Received: {image.dtype} of shape {image.shape}"
        )
    if paste not in PASTES:
        raise InputError(f"`paste` must be one of {', '.join(PASTES)}. Received: paste={paste!r}")
    if feather < 1:
        raise InputError(f"`feather` must be at least 1. Received: feather={feather}")
    if len(boxes) != len(enlarged):
        raise InputError(f"Each box has one region. Received: {len(boxes)} boxes, {len(enlarged)} regions")
    for box, region in zip(boxes, enlarged, strict=True):
        edges = box[2:] - box[:2]
        if (box[:2] < 0).any() or (box[2:] > image.shape[:2]).any() or (edges < 1).any():
            raise InputError(f"A box lies within its image, {image.shape[:2]}. Received: {box.tolist()}")
        if (np.array(region.shape[:2]) < factor * edges).any() or region.shape[2:] != image.shape[2:]:
            raise InputError(f"A region is {factor} times its box {box.tolist()}. Received: shape {region.shape}")
