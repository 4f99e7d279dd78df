"""Figures of what intervals say: decision curves, subgroups, and how two runs differ."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medkeras.errors import InputError
from pipelines.evaluation.curves import COLORS, blank_figure

COLUMNS = 3  # Of decision curves, where there are several.
ROW = 0.3  # Inches.
PANELS = {
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "calibration": "positive share\nless mean probability",
}
MEASURES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "brier": "Brier score (less is better)",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "kappa": "weighted kappa",
}


def decision_curve_figure(table: pd.DataFrame) -> Figure:
    """Draws net benefit by threshold probability, beside that of acting on everybody and on nobody.

    Args:
        table: Columns `class`, `threshold`, `net_benefit` and `treat_all`; one panel per class.

    Raises:
        ValueError: If a column is missing or there is no row.

    Example:
        >>> table = pd.DataFrame({"class": "ill", "threshold": [0.2, 0.5], "net_benefit": [0.2, 0.1],
        ...                       "treat_all": [0.1, -0.2]})
        >>> decision_curve_figure(table).axes[0].get_title()
        'ill'
    """
    _check(table, {"class", "threshold", "net_benefit", "treat_all"})
    names = list(dict.fromkeys(table["class"]))
    across = min(len(names), COLUMNS)
    down = -(-len(names) // across)
    figure = blank_figure(5.6 if across == 1 else 3.6 * across, 4.6 if across == 1 else 3.2 * down)
    for k, (axes, name) in enumerate(zip(figure.subplots(down, across, squeeze=False).flat, names, strict=False)):
        own = table[table["class"] == name]
        axes.plot(own["threshold"], own["treat_all"], color="0.55", linestyle="--", label="act on everybody")
        axes.axhline(0, color="0.55", linewidth=1, label="act on nobody")
        axes.plot(own["threshold"], own["net_benefit"], color=COLORS[0], label="act by the model")
        # What is worse than acting on nobody may be worse by far, and how far does not matter.
        highest = np.nanmax([own["net_benefit"].max(), own["treat_all"].max(), 0.01])
        axes.set(xlim=(0, 1), ylim=(-0.25 * highest, 1.1 * highest), title=name)
        axes.set(xlabel="threshold probability", ylabel="net benefit per image")
        axes.grid(alpha=0.3)
        if k == 0:
            axes.legend(fontsize=9 if across == 1 else 7)
    for axes in figure.axes[len(names) :]:
        axes.remove()
    return figure


def subgroups_figure(table: pd.DataFrame, *, title: str) -> Figure:
    """Draws the measures of each group with their intervals, one row per group.

    Groups that are too small to compare are hollow; measures that stand out are in the second colour. The thin line
    is the reference group's value, the largest group's of that column.

    Args:
        table: Rows of one class, as `pipelines.evaluation.subgroups.subgroup_table` gives them.
        title: What stands above.

    Raises:
        ValueError: If a column is missing or there is no row.
    """
    _check(table, {"column", "group", "images", "positives", "is_small", "stands_out", *PANELS})
    table = table.reset_index(drop=True)
    # Some space between columns of metadata.
    heights = np.arange(len(table)) + 0.5 * (table["column"] != table["column"].shift()).cumsum().to_numpy() - 0.5
    figure = blank_figure(12, 1.6 + ROW * (heights[-1] + 1))
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (name, label) in zip(panels, PANELS.items(), strict=True):
        for height, (_, row) in zip(heights, table.iterrows(), strict=True):
            color = COLORS[1] if name in str(row["stands_out"]).split("|") else COLORS[0]
            _point(axes, [row[f"{name}{end}"] for end in ("", "_low", "_high")], height, color, hollow=row["is_small"])
        for column in dict.fromkeys(table["column"]):
            _reference(axes, table, heights, column, name)
        if name == "calibration":
            axes.axvline(0, color="0.7", linewidth=1)
        else:
            axes.set_xlim(0, 1.02)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    said = [f"{row['column']} {row['group']}  ({row['positives']} of {row['images']})" for _, row in table.iterrows()]
    panels[0].set_yticks(heights, said, fontsize=9)
    panels[0].set_ylim(heights[-1] + 0.7, -0.7)
    figure.suptitle(title, fontsize=11)
    return figure


def differences_figure(compared: dict[str, Any], *, first: str, second: str) -> Figure:
    """Draws how far two runs are apart in each measure, with the interval.

    Args:
        compared: What `medkeras.evaluation.compare` returns.
        first: Name of the first run.
        second: Name of the second run.

    Example:
        >>> row = {"first": 0.9, "second": 0.8, "difference": 0.1, "low": 0.02, "high": 0.18}
        >>> figure = differences_figure({"count": 80, "measures": {"auc": row}}, first="a", second="b")
        >>> figure.axes[0].get_yticklabels()[0].get_text()
        'AUC'
    """
    rows = compared["measures"]
    figure = blank_figure(7.5, 1.8 + 0.36 * len(rows))
    axes = figure.add_subplot()
    axes.axvline(0, color="0.4", linewidth=1)
    for height, row in enumerate(rows.values()):
        apart = row["low"] > 0 or row["high"] < 0
        _point(axes, [row["difference"], row["low"], row["high"]], height, COLORS[1 if apart else 0])
        said = f"{row['first']:.3f} and {row['second']:.3f}"
        axes.text(1.02, height, said, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [MEASURES[name] for name in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"{first} less {second}, with 95 % interval")
    axes.set_title(f"{compared['count']} images", fontsize=11)
    axes.grid(axis="x", alpha=0.3)
    return figure


def _point(axes: Axes, values: list[float], height: float, color: str, *, hollow: bool = False) -> None:
    value, low, high = values
    if math.isnan(value):
        return
    if not math.isnan(low):
        axes.plot([low, high], [height, height], color=color, linewidth=1.5, clip_on=False)
    axes.plot(
        value, height, "o", color=color, markerfacecolor="white" if hollow else color, markersize=5, clip_on=False
    )


def _reference(axes: Axes, table: pd.DataFrame, heights: np.ndarray, column: str, name: str) -> None:
    own = (table["column"] == column).to_numpy()
    compared = own & ~table["is_small"].to_numpy(dtype=bool)
    if compared.sum() < 2:
        return
    largest = table.loc[compared, "images"].idxmax()
    ends = heights[own].min() - 0.4, heights[own].max() + 0.4
    axes.plot([table.loc[largest, name]] * 2, ends, color="0.5", linewidth=0.8, linestyle=":")


def _check(table: pd.DataFrame, columns: set[str]) -> None:
    if not columns <= set(table) or not len(table):
        raise InputError(
            f"The table needs a row and columns {', '.join(sorted(columns))}. "
            f"Received: {len(table)} rows of {list(table.columns)}"
        )
