"""Images as a runtime takes them: numbers of the model's shape, some at a time."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError

SLACK = 1e-3  # What resizing or another decoder may leave beyond [0, 1].


def model_images(images: Any, shape: Sequence[int]) -> np.ndarray:
    """Returns images as float32 in one block of memory.

    Args:
        images: Numbers in [0, 1], `(batch, *shape)`.
        shape: Of one image.

    Raises:
        ValueError: If they are no numbers, none, of another shape, or not in [0, 1].

    Example:
        >>> model_images([[0, 1]], (2,)).tolist()
        [[0.0, 1.0]]
        >>> model_images(["scan.png"], (2,))
        Traceback (most recent call last):
        ...
        medkeras.InputError: `images` must be numbers (batch, *(2,)). Received: images of type list
    """
    rule = f"`images` must be numbers (batch, *{tuple(shape)})"
    try:
        found = np.ascontiguousarray(images, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{rule}. Received: images of type {type(images).__name__}") from error
    if len(found) == 0 or found.shape[1:] != tuple(shape):
        raise InputError(f"{rule}. Received: images.shape={np.shape(images)}")
    if not (found.min() >= -SLACK and found.max() <= 1 + SLACK):  # Not so either where there is a NaN.
        raise InputError(f"`images` must be in [0, 1]. Received: images from {found.min():g} to {found.max():g}")
    return found


def batches(images: Any, shape: Sequence[int], size: int) -> list[np.ndarray]:
    """Returns images in batches of a size, the last one smaller where it must be.

    Args:
        images: Numbers in [0, 1], `(batch, *shape)`.
        shape: Of one image.
        size: Images per batch.

    Raises:
        ValueError: As `model_images`, or if the size is no positive integer.

    Example:
        >>> [len(batch) for batch in batches([[0], [1], [0]], (1,), 2)]
        [2, 1]
    """
    if not isinstance(size, int) or size < 1:
        raise InputError(f"`batch_size` must be an integer >= 1. Received: batch_size={size}")
    images = model_images(images, shape)
    return [images[i : i + size] for i in range(0, len(images), size)]
