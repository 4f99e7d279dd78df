"""Figures of explanations, drawn on `matplotlib.figure.Figure` without pyplot; the caller saves them."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medkeras.errors import InputError
from medkeras.explain.explanation import Explanation
from medkeras.explain.figures.appearance import Appearance
from medkeras.explain.figures.drawing import Panel, displayable, figure_of, note, outline, overlay
from medkeras.explain.figures.planes import Plane, planes_through

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers can tell apart; its green is kept for the lesion.
COLORS = ("#E69F00", "#56B4E9", "#CC79A7", "#D55E00")


def explanation_figure(
    explanation: Explanation,
    *,
    names: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
    appearance: Appearance | None = None,
) -> "Figure":
    """Draws one row per image: fixations in order, priority maps, class map and pathways.

    A volume takes three rows, its slices through the maximum of the method's map or the class map, or through the last
    fixation where no place speaks for the class; fixations and windows are projected onto each slice. Each window has
    its number in a corner. Priority and pathway maps run from 0 to their own maximum, which is written into
    them; the class map, the attention map and the map of a method, each relative to its maximum, are laid over the
    image.

    Args:
        explanation: Of one or more images.
        names: What to call each image.
        labels: True class of each image.
        masks: Lesion of each image, boolean of the image grid; None where there is none.
        appearance: Opacity and contours of the maps that are laid over the image, and the images' spacing.

    Raises:
        ValueError: If names, labels or masks are not one per image, a mask is not of the image grid, or the spacing
            is not one number per axis.

    Example:
        >>> from medkeras.explain import explain
        >>> from medkeras.models import create
        >>> model = create("focusnet2d_tiny", num_classes=2, class_names=["healthy", "lesion"])
        >>> explanation = explain(model, np.ones((2, 28, 28, 1), "float32"))
        >>> figure = explanation_figure(explanation, labels=["lesion", "healthy"])
        >>> [ax.get_title() for ax in figure.subfigs[0].axes]
        ['fixations', 'priority 1', 'priority 2', 'class map', 'magno', 'parvo', 'konio']
    """
    grid, appearance = explanation.images.shape[1:-1], appearance or Appearance()
    _check(explanation, names=names, labels=labels, masks=masks)
    count = len(explanation)
    names, labels, masks = (values or [None] * count for values in (names, labels, masks))
    rows = [
        (
            _title(explanation, i, names[i], labels[i]),
            _panels(explanation, i, masks[i], appearance),
            planes_through(grid, _point(explanation, i)),
        )
        for i in range(count)
    ]
    return figure_of(rows, grid, appearance)


def _check(explanation: Explanation, **values: Sequence[Any] | None) -> None:
    for name, given in values.items():
        if given is not None and len(given) != len(explanation):
            raise InputError(f"`{name}` must be one per image, {len(explanation)}. Received: {len(given)} {name}")
    grid = explanation.images.shape[1:-1]
    for mask in values["masks"] or ():
        if mask is not None and mask.shape != grid:
            raise InputError(f"A mask must be of the image grid {grid}. Received: mask of shape {mask.shape}")


def _point(explanation: Explanation, i: int) -> np.ndarray:
    """Returns the place through which a volume is cut."""
    grid = explanation.images.shape[1:-1]
    for maps in (explanation.maps, explanation.class_map):
        if maps is not None and maps[i].any():
            return np.array(np.unravel_index(maps[i].argmax(), grid))
    if explanation.fixations is not None:
        return explanation.fixations.places[i, -1]
    return (np.array(grid) - 1) / 2


def _title(explanation: Explanation, i: int, name: str | None, label: str | None) -> str:
    best = int(explanation.probabilities[i].argmax())
    predicted = f"predicted: {explanation.class_names[best]} {explanation.probabilities[i, best]:.2f}"
    parts = [name, None if label is None else f"true: {label or 'none'}", predicted]
    return "   ".join(part for part in parts if part)


def _panels(explanation: Explanation, i: int, mask: np.ndarray | None, appearance: Appearance) -> list[Panel]:
    """Returns what is shown of one image, from left to right."""
    image, looked = displayable(explanation.images[i]), explanation.fixations

    def picture(ax: "Axes", plane: Plane) -> None:
        ax.imshow(plane.cut(image), cmap="gray", vmin=0, vmax=1)
        outline(ax, plane, mask)

    def fixated(ax: "Axes", plane: Plane) -> None:
        picture(ax, plane)
        _fixations(ax, plane, looked.places[i], looked.boxes[i], image.shape)

    panels = [("fixations", fixated) if looked is not None else ("image", picture)]
    if looked is not None and looked.priorities is not None:
        panels += [(f"priority {k + 1}", _map(p, mask)) for k, p in enumerate(looked.priorities[i])]
    over = functools.partial(_laid_over, image, mask=mask, appearance=appearance)
    if explanation.maps is not None:
        panels.append((_method_title(explanation, i), over(explanation.maps[i])))
    if explanation.class_map is not None:
        panels.append(("class map", over(explanation.class_map[i])))
    if explanation.attention is not None:
        panels.append(("attention", over(explanation.attention[i], absent="no attention")))
    return panels + [(name, _map(maps[i], None)) for name, maps in explanation.pathways.items()]


def _method_title(explanation: Explanation, i: int) -> str:
    title = explanation.method.replace("_", " ")
    return title if explanation.targets is None else f"{title}\n{explanation.class_names[explanation.targets[i]]}"


def _laid_over(
    image: np.ndarray,
    values: np.ndarray,
    *,
    mask: np.ndarray | None,
    appearance: Appearance,
    absent: str = "no place speaks for it",
) -> Callable[["Axes", Plane], None]:
    def draw(ax: "Axes", plane: Plane) -> None:
        overlay(ax, plane, image, values, absent=absent, appearance=appearance)
        outline(ax, plane, mask)

    return draw


def _map(values: np.ndarray, mask: np.ndarray | None) -> Callable[["Axes", Plane], None]:
    def draw(ax: "Axes", plane: Plane) -> None:
        ax.imshow(plane.cut(values), cmap="viridis", vmin=0, vmax=values.max() or 1)
        note(ax, f"max {values.max():.2g}")
        outline(ax, plane, mask)

    return draw


def _fixations(ax: "Axes", plane: Plane, places: np.ndarray, boxes: np.ndarray, shape: Sequence[int]) -> None:
    """Draws the way from the image centre over the fixations, and each window with its number in a corner."""
    from matplotlib.patches import Rectangle

    axes = list(plane.axes)
    down, across = ((shape[axis] - 1) / 2 for axis in axes)
    for k, (place, box) in enumerate(zip(places[:, axes], boxes[:, axes], strict=True)):
        color = COLORS[k % len(COLORS)]
        (top, bottom), (left, right) = box
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=color, lw=1))
        arrow = {
            "arrowstyle": "-|>",
            "mutation_scale": 6,
            "color": color,
            "lw": 1,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        ax.annotate("", (place[1], place[0]), (across, down), arrowprops=arrow)
        down, across = place
        ax.plot(across, down, "o", markersize=3, color=color, markeredgecolor="black", markeredgewidth=0.5)
        # Windows overlap: each number takes the next corner, clockwise.
        corner = ((left, top), (right, top), (right, bottom), (left, bottom))[k % 4]
        circle = {"boxstyle": "circle,pad=0.15", "facecolor": color, "edgecolor": "black", "lw": 0.5}
        ax.text(*corner, str(k + 1), fontsize=6, ha="center", va="center", bbox=circle)
