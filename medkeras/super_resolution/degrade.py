"""The small image that belongs to a large one: what an upscaler is trained on and measured with."""

from typing import Any

import numpy as np
from keras import ops

from medkeras.errors import InputError


def degrade(images: Any, factor: int = 4) -> Any:
    """Returns images made smaller by bicubic interpolation with antialiasing, clipped to [0, 1].

    The usual way in which super resolution is trained and measured: the cubic kernel with a = -0.5, stretched by the
    factor so that it takes away what the small image cannot hold. At the rim it sees the image alone. It adds no
    noise, and a real device blurs in other ways: what is measured with it is not what a scanner's small image gives.

    Args:
        images: `(batch, height, width, channels)`, in [0, 1]; edges multiples of `factor`.
        factor: How many times smaller, at least 1.

    Returns:
        `(batch, height / factor, width / factor, channels)`, float32.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE TASSP 1981.

    Example:
        >>> small = degrade(np.linspace(0, 1, 64).reshape(1, 8, 8, 1), 4)
        >>> np.asarray(small, "float64")[0, :, :, 0].round(2).tolist()
        [[0.24, 0.3], [0.7, 0.76]]
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or factor < 1 or any(n is not None and n % factor for n in shape[1:3]):
        raise InputError(
            "`images` must be (batch, height, width, channels), with edges that are multiples of `factor`. "
            f"Received: shape={shape}, factor={factor}"
        )
    rows, columns = (downscaling(n, factor) for n in shape[1:3])
    x = ops.einsum("ih,bhwc->biwc", rows, ops.cast(images, "float32"))
    return ops.clip(ops.einsum("jw,biwc->bijc", columns, x), 0.0, 1.0)


def downscaling(size: int, factor: int) -> np.ndarray:
    """Returns the weights of `degrade` along an axis, float32 `(size / factor, size)`; rows sum to 1.

    Example:
        >>> downscaling(4, 2).astype("float64").round(2).tolist()
        [[0.46, 0.46, 0.12, -0.04], [-0.04, 0.12, 0.46, 0.46]]
    """
    centres = (np.arange(size // factor) + 0.5) * factor - 0.5
    weights = _cubic((np.arange(size) - centres[:, None]) / factor)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


def _cubic(x: np.ndarray) -> np.ndarray:
    """Returns the cubic kernel with a = -0.5."""
    x = np.abs(x)
    near, far = (1.5 * x - 2.5) * x**2 + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
