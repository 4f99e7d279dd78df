"""Padding to equal sides, so that resizing keeps proportions."""

import dataclasses
from typing import ClassVar

import numpy as np

from medkeras.errors import InputError
from pipelines.preprocess.step import Step

FILLS = ("zero", "edge")


@dataclasses.dataclass(frozen=True)
class Square(Step):
    """Pads an image to a square, a volume to a cube of voxels, the content in the middle.

    Args:
        fill: `"zero"` pads with black, `"edge"` repeats the outermost pixels.

    Raises:
        ValueError: If `fill` is neither.

    Example:
        >>> Square()(np.array([[7, 8, 9]], np.uint8))
        array([[0, 0, 0],
               [7, 8, 9],
               [0, 0, 0]], dtype=uint8)
    """

    fill: str = "zero"
    name: ClassVar[str] = "square"
    ranks: ClassVar[tuple[int, ...]] = (2, 3)
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.fill not in FILLS:
            raise InputError(f"`fill` must be one of {', '.join(FILLS)}. Received: fill={self.fill!r}")

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Pads the image."""
        margins = [*_margins(image.shape[:-1]), (0, 0)]
        return np.pad(image, margins, mode="edge" if self.fill == "edge" else "constant")

    def change_mask(self, mask: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Pads the mask with False."""
        return np.pad(mask, _margins(mask.shape))


def _margins(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    missing = [max(sizes) - n for n in sizes]
    return [(n // 2, n - n // 2) for n in missing]
