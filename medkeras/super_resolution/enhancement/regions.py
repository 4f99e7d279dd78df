"""Regions of an image by a map: the cells that stand out, joined, and widened to what an upscaler takes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.localization import binarize, boxes

THRESHOLD = 0.8


@dataclasses.dataclass(frozen=True)
class RegionRule:
    """Which regions of an image a map chooses.

    Cells of the map are chosen by one of three rules, those that touch, also by a corner, are joined to their bounding
    box, and the box is widened to whole multiples of `smallest`. A region whose cells lie in a stronger one already is
    left out. A map that is constant or not finite chooses nothing.

    Args:
        threshold: Share of the map's range, in (0, 1], that a cell must reach; where no rule is given, it is 0.8.
        quantile: Share of the cells that lie below those that are chosen, in (0, 1).
        top: How many of the highest cells are chosen, at least 1.
        smallest: Pixels that the edges of a region are multiples of, at least 8 and a multiple of 8.
        max_regions: How many regions are kept, those with the highest peak; all by default.

    Raises:
        ValueError: If an argument is out of range, or more than one rule is given.

    Example:
        >>> values = np.zeros((4, 4))
        >>> values[2, 1:3] = 1
        >>> RegionRule(smallest=64).regions(values, (256, 256)).tolist()
        [[128, 64, 192, 192]]
    """

    threshold: float | None = None
    quantile: float | None = None
    top: int | None = None
    smallest: int = 64
    max_regions: int | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("threshold", "quantile", "top")}
        given = {name: value for name, value in given.items() if value is not None}
        if len(given) > 1:
            raise InputError(f"Cells are chosen by `threshold`, `quantile` or `top`. Received: {_listed(given)}")
        rules = {
            "threshold": ("in (0, 1]", lambda x: 0 < x <= 1),
            "quantile": ("in (0, 1)", lambda x: 0 < x < 1),
            "top": ("at least 1", lambda x: x >= 1),
            "smallest": ("a multiple of 8, at least 8", lambda x: x >= 8 and x % 8 == 0),
            "max_regions": ("at least 1", lambda x: x >= 1),
        }
        for name, (rule, holds) in rules.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise InputError(f"`{name}` must be {rule}. Received: {name}={value}")

    def cells(self, values: Any) -> np.ndarray:
        """Returns which cells of a map are chosen, boolean of its shape.

        Example:
            >>> RegionRule(top=2).cells([[0.1, 0.5], [0.9, 0.4]]).tolist()
            [[False, True], [True, False]]
        """
        values = np.asarray(values, np.float64)
        if values.ndim != 2 or not values.size:
            raise InputError(f"A map has rows and columns. Received: shape {values.shape}")
        says_something = binarize(values, 1.0).any()
        if not says_something or (self.top is None and self.quantile is None):
            return binarize(values, self.threshold or THRESHOLD)
        if self.top is not None:
            highest = np.argsort(-values, axis=None, kind="stable")[: self.top]
            return np.isin(np.arange(values.size), highest).reshape(values.shape)
        return values > np.quantile(values, self.quantile, method="lower")

    def regions(self, values: Any, size: Sequence[int], *, window: Sequence[int] | None = None) -> np.ndarray:
        """Returns the regions of an image that its map chooses, the strongest first.

        Args:
            values: The map, `(rows, columns)`, whose cells cover the window evenly.
            size: Rows and columns of the image.
            window: What the map covers, in pixels of the image: `(top, left, bottom, right)`, which may reach beyond
                it; the whole image by default.

        Returns:
            int64 `(regions, 4)`: top, left, bottom and right, the latter two exclusive, all within the image.

        Raises:
            ValueError: If the map has not two axes, or more cells along an edge than the image has pixels.

        Example:
            >>> RegionRule(top=1).regions([[0.0, 1.0]], (100, 200)).tolist()
            [[0, 72, 100, 200]]
        """
        chosen = self.cells(values)
        if any(pixels < cells for pixels, cells in zip(size, chosen.shape, strict=True)):
            raise InputError(
                f"An image must have a pixel for each cell of its map, {chosen.shape[0]} x {chosen.shape[1]}. "
                f"Received: an image of {size[0]} x {size[1]} pixels"
            )
        kept: list[np.ndarray] = []
        for box in _in_pixels(_strongest_first(chosen, np.asarray(values)), chosen.shape, size, window):
            is_covered = any((other[:2] <= box[:2]).all() and (box[2:] <= other[2:]).all() for other in kept)
            if (box[:2] < box[2:]).all() and not is_covered:
                kept.append(widen(box, size, multiple=self.smallest))
        return np.array(kept[: self.max_regions], np.int64).reshape(-1, 4)


def widen(box: Any, size: Sequence[int], *, multiple: int) -> np.ndarray:
    """Widens a box about its middle to whole multiples, moved inside the image; an edge is at most the image's.

    Args:
        box: Top, left, bottom and right, within the image.
        size: Rows and columns of the image.
        multiple: What the edges become multiples of.

    Example:
        >>> widen([0, 90, 10, 100], (48, 100), multiple=64).tolist()
        [0, 36, 48, 100]
    """
    first, last, size = np.array(box[:2]), np.array(box[2:]), np.array(size)
    edges = np.minimum(-(-(last - first) // multiple) * multiple, size)
    first = np.clip((first + last - edges) // 2, 0, size - edges)
    return np.concatenate([first, first + edges])


def _strongest_first(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the bounding boxes of joined cells, by their highest value."""
    found = boxes(chosen)
    peaks = [values[top:bottom, left:right].max() for top, left, bottom, right in found]
    return found[np.argsort(-np.array(peaks), kind="stable")]


def _in_pixels(
    found: np.ndarray, cells: Sequence[int], size: Sequence[int], window: Sequence[int] | None
) -> np.ndarray:
    """Returns boxes of cells as boxes of all pixels that they touch, cut at the borders of the image."""
    window = np.array((0, 0, *size) if window is None else window)
    scale = (window[2:] - window[:2]) / np.array(cells)
    first = window[:2] + np.floor(found[:, :2] * scale)
    last = window[:2] + np.ceil(found[:, 2:] * scale)
    return np.clip(np.concatenate([first, last], axis=1), 0, [*size, *size]).astype(np.int64)


def _listed(given: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items())
