"""Keeping the middle of an image."""

import dataclasses
from typing import ClassVar

import numpy as np

from medkeras.errors import InputError
from pipelines.preprocess.step import Step

FORMS = ("own", "square")


@dataclasses.dataclass(frozen=True)
class CentreCrop(Step):
    """Keeps the middle of an image or a volume.

    Resizing to 256 pixels and cutting out the middle 224 is a crop by the share 0.875 before the resizing, of each
    side; where only the shorter side is brought to 256, it is a square of 0.875 of that side.

    Args:
        share: What is kept of a side, in (0, 1].
        form: `"own"` keeps this share of each side, `"square"` a square or cube of this share of the shortest side.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> CentreCrop(share=0.5)(np.arange(8, dtype=np.uint8).reshape(2, 4))
        array([[1, 2]], dtype=uint8)
    """

    share: float = 0.875
    form: str = "own"
    name: ClassVar[str] = "centre-crop"
    ranks: ClassVar[tuple[int, ...]] = (2, 3)
    moves: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"`share` must be in (0, 1]. Received: share={self.share}")
        if self.form not in FORMS:
            raise InputError(f"`form` must be one of {', '.join(FORMS)}. Received: form={self.form!r}")

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Cuts the image."""
        return image[self._middle(image.shape[:-1])]

    def change_mask(self, mask: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Cuts the mask as the image."""
        return mask[self._middle(mask.shape)]

    def _middle(self, sizes: tuple[int, ...]) -> tuple[slice, ...]:
        sides = sizes if self.form == "own" else (min(sizes),) * len(sizes)
        kept = [max(round(self.share * side), 1) for side in sides]
        return tuple(slice((size - n) // 2, (size - n) // 2 + n) for size, n in zip(sizes, kept, strict=True))
