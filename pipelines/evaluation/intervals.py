"""How far the measures of a run may be trusted: intervals over patients, overall and of each class."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from medkeras.evaluation import (
    Interval,
    OperatingPoint,
    auc_interval,
    average_precision,
    bootstrap_all,
    decision_curve,
    one_vs_rest,
    roc_auc,
    sensitivity_at,
    share_interval,
    specificity_at,
    youden_index,
)
from medkeras.evaluation.classification import agreement, confusion_matrix, mean_of_defined, measure_decisions
from medkeras.evaluation.measures import headline
from medkeras.tasks import is_multilabel
from pipelines.evaluation.one_vs_rest import Event

REPEATS = 1000
FIXED = 0.9  # The sensitivity, or specificity, at which the other is reported.
DRAWN = {
    "average_precision": average_precision,
    f"sensitivity_at_specificity_{FIXED}": lambda positive, scores: sensitivity_at(positive, scores, specificity=FIXED),
    f"specificity_at_sensitivity_{FIXED}": lambda positive, scores: specificity_at(positive, scores, sensitivity=FIXED),
    "youden": youden_index,
}


def overall_intervals(
    labels: np.ndarray, probabilities: np.ndarray, *, task: str, patients: np.ndarray, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Returns AUC, AP, Brier score and agreement with 95 % intervals, all from the same draws of patients.

    As `medkeras.evaluation.evaluate` gives them: of class 1 of a `binary` task, else the mean over classes; decisions
    are at 0.5, or the most probable class.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> found = overall_intervals(np.array([0, 1, 0, 1]), p, task="binary", patients=np.arange(4))
        >>> found["accuracy"]
        {'value': 1.0, 'low': 1.0, 'high': 1.0}
    """
    classes = probabilities.shape[1]
    decided = OperatingPoint.default(task, classes).apply(probabilities)
    present = labels if is_multilabel(task) else np.eye(classes)[labels]
    missed = (probabilities - present) ** 2  # Its means are the Brier score's parts, without a check of every draw.

    def measures(labels: np.ndarray, probabilities: np.ndarray, decided: np.ndarray, missed: np.ndarray) -> dict:
        pairs = list(one_vs_rest(labels, probabilities, task=task))[1 if task == "binary" else 0 :]
        briers = np.array([mean_of_defined(column) for column in missed.T])
        return {
            "auc": mean_of_defined([roc_auc(*pair) for pair in pairs]),
            "average_precision": mean_of_defined([average_precision(*pair) for pair in pairs]),
            "brier": headline(briers, task=task) if task in ("binary", "multilabel") else float(briers.sum()),
            **_agreement(labels, decided, task, classes),
        }

    arrays = [labels, probabilities, decided, missed]
    found = bootstrap_all(measures, arrays, groups=patients, repeats=REPEATS, seed=seed)
    return {name: interval.to_dict() for name, interval in found.items()}


def _agreement(labels: np.ndarray, decided: np.ndarray, task: str, classes: int) -> dict[str, float]:
    if is_multilabel(task):
        return measure_decisions(labels, decided, task=task, num_classes=classes)[0]
    matrix = confusion_matrix(labels, decided, num_classes=classes)
    return agreement(matrix, ordered=task == "ordinal")


def class_intervals(asked: Iterable[Event], *, patients: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Returns the measures of each class or label with 95 % intervals, by patient.

    AUC has DeLong's interval on the logit scale; sensitivity and specificity at the operating point, precision
    included, have Wilson's; `average_precision`, `youden` and each of sensitivity and specificity where the other is
    0.9 on these very images have the bootstrap's.

    Args:
        asked: See `pipelines.evaluation.one_vs_rest.events`.
        patients: `(n,)` patient of each image.
        seed: Of the bootstrap.

    Returns:
        `{class: {measure: {value, low, high}}}`.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
        >>> from pipelines.evaluation.one_vs_rest import events
        >>> asked = events(np.array([0, 1, 0, 1]), p, np.array([0, 1, 1, 1]), task="binary", class_names=["a", "b"])
        >>> round(class_intervals(asked, patients=np.arange(4))["b"]["specificity"]["high"], 3)
        0.905
    """
    return {event.name: _intervals(event, patients[event.rows], seed) for event in asked}


def _intervals(event: Event, patients: np.ndarray, seed: int) -> dict[str, dict[str, float]]:
    def share(of: np.ndarray, happened: np.ndarray) -> Interval:
        return share_interval(happened[of], groups=patients[of])

    found = {
        "auc": auc_interval(event.positive, event.scores, groups=patients),
        "sensitivity": share(event.positive, event.decided),
        "specificity": share(~event.positive, ~event.decided),
        "precision": share(event.decided, event.positive),
    }
    if len(event.rows):
        found |= bootstrap_all(
            lambda positive, scores: {name: measure(positive, scores) for name, measure in DRAWN.items()},
            [event.positive, event.scores],
            groups=patients,
            repeats=REPEATS // 2,
            seed=seed,
        )
    return {name: interval.to_dict() for name, interval in found.items()}


def net_benefit(asked: Iterable[Event]) -> pd.DataFrame:
    """Returns the decision curve of each class or label: `class`, `threshold`, `net_benefit`, `treat_all`, ...

    Example:
        >>> from pipelines.evaluation.one_vs_rest import events
        >>> asked = events(np.array([0, 1]), np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0, 1]), task="binary",
        ...                class_names=["a", "b"])
        >>> net_benefit(asked).query("threshold == 0.5")[["net_benefit", "treat_all"]].values.tolist()
        [[0.5, 0.0]]
    """
    tables = []
    for event in asked:
        curve = decision_curve(event.positive, event.scores)
        tables.append(
            pd.DataFrame(
                {
                    "class": event.name,
                    "threshold": curve.thresholds,
                    "net_benefit": curve.net_benefit,
                    "treat_all": curve.treat_all,
                    "net_reduction": curve.net_reduction,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)
