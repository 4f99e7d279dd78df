"""Everything that is reported of a set of predictions, as one dictionary."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from medkeras.errors import InputError
from medkeras.evaluation.checks import check_class_names, check_predictions
from medkeras.evaluation.classification import measure_decisions, weighted_mean
from medkeras.evaluation.measures import RANKINGS, headline, rank_classes
from medkeras.evaluation.thresholds import OperatingPoint
from medkeras.tasks import is_multilabel


def evaluate(
    labels: Any,
    probabilities: Any,
    *,
    task: str,
    class_names: Sequence[str],
    operating_point: OperatingPoint | None = None,
) -> dict[str, Any]:
    """Measures predictions.

    Decisions are made at 0.5, or by the most probable class; with an operating point, the same measures
    follow once more at its thresholds. `auc` and `accuracy` are those of MedMNIST's evaluator.

    A measure that is undefined (no positive image of a class, only one class in the data) is NaN; means are
    taken over the classes where it is defined.

    Args:
        labels: `(n,)` class indices, or `(n, labels)` of 0, 1 and NaN for a `multilabel` task.
        probabilities: `(n, classes)` in [0, 1].
        task: One of `medkeras.tasks.TASKS`.
        class_names: One name per class or label.
        operating_point: Thresholds chosen on other images, see `choose_operating_point`.

    Returns:
        A dictionary of plain Python values:

        - `task`, `class_names`, `count` (images);
        - `accuracy`, `balanced_accuracy`, `mcc`, `kappa` (quadratically weighted for `ordinal`), `cohen_kappa`
          (never weighted): over all classes; for `multilabel` the mean over labels;
        - `macro`: `auc`, `average_precision`, `sensitivity`, `specificity`, `precision`, `f1`: mean over
          classes, each against the rest; for `binary`, those of class 1, the positive one;
        - `weighted`: the same measures, the mean over all classes by their positive images;
        - `per_class`: `{name: the same and support}`, support being the positive images;
        - `confusion_matrix` (rows true), or for `multilabel` `confusion_matrices`:
          `{name: [[true negative, false positive], [false negative, true positive]]}`;
        - `operating_point`, if given: its `thresholds` and `rule`, and all measures of decisions;
        - `undefined`: the dotted paths of all values that are NaN.

    Raises:
        ValueError: If labels, probabilities, names or the operating point do not fit the task or each other.

    Example:
        >>> probabilities = [[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]]
        >>> result = evaluate([0, 0, 1, 1], probabilities, task="binary", class_names=["normal", "pneumonia"])
        >>> result["macro"]["auc"], result["accuracy"]
        (0.75, 0.75)
    """
    labels, probabilities = check_predictions(labels, probabilities, task=task)
    names = check_class_names(class_names, num_classes=probabilities.shape[1])
    if operating_point is not None and operating_point.task != task:
        raise InputError(f"The operating point is of a {operating_point.task} task. Received: task={task!r}")

    ranked = {name: rank_classes(ranking, labels, probabilities, task=task) for name, ranking in RANKINGS.items()}
    decisions = OperatingPoint.default(task, len(names)).apply(probabilities)
    result = {"task": task, "class_names": names, "count": len(labels)}
    result |= _report(labels, decisions, ranked, task, names)
    if operating_point is not None:
        decisions = operating_point.apply(probabilities)
        result["operating_point"] = operating_point.to_dict() | _report(labels, decisions, {}, task, names)
    return result | {"undefined": list(_undefined(result))}


def _report(
    labels: np.ndarray, decisions: np.ndarray, ranked: dict[str, np.ndarray], task: str, names: list[str]
) -> dict[str, Any]:
    overall, decided, counts = measure_decisions(labels, decisions, task=task, num_classes=len(names))
    measured = ranked | decided
    support = counts[:, 1].sum(axis=-1) if is_multilabel(task) else counts.sum(axis=1)
    per_class = {
        name: {key: float(values[i]) for key, values in measured.items()} | {"support": int(support[i])}
        for i, name in enumerate(names)
    }
    matrices = (
        {"confusion_matrices": dict(zip(names, counts.tolist(), strict=True))}
        if is_multilabel(task)
        else {"confusion_matrix": counts.tolist()}
    )
    macro = {key: headline(values, task=task) for key, values in measured.items()}
    weighted = {key: weighted_mean(values, support) for key, values in measured.items()}
    return overall | {"macro": macro, "weighted": weighted, "per_class": per_class} | matrices


def _undefined(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _undefined(inner, (*path, key))
    elif isinstance(value, float) and np.isnan(value):
        yield ".".join(path)
