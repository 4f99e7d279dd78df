"""Figures of an evaluation: curves, confusion matrix, training history.

Drawn on `matplotlib.figure.Figure` without pyplot, so nothing is global; the caller saves them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medkeras.errors import InputError
from medkeras.evaluation import (
    average_precision,
    check_class_names,
    check_predictions,
    curve_band,
    one_vs_rest,
    precision_at,
    precision_recall_curve,
    roc_auc,
    roc_curve,
    sensitivity_at,
)

# Okabe and Ito's palette, which colour-blind readers can tell apart, without yellow, too faint for a line.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", ":")
PLACES = np.linspace(0, 1, 101)  # Of a band.
MOST_BANDS = 3  # More of them hide each other.
REPEATS = 200


def roc_figure(
    labels: Any, probabilities: Any, *, task: str, class_names: Sequence[str], patients: Any = None
) -> Figure:
    """Draws the ROC curve of class 1, or of each class against the rest, or of each label.

    Up to three curves have bands: 95 % intervals of the sensitivity at each specificity, by bootstrap.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        patients: `(n,)` patient of each image, for the bands; by default each image is its own.

    Raises:
        ValueError: If labels, probabilities or names do not fit the task or each other.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> probabilities = np.stack([1 - scores, scores], 1)
        >>> figure = roc_figure([0, 1, 0, 1], probabilities, task="binary", class_names=["normal", "ill"])
        >>> figure.axes[0].get_xlabel()
        '1 - specificity'
    """
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for style, name, positive, scores, groups in _classes(labels, probabilities, task, class_names, patients):
        if groups is not None:
            band = curve_band(_sensitivities, positive, scores, groups=groups, repeats=REPEATS)
            axes.fill_between(1 - PLACES, *band, color=style["color"], alpha=0.15, linewidth=0)
        false_rates, true_rates = roc_curve(positive, scores)[:2] if _both(positive) else ([], [])
        label = _label(name, "AUC", roc_auc(positive, scores), positive)
        axes.plot(false_rates, true_rates, label=label, **style)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"ROC curve, n = {len(labels)}")
    _legend(axes, "lower right")
    return figure


def precision_recall_figure(
    labels: Any, probabilities: Any, *, task: str, class_names: Sequence[str], patients: Any = None
) -> Figure:
    """Draws the precision-recall curve of class 1, or of each class against the rest, or of each label.

    Up to three curves have bands: 95 % intervals of the precision at each recall, by bootstrap.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        patients: `(n,)` patient of each image, for the bands; by default each image is its own.

    Raises:
        ValueError: If labels, probabilities or names do not fit the task or each other.

    Example:
        >>> labels, probabilities = np.array([[0], [1], [1]]), np.array([[0.2], [0.7], [0.6]])
        >>> figure = precision_recall_figure(labels, probabilities, task="multilabel", class_names=["mass"])
        >>> figure.axes[0].get_legend().get_texts()[0].get_text()
        'mass: AP 1.000 (2 of 3)'
    """
    figure, axes = _square()
    for style, name, positive, scores, groups in _classes(labels, probabilities, task, class_names, patients):
        if groups is not None:
            band = curve_band(_precisions, positive, scores, groups=groups, repeats=REPEATS)
            axes.fill_between(PLACES, *band, color=style["color"], alpha=0.15, linewidth=0)
        recalls, precisions = precision_recall_curve(positive, scores)[:2] if _both(positive) else ([], [])
        label = _label(name, "AP", average_precision(positive, scores), positive)
        axes.plot(recalls, precisions, drawstyle="steps-post", label=label, **style)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision", title=f"Precision-recall curve, n = {len(labels)}")
    _legend(axes, "lower left")
    return figure


def confusion_figure(metrics: dict[str, Any]) -> Figure:
    """Draws the confusion matrix, or for several labels one row of counts per label.

    Decisions are those of the operating point where there is one. The colour is the share of the true class.

    Args:
        metrics: What `medkeras.evaluation.evaluate` returns.

    Example:
        >>> from medkeras.evaluation import evaluate
        >>> metrics = evaluate([0, 1], [[0.9, 0.1], [0.4, 0.6]], task="binary", class_names=["normal", "ill"])
        >>> confusion_figure(metrics).axes[0].get_title()
        'Decisions at 0.5, n = 2'
    """
    names, decided = metrics["class_names"], metrics.get("operating_point", metrics)
    is_multilabel = "confusion_matrices" in decided
    if is_multilabel:
        counts = np.array([decided["confusion_matrices"][name] for name in names])
        columns = ["true\nnegative", "false\npositive", "false\nnegative", "true\npositive"]
    else:
        counts, columns = np.array(decided["confusion_matrix"]), names
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)

    few = len(names) <= 5
    width, height = (1.1 if few else 0.9 if is_multilabel else 0.55), (1.0 if few else 0.5)
    figure = blank_figure(2.6 + width * len(columns), 1.8 + height * len(names))
    axes = figure.add_subplot()
    _heat(axes, counts.reshape(len(names), -1), shares.reshape(len(names), -1), font=12 if few else 8)
    crowded = not is_multilabel and max(map(len, names)) > 10 * width
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    axes.set_xticks(range(len(columns)), columns, **slant)
    axes.set_yticks(range(len(names)), names)
    axes.set_title(f"Decisions {_rule(metrics)}, n = {metrics['count']}", fontsize=11)
    if not is_multilabel:
        axes.set(xlabel="predicted", ylabel="true")
    return figure


def history_figure(history: pd.DataFrame) -> Figure:
    """Draws the loss and every other measure of training, with their values on validation, by epoch.

    Args:
        history: One row per epoch; columns `epoch`, `loss`, `val_loss` and other measures in such pairs.

    Raises:
        ValueError: If there is no column `epoch` or `loss`, or no row.

    Example:
        >>> frame = pd.DataFrame({"epoch": [1, 2], "loss": [0.7, 0.5], "auc": [0.6, 1], "val_auc": [0.5, 1]})
        >>> [axes.get_ylabel() for axes in history_figure(frame).axes]
        ['loss', 'auc']
    """
    if not {"epoch", "loss"} <= set(history) or len(history) == 0:
        raise InputError(
            "`history` needs columns `epoch` and `loss` and a row. "
            f"Received: {len(history)} rows of {list(history.columns)}"
        )
    measures = [name for name in history if f"val_{name}" in history and name != "loss"]
    panels = ["loss", *measures]
    figure = blank_figure(4.2 * len(panels), 3.6)
    for axes, name in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        for column, label, color in ((name, "train", COLORS[0]), (f"val_{name}", "validation", COLORS[1])):
            if column in history:
                axes.plot(history["epoch"], history[column], label=label, color=color, marker=".")
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def blank_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of so many inches, with a margin around what is drawn."""
    figure = Figure((width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    return figure


def _square() -> tuple[Figure, Axes]:
    figure = blank_figure(5.6, 5.2)
    axes = figure.add_subplot()
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(alpha=0.3)
    return figure, axes


def _classes(labels: Any, probabilities: Any, task: str, class_names: Sequence[str], patients: Any) -> Any:
    """Yields style, name, which images are positive, scores, and groups for a band, if there is one, of each curve."""
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    names = check_class_names(class_names, num_classes=probabilities.shape[1])
    patients = np.arange(len(labels)) if patients is None else np.asarray(patients)
    known = ~np.isnan(labels) if labels.ndim == 2 else np.ones(probabilities.shape, dtype=bool)
    curves = list(zip(names, one_vs_rest(labels, probabilities, task=task), known.T, strict=True))
    curves = curves[1:] if task == "binary" else curves
    for index, (name, (positive, scores), rows) in enumerate(curves):
        line, color = divmod(index, len(COLORS))
        style = {"color": COLORS[color], "linestyle": LINES[line % len(LINES)], "clip_on": False}
        yield style, name, positive, scores, patients[rows] if _both(positive) and len(curves) <= MOST_BANDS else None


def _sensitivities(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return sensitivity_at(positive, scores, specificity=PLACES)


def _precisions(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return precision_at(positive, scores, recall=PLACES)


def _both(positive: np.ndarray) -> bool:
    return bool(positive.any() and not positive.all())


def _label(name: str, measure: str, value: float, positive: np.ndarray) -> str:
    value = "undefined" if np.isnan(value) else f"{value:.3f}"
    return f"{name}: {measure} {value} ({positive.sum()} of {len(positive)})"


def _legend(axes: Axes, corner: str) -> None:
    """Puts a short legend into a corner of the plot, a long one beside it."""
    if len(axes.get_legend_handles_labels()[1]) <= 4:
        axes.legend(loc=corner, fontsize=9)
        return
    figure = axes.get_figure()
    figure.set_size_inches(9, 5.2)
    figure.legend(loc="outside right center", fontsize=9, frameon=False)


def _heat(axes: Axes, counts: np.ndarray, shares: np.ndarray, *, font: int) -> None:
    """Writes counts into cells coloured by their shares."""
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        color = "white" if shares[row, column] > 0.55 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=font)
    axes.get_figure().colorbar(image, label="share of the true class", shrink=0.9)


def _rule(metrics: dict[str, Any]) -> str:
    """Says in a few words how the decisions of a confusion matrix were made."""
    point = metrics.get("operating_point")
    if point is None:
        is_thresholded = metrics["task"] in ("binary", "multilabel")
        return "at 0.5" if is_thresholded else "by the most probable class"
    if point["thresholds"] is None:
        return "by the most probable class"
    if len(point["thresholds"]) == 1:
        return f"above {point['thresholds'][0]:.3g} ({point['rule']})"
    return f"at frozen thresholds ({point['rule']})"
