"""Planes: an image as it is, or the three orthogonal slices of a volume through one point."""

import dataclasses
from collections.abc import Sequence

import numpy as np

NAMES = ("axial", "coronal", "sagittal")


@dataclasses.dataclass(frozen=True)
class Plane:
    """A flat view of an image or a volume.

    Attributes:
        name: `""` for an image; `axial`, `coronal` or `sagittal` for a slice across depth, height or width.
        axes: The image axes that run down and across the plane.
        index: Where the volume is cut, in pixels; None for an image.
    """

    name: str
    axes: tuple[int, int]
    index: int | None

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Returns the plane of an array `(*image grid, ...)`.

        Example:
            >>> Plane("axial", (1, 2), 1).cut(np.arange(8).reshape(2, 2, 2)).tolist()
            [[4, 5], [6, 7]]
        """
        if self.index is None:
            return array
        return np.take(array, self.index, axis=NAMES.index(self.name))


def planes_through(shape: Sequence[int], point: Sequence[float]) -> list[Plane]:
    """Returns the planes of an image grid through a point.

    Args:
        shape: `(height, width)` or `(depth, height, width)`.
        point: In pixels, rounded and clipped to the grid; an image has one plane whatever the point.

    Example:
        >>> planes_through((8, 9), (0, 0))
        [Plane(name='', axes=(0, 1), index=None)]
        >>> planes_through((4, 8, 9), (9.0, 2.4, 1.0))[:2]
        [Plane(name='axial', axes=(1, 2), index=3), Plane(name='coronal', axes=(0, 2), index=2)]
    """
    if len(shape) == 2:
        return [Plane("", (0, 1), None)]
    index = np.clip(np.rint(point), 0, np.array(shape) - 1).astype(int).tolist()
    return [Plane(name, axes, i) for name, axes, i in zip(NAMES, ((1, 2), (0, 2), (0, 1)), index, strict=True)]


def relative_heights(
    planes: Sequence[Plane], shape: Sequence[int], spacing: Sequence[float] | None = None
) -> list[float]:
    """Returns the height of each plane of an image grid for a width of 1.

    Args:
        planes: Of the image.
        shape: `(height, width)` or `(depth, height, width)`.
        spacing: From pixel to pixel along each axis, in any unit; equal by default.

    Example:
        >>> planes = planes_through((4, 8, 10), (0, 0, 0))
        >>> relative_heights(planes, (4, 8, 10)), relative_heights(planes, (4, 8, 10), (5, 2, 2))
        ([0.8, 0.4, 0.5], [0.8, 1.0, 1.25])
    """
    lengths = [n * d for n, d in zip(shape, spacing or [1] * len(shape), strict=True)]
    return [lengths[down] / lengths[across] for down, across in (plane.axes for plane in planes)]
