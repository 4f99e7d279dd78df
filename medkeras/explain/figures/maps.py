"""The figure of several maps of the same images, drawn on `matplotlib.figure.Figure` without pyplot."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medkeras.explain.figures.appearance import Appearance
from medkeras.explain.figures.drawing import Panel, figure_beside, outline, overlay
from medkeras.explain.figures.planes import Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def maps_figure(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    names: Sequence[str] | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
    appearance: Appearance | None = None,
) -> "Figure":
    """Draws one row per image: the image, then each of its maps laid over it, relative to its maximum.

    A volume takes three rows, its slices through the middle of the lesion, or through its own middle where there is
    none: the same for all maps. Negative values of a map count as 0.

    Args:
        images: `(batch, *image grid, channels)` in [0, 1].
        maps: `{title: (batch, *image grid)}` of the same images, at least one.
        names: What to call each image.
        masks: Lesion of each image, boolean of the image grid; None where it is not known.
        appearance: Opacity and contours of the maps, and the images' spacing.

    Raises:
        ValueError: If there is no map, maps, names or masks are not one per image and of the image grid, or the
            spacing is not one number per axis.

    Example:
        >>> from medkeras.explain import explanation_maps
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2)
        >>> images = np.random.default_rng(0).uniform(size=(2, 28, 28, 1))
        >>> maps = {name: explanation_maps(model, images, method=name) for name in ("grad_cam", "layer_cam")}
        >>> [ax.get_title() for ax in maps_figure(images, maps).subfigs[0].axes]
        ['image', 'grad_cam', 'layer_cam']
    """
    appearance, centre = appearance or Appearance(), (np.array(np.shape(images)[1:-1]) - 1) / 2

    def panel(title: str, i: int, image: np.ndarray, mask: np.ndarray | None) -> Panel:
        def draw(ax: "Axes", plane: Plane) -> None:
            overlay(ax, plane, image, maps[title][i], absent="no place speaks for it", appearance=appearance)
            outline(ax, plane, mask)

        return title, draw

    return figure_beside(images, maps, panel, lambda i: centre, names=names, masks=masks, appearance=appearance)
