"""The figure of a localisation, drawn on `matplotlib.figure.Figure` without pyplot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medkeras.evaluation.localization import dice, iou
from medkeras.explain.figures.appearance import Appearance
from medkeras.explain.figures.drawing import Panel, figure_beside, outline, overlay
from medkeras.explain.figures.planes import Plane
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
    appearance: Appearance | None = None,
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
        appearance: Opacity and contours of the maps, and the images' spacing.

    Raises:
        ValueError: If there is no map, maps, names or masks are not one per image and of the image grid, or the
            spacing is not one number per axis.

    Example:
        >>> from medkeras.explain import localize
        >>> from medkeras.models import create
        >>> model = create("dualattendmed_tiny", input_shape=(32, 32, 3), num_classes=2)
        >>> images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3))
        >>> figure = localization_figure(images, {"attention": localize(model, images)})
        >>> [ax.get_title() for ax in figure.subfigs[0].axes]
        ['image', 'attention']
    """
    appearance = appearance or Appearance()

    def panel(title: str, i: int, image: np.ndarray, mask: np.ndarray | None) -> Panel:
        return _map(title, found[title][i : i + 1], image, mask, appearance)

    def maximum(i: int) -> Sequence[int]:
        values = np.nan_to_num(next(iter(found.values())).maps[i])
        return np.unravel_index(values.argmax(), values.shape)

    maps = {title: regions.maps for title, regions in found.items()}
    return figure_beside(images, maps, panel, maximum, names=names, masks=masks, appearance=appearance)


def _map(title: str, found: Regions, image: np.ndarray, mask: np.ndarray | None, appearance: Appearance) -> Panel:
    def draw(ax: "Axes", plane: Plane) -> None:
        overlay(ax, plane, image, found.maps[0], absent="no place is marked", appearance=appearance)
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
