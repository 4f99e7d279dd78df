"""What every preprocessing step shares: checks of the stored image, and masks that go along."""

from typing import ClassVar

import numpy as np

from medkeras.errors import InputError
from pipelines.images.decode import to_float

AXES = {2: "an image, (H, W) or (H, W, C)", 3: "a volume, (D, H, W) or (D, H, W, C)"}


class Step:
    """A fixed change of a stored image, before it is resized.

    A step is a frozen dataclass of this type with a `name`, its options as fields and `change_image`; one that
    moves pixels has `change_mask` too.

    Attributes:
        name: What `pipelines.preprocess.parse` calls it.
        ranks: 2 where it takes images, 3 where it takes volumes.
        moves: Whether pixels move or the size may change, so that masks must go along.
    """

    name: ClassVar[str]
    ranks: ClassVar[tuple[int, ...]] = (2,)
    moves: ClassVar[bool] = False

    def __call__(self, image: np.ndarray, *, rank: int = 2) -> np.ndarray:
        """Returns the changed image; integer types are kept, others become float32.

        Args:
            image: `(H, W)` or `(H, W, C)` for rank 2, `(D, H, W)` or `(D, H, W, C)` for rank 3; uint8, uint16,
                bool or float in [0, 1].
            rank: 2 for an image, 3 for a volume.

        Raises:
            ValueError: If the step does not take such an image.
        """
        self.check_rank(rank)
        if image.ndim not in (rank, rank + 1) or image.size == 0:
            raise InputError(f"{self.name} takes {AXES[rank]}, not empty. Received: {image.shape}")
        if image.dtype not in (np.uint8, np.uint16):
            image = to_float(image)
        if image.ndim == rank:
            return self.change_image(image[..., None])[..., 0]
        return self.change_image(image)

    def on_mask(self, mask: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Returns a boolean mask as it lies on the changed image.

        Args:
            mask: `(H, W)` or `(D, H, W)`, boolean, on the grid of `image`.
            image: The image before this step.

        Raises:
            ValueError: If the mask is not on the image's grid, or the step does not take such an image.
        """
        self.check_rank(mask.ndim)
        if mask.shape != image.shape[: mask.ndim] or image.ndim not in (mask.ndim, mask.ndim + 1):
            raise InputError(f"A mask lies on the grid of its image, {image.shape}. Received: {mask.shape}")
        return self.change_mask(mask, image if image.ndim > mask.ndim else image[..., None])

    def check_rank(self, rank: int) -> None:
        """Raises ValueError if the step does not take images of this rank."""
        if rank not in self.ranks:
            wanted = " or ".join(AXES[r] for r in self.ranks)
            raise InputError(f"{self.name} takes {wanted}. Received: rank {rank}")

    def change_image(self, image: np.ndarray) -> np.ndarray:
        """Changes an image with channels, uint8, uint16 or float32 in [0, 1]; gives the same type back."""
        raise NotImplementedError

    def change_mask(self, mask: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Changes a mask as `change_image` does an image with channels; by default not at all."""
        return mask


def from_float(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns float values, clipped to [0, 1], as uint8, uint16 or float32; the inverse of `to_float`.

    Example:
        >>> from_float(np.array([-1.0, 0.2, 2.0]), np.uint8)
        array([  0,  51, 255], dtype=uint8)
    """
    values = np.clip(values, 0, 1)
    if np.dtype(dtype).kind == "f":
        return values.astype(np.float32)
    return np.rint(values * np.iinfo(dtype).max).astype(dtype)
