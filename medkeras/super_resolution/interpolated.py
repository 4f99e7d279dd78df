"""Interpolation in the place of an upscaler: what diffusion must be compared with."""

from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.super_resolution.enhancement.reintegration import METHODS, resize


class Interpolation:
    """Enlarges images by bicubic or Lanczos interpolation, called like `LDMUpscaler`.

    Args:
        method: `"bicubic"` or `"lanczos"`.
        factor: The enlargement.

    Attributes:
        method, factor: As given.
        smallest: Shortest edge, in pixels, that is accepted.

    Raises:
        ValueError: If the method is unknown.

    Example:
        >>> Interpolation("bicubic").upscale(np.ones((1, 16, 24, 1), "float32")).shape
        (1, 64, 96, 1)
    """

    smallest = 1

    def __init__(self, method: str = "bicubic", *, factor: int = 4) -> None:
        if method not in METHODS:
            raise InputError(f"`method` must be one of {', '.join(METHODS)}. Received: method={method!r}")
        self.method, self.factor = method, factor

    def upscale(self, images: Any, **options: Any) -> np.ndarray:
        """Returns the enlarged images, float32 `(n, factor * height, factor * width, channels)`, in [0, 1].

        Args:
            images: `(n, height, width, channels)`, float in [0, 1].
            **options: Those of a diffusion (`steps`, `seed` and so on), without effect.
        """
        return np.clip([resize(image, self.factor, method=self.method) for image in np.asarray(images)], 0, 1)
