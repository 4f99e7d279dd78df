"""The figure of a localisation, drawn on `matplotlib.figure.Figure` without pyplot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medkeras.evaluation.localization import dice, iou
from medkeras.explain.drawing import CELL, Panel, displayable, draw_panels, outline, overlay
from medkeras.explain.planes import Plane, planes_through, relative_heights
from medkeras.explain.regions import Regions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOUND = "#56B4E9"


def localization_figure(
    images: np.ndarray,
    found: Mapping[str, Regions],
    *,
    names: Sequence[str] | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
) -> "Figure":
    """Draws one row per image: the image with its lesion, then each map with what it marks.

    The lesion is outlined in green, what was found dashed in blue, with thin boxes; IoU and Dice coefficient stand
    above. A volume takes three rows, its slices through the middle of the lesion, or through the maximum of the
    first map where there is none.

    Args:
        images: `(batch, *image grid, channels)` in [0, 1].
        found: `{title: Regions}` of the same images, at least one.
        names: What to call each image.
        masks: Lesion of each image, boolean of the image grid; None where it is not known.

    Raises:
        ValueError: If there is no map, or maps, names or masks are not one per image and of the image grid.

    Example:
        >>> from medkeras.explain import localize
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3))
        >>> figure = localization_figure(images, {"attention": localize(model, images)})
        >>> [ax.get_title() for ax in figure.subfigs[0].axes]
        ['image', 'attention']
    """
    from matplotlib.figure import Figure

    images = np.asarray(images)
    count, grid = len(images), images.shape[1:-1]
    names, masks = names or [None] * count, masks or [None] * count
    _check(found, names, masks, (count, *grid))
    planes = [planes_through(grid, _point(found, i, masks[i])) for i in range(count)]
    heights = relative_heights(planes[0], grid)
    size = CELL * (1 + len(found)) + 0.3, count * (CELL * sum(heights) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    parts = np.atleast_1d(figure.subfigures(count, 1))
    for i, part in enumerate(parts):
        part.suptitle(names[i] or "", x=0.01, ha="left", fontsize=9)
        image = displayable(images[i])
        panels = [
            _picture(image, masks[i]),
            *(_map(title, f[i : i + 1], image, masks[i]) for title, f in found.items()),
        ]
        draw_panels(part, panels, planes[i], grid)
    return figure


def _check(
    found: Mapping[str, Regions],
    names: Sequence[str | None],
    masks: Sequence[np.ndarray | None],
    shape: tuple[int, ...],
) -> None:
    if not found:
        raise ValueError("There must be a map to draw. Received: found={}")
    for title, regions in found.items():
        if regions.maps.shape != shape:
            raise ValueError(f"Maps must be of shape {shape}. Received: {title} of shape {regions.maps.shape}")
    for name, given in (("names", names), ("masks", masks)):
        if len(given) != shape[0]:
            raise ValueError(f"`{name}` must be one per image, {shape[0]}. Received: {len(given)} {name}")
    for mask in masks:
        if mask is not None and mask.shape != shape[1:]:
            raise ValueError(f"A mask must be of the image grid {shape[1:]}. Received: mask of shape {mask.shape}")


def _point(found: Mapping[str, Regions], i: int, mask: np.ndarray | None) -> np.ndarray:
    """Returns the place through which a volume is cut."""
    if mask is not None and mask.any():
        return np.mean(np.argwhere(mask), axis=0)
    values = np.nan_to_num(next(iter(found.values())).maps[i])
    return np.array(np.unravel_index(values.argmax(), values.shape))


def _picture(image: np.ndarray, mask: np.ndarray | None) -> Panel:
    def draw(ax: "Axes", plane: Plane) -> None:
        ax.imshow(plane.cut(image), cmap="gray", vmin=0, vmax=1)
        outline(ax, plane, mask)

    return "image", draw


def _map(title: str, found: Regions, image: np.ndarray, mask: np.ndarray | None) -> Panel:
    def draw(ax: "Axes", plane: Plane) -> None:
        overlay(ax, plane, image, found.maps[0], absent="no place is marked")
        outline(ax, plane, mask)
        outline(ax, plane, found.masks[0], color=FOUND, style="--")
        _boxes(ax, plane, found.boxes[0], len(found.maps.shape) - 1)

    if mask is not None and mask.any():
        title += f"\nIoU {iou(found.masks[0], mask):.2f}, Dice {dice(found.masks[0], mask):.2f}"
    return title, draw


def _boxes(ax: "Axes", plane: Plane, boxes: np.ndarray, rank: int) -> None:
    from matplotlib.patches import Rectangle

    for box in boxes:
        (top, left), (bottom, right) = ([box[start + axis] - 0.5 for axis in plane.axes] for start in (0, rank))
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=FOUND, lw=0.6))
