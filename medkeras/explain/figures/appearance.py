"""How maps are drawn over images."""

import dataclasses

import numpy as np

from medkeras.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Appearance:
    """How the figures of explanations look.

    Attributes:
        opacity: Of a map where it is largest, from 0 to 1.
        contours: Lines of equal value on a map, as shares of its maximum, each above 0 and below 1.
        spacing: From pixel to pixel along each axis of the images, in any unit, so that they are drawn in their true
            proportions; equal by default.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> Appearance(opacity=0.5, spacing=(5, 0.7, 0.7)).spacing_of(3)
        (5.0, 0.7, 0.7)
    """

    opacity: float = 0.8
    contours: tuple[float, ...] = ()
    spacing: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise InputError(f"`opacity` must be from 0 to 1. Received: opacity={self.opacity}")
        if not all(0 < level < 1 for level in self.contours):
            raise InputError(f"`contours` must be above 0 and below 1. Received: contours={self.contours}")
        if self.spacing is not None and not (np.isfinite(self.spacing).all() and min(self.spacing) > 0):
            raise InputError(f"`spacing` must be above 0. Received: spacing={self.spacing}")

    def spacing_of(self, rank: int) -> tuple[float, ...]:
        """Returns the spacing of images with so many axes.

        Raises:
            ValueError: If it is not one number per axis.
        """
        spacing = (1.0,) * rank if self.spacing is None else tuple(map(float, self.spacing))
        if len(spacing) != rank:
            raise InputError(f"`spacing` must be one number for each of {rank} axes. Received: spacing={self.spacing}")
        return spacing
