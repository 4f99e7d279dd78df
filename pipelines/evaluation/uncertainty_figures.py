"""Figures of how sure a model is: reliability, risk by coverage, and the images that it is least sure of."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medkeras.errors import InputError
from medkeras.evaluation import check_class_names, reliability
from medkeras.explain.figures.drawing import CELL, displayable, frame, outline, overlay
from medkeras.explain.figures.planes import planes_through, relative_heights
from medkeras.tasks import is_multilabel
from medkeras.uncertainty import risk_coverage
from pipelines.evaluation.curves import COLORS, LINES, blank_figure

COLUMNS = 3  # Of the gallery.
LETTERS = {1: 26, 2: 52}  # That fit above a picture, or above one and its map.
LINE = 0.145  # Inches.


def reliability_figure(
    labels: Any, probabilities: Mapping[str, Any], *, task: str, class_names: Sequence[str], bins: int = 15
) -> Figure:
    """Draws how often what was given a probability happened, and below it how many images that rests on.

    What happens is class 1 of a `binary` task, that the most probable class is right for others, and each label's
    presence of a `multilabel` task: see `medkeras.evaluation.reliability`.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `{name: (n, classes)}` to compare, such as `before` and `after` calibration.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        bins: Bins of equal width, at least 1.

    Raises:
        ValueError: If labels, probabilities or names do not fit the task or each other.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> figure = reliability_figure([0, 1, 0, 1], {"after": np.stack([1 - scores, scores], 1)}, task="binary",
        ...                             class_names=["normal", "ill"])
        >>> figure.axes[0].get_legend().get_texts()[0].get_text()
        'after: error 0.350'
    """
    figure = blank_figure(5.6, 6.6)
    above, below = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    above.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for i, (name, scores) in enumerate(probabilities.items()):
        check_class_names(class_names, num_classes=np.shape(scores)[1])
        found = reliability(labels, scores, task=task, bins=bins)
        style = {"color": COLORS[1 - i % 2 if len(probabilities) == 2 else i % len(COLORS)], "linestyle": LINES[i % 3]}
        is_filled = found.count > 0
        x, y, share = (values[is_filled] for values in (found.confidence, found.frequency, found.count / len(scores)))
        above.plot(x, y, linewidth=1, alpha=0.6, **style)
        # The area of a point is its share of the images: a bin of three images says little.
        above.scatter(
            x, y, s=10 + 200 * share, label=f"{name}: error {found.error:.3f}", color=style["color"], zorder=3
        )
        below.stairs(found.count, found.edges, **style)
    above.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel=_happens(task, class_names))
    above.set_title(f"Reliability, n = {len(np.asarray(labels))}")
    legend = above.legend(fontsize=9)
    below.set(xlabel=_of_what(task, class_names), ylabel="labels" if is_multilabel(task) else "images", yscale="log")
    below.minorticks_off()
    for axes in (above, below):
        axes.grid(alpha=0.3)
    for handle in legend.legend_handles:
        handle.set_sizes([30])
    return figure


def risk_coverage_figure(
    losses: Any, uncertainties: Mapping[str, Any], *, threshold: float | None = None, risk: float | None = None
) -> Figure:
    """Draws the share of wrong decisions among the images that are kept, the surest first.

    Args:
        losses: `(n,)`, what is wrong of each image's decision, in [0, 1].
        uncertainties: `{name: (n,)}`; what is referred goes by the first.
        threshold: Of the first: what is above is referred; the place is marked.
        risk: That was wanted when the threshold was chosen.

    Raises:
        ValueError: As `medkeras.uncertainty.risk_coverage`, or if there is no uncertainty to draw.

    Example:
        >>> figure = risk_coverage_figure([0, 1, 0, 0], {"entropy": [0.1, 0.9, 0.2, 0.3]}, threshold=0.5, risk=0.05)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()][-1]
        'referred above 0.500: 25.0 %'
    """
    if not uncertainties:
        raise InputError("`uncertainties` needs at least one. Received: none")
    losses = np.asarray(losses, np.float64)
    figure = blank_figure(6.4, 4.8)
    axes = figure.add_subplot()
    # The best order is that of the losses themselves; many images share one, so each is its own step here.
    steps = np.arange(1, len(losses) + 1) / len(losses)
    best = np.cumsum(np.sort(losses)) / np.arange(1, len(losses) + 1)
    for i, (name, unsure) in enumerate(uncertainties.items()):
        curve = risk_coverage(losses, unsure)
        style = {"color": COLORS[i % len(COLORS)], "linestyle": LINES[i % len(LINES)]}
        axes.plot(curve.coverage, curve.risk, label=f"{name}: area {curve.aurc:.4f}", **style)
    axes.plot(steps, best, color="0.5", linewidth=1, label=f"best possible: area {curve.best:.4f}")
    if risk is not None:
        axes.axhline(risk, color="0.3", linewidth=1, linestyle=":", label=f"wanted on validation: {risk:.3g}")
    if threshold is not None:
        kept = np.asarray(next(iter(uncertainties.values()))) <= threshold
        label = f"referred above {threshold:.3f}: {1 - kept.mean():.1%}".replace("%", " %")
        if kept.any():
            axes.plot(kept.mean(), losses[kept].mean(), "o", color="black", markersize=7, label=label, clip_on=False)
        else:
            axes.plot([], [], "o", color="black", label="everything is referred")
    axes.set(xlim=(0, 1), xlabel="coverage: share of the images that are kept", ylabel="risk: share decided wrongly")
    axes.set_ylim(bottom=0)
    axes.set_title(f"Risk by coverage, n = {len(losses)}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    return figure


@dataclasses.dataclass(frozen=True)
class Unsure:
    """One picture of the gallery.

    Attributes:
        image: `(*image grid, channels)` in [0, 1].
        class_map: `(*image grid)` in [0, 1], or None.
        mask: Lesion, boolean of the image grid, or None.
        lines: What is written above it, each a line of its own that is wrapped where it is long.
        spacing: From pixel to pixel along each axis, in any unit; equal by default.
    """

    image: np.ndarray
    class_map: np.ndarray | None
    mask: np.ndarray | None
    lines: tuple[str, ...]
    spacing: tuple[float, ...] | None = None


def uncertain_figure(pictures: Sequence[Unsure], *, title: str) -> Figure:
    """Draws images beside their maps, in true proportions; of a volume the axial slice through the maximum of its map.

    Args:
        pictures: At least one, all of one shape.
        title: What stands above all.

    Raises:
        ValueError: If there is no picture.

    Example:
        >>> picture = Unsure(np.ones((8, 8, 1)), np.ones((8, 8)), None, ("scan.png", "true: ill"))
        >>> len(uncertain_figure([picture] * 4, title="Least sure").subfigs)
        6
    """
    if not pictures:
        raise InputError("A gallery needs at least one picture. Received: none")
    grid = pictures[0].image.shape[:-1]
    planes = planes_through(grid, np.zeros(len(grid)))[:1]
    height = max(relative_heights(planes, grid, picture.spacing)[0] for picture in pictures)
    panels = 1 + any(picture.class_map is not None for picture in pictures)
    wrapped = [[part for line in p.lines for part in textwrap.wrap(line, LETTERS[panels])] for p in pictures]
    most = max(map(len, wrapped))
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    size = columns * (panels * CELL + 0.3), rows * (CELL * height + most * LINE + 0.25) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11)
    parts = figure.subfigures(rows, columns, squeeze=False).ravel()
    for part, picture, lines in zip(parts, pictures, wrapped, strict=False):
        # As many lines for each, so that the pictures of a row stand side by side.
        part.suptitle("\n".join([*lines, *[" "] * (most - len(lines))]), x=0.02, ha="left", fontsize=8)
        for axes, values in zip(np.atleast_1d(part.subplots(1, panels)), (None, picture.class_map), strict=False):
            _draw(axes, picture, values)
    return figure


def _draw(axes: Axes, picture: Unsure, values: np.ndarray | None) -> None:
    """Draws the image, or a map over it, where the map is largest."""
    image, grid = displayable(picture.image), picture.image.shape[:-1]
    is_mapped = picture.class_map is not None and picture.class_map.any()
    point = np.unravel_index(picture.class_map.argmax(), grid) if is_mapped else (np.array(grid) - 1) / 2
    plane = planes_through(grid, point)[0]
    if values is None:
        axes.imshow(plane.cut(image), cmap="gray", vmin=0, vmax=1)
    else:
        overlay(axes, plane, image, values, absent="no place speaks for it")
    outline(axes, plane, picture.mask)
    frame(axes, plane, grid, picture.spacing or [1] * len(grid))


def _of_what(task: str, names: Sequence[str]) -> str:
    if task == "binary":
        return f"probability of {textwrap.shorten(str(names[1]), 50)}"
    return "probability of a label" if is_multilabel(task) else "probability of the predicted class"


def _happens(task: str, names: Sequence[str]) -> str:
    if task == "binary":
        return f"share that is {textwrap.shorten(str(names[1]), 40)}"
    return "share of labels that are present" if is_multilabel(task) else "share that is right"
