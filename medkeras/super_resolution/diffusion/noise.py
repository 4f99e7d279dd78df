"""Noise that belongs to an image: the same wherever and with whatever it is upscaled."""

import zlib

import numpy as np

from medkeras.super_resolution.tiling import Tiling


class ImageNoise:
    """The noise of a sampling, tile by tile; where tiles overlap, they have the same.

    Args:
        images: `(n, height, width, any)`; their content and the seed decide the noise.
        tiling: Where the tiles lie.
        channels: Channels of the noise.
        seed: At least 0.
        steps: Steps that need fresh noise.
        first: What to start from instead of seeded noise, `(n, height, width, channels)`; or None.

    Example:
        >>> noise = ImageNoise(np.zeros((1, 8, 8, 1)), Tiling(8, 8, tile=8, overlap=1), channels=3, seed=0, steps=2)
        >>> noise.tile(0, (0, 0)).shape
        (3, 8, 8, 3)
    """

    def __init__(
        self,
        images: np.ndarray,
        tiling: Tiling,
        *,
        channels: int,
        seed: int,
        steps: int,
        first: np.ndarray | None = None,
    ) -> None:
        self.keys = [image_key(image) for image in images]
        self.tiling, self.seed, self.steps, self.first = tiling, seed, steps, first
        self.shape = (*images.shape[1:3], channels)

    def tile(self, image: int, place: tuple[int, int]) -> np.ndarray:
        """Returns the noise of a tile, `(1 + steps, rows, columns, channels)`: the start, then that of each step."""
        # The whole image's noise is drawn again for each tile: all of its steps at once would fill the memory.
        planes = (self._plane(image, step) for step in range(1 + self.steps))
        return np.stack([self.tiling.cut(self.tiling.pad(plane), place) for plane in planes])

    def _plane(self, image: int, step: int) -> np.ndarray:
        if step == 0 and self.first is not None:
            return self.first[image]
        return standard_normal(self.shape, seed=self.seed, key=self.keys[image], step=step)


def image_key(image: np.ndarray) -> int:
    """Returns a number that stands for the content of an image.

    Example:
        >>> image_key(np.zeros((2, 2, 1))) == image_key(np.ones((2, 2, 1)))
        False
    """
    return zlib.crc32(np.ascontiguousarray(image, "float32").tobytes())


def standard_normal(shape: tuple[int, ...], *, seed: int, key: int, step: int) -> np.ndarray:
    """Returns the noise of one step for one image, float32.

    Args:
        shape: Shape of the noise.
        seed: The user's seed, at least 0.
        key: The image's own number, at least 0.
        step: 0 for the start of the sampling, then 1, 2, ...

    Example:
        >>> standard_normal((2, 3), seed=0, key=1, step=0).shape
        (2, 3)
    """
    return np.random.default_rng([seed, key, step]).standard_normal(shape, dtype="float32")
