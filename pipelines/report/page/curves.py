"""The curves of an evaluation, from its predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medkeras.evaluation import (
    curve_band,
    one_vs_rest,
    precision_at,
    precision_recall_curve,
    reliability,
    roc_curve,
    sensitivity_at,
)
from medkeras.uncertainty import risk_coverage
from pipelines.report.facts.names import words
from pipelines.report.page.svg import Chart, Line

PLACES = np.linspace(0, 1, 51)  # Of a band.
MOST_BANDS = 3  # More of them hide each other.
REPEATS = 200
UNIT = (0.0, 1.0)


def ranking_charts(
    labels: np.ndarray,
    probabilities: np.ndarray,
    decisions: np.ndarray,
    *,
    task: str,
    class_names: Sequence[str],
    patients: np.ndarray,
) -> list[Chart]:
    """Returns the ROC and the precision-recall curve, with bands by bootstrap over patients for up to three classes.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN.
        probabilities: `(n, classes)`.
        decisions: `(n,)` class indices, or `(n, labels)` of 0 and 1, at the operating point, which is marked for
            class 1 of two.
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        patients: `(n,)` patient of each image.

    Example:
        >>> scores = np.array([0.1, 0.4, 0.6, 0.9])
        >>> charts = ranking_charts(np.array([0, 1, 0, 1]), np.stack([1 - scores, scores], 1), np.array([0, 1, 0, 1]),
        ...                         task="binary", class_names=["normal", "ill"], patients=np.arange(4))
        >>> [chart.title for chart in charts], charts[0].points[0][:2]
        (['ROC curve', 'Precision-recall curve'], (0.0, 1.0))
    """
    known = ~np.isnan(labels) if labels.ndim == 2 else np.ones(probabilities.shape, dtype=bool)
    pairs = list(zip(class_names, one_vs_rest(labels, probabilities, task=task), known.T, strict=True))
    roc, recall = [], []
    pairs = pairs[1:] if task == "binary" else pairs
    for k, (name, (positive, scores), rows) in enumerate(pairs):
        if not positive.any() or positive.all():
            continue
        band = len(pairs) <= MOST_BANDS
        look = {"color": k, "dashed": k >= 4}
        places = _band(_sensitivities, positive, scores, patients[rows], 1 - PLACES) if band else None
        roc.append(Line(name, *roc_curve(positive, scores)[:2], band=places, **look))
        places = _band(_precisions, positive, scores, patients[rows], PLACES) if band else None
        recall.append(Line(name, *_steps(*precision_recall_curve(positive, scores)[:2]), band=places, **look))
    reached = [] if task != "binary" else _reached(labels, decisions)
    guess = Line("guessing", UNIT, UNIT, color=None, dashed=True)
    says = "The nearer to the upper left corner, the better; a line on the diagonal guesses."
    above = "Of what is called so at each sensitivity, the share that is; it depends on how common it is."
    return [
        Chart("ROC curve", [guess, *roc], "1 − specificity", "sensitivity", says, UNIT, UNIT, reached[:1]),
        Chart("Precision-recall curve", recall, "sensitivity", "precision", above, UNIT, UNIT, reached[1:]),
    ]


def reliability_chart(labels: np.ndarray, probabilities: np.ndarray, *, task: str, class_names: Sequence[str]) -> Chart:
    """Returns how often what was given a probability happened: see `medkeras.evaluation.reliability`."""
    found = reliability(labels, probabilities, task=task, bins=10)
    is_filled = found.count > 0
    what = {"binary": class_names[-1], "multilabel": "a label"}.get(task, "the predicted class")
    marks = 2 + 6 * np.sqrt(found.count / found.count.sum())[is_filled]
    line = Line("this run", found.confidence[is_filled], found.frequency[is_filled], color=0, marks=marks)
    ideal = Line("ideal", UNIT, UNIT, color=None, dashed=True)
    says = "Where it says 80 %, eight of ten should be so: on the diagonal. Larger dots rest on more images."
    return Chart("Reliability", [ideal, line], f"probability of {what}", "how often it is so", says, UNIT, UNIT)


def risk_chart(losses: np.ndarray, unsure: np.ndarray) -> Chart:
    """Returns the share of wrong decisions among the images that are kept, the surest first.

    Args:
        losses: `(n,)`, what is wrong of each image's decision, in [0, 1]; NaN where nothing is known.
        unsure: `(n,)`, how unsure the model is of it.
    """
    known = ~np.isnan(losses)
    curve = risk_coverage(losses[known], unsure[known])
    best = np.cumsum(np.sort(losses[known])) / np.arange(1, known.sum() + 1)
    steps = np.arange(1, known.sum() + 1) / known.sum()
    lines = [
        Line("best possible order", steps, best, color=None, dashed=True),
        Line("by entropy", curve.coverage, curve.risk, color=0),
    ]
    says = "If only the surest images are kept, how many of them are decided wrongly. It should fall to the left."
    top = max(0.05, 1.1 * float(np.nanmax(curve.risk)))
    return Chart("Risk by coverage", lines, "share that is kept", "share decided wrongly", says, UNIT, (0.0, top))


def decision_charts(table: pd.DataFrame, *, most: int = 6) -> list[Chart]:
    """Returns a decision curve for each of the first classes, from `decision_curve.csv`."""
    charts = []
    says = "Acting on the model is worth it at threshold probabilities where its line is the highest."
    for name, own in list(table.groupby("class", sort=False))[:most]:
        highest = float(np.nanmax([own["net_benefit"].max(), own["treat_all"].max(), 0.01]))
        lines = [
            Line("act on nobody", UNIT, (0, 0), color=None),
            Line("act on everybody", own["threshold"], own["treat_all"], color=None, dashed=True),
            Line("act by the model", own["threshold"], own["net_benefit"], color=0),
        ]
        limits = (-0.25 * highest, 1.1 * highest)
        title = f"Decision curve, {name}"
        charts.append(Chart(title, lines, "threshold probability", "net benefit per image", says, UNIT, limits))
    return charts


def history_charts(history: Mapping[str, Sequence[float]]) -> list[Chart]:
    """Returns loss and measures by epoch, in training and on validation.

    Example:
        >>> [chart.title for chart in history_charts({"epoch": [1, 2], "loss": [0.7, 0.5], "val_loss": [0.8, 0.6]})]
        ['loss']
    """
    names = [name for name in history if name != "epoch" and not name.startswith("val_")]
    names = sorted(
        (name for name in names if name == "loss" or f"val_{name}" in history), key=lambda name: name != "loss"
    )
    epochs = history["epoch"]
    charts = []
    for name in names:
        lines = [Line("training", epochs, history[name], color=0)]
        if f"val_{name}" in history:
            lines.append(Line("validation", epochs, history[f"val_{name}"], color=1, dashed=True))
        charts.append(Chart(words(name), lines, "epoch", words(name)))
    return charts


def _band(measure: Any, positive: np.ndarray, scores: np.ndarray, groups: np.ndarray, places: np.ndarray) -> Any:
    return places, *curve_band(measure, positive, scores, groups=groups, repeats=REPEATS)


def _sensitivities(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return sensitivity_at(positive, scores, specificity=PLACES)


def _precisions(positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return precision_at(positive, scores, recall=PLACES)


def _steps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the corners of a line that keeps each value up to the next place."""
    return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _reached(labels: np.ndarray, decisions: np.ndarray) -> list[tuple[float, float, str]]:
    """Returns where the operating point lies in the ROC and in the precision-recall curve."""
    is_true, is_called = labels == 1, decisions == 1
    if not is_true.any() or is_true.all():
        return []
    sensitivity, false_rate = is_called[is_true].mean(), is_called[~is_true].mean()
    points = [(float(false_rate), float(sensitivity), "operating point")]
    if is_called.any():
        points.append((float(sensitivity), float(is_true[is_called].mean()), "operating point"))
    return points
