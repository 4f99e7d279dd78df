"""What the figures of explanations have in common: panels, overlays and outlines on planes of an image."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medkeras.explain.planes import Plane, relative_heights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

LESION = "#00C896"
CELL = 1.7  # Inches per panel.

# A panel: its title, and what draws one plane of it.
Panel = tuple[str, Callable[["Axes", Plane], None]]


def displayable(image: np.ndarray) -> np.ndarray:
    """Returns a colour image as it is, and any other as the mean of its channels."""
    return image if image.shape[-1] == 3 else image.mean(axis=-1)


def overlay(ax: "Axes", plane: Plane, image: np.ndarray, values: np.ndarray, *, absent: str) -> None:
    """Lays a map over an image, relative to its maximum; negative and non-finite values count as 0.

    Args:
        ax: Where to draw.
        plane: The plane of the image to show.
        image: From `displayable`.
        values: Map of the image grid.
        absent: What to write where nothing of the map is positive.
    """
    values = np.where(np.isfinite(values), np.maximum(values, 0), 0)
    shown = plane.cut(values) / (values.max() or 1)
    ax.imshow(plane.cut(image), cmap="gray", vmin=0, vmax=1)
    ax.imshow(shown, cmap="magma", vmin=0, vmax=1, alpha=0.8 * np.sqrt(shown))
    if not values.any():
        note(ax, absent)


def note(ax: "Axes", text: str) -> None:
    """Writes a few words into the corner of a panel."""
    box = {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "linewidth": 0}
    ax.text(0.03, 0.03, text, transform=ax.transAxes, fontsize=6, color="white", bbox=box)


def outline(ax: "Axes", plane: Plane, mask: np.ndarray | None, *, color: str = LESION, style: str = "-") -> None:
    """Draws the outline of a mask on a plane of the image; none where the mask is None or empty there."""
    from matplotlib import patheffects

    if mask is not None and (shape := plane.cut(mask)).any():
        # A margin closes the outline of a lesion that touches the border.
        down, across = (np.arange(-1, n + 1) for n in shape.shape)
        drawn = ax.contour(
            across, down, np.pad(shape, 1).astype(float), levels=[0.5], colors=color, linewidths=1, linestyles=style
        )
        if style != "-":  # A dashed line would be lost on a bright overlay.
            drawn.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])


def draw_panels(part: "SubFigure", panels: list[Panel], planes: list[Plane], shape: Sequence[int]) -> None:
    """Draws panels side by side, each plane of them in a row."""
    heights = relative_heights(planes, shape)
    axes = part.subplots(len(planes), len(panels), squeeze=False, height_ratios=heights)
    for row, plane in zip(axes, planes, strict=True):
        for ax, (title, draw) in zip(row, panels, strict=True):
            draw(ax, plane)
            height, width = (shape[axis] for axis in plane.axes)
            ax.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
            if plane is planes[0]:
                ax.set_title(title, fontsize=8)
        if plane.name:
            row[0].set_ylabel(f"{plane.name} {plane.index}", fontsize=7)
