"""Line charts as inline SVG, whose colours follow the page's theme."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipelines.report.page.markup import Markup, tag

WIDTH, HEIGHT = 360, 280
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 40
COLORS = 7  # Of `style.css`, `.s0` to `.s6`.
MOST_POINTS = 400


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: What the legend says.
        x: Places of its points.
        y: Values there; what is not finite interrupts the line.
        color: From 0 to 6; None for the grey of what is only there to compare with.
        dashed: Whether it is dashed.
        marks: Radius of the dot at each point; none by default.
        band: Lower and upper end of an interval at places: `(x, low, high)`, or None.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: int | None = 0
    dashed: bool = False
    marks: Sequence[float] | None = None
    band: tuple[Any, Any, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines on two axes.

    Attributes:
        title: What stands above.
        lines: What is drawn, the first one below the others.
        x: Title of the axis.
        y: Title of the axis.
        says: In a sentence or two, how to read it.
        xlim: Ends of the axis; those of the lines by default.
        ylim: Ends of the axis; those of the lines by default.
        points: Places to mark, `(x, y, name)`.
    """

    title: str
    lines: Sequence[Line]
    x: str
    y: str
    says: str = ""
    xlim: tuple[float, float] | None = None
    ylim: tuple[float, float] | None = None
    points: Sequence[tuple[float, float, str]] = ()

    def draw(self) -> Markup:
        """Returns the chart as a figure with its legend.

        Example:
            >>> figure = Chart("Loss", [Line("train", [1, 2], [0.7, 0.5])], "epoch", "loss").draw()
            >>> figure.startswith("<figure "), "train" in figure
            (True, True)
        """
        box = _Box(self.xlim or _ends(self.lines, "x"), self.ylim or _ends(self.lines, "y"))
        drawn = [part for line in self.lines for part in _line(line, box)]
        drawn += [tag("circle", cx=_r(px), cy=_r(py), r=5, class_="point") for px, py in map(box.place, self.points)]
        names = ", ".join(line.name for line in self.lines)
        label = f"{self.title}: {self.y} by {self.x}; {names}"
        picture = tag(
            "svg", *_axes(box, self.x, self.y), *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label
        )
        entries = [tag("li", _swatch(line), line.name) for line in self.lines]
        entries += [tag("li", tag("span", class_="dot"), name) for *_, name in self.points]
        caption = tag("figcaption", tag("strong", self.title), " " + self.says if self.says else None)
        return tag("figure", caption, picture, tag("ul", *entries, class_="legend"), class_="chart")


@dataclasses.dataclass(frozen=True)
class _Box:
    """From values to places in the picture."""

    xlim: tuple[float, float]
    ylim: tuple[float, float]

    def x(self, value: Any) -> Any:
        low, high = self.xlim
        return LEFT + (np.asarray(value, float) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: Any) -> Any:
        low, high = self.ylim
        return HEIGHT - BOTTOM - (np.asarray(value, float) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def place(self, point: tuple[float, float, str]) -> tuple[float, float]:
        return float(self.x(point[0])), float(self.y(point[1]))


def _ends(lines: Sequence[Line], axis: str) -> tuple[float, float]:
    values = np.concatenate([np.asarray(getattr(line, axis), float) for line in lines])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.0 if axis == "x" else 0.05 * (high - low)
    return (low - margin, high + margin) if high > low else (low - 0.5, high + 0.5)


def _r(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _path(xs: np.ndarray, ys: np.ndarray) -> str:
    """Returns the path through points, interrupted where one is not finite."""
    parts, pen = [], "M"
    for px, py in zip(xs, ys, strict=True):
        if not np.isfinite(px + py):
            pen = "M"
            continue
        parts.append(f"{pen}{_r(px)} {_r(py)}")
        pen = "L"
    return "".join(parts)


def _line(line: Line, box: _Box) -> list[Markup]:
    xs, ys = np.asarray(line.x, float), np.asarray(line.y, float)
    if len(xs) > MOST_POINTS and line.marks is None:
        kept = np.unique(np.linspace(0, len(xs) - 1, MOST_POINTS).round().astype(int))
        xs, ys = xs[kept], ys[kept]
    # What lies below the axis is cut at its edge: how far below does not matter.
    ys = np.where(ys < box.ylim[0], np.nan, ys)
    kind, drawn = _kind(line), []
    if line.band is not None:
        places, low, high = (np.asarray(values, float) for values in line.band)
        known = np.isfinite(low) & np.isfinite(high)
        corners = zip(
            np.r_[box.x(places[known]), box.x(places[known])[::-1]],
            np.r_[box.y(low[known]), box.y(high[known])[::-1]],
            strict=True,
        )
        points = " ".join(f"{_r(px)},{_r(py)}" for px, py in corners)
        drawn.append(tag("polygon", points=points, class_=f"band {kind}"))
    if line.marks is not None:
        for px, py, radius in zip(box.x(xs), box.y(ys), line.marks, strict=True):
            if np.isfinite(px + py):
                drawn.append(tag("circle", cx=_r(px), cy=_r(py), r=_r(radius), class_=f"mark {kind}"))
    return [*drawn, tag("path", d=_path(box.x(xs), box.y(ys)), class_=f"line {kind}")]


def _kind(line: Line) -> str:
    color = "grey" if line.color is None else f"s{line.color % COLORS}"
    return color + (" dashed" if line.dashed else "")


def _axes(box: _Box, x: str, y: str) -> list[Markup]:
    parts = []
    for value in _ticks(box.ylim):
        at = _r(float(box.y(value)))
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(tag("text", f"{value:g}", x=LEFT - 6, y=at, dy="0.35em", class_="tick end"))
    for value in _ticks(box.xlim):
        at = _r(float(box.x(value)))
        parts.append(tag("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
        parts.append(tag("text", f"{value:g}", x=at, y=HEIGHT - BOTTOM + 15, class_="tick middle"))
    across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(tag("text", x, x=_r(across), y=HEIGHT - 6, class_="axis middle"))
    turned = f"rotate(-90 11 {_r(down)})"
    return [*parts, tag("text", y, x=11, y=_r(down), transform=turned, class_="axis middle")]


def _ticks(limits: tuple[float, float]) -> list[float]:
    low, high = limits
    is_whole = high - low > 1 and low == round(low) and high == round(high)
    places = MaxNLocator(5, steps=[1, 2, 5, 10], integer=is_whole).tick_values(low, high)
    return [float(np.round(value, 10)) for value in places if low - 1e-9 <= value <= high + 1e-9]


def _swatch(line: Line) -> Markup:
    path = tag("path", d="M0 5L22 5", class_=f"line {_kind(line)}")
    return tag("svg", path, viewBox="0 0 22 10", class_="swatch", aria_hidden="true")
