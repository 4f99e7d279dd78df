"""What the figures of explanations have in common: panels, overlays and outlines on planes of an image."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.errors import InputError
from medkeras.explain.figures.appearance import Appearance
from medkeras.explain.figures.planes import Plane, planes_through, relative_heights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.contour import QuadContourSet
    from matplotlib.figure import Figure, SubFigure

LESION = "#00C896"
CELL = 1.7  # Inches per panel.
LETTER, LINE = 0.075, 0.15  # Inches of a title's letters and lines.

# A panel: its title, and what draws one plane of it.
Panel = tuple[str, Callable[["Axes", Plane], None]]
# A row of a figure: its title, its panels, and the planes of its image.
Row = tuple[str, list[Panel], list[Plane]]


def displayable(image: np.ndarray) -> np.ndarray:
    """Returns a colour image as it is, and any other as the mean of its channels."""
    return image if image.shape[-1] == 3 else image.mean(axis=-1)


def overlay(
    ax: "Axes",
    plane: Plane,
    image: np.ndarray,
    values: np.ndarray,
    *,
    absent: str,
    appearance: Appearance | None = None,
) -> None:
    """Lays a map over an image, relative to its maximum; negative and non-finite values count as 0.

    The smaller a value, the clearer it is, down to nothing at 0.

    Args:
        ax: Where to draw.
        plane: The plane of the image to show.
        image: From `displayable`.
        values: Map of the image grid.
        absent: What to write where nothing of the map is positive.
        appearance: Its opacity and contours.
    """
    appearance = appearance or Appearance()
    values = np.where(np.isfinite(values), np.maximum(values, 0), 0)
    shown = plane.cut(values) / (values.max() or 1)
    ax.imshow(plane.cut(image), cmap="gray", vmin=0, vmax=1)
    ax.imshow(shown, cmap="magma", vmin=0, vmax=1, alpha=appearance.opacity * np.sqrt(shown))
    if appearance.contours and shown.any():
        _contours(ax, shown, levels=sorted(appearance.contours), colors="white", linewidths=0.5)
    if not values.any():
        note(ax, absent)


def frame(ax: "Axes", plane: Plane, shape: Sequence[int], spacing: Sequence[float]) -> None:
    """Ends a panel at the borders of its plane and gives it its true proportions; it has no ticks.

    Args:
        ax: The panel.
        plane: Of the image.
        shape: `(height, width)` or `(depth, height, width)` of the image.
        spacing: From pixel to pixel along each of these axes, in any unit.
    """
    (height, width), (down, across) = ([of[axis] for axis in plane.axes] for of in (shape, spacing))
    ax.set_aspect(down / across)
    ax.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def note(ax: "Axes", text: str) -> None:
    """Writes a few words into the corner of a panel."""
    box = {"facecolor": "black", "alpha": 0.5, "pad": 1.5, "linewidth": 0}
    ax.text(0.03, 0.03, text, transform=ax.transAxes, fontsize=6, color="white", bbox=box)


def outline(ax: "Axes", plane: Plane, mask: np.ndarray | None, *, color: str = LESION, style: str = "-") -> None:
    """Draws the outline of a mask on a plane of the image; none where the mask is None or empty there."""
    from matplotlib import patheffects

    if mask is not None and (shape := plane.cut(mask)).any():
        drawn = _contours(ax, shape, levels=[0.5], colors=color, linewidths=1, linestyles=style)
        if style != "-":  # A dashed line would be lost on a bright overlay.
            drawn.set_path_effects([patheffects.withStroke(linewidth=2, foreground="black")])


def _contours(ax: "Axes", values: np.ndarray, **style: Any) -> "QuadContourSet":
    """Draws lines of equal value; a margin closes those that touch the border."""
    down, across = (np.arange(-1, n + 1) for n in values.shape)
    return ax.contour(across, down, np.pad(values.astype(float), 1), **style)


def picture(image: np.ndarray, mask: np.ndarray | None) -> Panel:
    """Returns the panel of an image, from `displayable`, with the outline of its lesion."""

    def draw(ax: "Axes", plane: Plane) -> None:
        ax.imshow(plane.cut(image), cmap="gray", vmin=0, vmax=1)
        outline(ax, plane, mask)

    return "image", draw


def figure_beside(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    panel: Callable[[str, int, np.ndarray, np.ndarray | None], Panel],
    middle: Callable[[int], Sequence[float]],
    *,
    names: Sequence[str] | None,
    masks: Sequence[np.ndarray | None] | None,
    appearance: Appearance,
) -> "Figure":
    """Draws one row per image: the image with its lesion, then a panel for each of its maps.

    Args:
        images: `(batch, *image grid, channels)` in [0, 1].
        maps: `{title: (batch, *image grid)}`, at least one.
        panel: From the title of a map, the row, its image as of `displayable` and its mask to the panel.
        middle: From the row to the place through which a volume is cut that has no lesion to be cut through.
        names: What to call each image.
        masks: Lesion of each image, boolean of the image grid; None where it is not known.
        appearance: Its spacing.

    Raises:
        ValueError: If there is no map, maps, names or masks are not one per image and of the image grid, or the
            spacing is not one number per axis.
    """
    images, grid = np.asarray(images), np.shape(images)[1:-1]
    names, masks = names or [None] * len(images), masks or [None] * len(images)
    _check_rows({title: np.shape(values) for title, values in maps.items()}, names, masks, (len(images), *grid))
    rows = []
    for i, (name, mask) in enumerate(zip(names, masks, strict=True)):
        image = displayable(images[i])
        panels = [picture(image, mask), *(panel(title, i, image, mask) for title in maps)]
        has_lesion = mask is not None and mask.any()
        through = np.mean(np.argwhere(mask), axis=0) if has_lesion else middle(i)
        rows.append((name or "", panels, planes_through(grid, through)))
    return figure_of(rows, grid, appearance)


def _check_rows(
    maps: Mapping[str, Sequence[int]],
    names: Sequence[str | None],
    masks: Sequence[np.ndarray | None],
    shape: tuple[int, ...],
) -> None:
    """Checks that there are maps, and that maps, names and masks are of the images of shape `(batch, *image grid)`."""
    if not maps:
        raise InputError("There must be a map to draw. Received: no map")
    for title, found in maps.items():
        if tuple(found) != shape:
            raise InputError(f"Maps must be of shape {shape}. Received: {title} of shape {tuple(found)}")
    for name, given in (("names", names), ("masks", masks)):
        if len(given) != shape[0]:
            raise InputError(f"`{name}` must be one per image, {shape[0]}. Received: {len(given)} {name}")
    for mask in masks:
        if mask is not None and mask.shape != shape[1:]:
            raise InputError(f"A mask must be of the image grid {shape[1:]}. Received: mask of shape {mask.shape}")


def figure_of(rows: Sequence[Row], shape: Sequence[int], appearance: Appearance) -> "Figure":
    """Draws one row per image, its panels side by side; a volume takes three, one for each of its slices.

    Args:
        rows: At least one, all of as many panels.
        shape: `(height, width)` or `(depth, height, width)` of the images.
        appearance: Its spacing.

    Raises:
        ValueError: If the spacing is not one number per axis.
    """
    from matplotlib.figure import Figure

    spacing = appearance.spacing_of(len(shape))
    height = sum(relative_heights(rows[0][2], shape, spacing))
    width = CELL * len(rows[0][1]) + 0.3
    titles = [textwrap.wrap(title, int(width / LETTER)) for title, _, _ in rows]
    size = width, len(rows) * (CELL * height + 0.45 + LINE * max(1, *map(len, titles)))
    figure = Figure(figsize=size, layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(rows), 1))
    for part, lines, (_, panels, planes) in zip(parts, titles, rows, strict=True):
        part.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=9, parse_math=False)
        _draw_panels(part, panels, planes, shape, spacing)
    return figure


def _draw_panels(
    part: "SubFigure", panels: list[Panel], planes: list[Plane], shape: Sequence[int], spacing: Sequence[float]
) -> None:
    """Draws panels side by side, each plane of them in a row."""
    heights = relative_heights(planes, shape, spacing)
    axes = part.subplots(len(planes), len(panels), squeeze=False, height_ratios=heights)
    for row, plane in zip(axes, planes, strict=True):
        for ax, (title, draw) in zip(row, panels, strict=True):
            draw(ax, plane)
            frame(ax, plane, shape, spacing)
            if plane is planes[0]:
                ax.set_title(title, fontsize=8, parse_math=False)  # A dollar in a name begins no formula.
        if plane.name:
            row[0].set_ylabel(f"{plane.name} {plane.index}", fontsize=7)
